package service

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule/ruletest"
)

const (
	four, six               = v1.IPv4Protocol, v1.IPv6Protocol
	single, prefer, require = v1.IPFamilyPolicySingleStack, v1.IPFamilyPolicyPreferDualStack, v1.IPFamilyPolicyRequireDualStack
)

// stacked is a service of a policy ("": none), families, and addresses.
func stacked(policy v1.IPFamilyPolicy, families []v1.IPFamily, ips ...string) *v1.Service {
	s := &v1.Service{Spec: v1.ServiceSpec{Type: v1.ServiceTypeClusterIP, Selector: map[string]string{"a": "b"}, IPFamilies: families, ClusterIPs: ips}}
	if len(ips) > 0 {
		s.Spec.ClusterIP = ips[0]
	}
	if policy != "" {
		s.Spec.IPFamilyPolicy = ptr.To(policy)
	}
	return s
}

func anywhere(s *v1.Service) *v1.Service {
	s.Spec.Selector = nil
	return s
}

type list = []v1.IPFamily

// Which families a service gets: KEP-563, and upstream's initIPFamilyFields.
func TestInitIPFamilyFields(t *testing.T) {
	one, both := list{four}, list{four, six}
	for name, test := range map[string]struct {
		configured list
		s, old     *v1.Service
		policy     v1.IPFamilyPolicy
		families   list
		ips        []string
		want       []string
	}{
		"default":                       {one, stacked("", nil), nil, single, list{four}, nil, nil},
		"default of two":                {list{six, four}, stacked("", nil), nil, single, list{six}, nil, nil},
		"prefer of one":                 {one, stacked(prefer, nil), nil, prefer, list{four}, nil, nil},
		"prefer of two":                 {both, stacked(prefer, nil), nil, prefer, both, nil, nil},
		"prefer the other first":        {both, stacked(prefer, list{six}), nil, prefer, list{six, four}, nil, nil},
		"require of one":                {one, stacked(require, nil), nil, require, nil, nil, []string{"spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"}},
		"require of two":                {both, stacked(require, nil), nil, require, both, nil, nil},
		"the second family":             {both, stacked("", list{six}), nil, single, list{six}, nil, nil},
		"a family that is not":          {one, stacked("", list{six}), nil, single, list{six}, nil, []string{"spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"}},
		"by address":                    {both, stacked("", nil, "fd00::1"), nil, single, list{six}, []string{"fd00::1"}, nil},
		"an address that is not":        {one, stacked("", nil, "fd00::1"), nil, single, nil, []string{"fd00::1"}, []string{"spec.clusterIPs[0]: Invalid value … IPv6 is not configured on this cluster"}},
		"two, no policy":                {both, stacked("", both), nil, single, both, nil, []string{"spec.ipFamilyPolicy: Invalid value … must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"}},
		"two IPs, no policy":            {both, stacked("", nil, "10.0.0.1", "fd00::1"), nil, single, nil, []string{"10.0.0.1", "fd00::1"}, []string{"spec.ipFamilyPolicy: Invalid value … must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"}},
		"headless":                      {both, stacked("", nil, "None"), nil, single, list{four}, []string{"None"}, nil},
		"headless for anything":         {one, anywhere(stacked("", nil, "None")), nil, require, both, []string{"None"}, nil},
		"headless for one":              {one, anywhere(stacked(single, list{six}, "None")), nil, single, list{six}, []string{"None"}, nil},
		"upgrade":                       {both, stacked(require, one, "10.0.0.1"), stacked(single, one, "10.0.0.1"), require, both, []string{"10.0.0.1"}, nil},
		"downgrade":                     {both, stacked(single, both, "10.0.0.1", "fd00::1"), stacked(prefer, both, "10.0.0.1", "fd00::1"), single, one, []string{"10.0.0.1"}, nil},
		"downgrade by families":         {both, stacked(prefer, one, "10.0.0.1", "fd00::1"), stacked(prefer, both, "10.0.0.1", "fd00::1"), prefer, one, []string{"10.0.0.1", "fd00::1"}, []string{"spec.ipFamilyPolicy: Invalid value … must be 'SingleStack' to release the secondary IP family"}},
		"downgrade by addresses":        {both, stacked(require, both, "10.0.0.1"), stacked(require, both, "10.0.0.1", "fd00::1"), require, both, []string{"10.0.0.1"}, []string{"spec.ipFamilyPolicy: Invalid value … must be 'SingleStack' to release the secondary cluster IP"}},
		"policy of before":              {both, stacked("", nil, "10.0.0.1", "fd00::1"), stacked(prefer, both, "10.0.0.1", "fd00::1"), prefer, both, []string{"10.0.0.1", "fd00::1"}, nil},
		"left alone":                    {both, stacked(prefer, one, "10.0.0.1"), stacked(prefer, one, "10.0.0.1"), prefer, one, []string{"10.0.0.1"}, nil},
		"left alone with two":           {one, stacked(prefer, both, "10.0.0.1", "fd00::1"), stacked(prefer, both, "10.0.0.1", "fd00::1"), prefer, both, []string{"10.0.0.1", "fd00::1"}, nil},
		"addresses are looked at first": {one, stacked(require, nil, "x"), nil, require, nil, []string{"x"}, []string{"spec.clusterIPs[0]: Invalid value"}},
	} {
		t.Run(name, func(t *testing.T) {
			first := initIPFamilyFields(test.s, test.old, test.configured)
			if len(test.want) == 0 || test.s.Spec.IPFamilies != nil {
				if *test.s.Spec.IPFamilyPolicy != test.policy || !slices.Equal(test.s.Spec.IPFamilies, test.families) || !slices.Equal(test.s.Spec.ClusterIPs, test.ips) {
					t.Errorf("%s %v %v", *test.s.Spec.IPFamilyPolicy, test.s.Spec.IPFamilies, test.s.Spec.ClusterIPs)
				}
			}
			ruletest.Expect(t, first, test.want...)
			// The strategy asks twice.
			was := test.s.DeepCopy()
			ruletest.Expect(t, initIPFamilyFields(test.s, test.old, test.configured), test.want...)
			if !slices.Equal(was.Spec.IPFamilies, test.s.Spec.IPFamilies) || !slices.Equal(was.Spec.ClusterIPs, test.s.Spec.ClusterIPs) {
				t.Errorf("the second run changed %v %v", test.s.Spec.IPFamilies, test.s.Spec.ClusterIPs)
			}
		})
	}
}

