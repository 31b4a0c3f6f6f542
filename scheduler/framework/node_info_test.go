package framework

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func requestingPod(uid, cpu string, hostPort int32) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: uid, UID: types.UID(uid)}, Spec: v1.PodSpec{Containers: []v1.Container{{
		Ports:     []v1.ContainerPort{{HostPort: hostPort, Protocol: v1.ProtocolTCP}},
		Resources: v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), "example.com/gpu": resource.MustParse("1")}},
	}}}}
}

func TestNodeInfoSumsFollowPods(t *testing.T) {
	n := NewNodeInfo()
	before := n.Generation
	a, b := requestingPod("a", "100m", 80), requestingPod("b", "200m", 81)
	n.AddPod(NewPodInfo(a))
	n.AddPod(NewPodInfo(b))
	if n.Requested.MilliCPU != 300 || n.Requested.ScalarResources["example.com/gpu"] != 2 || n.NonZeroRequested.Memory != 2*DefaultMemoryRequest {
		t.Errorf("after two pods: requested %+v, nonzero %+v", n.Requested, n.NonZeroRequested)
	}
	if n.Generation <= before {
		t.Error("the generation did not grow")
	}
	clone := n.Snapshot()
	if err := n.RemovePod(a); err != nil {
		t.Fatal(err)
	}
	if n.Requested.MilliCPU != 200 || n.UsedPorts.CheckConflict("", v1.ProtocolTCP, 80) || !n.UsedPorts.CheckConflict("", v1.ProtocolTCP, 81) {
		t.Errorf("after removal: requested %+v, ports %v", n.Requested, n.UsedPorts)
	}
	if clone.Requested.MilliCPU != 300 || len(clone.Pods) != 2 || clone.Pods[0].Pod.Name != "a" || !clone.UsedPorts.CheckConflict("", v1.ProtocolTCP, 80) {
		t.Error("the snapshot changed with the original")
	}
	if err := n.RemovePod(a); err == nil {
		t.Error("removing a pod twice is not noticed")
	}
}

func TestHostPortConflicts(t *testing.T) {
	used := HostPortInfo{}
	used.Add("127.0.0.1", v1.ProtocolTCP, 80)
	used.Add("", v1.ProtocolUDP, 53)
	for name, test := range map[string]struct {
		ip       string
		protocol v1.Protocol
		port     int32
		want     bool
	}{
		"same address":               {"127.0.0.1", v1.ProtocolTCP, 80, true},
		"any address against one":    {"", v1.ProtocolTCP, 80, true},
		"another address":            {"10.0.0.1", v1.ProtocolTCP, 80, false},
		"another protocol":           {"127.0.0.1", v1.ProtocolUDP, 80, false},
		"one address against any":    {"10.0.0.1", v1.ProtocolUDP, 53, true},
		"no protocol means TCP":      {"127.0.0.1", "", 80, true},
		"no port":                    {"127.0.0.1", v1.ProtocolTCP, 0, false},
		"any address, protocol free": {"0.0.0.0", v1.ProtocolTCP, 53, false},
	} {
		if got := used.CheckConflict(test.ip, test.protocol, test.port); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
