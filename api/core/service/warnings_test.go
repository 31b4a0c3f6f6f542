package service

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestWarnings(t *testing.T) {
	for name, test := range map[string]struct {
		change func(s *v1.Service)
		want   []string
	}{
		"none": {func(s *v1.Service) {}, nil},
		"headless": {func(s *v1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.LoadBalancerIP, s.Spec.SessionAffinity = "None", []string{"None"}, "10.0.0.1", v1.ServiceAffinityClientIP
		}, []string{"spec.loadBalancerIP is ignored for headless services", "spec.SessionAffinity is ignored for headless services"}},
		"external IPs":  {func(s *v1.Service) { s.Spec.ExternalIPs = []string{"1.2.3.4"} }, []string{"spec.externalIPs is deprecated and may no longer be implemented in some clusters"}},
		"external name": {func(s *v1.Service) { s.Spec.ExternalName = "a.example.com" }, []string{`spec.externalName is ignored when spec.type is not "ExternalName"`}},
		"hints": {func(s *v1.Service) {
			s.Annotations = map[string]string{v1.DeprecatedAnnotationTopologyAwareHints: "auto"}
		}, []string{
			"annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead"}},
		"distribution": {func(s *v1.Service) { s.Spec.TrafficDistribution = ptr.To("PreferClose") }, []string{`spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := good()
			test.change(s)
			SetDefaults(s)
			if got := Warnings(s); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
