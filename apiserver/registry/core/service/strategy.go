// Package service is the apiserver's room of Services: what create and update may
// change, and the cluster addresses and node ports they hold.
//
// In Kubernetes: pkg/registry/core/service (strategy, storage/alloc.go),
// ipallocator and portallocator.
package service

import (
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/service"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/typed"
)

// Resource is the line of services in the table of the core group.
func Resource(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "services", Singular: "service", Kind: v1.SchemeGroupVersion.WithKind("Service"),
		ShortNames: []string{"svc"}, Categories: []string{"all"},
		New:     func() runtime.Object { return &v1.Service{} },
		NewList: func() runtime.Object { return &v1.ServiceList{} },
		Default: typed.Default(service.SetDefaults),
		Strategy: typed.Strategy[*v1.Service]{
			Name: validation.NameIsDNS1035Label,
			OnCreate: func(s *v1.Service) {
				s.Status = v1.ServiceStatus{}
				normalizeClusterIPs(s, nil)
				initIPFamilies(s, family(env.ServiceCIDR))
			},
			OnUpdate: func(s, old *v1.Service) {
				s.Status = old.Status
				normalizeClusterIPs(s, old)
				patchAllocatedValues(s, old)
				dropTypeDependentFields(s, old)
				initIPFamilies(s, family(env.ServiceCIDR))
			},
			Check: func(s *v1.Service) field.ErrorList {
				return append(service.Validate(s), validateFamilies(s, family(env.ServiceCIDR))...)
			},
			CheckUpdate: func(s, old *v1.Service) field.ErrorList {
				return append(service.ValidateUpdate(s, old), validateFamilies(s, family(env.ServiceCIDR))...)
			},
			Warn: service.Warnings,
		},
		StatusStrategy: typed.Strategy[*v1.Service]{
			OnUpdate:    func(s, old *v1.Service) { s.Spec = old.Spec },
			CheckUpdate: service.ValidateStatusUpdate,
		},
		Fields: typed.Fields(func(s *v1.Service) fields.Set {
			return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
		}),
		Table:               table,
		StorageRoot:         "services/specs",
		ReturnDeletedObject: true,
		Hooks:               newAllocation(env).hooks(),
	}
}

func family(cidr netip.Prefix) v1.IPFamily {
	if cidr.Addr().Is4() {
		return v1.IPv4Protocol
	}
	return v1.IPv6Protocol
}

