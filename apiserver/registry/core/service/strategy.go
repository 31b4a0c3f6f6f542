// Package service is the apiserver's room of Services: what create and update may
// change (strategy.go, families.go), the cluster addresses and node ports they hold
// (allocation.go, ranges.go, ipaddress.go), and the repair of both (repair.go).
//
// In Kubernetes: pkg/registry/core/service (strategy, storage/alloc.go),
// ipallocator and portallocator with their controllers. There the ports taken are a
// bitmap in etcd, so that several apiservers share it; here each reads the services
// at its start, and two at once could give out one port twice: the repair would tell.
package service

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/service"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/typed"
)

// Resource is the line of services in the table of the core group.
func Resource(env *registry.Env) registry.Resource {
	allocation := newAllocation(env)
	return registry.Resource{
		Name: "services", Singular: "service", Kind: v1.SchemeGroupVersion.WithKind("Service"),
		ShortNames: []string{"svc"}, Categories: []string{"all"},
		New:     func() runtime.Object { return &v1.Service{} },
		NewList: func() runtime.Object { return &v1.ServiceList{} },
		Default: typed.Default(service.SetDefaults),
		Strategy: typed.Strategy[*v1.Service]{
			// A digit may come first since v1.36 (KEP-5311).
			Name:           validation.NameIsDNSLabel,
			CreateOnUpdate: true,
			OnCreate: func(s *v1.Service) {
				s.Status = v1.ServiceStatus{}
				dropNeedless(s)
			},
			OnUpdate: func(s, old *v1.Service) {
				s.Status = old.Status
				dropTypeDependentFields(s, old)
				dropNeedless(s)
			},
			Check:       service.Validate,
			CheckUpdate: service.ValidateUpdate,
			Warn:        service.Warnings,
		},
		StatusStrategy: typed.Strategy[*v1.Service]{
			OnUpdate:    func(s, old *v1.Service) { s.Spec = old.Spec },
			CheckUpdate: service.ValidateStatusUpdate,
			WarnUpdate:  func(s, old *v1.Service) []string { return service.StatusWarnings(s) },
		},
		Fields: typed.Fields(func(s *v1.Service) fields.Set {
			return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
		}),
		Table:               table,
		StorageRoot:         "services/specs",
		ReturnDeletedObject: true,
		Hooks:               allocation.hooks(),
		Background:          newRepair(allocation).Run,
	}
}

// dropNeedless: no traffic inside the cluster is led to another name.
func dropNeedless(s *v1.Service) {
	switch p := s.Spec.InternalTrafficPolicy; {
	case s.Spec.Type != v1.ServiceTypeExternalName || p == nil:
	case *p == v1.ServiceInternalTrafficPolicyCluster || *p == v1.ServiceInternalTrafficPolicyLocal: // any other is refused
		s.Spec.InternalTrafficPolicy = nil
	}
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
	if len(spec.ClusterIPs) == 0 && spec.ClusterIP == old.Spec.ClusterIP {
		spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs) // the old object is shared
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
		if len(s.Spec.ClusterIPs) == 0 {
			s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	}
	if service.MayHaveNodePort(s) && service.MayHaveNodePort(old) {
		patchNodePorts(s, old)
	}
	if service.NeedsHealthCheck(s) && service.NeedsHealthCheck(old) && s.Spec.HealthCheckNodePort == 0 {
		s.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

// patchNodePorts gives a port back the number that the port of its name had, unless the client gave that number to another.
func patchNodePorts(s, old *v1.Service) {
	used, had := map[int32]bool{}, map[string]int32{}
	for i := range s.Spec.Ports {
		used[s.Spec.Ports[i].NodePort] = true
	}
	for i := range old.Spec.Ports {
		had[old.Spec.Ports[i].Name] = old.Spec.Ports[i].NodePort
	}
	for i := range s.Spec.Ports {
		if port := &s.Spec.Ports[i]; port.NodePort == 0 && !used[had[port.Name]] {
			port.NodePort = had[port.Name]
		}
	}
}

// dropTypeDependentFields lets a change of the type take along what belonged to
// the old type and was not itself changed: `kubectl patch … type` should be enough.
func dropTypeDependentFields(s, old *v1.Service) {
	if !service.NeedsClusterIP(s) && service.NeedsClusterIP(old) {
		if sameClusterIPs(s, old) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		}
		if slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies) {
			s.Spec.IPFamilies = nil
		}
		if ptr.Equal(s.Spec.IPFamilyPolicy, old.Spec.IPFamilyPolicy) {
			s.Spec.IPFamilyPolicy = nil
		}
	}
	if service.MayHaveNodePort(old) && !service.MayHaveNodePort(s) && sameNodePorts(s, old) {
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = 0
		}
	}
	if service.NeedsHealthCheck(old) && !service.NeedsHealthCheck(s) && s.Spec.HealthCheckNodePort == old.Spec.HealthCheckNodePort {
		s.Spec.HealthCheckNodePort = 0
	}
	if s.Spec.Type != v1.ServiceTypeLoadBalancer {
		if old.Spec.Type == v1.ServiceTypeLoadBalancer {
			dropLoadBalancerFields(s, old)
		}
		// The provider may still be taking it down; nobody need see that.
		s.Status.LoadBalancer = v1.LoadBalancerStatus{}
	}
	if service.ExternallyAccessible(old) && !service.ExternallyAccessible(s) && s.Spec.ExternalTrafficPolicy == old.Spec.ExternalTrafficPolicy {
		s.Spec.ExternalTrafficPolicy = ""
	}
}

func dropLoadBalancerFields(s, old *v1.Service) {
	if ptr.Equal(s.Spec.AllocateLoadBalancerNodePorts, old.Spec.AllocateLoadBalancerNodePorts) {
		s.Spec.AllocateLoadBalancerNodePorts = nil
	}
	if ptr.Equal(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
		s.Spec.LoadBalancerClass = nil
	}
}

func sameClusterIPs(s, old *v1.Service) bool {
	return s.Spec.ClusterIP == old.Spec.ClusterIP && slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs)
}

func sameNodePorts(s, old *v1.Service) bool {
	held := map[int32]bool{0: true}
	for i := range old.Spec.Ports {
		held[old.Spec.Ports[i].NodePort] = true
	}
	return !slices.ContainsFunc(s.Spec.Ports, func(p v1.ServicePort) bool { return !held[p.NodePort] })
}
