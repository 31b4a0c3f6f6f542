package service

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule/ruletest"
)

func good() *v1.Service {
	return &v1.Service{Spec: v1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []v1.ServicePort{{Port: 80}}}}
}

func TestSetDefaults(t *testing.T) {
	s := good()
	SetDefaults(s)
	p := s.Spec.Ports[0]
	if s.Spec.Type != v1.ServiceTypeClusterIP || s.Spec.SessionAffinity != v1.ServiceAffinityNone || p.Protocol != v1.ProtocolTCP ||
		p.TargetPort != intstr.FromInt32(80) || *s.Spec.InternalTrafficPolicy != v1.ServiceInternalTrafficPolicyCluster || s.Spec.ExternalTrafficPolicy != "" {
		t.Errorf("a ClusterIP service became %+v", s.Spec)
	}
	s = good()
	s.Spec.Type, s.Spec.SessionAffinity = v1.ServiceTypeLoadBalancer, v1.ServiceAffinityClientIP
	SetDefaults(s)
	if s.Spec.ExternalTrafficPolicy != v1.ServiceExternalTrafficPolicyCluster || !*s.Spec.AllocateLoadBalancerNodePorts || *s.Spec.SessionAffinityConfig.ClientIP.TimeoutSeconds != 10800 {
		t.Errorf("a LoadBalancer service became %+v", s.Spec)
	}
}

func TestValidate(t *testing.T) {
	for name, test := range map[string]struct {
		change func(s *v1.ServiceSpec)
		want   []string
	}{
		"good":           {func(s *v1.ServiceSpec) {}, nil},
		"no ports":       {func(s *v1.ServiceSpec) { s.Ports = nil }, []string{"spec.ports: Required value"}},
		"headless":       {func(s *v1.ServiceSpec) { s.Ports, s.ClusterIP, s.ClusterIPs = nil, "None", []string{"None"} }, nil},
		"type":           {func(s *v1.ServiceSpec) { s.Type = "x" }, []string{`spec.type: Unsupported value: "x": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"`}},
		"port":           {func(s *v1.ServiceSpec) { s.Ports[0].Port, s.Ports[0].TargetPort = 0, intstr.FromInt32(1) }, []string{"spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"}},
		"two, no names":  {func(s *v1.ServiceSpec) { s.Ports = append(s.Ports, v1.ServicePort{Port: 81}) }, []string{"spec.ports[0].name: Required value", "spec.ports[1].name: Required value"}},
		"one port twice": {func(s *v1.ServiceSpec) { s.Ports = []v1.ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 80}} }, []string{"spec.ports[1]: Duplicate value"}},
		"one name twice": {func(s *v1.ServiceSpec) { s.Ports = []v1.ServicePort{{Name: "a", Port: 80}, {Name: "a", Port: 81}} }, []string{`spec.ports[1].name: Duplicate value: "a"`}},
		"target port":    {func(s *v1.ServiceSpec) { s.Ports[0].TargetPort = intstr.FromString("a--b") }, []string{"spec.ports[0].targetPort: Invalid value"}},
		"node port":      {func(s *v1.ServiceSpec) { s.Ports[0].NodePort = 30000 }, []string{"spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"}},
		"node port, None": {func(s *v1.ServiceSpec) {
			s.Type, s.ClusterIP, s.ClusterIPs = v1.ServiceTypeNodePort, "None", []string{"None"}
		}, []string{"spec.clusterIPs[0]: Invalid value … may not be set to 'None' for NodePort services"}},
		"affinity": {func(s *v1.ServiceSpec) { s.SessionAffinity = "x" }, []string{"spec.sessionAffinity: Unsupported value"}},
		"affinity timeout": {func(s *v1.ServiceSpec) {
			s.SessionAffinity = v1.ServiceAffinityClientIP
			s.SessionAffinityConfig = &v1.SessionAffinityConfig{ClientIP: &v1.ClientIPConfig{TimeoutSeconds: ptr.To[int32](0)}}
		}, []string{"spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400"}},
		"external name":   {func(s *v1.ServiceSpec) { s.Type, s.InternalTrafficPolicy = v1.ServiceTypeExternalName, nil }, []string{"spec.externalName: Required value"}},
		"external policy": {func(s *v1.ServiceSpec) { s.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal }, []string{"spec.externalTrafficPolicy: Invalid value … may only be set for externally-accessible services"}},
		"external IP":     {func(s *v1.ServiceSpec) { s.ExternalIPs = []string{"127.0.0.1"} }, []string{"spec.externalIPs[0]: Invalid value … may not be in the loopback range"}},
		"kubelet's port":  {func(s *v1.ServiceSpec) { s.Type, s.Ports[0].Port = v1.ServiceTypeLoadBalancer, 10250 }, []string{"spec.ports[0]: Invalid value: 10250"}},
		"source range":    {func(s *v1.ServiceSpec) { s.LoadBalancerSourceRanges = []string{"10.0.0.0/8"} }, []string{"spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"}},
		"other family": {func(s *v1.ServiceSpec) {
			s.ClusterIP, s.ClusterIPs, s.IPFamilies = "10.0.0.1", []string{"10.0.0.1"}, []v1.IPFamily{v1.IPv6Protocol}
		}, []string{"spec.clusterIPs[0]: Invalid value … expected an IPv6 value as indicated by `ipFamilies[0]`"}},
		"other first":  {func(s *v1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "10.0.0.2", []string{"10.0.0.1"} }, []string{"spec.clusterIPs: Invalid value … first value must match `clusterIP`"}},
		"distribution": {func(s *v1.ServiceSpec) { s.TrafficDistribution = ptr.To("x") }, []string{"spec.trafficDistribution: Unsupported value"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := good()
			test.change(&s.Spec)
			SetDefaults(s)
			if s.Spec.Type == v1.ServiceTypeExternalName {
				s.Spec.Ports = nil
			}
			ruletest.Expect(t, Validate(s), test.want...)
		})
	}
}

// An address once given stays: clients and caches have it.
func TestValidateUpdate(t *testing.T) {
	old := good()
	old.Spec.ClusterIP, old.Spec.ClusterIPs = "10.0.0.1", []string{"10.0.0.1"}
	SetDefaults(old)
	s := old.DeepCopy()
	ruletest.Expect(t, ValidateUpdate(s, old))
	s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.0.0.2", []string{"10.0.0.2"}
	ruletest.Expect(t, ValidateUpdate(s, old), "spec.clusterIPs[0]: Invalid value … may not change once set")
	s.Spec = v1.ServiceSpec{Type: v1.ServiceTypeExternalName, ExternalName: "example.com"}
	SetDefaults(s)
	ruletest.Expect(t, ValidateUpdate(s, old))
}