// normalizeClusterIPs keeps clusterIP, which old clients know, and clusterIPs in
// step: whichever of the two the client changed, counts.
func normalizeClusterIPs(s, old *v1.Service) {
	spec := &s.Spec
	if old == nil {
		if spec.ClusterIP != "" && len(spec.ClusterIPs) == 0 {
			spec.ClusterIPs = []string{spec.ClusterIP}
		}
		return
	}
	if spec.ClusterIP == old.Spec.ClusterIP || !slices.Equal(spec.ClusterIPs, old.Spec.ClusterIPs) {
		return
	}
	spec.ClusterIPs = nil
	if spec.ClusterIP != "" {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
}

// patchAllocatedValues keeps what was given out although the client did not send
// it back: `kubectl apply` and `replace` of a manifest know no addresses.
func patchAllocatedValues(s, old *v1.Service) {
	if service.NeedsClusterIP(s) && service.NeedsClusterIP(old) {
		if s.Spec.ClusterIP == "" {
			s.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP == old.Spec.ClusterIP {
			s.Spec.ClusterIPs = old.Spec.ClusterIPs
		}
	}
	if service.MayHaveNodePort(s) && service.MayHaveNodePort(old) {
		used := map[int32]bool{}
		for i := range s.Spec.Ports {
			used[s.Spec.Ports[i].NodePort] = true
		}
		for i := range s.Spec.Ports {
			if port := &s.Spec.Ports[i]; port.NodePort == 0 {
				if n := sameNodePort(port, old.Spec.Ports); !used[n] {
					port.NodePort = n
				}
			}
		}
	}
	if service.NeedsHealthCheck(s) && service.NeedsHealthCheck(old) && s.Spec.HealthCheckNodePort == 0 {
		s.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

func sameNodePort(port *v1.ServicePort, olds []v1.ServicePort) int32 {
	for i := range olds {
		if olds[i].Port == port.Port && olds[i].Protocol == port.Protocol {
			return olds[i].NodePort
		}
	}
	return 0
}

// dropTypeDependentFields lets a change of the type take along what belonged to
// the old type and was not itself changed: `kubectl patch … type` should be enough.
func dropTypeDependentFields(s, old *v1.Service) {
	if !service.NeedsClusterIP(s) && service.NeedsClusterIP(old) && s.Spec.ClusterIP == old.Spec.ClusterIP {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = nil, nil
	}
	if !service.NeedsClusterIP(s) && equality.Semantic.DeepEqual(s.Spec.InternalTrafficPolicy, old.Spec.InternalTrafficPolicy) {
		s.Spec.InternalTrafficPolicy = nil
	}
	if service.MayHaveNodePort(old) && !service.MayHaveNodePort(s) && sameNodePorts(s, old) {
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = 0
		}
	}
	if service.NeedsHealthCheck(old) && !service.NeedsHealthCheck(s) && s.Spec.HealthCheckNodePort == old.Spec.HealthCheckNodePort {
		s.Spec.HealthCheckNodePort = 0
	}
	if service.ExternallyAccessible(old) && !service.ExternallyAccessible(s) && s.Spec.ExternalTrafficPolicy == old.Spec.ExternalTrafficPolicy {
		s.Spec.ExternalTrafficPolicy = ""
	}
	if old.Spec.Type == v1.ServiceTypeLoadBalancer && s.Spec.Type != v1.ServiceTypeLoadBalancer {
		if equality.Semantic.DeepEqual(s.Spec.AllocateLoadBalancerNodePorts, old.Spec.AllocateLoadBalancerNodePorts) {
			s.Spec.AllocateLoadBalancerNodePorts = nil
		}
		if equality.Semantic.DeepEqual(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
			s.Spec.LoadBalancerClass = nil
		}
		s.Status.LoadBalancer = v1.LoadBalancerStatus{}
	}
}

func sameNodePorts(s, old *v1.Service) bool {
	held := map[int32]bool{0: true}
	for i := range old.Spec.Ports {
		held[old.Spec.Ports[i].NodePort] = true
	}
	return !slices.ContainsFunc(s.Spec.Ports, func(p v1.ServicePort) bool { return !held[p.NodePort] })
}

// initIPFamilies says of which families the service's addresses are; the cluster
// has one. A headless service without a selector has no addresses of the
// cluster's at all, so it may have both.
func initIPFamilies(s *v1.Service, clusterFamily v1.IPFamily) {
	if !service.NeedsClusterIP(s) {
		return
	}
	anyFamily := service.IsHeadless(s) && len(s.Spec.Selector) == 0
	if s.Spec.IPFamilyPolicy == nil {
		s.Spec.IPFamilyPolicy = ptr.To(v1.IPFamilyPolicySingleStack)
		if anyFamily && len(s.Spec.IPFamilies) != 1 {
			s.Spec.IPFamilyPolicy = ptr.To(v1.IPFamilyPolicyRequireDualStack)
		}
	}
	for i := len(s.Spec.IPFamilies); i < len(s.Spec.ClusterIPs); i++ {
		if ip, err := netip.ParseAddr(s.Spec.ClusterIPs[i]); err == nil {
			s.Spec.IPFamilies = append(s.Spec.IPFamilies, family(netip.PrefixFrom(ip, 0)))
		}
	}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []v1.IPFamily{clusterFamily}
	}
	if anyFamily && *s.Spec.IPFamilyPolicy != v1.IPFamilyPolicySingleStack && len(s.Spec.IPFamilies) == 1 {
		other := v1.IPv6Protocol
		if s.Spec.IPFamilies[0] == other {
			other = v1.IPv4Protocol
		}
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, other)
	}
}

// validateFamilies refuses families the cluster has no addresses of.
func validateFamilies(s *v1.Service, clusterFamily v1.IPFamily) field.ErrorList {
	if !service.NeedsClusterIP(s) || (service.IsHeadless(s) && len(s.Spec.Selector) == 0) {
		return nil
	}
	path := field.NewPath("spec")
	var errs field.ErrorList
	if p := s.Spec.IPFamilyPolicy; p != nil && *p == v1.IPFamilyPolicyRequireDualStack {
		errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), *p, "this cluster is not configured for dual-stack services"))
	}
	for i, f := range s.Spec.IPFamilies {
		if f != clusterFamily {
			errs = append(errs, field.Invalid(path.Child("ipFamilies").Index(i), f, "not configured on this cluster"))
		}
	}
	return errs
}
