package kubelet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	apipod "hyperkube/api/core/pod"
)

// node is a kubelet on the simulated runtime with an API in memory.
type node struct {
	t      *testing.T
	client *fake.Clientset
	kl     *Kubelet
	root   string
	stop   func()
}

func startNode(t *testing.T, change func(*Config)) *node {
	t.Helper()
	n := &node{t: t, client: fake.NewClientset(), root: t.TempDir()}
	cfg := Config{NodeName: "n1", NodeIP: "10.0.0.1", RootDir: n.root, Client: n.client, ContainerRuntime: "simulated", PodCIDR: "10.244.0.0/24", Port: -1}
	if change != nil {
		change(&cfg)
	}
	kl, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.kl = kl
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- kl.Run(ctx) }()
	stopped := false
	n.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("Run did not return after its context ended")
		}
	}
	t.Cleanup(n.stop)
	return n
}

// eventually polls, since two programs and a store lie between cause and effect.
func (n *node) eventually(what string, check func() error) {
	n.t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	n.t.Fatalf("%s: %v", what, err)
}

func newPod(name string, change func(*v1.Pod)) *v1.Pod {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)}}
	pod.Spec = v1.PodSpec{NodeName: "n1", Containers: []v1.Container{{Name: "main", Image: "example.com/app:v1"}}}
	if change != nil {
		change(pod)
	}
	apipod.SetDefaultsPod(pod)
	return pod
}

func (n *node) create(pod *v1.Pod) {
	n.t.Helper()
	if _, err := n.client.CoreV1().Pods(pod.Namespace).Create(context.Background(), pod, metav1.CreateOptions{}); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) pod(name string) (*v1.Pod, error) {
	return n.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
}

func (n *node) wait(name, what string, check func(*v1.Pod) error) *v1.Pod {
	n.t.Helper()
	var last *v1.Pod
	n.eventually(what, func() error {
		pod, err := n.pod(name)
		if err != nil {
			return err
		}
		last = pod
		return check(pod)
	})
	return last
}

func running(pod *v1.Pod) error {
	if pod.Status.Phase != v1.PodRunning || !apipod.IsPodReady(pod) {
		return fmt.Errorf("phase %s, conditions %v, containers %+v", pod.Status.Phase, pod.Status.Conditions, pod.Status.ContainerStatuses)
	}
	return nil
}

func phase(want v1.PodPhase) func(*v1.Pod) error {
	return func(pod *v1.Pod) error {
		if pod.Status.Phase != want {
			return fmt.Errorf("phase %s, want %s: %+v", pod.Status.Phase, want, pod.Status.ContainerStatuses)
		}
		return nil
	}
}

// The node says who it is and that it is ready (S0-06, issue 2 part 7).
func TestNodeRegistersAndIsReady(t *testing.T) {
	n := startNode(t, nil)
	n.eventually("node is ready", func() error {
		node, err := n.client.CoreV1().Nodes().Get(context.Background(), "n1", metav1.GetOptions{})
		if err != nil {
			return err
		}
		ready := nodeCondition(node.Status, v1.NodeReady)
		if ready == nil || ready.Status != v1.ConditionTrue || ready.Reason != "KubeletReady" {
			return fmt.Errorf("ready condition %+v", ready)
		}
		if node.Status.NodeInfo.ContainerRuntimeVersion != "simulated://1.0" || node.Status.Capacity.Pods().Value() != 110 || node.Status.Addresses[0].Address != "10.0.0.1" {
			return fmt.Errorf("status %+v", node.Status)
		}
		_, err = n.client.CoordinationV1().Leases(v1.NamespaceNodeLease).Get(context.Background(), "n1", metav1.GetOptions{})
		return err
	})
}

// R19: a node without a network says so in its own words.
func TestNodeNotReadySaysWhy(t *testing.T) {
	n := startNode(t, func(c *Config) { c.PodCIDR = "" })
	n.eventually("node is not ready", func() error {
		node, err := n.client.CoreV1().Nodes().Get(context.Background(), "n1", metav1.GetOptions{})
		if err != nil {
			return err
		}
		ready := nodeCondition(node.Status, v1.NodeReady)
		if ready == nil || ready.Status != v1.ConditionFalse || !strings.Contains(ready.Message, "NetworkReady=false reason:NoPodCIDR") {
			return fmt.Errorf("ready condition %+v", ready)
		}
		return nil
	})
}

