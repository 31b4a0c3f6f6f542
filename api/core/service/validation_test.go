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
		"external name":            {func(s *v1.ServiceSpec) { s.Type, s.InternalTrafficPolicy = v1.ServiceTypeExternalName, nil }, []string{"spec.externalName: Required value"}},
		"external policy":          {func(s *v1.ServiceSpec) { s.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal }, []string{"spec.externalTrafficPolicy: Invalid value … may only be set for externally-accessible services"}},
		"external IP":              {func(s *v1.ServiceSpec) { s.ExternalIPs = []string{"127.0.0.1"} }, []string{"spec.externalIPs[0]: Invalid value … may not be in the loopback range"}},
		"kubelet's port":           {func(s *v1.ServiceSpec) { s.Type, s.Ports[0].Port = v1.ServiceTypeLoadBalancer, 10250 }, nil},
		"class without a balancer": {func(s *v1.ServiceSpec) { s.LoadBalancerClass = ptr.To("x y") }, []string{"spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"}},
		"class":                    {func(s *v1.ServiceSpec) { s.Type, s.LoadBalancerClass = v1.ServiceTypeLoadBalancer, ptr.To("x y") }, []string{"spec.loadBalancerClass: Invalid value"}},
		"health check port": {func(s *v1.ServiceSpec) {
			s.Type, s.ExternalTrafficPolicy, s.HealthCheckNodePort = v1.ServiceTypeLoadBalancer, v1.ServiceExternalTrafficPolicyLocal, 70000
		}, []string{"spec.healthCheckNodePort: Invalid value: 70000"}},
		"health check port of none": {func(s *v1.ServiceSpec) { s.HealthCheckNodePort = 30000 }, []string{"spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"}},
		"node port of an external name": {func(s *v1.ServiceSpec) {
			s.Type, s.ExternalName, s.Ports[0].NodePort = v1.ServiceTypeExternalName, "example.com.", 30000
		}, nil},
		"internal policy of an external name": {func(s *v1.ServiceSpec) {
			s.Type, s.ExternalName, s.InternalTrafficPolicy = v1.ServiceTypeExternalName, "example.com", ptr.To(v1.ServiceInternalTrafficPolicy("x"))
		}, []string{"spec.internalTrafficPolicy: Unsupported value"}},
		"not an external IP": {func(s *v1.ServiceSpec) { s.ExternalIPs = []string{"x"} }, []string{"spec.externalIPs[0]: Invalid value"}},
		"plural alone":       {func(s *v1.ServiceSpec) { s.ClusterIPs = []string{"10.0.0.1"} }, []string{"spec.clusterIPs: Invalid value … must be empty when `clusterIP` is not specified"}},
		"singular alone":     {func(s *v1.ServiceSpec) { s.ClusterIP = "10.0.0.1" }, []string{"spec.clusterIPs: Required value"}},
		"None and more":      {func(s *v1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "None", []string{"None", "10.0.0.1"} }, []string{"spec.clusterIPs: Invalid value … 'None' must be the first and only value"}},
		"None second":        {func(s *v1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "10.0.0.1", []string{"10.0.0.1", "None"} }, []string{"spec.clusterIPs[1]: Invalid value"}},
		"three": {func(s *v1.ServiceSpec) {
			s.ClusterIP, s.ClusterIPs = "10.0.0.1", []string{"10.0.0.1", "fd00::1", "10.0.0.2"}
		}, []string{"spec.clusterIPs: Invalid value … may only hold up to 2 values"}},
		"two of one family": {func(s *v1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "10.0.0.1", []string{"10.0.0.1", "10.0.0.2"} }, []string{"spec.clusterIPs: Invalid value … may specify no more than one IP for each IP family"}},
		"one of each":       {func(s *v1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "10.0.0.1", []string{"10.0.0.1", "fd00::1"} }, nil},
		"a family twice":    {func(s *v1.ServiceSpec) { s.IPFamilies = []v1.IPFamily{v1.IPv4Protocol, v1.IPv4Protocol} }, []string{`spec.ipFamilies[1]: Duplicate value: "IPv4"`}},
		"no such policy":    {func(s *v1.ServiceSpec) { s.IPFamilyPolicy = ptr.To(v1.IPFamilyPolicy("x")) }, []string{"spec.ipFamilyPolicy: Unsupported value"}},
		"source range":      {func(s *v1.ServiceSpec) { s.LoadBalancerSourceRanges = []string{"10.0.0.0/8"} }, []string{"spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"}},
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

