package status

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"os"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// TestPhaseIsUpstreams asks for the phase of each pod of up to one init container or sidecar and two containers, in each of their states,
// under each restart policy. testdata/phases.gz has what the kubelet of v1.37.1 says: policy, init container, containers, whether the
// pod has ended, phase. It calls no pod ended that has not: TerminatePod of its status manager does that afterwards, and has failed the pod then.
func TestPhaseIsUpstreams(t *testing.T) {
	file, err := os.Open("testdata/phases.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for lines := bufio.NewScanner(unzipped); lines.Scan(); asked++ {
		words := strings.Split(lines.Text(), " ")
		terminal, want := words[3] == "true", v1.PodPhase(words[4])
		if terminal && want != v1.PodSucceeded {
			want = v1.PodFailed
		}
		pod, status := podIn(v1.RestartPolicy(words[0]), strings.TrimSuffix(words[1], ","), strings.Split(words[2], ","))
		if got := phase(pod, Input{Pod: pod, Terminal: terminal}, status); got != want {
			t.Errorf("%s: %s, want %s", lines.Text(), got, want)
		}
	}
	if asked < 4000 {
		t.Errorf("only %d pods were tried", asked)
	}
}

// podIn makes a pod with an init container (init:STATE, side:STATE for a sidecar, or nothing) and containers in the states given.
func podIn(policy v1.RestartPolicy, init string, containers []string) (*v1.Pod, *v1.PodStatus) {
	pod, status := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: policy}}, &v1.PodStatus{}
	if kind, state, ok := strings.Cut(init, ":"); ok {
		container := v1.Container{Name: "i"}
		if kind == "side" {
			container.RestartPolicy = new(v1.ContainerRestartPolicyAlways)
		}
		pod.Spec.InitContainers = []v1.Container{container}
		status.InitContainerStatuses = []v1.ContainerStatus{containerIn("i", state)}
	}
	for i, state := range containers {
		name := fmt.Sprint("c", i)
		pod.Spec.Containers = append(pod.Spec.Containers, v1.Container{Name: name})
		status.ContainerStatuses = append(status.ContainerStatuses, containerIn(name, state))
	}
	return pod, status
}

// containerIn makes the status of a container: started is running with its startup probe passed, again-N waits after it ended with N, all-N
// ended with N and restarts with all others.
func containerIn(name, state string) v1.ContainerStatus {
	s := v1.ContainerStatus{Name: name}
	word, code, _ := strings.Cut(state, "-")
	end := &v1.ContainerStateTerminated{}
	if code == "1" {
		end.ExitCode = 1
	}
	switch word {
	case "waiting":
		s.State.Waiting = &v1.ContainerStateWaiting{}
	case "running":
		s.State.Running = &v1.ContainerStateRunning{}
	case "started":
		s.State.Running, s.Started = &v1.ContainerStateRunning{}, new(true)
	case "ended":
		s.State.Terminated = end
	case "again":
		s.State.Waiting, s.LastTerminationState.Terminated = &v1.ContainerStateWaiting{}, end
	case "all":
		end.Reason = restartingAllContainers
		s.State.Terminated = end
	default:
		panic(state)
	}
	return s
}