// The main flow: bound, running with an address, deleted with grace, gone.
func TestPodRunsAndIsDeleted(t *testing.T) {
	n := startNode(t, nil)
	n.create(newPod("web", nil))
	pod := n.wait("web", "pod runs", running)
	if pod.Status.PodIP != "10.244.0.2" || pod.Status.HostIP != "10.0.0.1" || pod.Status.QOSClass != v1.PodQOSBestEffort || pod.Status.StartTime == nil {
		t.Errorf("status %+v", pod.Status)
	}
	status := pod.Status.ContainerStatuses[0]
	if !status.Ready || status.Started == nil || !*status.Started || !strings.HasPrefix(status.ContainerID, "simulated://") || status.State.Running == nil {
		t.Errorf("container status %+v", status)
	}
	logs, _ := filepath.Glob(filepath.Join(n.root, "logs", "pods", "default_web_uid-web", "main", "0.log"))
	if len(logs) != 1 {
		t.Errorf("no log at upstream's path: %v", logs)
	}
	now, grace := metav1.Now(), int64(1)
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &now, &grace
	if err := n.client.Tracker().Update(v1.SchemeGroupVersion.WithResource("pods"), pod, "default"); err != nil {
		t.Fatal(err)
	}
	n.eventually("pod is gone", func() error {
		_, err := n.pod("web")
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("still there: %v", err)
	})
	if _, err := os.Stat(filepath.Join(n.root, "pods", "uid-web")); !os.IsNotExist(err) {
		t.Errorf("the pod's directory is left: %v", err)
	}
}

// Restart policies: what ends is called by its name.
// A sandbox that comes up after its pod was ended, since the runtime was slow to hear of it, is ended too: it would hold the
// pod's cgroup, and the pod would never go.
func TestWhatComesUpAfterTheEndIsEnded(t *testing.T) {
	n := startNode(t, nil)
	n.create(newPod("late", nil))
	pod, ctx := n.wait("late", "the pod runs", running), context.Background()
	status, err := n.kl.GetPodStatus(ctx, pod.UID, pod.Name, pod.Namespace)
	if err != nil || !status.Lives() {
		t.Fatal(err, status)
	}
	if err := n.kl.SyncTerminatedPod(ctx, pod, status); err != nil {
		t.Fatal(err)
	}
	after, err := n.kl.GetPodStatus(ctx, pod.UID, pod.Name, pod.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	for _, sandbox := range after.SandboxStatuses { // the pod's worker, which knows nothing of this end, may make another
		if sandbox.Id == status.SandboxStatuses[0].Id && sandbox.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			t.Error("the sandbox is still ready")
		}
	}
}

func TestPodsRunToTheirEnd(t *testing.T) {
	n := startNode(t, nil)
	command := func(policy v1.RestartPolicy, words ...string) func(*v1.Pod) {
		return func(pod *v1.Pod) {
			pod.Spec.RestartPolicy = policy
			pod.Spec.Containers[0].Command = words
		}
	}
	n.create(newPod("done", command(v1.RestartPolicyNever, "true")))
	n.create(newPod("failed", command(v1.RestartPolicyNever, "false")))
	n.create(newPod("crashing", command(v1.RestartPolicyAlways, "false")))
	pod := n.wait("done", "succeeds", phase(v1.PodSucceeded))
	if got := pod.Status.ContainerStatuses[0].State.Terminated; got == nil || got.Reason != "Completed" {
		t.Errorf("terminated %+v", got)
	}
	pod = n.wait("failed", "fails", phase(v1.PodFailed))
	if got := pod.Status.ContainerStatuses[0].State.Terminated; got == nil || got.Reason != "Error" || got.ExitCode != 1 {
		t.Errorf("terminated %+v", got)
	}
	n.wait("crashing", "backs off", func(pod *v1.Pod) error {
		s := pod.Status.ContainerStatuses
		if len(s) != 1 || s[0].State.Waiting == nil || s[0].State.Waiting.Reason != "CrashLoopBackOff" || s[0].RestartCount != 1 || s[0].LastTerminationState.Terminated == nil || pod.Status.Phase != v1.PodRunning {
			return fmt.Errorf("phase %s, %+v", pod.Status.Phase, s)
		}
		return nil
	})
}

