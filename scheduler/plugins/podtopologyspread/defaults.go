package podtopologyspread

import (
	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"hyperkube/client/informers"
	"hyperkube/scheduler/framework"
)

// systemDefaultConstraints spread a pod that has no constraints, over nodes and zones, as
// far as the scores of other plugins allow.
var systemDefaultConstraints = []topologySpreadConstraint{
	{TopologyKey: v1.LabelHostname, MaxSkew: 3},
	{TopologyKey: v1.LabelTopologyZone, MaxSkew: 5},
}

// defaultSelectors find out which pods belong with a pod.
type defaultSelectors struct {
	services     corelisters.ServiceLister
	controllers  corelisters.ReplicationControllerLister
	replicaSets  appslisters.ReplicaSetLister
	statefulSets appslisters.StatefulSetLister
}

func newDefaultSelectors(f informers.SharedInformerFactory) defaultSelectors {
	return defaultSelectors{
		services: f.Core().V1().Services().Lister(), controllers: f.Core().V1().ReplicationControllers().Lister(),
		replicaSets: f.Apps().V1().ReplicaSets().Lister(), statefulSets: f.Apps().V1().StatefulSets().Lister(),
	}
}

// constraints are the built-in ones with the selector of the pod; none if it belongs
// with nobody.
func (d *defaultSelectors) constraints(pod *v1.Pod) []topologySpreadConstraint {
	selector := d.selector(pod)
	if selector.Empty() {
		return nil
	}
	constraints := make([]topologySpreadConstraint, len(systemDefaultConstraints))
	for i, c := range systemDefaultConstraints {
		c.Selector, c.MinDomains = selector, 1
		c.NodeAffinityPolicy, c.NodeTaintsPolicy = v1.NodeInclusionPolicyHonor, v1.NodeInclusionPolicyIgnore
		constraints[i] = c
	}
	return constraints
}

// selector takes the pods that all of the pod's Services and its controller select.
func (d *defaultSelectors) selector(pod *v1.Pod) labels.Selector {
	set := labels.Set{}
	if services, err := d.services.Services(pod.Namespace).List(labels.Everything()); err == nil {
		for _, service := range services {
			if len(service.Spec.Selector) > 0 && labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
				set = labels.Merge(set, service.Spec.Selector)
			}
		}
	}
	owner := metav1.GetControllerOf(pod)
	if owner != nil && owner.Kind == "ReplicationController" && owner.APIVersion == v1.SchemeGroupVersion.String() {
		if rc, err := d.controllers.ReplicationControllers(pod.Namespace).Get(owner.Name); err == nil {
			set = labels.Merge(set, rc.Spec.Selector)
		}
	}
	selector := labels.NewSelector()
	if len(set) > 0 {
		selector = set.AsSelector()
	}
	if owner == nil || owner.APIVersion != appsv1.SchemeGroupVersion.String() {
		return selector
	}
	if requirements, selectable := d.ownerSelector(pod.Namespace, owner).Requirements(); selectable {
		selector = selector.Add(requirements...)
	}
	return selector
}

func (d *defaultSelectors) ownerSelector(namespace string, owner *metav1.OwnerReference) labels.Selector {
	switch owner.Kind {
	case "ReplicaSet":
		if rs, err := d.replicaSets.ReplicaSets(namespace).Get(owner.Name); err == nil {
			return framework.ParseSelector(rs.Spec.Selector)
		}
	case "StatefulSet":
		if set, err := d.statefulSets.StatefulSets(namespace).Get(owner.Name); err == nil {
			return framework.ParseSelector(set.Spec.Selector)
		}
	}
	return labels.Everything()
}
