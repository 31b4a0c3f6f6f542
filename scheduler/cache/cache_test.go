package cache

import (
	"fmt"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/framework"
)

func makeNode(name, zone string) *v1.Node {
	return &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1.LabelTopologyZone: zone}}}
}

func makePod(name, node string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name)},
		Spec: v1.PodSpec{NodeName: node, Containers: []v1.Container{{Resources: v1.ResourceRequirements{
			Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("100m")}}}}},
	}
}

func cpuOn(s *Snapshot, node string) int64 {
	info, err := s.Get(node)
	if err != nil {
		return -1
	}
	return info.Requested.MilliCPU
}

func TestLifeOfAnAssumedPod(t *testing.T) {
	logger := klog.Background()
	for name, test := range map[string]struct {
		then func(c *Cache)
		a, b int64 // CPU on nodes a and b afterwards
	}{
		"assumed":               {func(*Cache) {}, 100, 0},
		"forgotten":             {func(c *Cache) { _ = c.ForgetPod(makePod("p", "a")) }, 0, 0},
		"confirmed":             {func(c *Cache) { _ = c.AddPod(logger, makePod("p", "a")) }, 100, 0},
		"confirmed elsewhere":   {func(c *Cache) { _ = c.AddPod(logger, makePod("p", "b")) }, 0, 100},
		"deleted while assumed": {func(c *Cache) { _ = c.RemovePod(makePod("p", "a")) }, 0, 0},
		"bound":                 {func(c *Cache) { c.FinishBinding(makePod("p", "a")) }, 100, 0},
		"bound, gone unseen":    {func(c *Cache) { c.FinishBinding(makePod("p", "a")); c.UnboundPodGone(makePod("p", "")) }, 0, 0},
		"gone unseen, bound":    {func(c *Cache) { c.UnboundPodGone(makePod("p", "")); c.FinishBinding(makePod("p", "a")) }, 0, 0},
		// The binding will fail, and forget it.
		"gone while it is being bound": {func(c *Cache) { c.UnboundPodGone(makePod("p", "")) }, 100, 0},
	} {
		c := New()
		c.AddNode(makeNode("a", ""))
		c.AddNode(makeNode("b", ""))
		if err := c.AssumePod(framework.NewPodInfo(makePod("p", "a"))); err != nil {
			t.Fatal(err)
		}
		test.then(c)
		s := NewSnapshot()
		c.UpdateSnapshot(s)
		if cpuOn(s, "a") != test.a || cpuOn(s, "b") != test.b {
			t.Errorf("%s: a has %d, b has %d, want %d and %d", name, cpuOn(s, "a"), cpuOn(s, "b"), test.a, test.b)
		}
	}
}

func TestAssumeTwiceAndForgetConfirmedAreErrors(t *testing.T) {
	c := New()
	c.AddNode(makeNode("a", ""))
	if err := c.AddPod(klog.Background(), makePod("p", "a")); err != nil {
		t.Fatal(err)
	}
	if c.AssumePod(framework.NewPodInfo(makePod("p", "a"))) == nil {
		t.Error("assuming a known pod is not refused")
	}
	if c.ForgetPod(makePod("p", "a")) == nil {
		t.Error("forgetting a confirmed pod is not refused")
	}
}

// After one pod only one node is copied: the others keep the same sums by identity.
func TestSnapshotIsIncremental(t *testing.T) {
	c := New()
	for i := range 10 {
		c.AddNode(makeNode(fmt.Sprint("n", i), ""))
	}
	s := NewSnapshot()
	c.UpdateSnapshot(s)
	before := map[string]*framework.Resource{}
	for _, n := range s.List() {
		before[n.Node().Name] = n.Requested
	}
	if err := c.AddPod(klog.Background(), makePod("p", "n3")); err != nil {
		t.Fatal(err)
	}
	c.UpdateSnapshot(s)
	for _, n := range s.List() {
		copied := n.Requested != before[n.Node().Name]
		if copied != (n.Node().Name == "n3") {
			t.Errorf("node %s: copied = %v", n.Node().Name, copied)
		}
	}
	if got := cpuOn(s, "n3"); got != 100 {
		t.Errorf("n3 has %d", got)
	}
}

func TestSnapshotFollowsNodes(t *testing.T) {
	c := New()
	s := NewSnapshot()
	names := func() []string {
		c.UpdateSnapshot(s)
		var out []string
		for _, n := range s.List() {
			out = append(out, n.Node().Name)
		}
		return out
	}
	// A pod known before its node does not make the node appear.
	_ = c.AddPod(klog.Background(), makePod("early", "c"))
	c.AddNode(makeNode("a", ""))
	c.AddNode(makeNode("b", ""))
	if got := names(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("two nodes: %v", got)
	}
	c.AddNode(makeNode("c", ""))
	if got := names(); !slices.Equal(got, []string{"a", "b", "c"}) || cpuOn(s, "c") != 100 {
		t.Errorf("third node: %v, its CPU %d", got, cpuOn(s, "c"))
	}
	_ = c.RemoveNode(makeNode("c", ""))
	_ = c.RemoveNode(makeNode("a", ""))
	c.AddNode(makeNode("d", ""))
	if got := names(); !slices.Equal(got, []string{"b", "d"}) {
		t.Errorf("two gone, one new: %v", got)
	}
	_ = c.RemovePod(makePod("early", "c"))
	if c.NodeCount() != 2 {
		t.Errorf("node c is still kept for its pod: %d nodes", c.NodeCount())
	}
}

func TestNodesAreListedZoneByZone(t *testing.T) {
	c := New()
	for _, n := range []*v1.Node{makeNode("a1", "a"), makeNode("a2", "a"), makeNode("a3", "a"), makeNode("b1", "b"), makeNode("c1", "c")} {
		c.AddNode(n)
	}
	s := NewSnapshot()
	c.UpdateSnapshot(s)
	var got []string
	for _, n := range s.List() {
		got = append(got, n.Node().Name)
	}
	if want := []string{"a1", "b1", "c1", "a2", "a3"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestImageStatesCountNodes(t *testing.T) {
	c := New()
	withImage := func(name string) *v1.Node {
		n := makeNode(name, "")
		n.Status.Images = []v1.ContainerImage{{Names: []string{"web:1"}, SizeBytes: 5}}
		return n
	}
	c.AddNode(withImage("a"))
	c.AddNode(withImage("b"))
	c.AddNode(withImage("b")) // a status update must not count twice
	s := NewSnapshot()
	c.UpdateSnapshot(s)
	info, _ := s.Get("b")
	if got := *info.ImageStates["web:1"]; got != (framework.ImageStateSummary{Size: 5, NumNodes: 2}) {
		t.Errorf("got %+v", got)
	}
	_ = c.RemoveNode(makeNode("a", ""))
	c.AddNode(withImage("b"))
	c.UpdateSnapshot(s)
	info, _ = s.Get("b")
	if info.ImageStates["web:1"].NumNodes != 1 {
		t.Errorf("after node a left: %+v", info.ImageStates["web:1"])
	}
}