// S4-11: init containers run first, one after the other.
func TestInitContainersRunFirst(t *testing.T) {
	n := startNode(t, nil)
	always := v1.ContainerRestartPolicyAlways
	n.create(newPod("app", func(pod *v1.Pod) {
		pod.Spec.InitContainers = []v1.Container{
			{Name: "one", Image: "i", Command: []string{"true"}},
			{Name: "sidecar", Image: "i", RestartPolicy: &always},
			{Name: "two", Image: "i", Command: []string{"echo", "two"}},
		}
	}))
	pod := n.wait("app", "runs", running)
	for _, s := range pod.Status.InitContainerStatuses {
		if !s.Ready {
			t.Errorf("init container %+v", s)
		}
	}
}

// An image that cannot be had is said by its two names in turn.
func TestImageThatIsMissing(t *testing.T) {
	n := startNode(t, nil)
	n.create(newPod("app", func(pod *v1.Pod) { pod.Spec.Containers[0].Image = "example.com/app:missing" }))
	n.wait("app", "waits for its image", func(pod *v1.Pod) error {
		s := pod.Status.ContainerStatuses
		if len(s) != 1 || s[0].State.Waiting == nil || s[0].State.Waiting.Reason != "ErrImagePull" && s[0].State.Waiting.Reason != "ImagePullBackOff" || pod.Status.Phase != v1.PodPending {
			return fmt.Errorf("phase %s, %+v", pod.Status.Phase, s)
		}
		return nil
	})
}

// Config maps, secrets and the downward API arrive, as files and as variables.
func TestConfigMapVolumeAndMissingReference(t *testing.T) {
	n := startNode(t, nil)
	n.create(newPod("app", func(pod *v1.Pod) {
		pod.Spec.Containers[0].Env = []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "later"}, Key: "k"}}}}
	}))
	n.wait("app", "waits for its config map", func(pod *v1.Pod) error {
		s := pod.Status.ContainerStatuses
		if len(s) != 1 || s[0].State.Waiting == nil || s[0].State.Waiting.Reason != "CreateContainerConfigError" || !strings.Contains(s[0].State.Waiting.Message, `configmap "later"`) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	_, err := n.client.CoreV1().ConfigMaps("default").Create(context.Background(), &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "later", Namespace: "default"}, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.wait("app", "runs once it is there", running)
}

// R15: without an API, pods of a directory run.
func TestStandalone(t *testing.T) {
	dir := t.TempDir()
	manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: main, image: i}]\n"
	if err := os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, func(c *Config) { c.Client, c.StaticPodPath = nil, dir })
	n.eventually("static pod runs", func() error {
		for _, pod := range n.kl.GetPods() {
			if pod.Name == "web-n1" && running(pod) == nil {
				return nil
			}
		}
		return fmt.Errorf("pods %v", n.kl.GetPods())
	})
}

// R15: with one, the API shows them as mirrors.
func TestStaticPodHasMirror(t *testing.T) {
	dir := t.TempDir()
	manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: main, image: i}]\n"
	if err := os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, func(c *Config) { c.StaticPodPath = dir })
	pod := n.wait("web-n1", "mirror shows the status", running)
	if pod.Annotations[v1.MirrorPodAnnotationKey] == "" || len(pod.OwnerReferences) != 1 {
		t.Errorf("mirror %+v", pod.ObjectMeta)
	}
}

// activeDeadlineSeconds ends a pod that takes too long.
func TestActiveDeadline(t *testing.T) {
	n := startNode(t, nil)
	deadline := int64(1)
	n.create(newPod("slow", func(pod *v1.Pod) { pod.Spec.ActiveDeadlineSeconds = &deadline }))
	pod := n.wait("slow", "fails", phase(v1.PodFailed))
	if pod.Status.Reason != "DeadlineExceeded" {
		t.Errorf("reason %q", pod.Status.Reason)
	}
}

// R70: an orderly stop with that policy leaves nothing running.
func TestStopPodsOnStop(t *testing.T) {
	n := startNode(t, func(c *Config) { c.OnStop, c.StopTimeout = StopPods, 2*time.Second })
	n.create(newPod("web", nil))
	n.wait("web", "pod runs", running)
	n.stop()
}
