package endpointslice

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// hintsGiven are "address:zones/nodes" of a plan's endpoints.
func hintsGiven(p plan) string {
	var all []string
	for _, s := range append(slices.Clone(p.create), p.update...) {
		for _, e := range s.Endpoints {
			said := e.TargetRef.Name + ":"
			if e.Hints != nil {
				for _, z := range e.Hints.ForZones {
					said += z.Name
				}
				for _, n := range e.Hints.ForNodes {
					said += "/" + n.Name
				}
			}
			all = append(all, said)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func inZones(of map[string]string) func(string) string {
	return func(node string) string { return of[node] }
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

// spec.trafficDistribution: an endpoint is for its own zone, or node; one that is not ready
// has no hint, and a hint that is no longer wanted goes (KEP-4444, KEP-3015).
func TestTrafficDistribution(t *testing.T) {
	all := []*corev1.Pod{newPod(1, on("a1")), newPod(2, on("b1")), newPod(3, on("nowhere")),
		newPod(4, on("a1"), func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse })}
	zoneOf := inZones(map[string]string{"a1": "a", "b1": "b"})
	var existing []*discovery.EndpointSlice
	for _, test := range []struct{ distribution, want string }{
		{corev1.ServiceTrafficDistributionPreferClose, "p1:a p2:b p3: p4:"},
		{corev1.ServiceTrafficDistributionPreferSameNode, "p1:a/a1 p2:b/b1 p3:/nowhere p4:"},
		{corev1.ServiceTrafficDistributionPreferSameZone, "p1:a p2:b p3: p4:"},
		{"", "p1: p2: p3: p4:"},
	} {
		service := newService(func(s *corev1.Service) { s.Spec.TrafficDistribution = ptr.To(test.distribution) })
		p := planService(service, all, existing, surroundings{zoneOf, hintsOf(service)})
		if got := hintsGiven(p); got != test.want {
			t.Errorf("%q: hints %s, want %s", test.distribution, got, test.want)
		}
		existing = apply(existing, p)
	}
}

// topology-mode Auto: each zone gets endpoints in proportion to its CPUs; where that cannot
// be, none has a hint and the reason is told (KEP-2433).
func TestHintsByCPU(t *testing.T) {
	node := func(zone, cpu string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelTopologyZone: zone}},
			Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{"cpu": resource.MustParse(cpu)},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	}
	notReady := node("c", "8")
	notReady.Status.Conditions = nil
	zoneOf := inZones(map[string]string{"a1": "a", "b1": "b"})
	many := func(a, b int) (all []*corev1.Pod) {
		for i := range a + b {
			all = append(all, newPod(i, on(map[bool]string{true: "a1", false: "b1"}[i < a])))
		}
		return all
	}
	for name, test := range map[string]struct {
		nodes  []*corev1.Node
		pods   []*corev1.Pod
		a, b   int
		reason string
	}{
		"even":                       {[]*corev1.Node{node("a", "4"), node("b", "4"), notReady}, many(3, 3), 3, 3, "TopologyAwareHintsEnabled"},
		"one zone helps the other":   {[]*corev1.Node{node("a", "4"), node("b", "4")}, many(6, 0), 3, 3, "TopologyAwareHintsEnabled"},
		"in proportion":              {[]*corev1.Node{node("a", "9"), node("b", "3")}, many(6, 6), 8, 4, "TopologyAwareHintsEnabled"},
		"too few":                    {[]*corev1.Node{node("a", "4"), node("b", "4")}, many(1, 0), 0, 0, "TopologyAwareHintsDisabled"},
		"three on two zones":         {[]*corev1.Node{node("a", "4"), node("b", "4")}, many(2, 1), 0, 0, "TopologyAwareHintsDisabled"},
		"one zone":                   {[]*corev1.Node{node("a", "4")}, many(2, 2), 0, 0, "TopologyAwareHintsDisabled"},
		"a node that does not say":   {[]*corev1.Node{node("a", "4"), node("", "4")}, many(2, 2), 0, 0, "TopologyAwareHintsDisabled"},
		"an endpoint without a zone": {[]*corev1.Node{node("a", "4"), node("b", "4")}, append(many(2, 2), newPod(9, on("x"))), 0, 0, "TopologyAwareHintsDisabled"},
	} {
		p := planService(newService(), test.pods, nil, surroundings{zoneOf, byCPU(cpuRatios(test.nodes))})
		given := hintsGiven(p)
		if a, b := strings.Count(given, ":a"), strings.Count(given, ":b"); a != test.a || b != test.b {
			t.Errorf("%s: %d for a, %d for b; want %d, %d", name, a, b, test.a, test.b)
		}
		if len(p.notes) != 1 || p.notes[0].reason != test.reason {
			t.Errorf("%s: told %v, want %s", name, p.notes, test.reason)
		}
	}
	auto := newService(func(s *corev1.Service) { s.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"} })
	z := newZones()
	news := []note{{"Normal", "x", "y"}}
	if got := fmt.Sprint(len(z.noted("k", auto, news)), len(z.noted("k", auto, news)), z.services()); got != "1 0 [k]" {
		t.Errorf("told %s: want once, and the Service remembered", got)
	}
}

// A Service that had hints by CPU and is not to have them any more is told so, once.
func TestEndOfHintsIsTold(t *testing.T) {
	auto := newService(func(s *corev1.Service) { s.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"} })
	z := newZones()
	z.noted("had", auto, []note{{corev1.EventTypeNormal, "TopologyAwareHintsEnabled", hintsEnabled + ", addressType: IPv4"}})
	z.noted("had none", auto, []note{{corev1.EventTypeWarning, "TopologyAwareHintsDisabled", "too few, addressType: IPv4"}})
	const want = "[{Warning TopologyAwareHintsDisabled Topology Aware Hints has been disabled, addressType: IPv4}]"
	if got := fmt.Sprint(z.end("had")); got != want {
		t.Errorf("told %s, want %s", got, want)
	}
	if got := fmt.Sprint(z.end("had"), z.end("had none"), z.end("never"), z.services()); got != "[] [] [] []" {
		t.Errorf("told %s", got)
	}
}
