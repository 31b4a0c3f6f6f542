package resourcequota

import (
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

var serviceResources = []v1.ResourceName{"count/services", v1.ResourceServices, v1.ResourceServicesNodePorts, v1.ResourceServicesLoadBalancers}

var serviceEvaluator = &Evaluator{
	Resource: schema.GroupResource{Resource: "services"},
	Tracks:   func(name v1.ResourceName) bool { return slices.Contains(serviceResources, name) },
	Usage: func(obj runtime.Object, _ time.Time) v1.ResourceList {
		if service, ok := obj.(*v1.Service); ok {
			return serviceUsage(service)
		}
		return nil
	},
}

// serviceUsage counts the node ports that are wanted: they are given out only after admission.
func serviceUsage(s *v1.Service) v1.ResourceList {
	ports, balancers := 0, 0
	switch s.Spec.Type {
	case v1.ServiceTypeNodePort:
		ports = len(s.Spec.Ports)
	case v1.ServiceTypeLoadBalancer:
		balancers = 1
		for _, port := range s.Spec.Ports {
			if port.NodePort != 0 || ptr.Deref(s.Spec.AllocateLoadBalancerNodePorts, true) {
				ports++
			}
		}
	}
	return v1.ResourceList{
		"count/services": one(), v1.ResourceServices: one(),
		v1.ResourceServicesNodePorts:     *resource.NewQuantity(int64(ports), resource.DecimalSI),
		v1.ResourceServicesLoadBalancers: *resource.NewQuantity(int64(balancers), resource.DecimalSI),
	}
}

// storageClassSuffix follows the name of a class: gold.storageclass.storage.k8s.io/requests.storage.
const storageClassSuffix = ".storageclass.storage.k8s.io/"

var claimResources = []v1.ResourceName{v1.ResourcePersistentVolumeClaims, v1.ResourceRequestsStorage}

var claimEvaluator = &Evaluator{
	Resource: schema.GroupResource{Resource: "persistentvolumeclaims"},
	Tracks: func(name v1.ResourceName) bool {
		if _, byClass, ok := strings.Cut(string(name), storageClassSuffix); ok {
			name = v1.ResourceName(byClass)
		}
		return name == "count/persistentvolumeclaims" || slices.Contains(claimResources, name)
	},
	Usage: func(obj runtime.Object, _ time.Time) v1.ResourceList {
		if claim, ok := obj.(*v1.PersistentVolumeClaim); ok {
			return claimUsage(claim)
		}
		return nil
	},
	MatchesScope: func(selector v1.ScopedResourceSelectorRequirement, obj runtime.Object) bool {
		claim, ok := obj.(*v1.PersistentVolumeClaim)
		return ok && selector.ScopeName == v1.ResourceQuotaScopeVolumeAttributesClass && selects(selector, attributesClasses(claim)...)
	},
	ScopeChanged: func(old, obj runtime.Object) bool {
		before, ok := old.(*v1.PersistentVolumeClaim)
		after, isClaim := obj.(*v1.PersistentVolumeClaim)
		return ok && isClaim && !sets.New(attributesClasses(before)...).Equal(sets.New(attributesClasses(after)...))
	},
}

// claimUsage counts a claim and its size, once for all and once for its class.
func claimUsage(claim *v1.PersistentVolumeClaim) v1.ResourceList {
	usage := v1.ResourceList{v1.ResourcePersistentVolumeClaims: one(), "count/persistentvolumeclaims": one()}
	if size, ok := claim.Spec.Resources.Requests[v1.ResourceStorage]; ok {
		// A claim that was asked to shrink again still has what was allocated.
		if allocated, ok := claim.Status.AllocatedResources[v1.ResourceStorage]; ok && allocated.Cmp(size) > 0 {
			size = allocated
		}
		size = size.DeepCopy()
		size.RoundUp(0)
		usage[v1.ResourceRequestsStorage] = size
	}
	if class := storagehelpers.GetPersistentVolumeClaimClass(claim); class != "" {
		for _, name := range claimResources {
			if quantity, ok := usage[name]; ok {
				usage[v1.ResourceName(class)+storageClassSuffix+name] = quantity
			}
		}
	}
	return usage
}

// attributesClasses are the classes that a claim has, wants, or is being changed to.
func attributesClasses(claim *v1.PersistentVolumeClaim) []string {
	names := []string{ptr.Deref(claim.Spec.VolumeAttributesClassName, ""), ptr.Deref(claim.Status.CurrentVolumeAttributesClassName, "")}
	if modify := claim.Status.ModifyVolumeStatus; modify != nil {
		names = append(names, modify.TargetVolumeAttributesClassName)
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}
