package cm

import (
	"sort"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// fakeTree is a cgroup file system in memory.
type fakeTree map[string]Limits

func (f fakeTree) exists(path string) bool                 { _, ok := f[path]; return ok }
func (f fakeTree) ensure(path string, limits Limits) error { f[path] = limits; return nil }
func (f fakeTree) remove(path string) error                { delete(f, path); return nil }
func (f fakeTree) removeEmpty(string)                      {}
func (f fakeTree) children(path string) []string {
	var names []string
	for p := range f {
		if rest, ok := strings.CutPrefix(p, path+"/"); ok && !strings.Contains(rest, "/") {
			names = append(names, rest)
		}
	}
	return names
}

func podOf(uid string, requests, limits string) *v1.Pod {
	list := func(s string) v1.ResourceList {
		if s == "" {
			return nil
		}
		cpu, memory, _ := strings.Cut(s, "/")
		return v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory)}
	}
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "m", Resources: v1.ResourceRequirements{Requests: list(requests), Limits: list(limits)}}}}}
}

// A pod's cgroup lies under its QoS level, with the sums of its containers.
func TestPodCgroups(t *testing.T) {
	tree := fakeTree{}
	c := &podCgroups{logger: klog.Background(), root: "/hyperkube/n1/kubepods", tree: tree, applied: map[string]Limits{}}
	for _, pod := range []*v1.Pod{podOf("g", "500m/64Mi", "500m/64Mi"), podOf("b", "100m/1Mi", ""), podOf("e", "", "")} {
		if err := c.EnsureExists(pod); err != nil {
			t.Fatal(err)
		}
		if _, ok := tree[c.Parent(pod)]; !ok {
			t.Errorf("Parent %s was not made", c.Parent(pod))
		}
	}
	want := fakeTree{
		"/hyperkube/n1/kubepods/podg":            {CPUShares: 512, CPUQuota: 50000, Memory: 64 << 20},
		"/hyperkube/n1/kubepods/burstable/podb":  {CPUShares: 102},
		"/hyperkube/n1/kubepods/besteffort/pode": {CPUShares: 2},
	}
	for path, limits := range want {
		if tree[path] != limits {
			t.Errorf("%s: %+v, want %+v", path, tree[path], limits)
		}
	}
	c.RemoveOrphans(func(uid types.UID) bool { return uid == "b" })
	var left []string
	for path := range tree {
		left = append(left, path[strings.LastIndexByte(path, '/')+1:])
	}
	sort.Strings(left)
	if strings.Join(left, " ") != "pode podg" {
		t.Errorf("left: %v", left)
	}
}

// A pod's cgroup grows before its containers do and shrinks after them: a child
// that has more than its parent is refused by the kernel (KEP-1287).
func TestResizeOfAPodCgroup(t *testing.T) {
	tree := fakeTree{}
	c := &podCgroups{logger: klog.Background(), root: "/r", tree: tree, podPids: 30, applied: map[string]Limits{}}
	steps := []struct {
		pod           *v1.Pod
		before, after Limits
	}{
		{podOf("g", "500m/64Mi", "500m/64Mi"), Limits{512, 50000, 64 << 20, 30}, Limits{512, 50000, 64 << 20, 30}},
		{podOf("g", "1/32Mi", "1/32Mi"), Limits{1024, 100000, 64 << 20, 30}, Limits{1024, 100000, 32 << 20, 30}},
		{podOf("g", "250m/32Mi", "250m/32Mi"), Limits{1024, 100000, 32 << 20, 30}, Limits{256, 25000, 32 << 20, 30}},
	}
	for i, step := range steps {
		if err := c.EnsureExists(step.pod); err != nil || tree["/r/podg"] != step.before {
			t.Errorf("step %d, before its containers: %+v, want %+v (%v)", i, tree["/r/podg"], step.before, err)
		}
		if err := c.Shrink(step.pod); err != nil || tree["/r/podg"] != step.after {
			t.Errorf("step %d, after its containers: %+v, want %+v (%v)", i, tree["/r/podg"], step.after, err)
		}
	}
	// A limit that is taken away has to be written: zero means "as it was" to the kernel's library.
	unlimited := podOf("g", "250m/32Mi", "")
	unlimited.Status.QOSClass = v1.PodQOSGuaranteed // it never changes
	if err := c.EnsureExists(unlimited); err != nil || tree["/r/podg"] != (Limits{256, -1, -1, 30}) {
		t.Errorf("without limits: %+v (%v)", tree["/r/podg"], err)
	}
}

// All pods together have what the node gives them, whatever a pod may have.
func TestEnforceNodeAllocatable(t *testing.T) {
	tree := fakeTree{}
	c := &podCgroups{logger: klog.Background(), root: "/r", tree: tree, podPids: 30, applied: map[string]Limits{}}
	for i, step := range []struct{ wanted, written Limits }{
		{Limits{CPUShares: 2048, Memory: 1 << 30}, Limits{CPUShares: 2048, Memory: 1 << 30}},
		{Limits{CPUShares: 1024, Memory: 2 << 30}, Limits{CPUShares: 1024, Memory: 2 << 30}},
		{Limits{CPUShares: 1024, Memory: -1}, Limits{CPUShares: 1024, Memory: -1}},
	} {
		if c.EnforceNodeAllocatable(step.wanted); tree["/r"] != step.written {
			t.Errorf("step %d: %+v, want %+v", i, tree["/r"], step.written)
		}
	}
	delete(tree, "/r") // the runtime, or a person, has removed it
	if c.EnforceNodeAllocatable(Limits{CPUShares: 1024, Memory: -1}); len(tree) != 1 {
		t.Error("it was not made again")
	}
}

// The levels share the CPU by what their pods ask for: BestEffort has the least, Burstable the sum of its pods' requests.
func TestQOSLevelsAreWeighed(t *testing.T) {
	tree := fakeTree{}
	c := &podCgroups{logger: klog.Background(), root: "/r", tree: tree, podPids: -1, applied: map[string]Limits{}}
	guaranteed, burstable, bestEffort := podOf("g", "2/64Mi", "2/64Mi"), podOf("b", "300m/1Mi", ""), podOf("e", "", "")
	for _, step := range []struct {
		pods []*v1.Pod
		want uint64
	}{
		{nil, 2},
		{[]*v1.Pod{guaranteed, burstable, bestEffort}, 307},
		{[]*v1.Pod{burstable, podOf("b2", "1/1Mi", "2/1Mi")}, 1331},
		{[]*v1.Pod{podOf("huge", "400/1Mi", "")}, 262144},
		{[]*v1.Pod{bestEffort}, 2},
	} {
		c.UpdateQOSCgroups(func() []*v1.Pod { return step.pods })
		if got := tree["/r/burstable"]; got != (Limits{CPUShares: step.want}) {
			t.Errorf("%d pods: burstable %+v, want %d shares", len(step.pods), got, step.want)
		}
		if got := tree["/r/besteffort"]; got != (Limits{CPUShares: 2}) {
			t.Errorf("%d pods: besteffort %+v, want 2 shares", len(step.pods), got)
		}
	}
	c.RemoveRoot()
	if c.UpdateQOSCgroups(func() []*v1.Pod { return nil }); len(tree) != 0 {
		t.Errorf("made again after the end: %v", tree)
	}
}
