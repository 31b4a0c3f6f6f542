package conntrack

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hyperkube/proxy/tracker"
)

func TestStaleFlows(t *testing.T) {
	name := func(service string, protocol v1.Protocol) tracker.ServicePortName {
		return tracker.ServicePortName{NamespacedName: types.NamespacedName{Namespace: "ns", Name: service}, Protocol: protocol}
	}
	expected := NewExpected(tracker.ServicePortMap{
		name("dns", v1.ProtocolUDP):   {ClusterIP: "10.96.0.10", Port: 53, NodePort: 30053},
		name("empty", v1.ProtocolUDP): {ClusterIP: "10.96.0.11", Port: 53},
		name("web", v1.ProtocolTCP):   {ClusterIP: "10.96.0.12", Port: 53},
	}, tracker.EndpointsMap{
		name("dns", v1.ProtocolUDP): {{IP: "10.244.0.2", Port: 5353, Ready: true}, {IP: "10.244.0.3", Port: 5353}},
	}, "")
	expected.NodeIPs["192.0.2.1"] = true
	for what, test := range map[string]struct {
		flow Flow
		want bool
	}{
		"a live endpoint":                  {Flow{"10.96.0.10", 53, "10.244.0.2", 5353}, false},
		"an endpoint that is gone":         {Flow{"10.96.0.10", 53, "10.244.0.9", 5353}, true},
		"an endpoint that is not ready":    {Flow{"10.96.0.10", 53, "10.244.0.3", 5353}, true},
		"from before there were endpoints": {Flow{"10.96.0.10", 53, "10.96.0.10", 53}, true},
		"a Service without endpoints":      {Flow{"10.96.0.11", 53, "10.244.0.2", 5353}, true},
		"a NodePort, endpoint gone":        {Flow{"192.0.2.1", 30053, "10.244.0.9", 5353}, true},
		"a NodePort, live":                 {Flow{"192.0.2.1", 30053, "10.244.0.2", 5353}, false},
		"the same port of another machine": {Flow{"203.0.113.1", 30053, "203.0.113.1", 30053}, false},
		"another port of the cluster IP":   {Flow{"10.96.0.10", 54, "10.96.0.10", 54}, false},
		"a TCP Service's address":          {Flow{"10.96.0.12", 53, "10.244.0.9", 53}, false},
	} {
		if got := expected.Stale(test.flow); got != test.want {
			t.Errorf("%s: got %v", what, got)
		}
	}
}
