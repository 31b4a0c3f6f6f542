package prober

import (
	"context"
	"errors"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	testingclock "k8s.io/utils/clock/testing"

	kubecontainer "hyperkube/kubelet/container"
)

// answers is a Prober that gives these in turn: 's' success, 'f' failure.
type answers struct {
	script string
	asked  int
}

func (a *answers) Probe(context.Context, *v1.Probe, Target) (Result, string, error) {
	said := a.script[a.asked%len(a.script)]
	a.asked++
	if said == 'e' {
		return Failure, "", errors.New("nobody to ask")
	}
	return Result(said == 's'), "", nil
}

// One turn of a worker at a time: thresholds, delays, and what each type starts from.
func TestWorker(t *testing.T) {
	id := kubecontainer.ContainerID{Type: "t", ID: "c1"}
	cases := []struct {
		name    string
		kind    Type
		probe   v1.Probe
		script  string
		started bool
		age     time.Duration // of the container
		turns   int
		want    string // "success", "failure", "" for no result
		asked   int
	}{
		{"liveness is good to begin with", Liveness, v1.Probe{FailureThreshold: 3}, "f", true, time.Minute, 1, "success", 1},
		{"liveness fails after three in a row", Liveness, v1.Probe{FailureThreshold: 3}, "f", true, time.Minute, 3, "failure", 3},
		{"two failures and a success are no failure", Liveness, v1.Probe{FailureThreshold: 3}, "ffs", true, time.Minute, 9, "success", 9},
		// An error is tried three times at once.
		{"who could not be asked has not failed", Liveness, v1.Probe{FailureThreshold: 1}, "e", true, time.Minute, 5, "success", 15},
		{"nor does it break a row", Liveness, v1.Probe{FailureThreshold: 2}, "fef", true, time.Minute, 3, "failure", 3},
		{"nor is it ready", Readiness, v1.Probe{}, "e", true, time.Minute, 2, "failure", 6},
		{"a container that is given up is asked no more", Liveness, v1.Probe{FailureThreshold: 1}, "f", true, time.Minute, 5, "failure", 1},
		{"readiness is bad to begin with", Readiness, v1.Probe{SuccessThreshold: 2}, "s", true, time.Minute, 1, "failure", 1},
		{"readiness takes two successes", Readiness, v1.Probe{SuccessThreshold: 2}, "s", true, time.Minute, 2, "success", 2},
		{"readiness goes on after failing", Readiness, v1.Probe{FailureThreshold: 1}, "fs", true, time.Minute, 2, "success", 2},
		{"not before the initial delay", Readiness, v1.Probe{InitialDelaySeconds: 90}, "s", true, time.Minute, 3, "failure", 0},
		{"a startup probe holds the others back", Liveness, v1.Probe{}, "f", false, time.Minute, 3, "success", 0},
		{"startup succeeds", Startup, v1.Probe{}, "s", false, time.Minute, 1, "success", 1},
		{"startup is over once started", Startup, v1.Probe{}, "s", true, time.Minute, 3, "", 0},
		{"startup fails", Startup, v1.Probe{FailureThreshold: 2}, "f", false, time.Minute, 2, "failure", 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			clock := testingclock.NewFakeClock(time.Unix(10000, 0))
			status := v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{Name: "main", ContainerID: id.String(), Started: &c.started,
				State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.NewTime(clock.Now().Add(-c.age))}}}}}
			prober := &answers{script: c.script}
			m := NewManager(context.Background(), Config{Status: func(types.UID) (v1.PodStatus, bool) { return status, true }, Prober: prober, Recorder: record.NewFakeRecorder(100), Clock: clock})
			pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "main"}}}}
			w := newWorker(m, c.kind, pod, &pod.Spec.Containers[0], &c.probe)
			for range c.turns {
				w.doProbe(context.Background())
			}
			got := ""
			if result, known := w.results.Get(id); known {
				got = map[Result]string{Success: "success", Failure: "failure"}[result]
			}
			if got != c.want || prober.asked != c.asked {
				t.Errorf("result %q after %d probes, want %q after %d", got, prober.asked, c.want, c.asked)
			}
		})
	}
}

// A restarted container starts without history.
func TestWorkerFollowsRestart(t *testing.T) {
	started := true
	status := v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{Name: "main", ContainerID: "t://c1", Started: &started, State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}}}}
	m := NewManager(context.Background(), Config{Status: func(types.UID) (v1.PodStatus, bool) { return status, true }, Prober: &answers{script: "f"}, Recorder: record.NewFakeRecorder(100), Clock: testingclock.NewFakeClock(time.Unix(10000, 0))})
	pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "main"}}}}
	w := newWorker(m, Liveness, pod, &pod.Spec.Containers[0], &v1.Probe{FailureThreshold: 1})
	w.doProbe(context.Background())
	if !m.LivenessFailed(kubecontainer.ContainerID{Type: "t", ID: "c1"}) {
		t.Fatal("the first container has not failed")
	}
	status.ContainerStatuses[0].ContainerID = "t://c2"
	status.ContainerStatuses[0].State = v1.ContainerState{Waiting: &v1.ContainerStateWaiting{}}
	w.doProbe(context.Background())
	for _, id := range []string{"c1", "c2"} {
		if m.LivenessFailed(kubecontainer.ContainerID{Type: "t", ID: id}) {
			t.Errorf("%s counts as failed", id)
		}
	}
}