// The annotation of old says what the field says, where the field is empty.
func TestSourceRangesAnnotation(t *testing.T) {
	s := good()
	s.Annotations = map[string]string{v1.AnnotationLoadBalancerSourceRangesKey: "10.0.0.0/8, x"}
	SetDefaults(s)
	at := "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]"
	ruletest.Expect(t, Validate(s), at+": Forbidden: may only be used when `type` is 'LoadBalancer'", at+": Invalid value: \"x\"")
	s.Spec.Type, s.Spec.LoadBalancerSourceRanges = v1.ServiceTypeLoadBalancer, []string{" 10.0.0.0/8"}
	SetDefaults(s)
	ruletest.Expect(t, Validate(s))
}

// An address once given stays: clients and caches have it. A second may come, and go when the policy says so (KEP-563).
func TestValidateUpdate(t *testing.T) {
	single, prefer := ptr.To(v1.IPFamilyPolicySingleStack), ptr.To(v1.IPFamilyPolicyPreferDualStack)
	one := v1.ServiceSpec{ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1"}, IPFamilies: []v1.IPFamily{v1.IPv4Protocol}, IPFamilyPolicy: single}
	two := v1.ServiceSpec{ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1", "fd00::1"}, IPFamilies: []v1.IPFamily{v1.IPv4Protocol, v1.IPv6Protocol}, IPFamilyPolicy: prefer}
	headless := v1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}, IPFamilies: []v1.IPFamily{v1.IPv4Protocol}, IPFamilyPolicy: single}
	balanced := v1.ServiceSpec{Type: v1.ServiceTypeLoadBalancer, LoadBalancerClass: ptr.To("a")}
	for name, test := range map[string]struct {
		old, now v1.ServiceSpec
		change   func(s *v1.ServiceSpec)
		want     []string
	}{
		"nothing":        {one, one, func(s *v1.ServiceSpec) {}, nil},
		"upgrade":        {one, two, func(s *v1.ServiceSpec) {}, nil},
		"other first":    {one, two, func(s *v1.ServiceSpec) { s.ClusterIP, s.ClusterIPs[0] = "10.0.0.2", "10.0.0.2" }, []string{"spec.clusterIPs[0]: Invalid value … may not change once set"}},
		"other address":  {one, one, func(s *v1.ServiceSpec) { s.ClusterIP, s.ClusterIPs[0] = "10.0.0.2", "10.0.0.2" }, []string{"spec.clusterIPs[0]: Invalid value … may not change once set"}},
		"other second":   {two, two, func(s *v1.ServiceSpec) { s.ClusterIPs[1] = "fd00::2" }, []string{"spec.clusterIPs[1]: Invalid value … may not change once set"}},
		"downgrade":      {two, one, func(s *v1.ServiceSpec) {}, nil},
		"silently":       {two, one, func(s *v1.ServiceSpec) { s.IPFamilyPolicy = prefer }, []string{"spec.ipFamilyPolicy: Invalid value … must be set to 'SingleStack' when releasing the secondary clusterIP", "spec.ipFamilyPolicy: Invalid value … must be set to 'SingleStack' when releasing the secondary ipFamily"}},
		"the first goes": {two, one, func(s *v1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "", nil }, []string{"spec.clusterIPs[0]: Invalid value … primary clusterIP can not be unset", "spec.ipFamilies[0]: Invalid value … primary ipFamily can not be unset"}},
		"other families": {two, two, func(s *v1.ServiceSpec) {
			s.ClusterIPs, s.IPFamilies = s.ClusterIPs[:1], []v1.IPFamily{v1.IPv6Protocol, v1.IPv4Protocol}
			s.IPFamilyPolicy = single
		}, []string{"spec.ipFamilies[0]: Invalid value … may not change once set", "spec.ipFamilies[0]: Invalid value … may not change once set", "spec.clusterIPs[0]: Invalid value … expected an IPv6 value"}},
		"to headless":              {one, headless, func(s *v1.ServiceSpec) {}, []string{"spec.clusterIPs[0]: Invalid value … may not change once set"}},
		"families of the headless": {headless, headless, func(s *v1.ServiceSpec) { s.IPFamilies[0] = v1.IPv6Protocol }, nil},
		"to a name":                {two, v1.ServiceSpec{Type: v1.ServiceTypeExternalName, ExternalName: "example.com"}, func(s *v1.ServiceSpec) {}, nil},
		"from a name":              {v1.ServiceSpec{Type: v1.ServiceTypeExternalName, ExternalName: "example.com"}, two, func(s *v1.ServiceSpec) {}, nil},
		"class":                    {balanced, balanced, func(s *v1.ServiceSpec) { s.LoadBalancerClass = ptr.To("b") }, []string{"spec.loadBalancerClass: Invalid value … may not change once set"}},
		"class unset":              {balanced, balanced, func(s *v1.ServiceSpec) { s.LoadBalancerClass = nil }, []string{"spec.loadBalancerClass: Invalid value … may not change once set"}},
		"class of another type":    {balanced, one, func(s *v1.ServiceSpec) {}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			old, s := good(), good()
			test.old.DeepCopyInto(&old.Spec)
			test.now.DeepCopyInto(&s.Spec)
			test.change(&s.Spec)
			for _, each := range []*v1.Service{old, s} {
				if each.Spec.Type != v1.ServiceTypeExternalName {
					each.Spec.Ports = []v1.ServicePort{{Port: 80}}
				}
				SetDefaults(each)
			}
			ruletest.Expect(t, ValidateUpdate(s, old), test.want...)
		})
	}
}