// A change of the type takes along what belonged to it, unless the client changed that too; what was given out comes back by itself.
func TestUpdateKeepsAndDrops(t *testing.T) {
	old := stacked(prefer, list{four, six}, "10.0.0.1", "fd00::1")
	old.Spec.Type, old.Spec.ExternalTrafficPolicy, old.Spec.HealthCheckNodePort = v1.ServiceTypeLoadBalancer, v1.ServiceExternalTrafficPolicyLocal, 30009
	old.Spec.AllocateLoadBalancerNodePorts, old.Spec.LoadBalancerClass = ptr.To(true), ptr.To("a/b")
	old.Spec.Ports = []v1.ServicePort{{Name: "a", Port: 80, NodePort: 30001}, {Name: "b", Port: 81, NodePort: 30002}}
	old.Status.LoadBalancer.Ingress = []v1.LoadBalancerIngress{{IP: "1.2.3.4"}}
	update := func(change func(s *v1.Service)) *v1.Service {
		s := old.DeepCopy()
		change(s)
		patchAllocatedValues(s, old)
		normalizeClusterIPs(s, old)
		dropTypeDependentFields(s, old)
		return s
	}
	s := update(func(s *v1.Service) { s.Spec.Type, s.Spec.ExternalName = v1.ServiceTypeExternalName, "example.com" })
	if s.Spec.ClusterIP != "" || s.Spec.ClusterIPs != nil || s.Spec.IPFamilies != nil || s.Spec.IPFamilyPolicy != nil || s.Spec.Ports[0].NodePort != 0 || s.Spec.HealthCheckNodePort != 0 ||
		s.Spec.ExternalTrafficPolicy != "" || s.Spec.AllocateLoadBalancerNodePorts != nil || s.Spec.LoadBalancerClass != nil || len(s.Status.LoadBalancer.Ingress) > 0 {
		t.Errorf("to ExternalName: %+v", s)
	}
	s = update(func(s *v1.Service) {
		s.Spec.Type, s.Spec.IPFamilies = v1.ServiceTypeExternalName, list{six}
	})
	if s.Spec.ClusterIP != "" || !slices.Equal(s.Spec.IPFamilies, list{six}) {
		t.Errorf("what the client changed is for validation to refuse: %+v", s.Spec)
	}
	s = update(func(s *v1.Service) {
		s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.HealthCheckNodePort = "", nil, 0
		s.Spec.Ports = []v1.ServicePort{{Name: "b", Port: 90}, {Name: "c", Port: 80, NodePort: 30001}, {Name: "a", Port: 91}}
	})
	if s.Spec.ClusterIP != "10.0.0.1" || len(s.Spec.ClusterIPs) != 2 || s.Spec.HealthCheckNodePort != 30009 || s.Spec.Ports[0].NodePort != 30002 || s.Spec.Ports[2].NodePort != 0 {
		t.Errorf("a manifest without what was given out: %+v", s.Spec)
	}
	s = update(func(s *v1.Service) { s.Spec.ClusterIP = "10.0.0.2" })
	if !slices.Equal(s.Spec.ClusterIPs, []string{"10.0.0.2"}) {
		t.Errorf("clusterIP alone was changed: %v", s.Spec.ClusterIPs)
	}
	if !slices.Equal(old.Spec.ClusterIPs, []string{"10.0.0.1", "fd00::1"}) {
		t.Errorf("the old object was changed: %v", old.Spec.ClusterIPs)
	}
}
