package allocation

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hyperkube/kubelet/lifecycle"
)

func podOf(name, cpu, memory string) *v1.Pod {
	list := v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory)}
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Generation: 2},
		Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{Requests: list, Limits: list.DeepCopy()}}}}}
}

func node(cpu, memory string) *v1.Node {
	return &v1.Node{Status: v1.NodeStatus{Allocatable: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory), v1.ResourcePods: resource.MustParse("10")}}}
}

func yes(*v1.Pod, []*v1.Pod) *lifecycle.Rejection { return nil }

// What the node could never give is Infeasible, what others have now is Deferred (KEP-1287).
func TestCanResize(t *testing.T) {
	other := podOf("other", "1", "1Gi")
	static := podOf("s", "100m", "1Mi")
	static.Annotations = map[string]string{"kubernetes.io/config.source": "file"}
	cases := []struct {
		name    string
		pod     *v1.Pod
		reason  string
		message string
	}{
		{"there is room", podOf("p", "900m", "1Gi"), "", ""},
		{"more CPU than the node has", podOf("p", "2500m", "1Gi"), v1.PodReasonInfeasible, "Node didn't have enough capacity: cpu, requested: 2500, capacity: 2000"},
		{"more memory than the node has", podOf("p", "100m", "4Gi"), v1.PodReasonInfeasible, "Node didn't have enough capacity: memory, requested: 4294967296, capacity: 2147483648"},
		{"more CPU than is left", podOf("p", "1500m", "1Mi"), v1.PodReasonDeferred, "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000"},
		{"a static pod", static, v1.PodReasonInfeasible, "In-place resize of static-pods is not supported"},
	}
	for _, c := range cases {
		got := canResize(c.pod, node("2", "2Gi"), []*v1.Pod{other})
		if got.Reason != c.reason || got.Message != c.message {
			t.Errorf("%s: %q, %q; want %q, %q", c.name, got.Reason, got.Message, c.reason, c.message)
		}
	}
}

// A pod goes on with what it has until its wish is granted, also after a restart
// of the kubelet; what another gives back makes room.
func TestResizeIsDeferredThenGranted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "allocated_pods_state")
	m, err := NewManager(path)
	if err != nil {
		t.Fatal(err)
	}
	a, b := podOf("a", "1", "1Gi"), podOf("b", "900m", "512Mi")
	for _, pod := range []*v1.Pod{a, b} {
		if rejection, err := m.AddPod(pod, nil, yes); rejection != nil || err != nil {
			t.Fatal(rejection, err)
		}
	}
	bigger := podOf("b", "1500m", "512Mi")
	resize := func(pod, other *v1.Pod) Decision {
		t.Helper()
		d, err := m.Resize(pod, []*v1.Pod{other}, node("2", "2Gi"))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := resize(bigger, a); d.Reason != v1.PodReasonDeferred || !d.News {
		t.Fatalf("no room: %+v", d)
	}
	if d := resize(bigger, a); d.News {
		t.Error("the same refusal is news twice")
	}
	// The restart: what was refused must not be taken for granted.
	if m, err = NewManager(path); err != nil {
		t.Fatal(err)
	}
	if rejection, err := m.AddPod(bigger, nil, yes); rejection != nil || err != nil {
		t.Fatal(rejection, err)
	}
	if got := m.UpdatePodFromAllocation(bigger).Spec.Containers[0].Resources.Requests.Cpu().String(); got != "900m" {
		t.Errorf("after a restart the pod has %s, want the 900m it was given", got)
	}
	resize(bigger, a)
	if uids := m.Deferred(); len(uids) != 1 || uids[0] != "b" {
		t.Errorf("deferred: %v", uids)
	}
	smaller := podOf("a", "200m", "1Gi")
	if d := resize(smaller, bigger); !d.Allocated || !d.Freed {
		t.Errorf("asking for less: %+v", d)
	}
	if d := resize(bigger, smaller); !d.Allocated || d.Freed {
		t.Errorf("now there is room: %+v", d)
	}
	if c := m.Conditions("b"); len(c) != 1 || c[0].Type != v1.PodResizeInProgress || c[0].ObservedGeneration != 2 {
		t.Errorf("conditions %+v", c)
	}
	if !m.Progress(bigger, false, errors.New("busy")) || m.Conditions("b")[0].Reason != v1.PodReasonError {
		t.Errorf("conditions %+v", m.Conditions("b"))
	}
	if !m.Progress(bigger, true, nil) || m.Progress(bigger, true, nil) || len(m.Conditions("b")) != 0 {
		t.Error("the end of a resize is told once")
	}
	if err := m.RemoveOrphanedPods(func(uid types.UID) bool { return uid == "a" }); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(path); strings.Contains(string(data), `"a"`) || !strings.Contains(string(data), `"b"`) {
		t.Errorf("checkpoint: %s", data)
	}
}

// An ordinary init container is resized like any other (KEP-1287): what it asks for is granted before it has it.
func TestInitContainersAreAllocated(t *testing.T) {
	m, err := NewManager(filepath.Join(t.TempDir(), "allocated_pods_state"))
	if err != nil {
		t.Fatal(err)
	}
	withInit := func(cpu string) *v1.Pod {
		pod := podOf("a", "100m", "1Gi")
		pod.Spec.InitContainers = podOf("init", cpu, "1Gi").Spec.Containers
		pod.Spec.InitContainers[0].Name = "init"
		return pod
	}
	if rejection, err := m.AddPod(withInit("1"), nil, yes); rejection != nil || err != nil {
		t.Fatal(rejection, err)
	}
	has := func(pod *v1.Pod) string {
		return m.UpdatePodFromAllocation(pod).Spec.InitContainers[0].Resources.Requests.Cpu().String()
	}
	wish := withInit("1500m")
	if got := has(wish); got != "1" {
		t.Errorf("it has %s before it was granted", got)
	}
	if d, err := m.Resize(wish, nil, node("1", "2Gi")); err != nil || d.Reason != v1.PodReasonInfeasible {
		t.Errorf("more than the node has: %+v, %v", d, err)
	}
	if d, err := m.Resize(wish, nil, node("2", "2Gi")); err != nil || !d.Allocated {
		t.Errorf("%+v, %v", d, err)
	}
	if got := has(wish); got != "1500m" {
		t.Errorf("granted, it has %s", got)
	}
}

// A damaged checkpoint is an error that names the file.
func TestDamagedCheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "allocated_pods_state")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewManager(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}