func TestValidateStatusUpdate(t *testing.T) {
	for name, test := range map[string]struct {
		kind    v1.ServiceType
		ingress v1.LoadBalancerIngress
		want    []string
	}{
		"address":   {v1.ServiceTypeLoadBalancer, v1.LoadBalancerIngress{IP: "1.2.3.4", IPMode: ptr.To(v1.LoadBalancerIPModeVIP)}, nil},
		"no mode":   {v1.ServiceTypeLoadBalancer, v1.LoadBalancerIngress{IP: "1.2.3.4"}, []string{"status.loadBalancer.ingress[0].ipMode: Required value: must be specified when `ip` is set"}},
		"no IP":     {v1.ServiceTypeLoadBalancer, v1.LoadBalancerIngress{Hostname: "a.b", IPMode: ptr.To(v1.LoadBalancerIPModeVIP)}, []string{"status.loadBalancer.ingress[0].ipMode: Forbidden: may not be specified when `ip` is not set"}},
		"bad mode":  {v1.ServiceTypeLoadBalancer, v1.LoadBalancerIngress{IP: "1.2.3.4", IPMode: ptr.To(v1.LoadBalancerIPMode("x"))}, []string{"status.loadBalancer.ingress[0].ipMode: Unsupported value"}},
		"IP a name": {v1.ServiceTypeLoadBalancer, v1.LoadBalancerIngress{Hostname: "1.2.3.4"}, []string{"status.loadBalancer.ingress[0].hostname: Invalid value … must be a DNS name, not an IP address"}},
		"type":      {v1.ServiceTypeNodePort, v1.LoadBalancerIngress{Hostname: "a.b"}, []string{"status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := good()
			s.Spec.Type, s.Status.LoadBalancer.Ingress = test.kind, []v1.LoadBalancerIngress{test.ingress}
			ruletest.Expect(t, ValidateStatusUpdate(s, good()), test.want...)
		})
	}
}
