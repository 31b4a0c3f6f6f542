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
var systemDefaultConstraints = []v1.TopologySpreadConstraint{
	{TopologyKey: v1.LabelHostname, MaxSkew: 3, WhenUnsatisfiable: v1.ScheduleAnyway},
	{TopologyKey: v1.LabelTopologyZone, MaxSkew: 5, WhenUnsatisfiable: v1.ScheduleAnyway},
}

// defaults are the constraints of pods that have none, and find out which pods belong
// with a pod.
type defaults struct {
	list []v1.TopologySpreadConstraint
	own  bool // list is the configuration's, not the built-in one

	services     corelisters.ServiceLister
	controllers  corelisters.ReplicationControllerLister
	replicaSets  appslisters.ReplicaSetLister
	statefulSets appslisters.StatefulSetLister
}

func newDefaults(f informers.SharedInformerFactory) defaults {
	return defaults{
		list:     systemDefaultConstraints,
		services: f.Core().V1().Services().Lister(), controllers: f.Core().V1().ReplicationControllers().Lister(),
		replicaSets: f.Apps().V1().ReplicaSets().Lister(), statefulSets: f.Apps().V1().StatefulSets().Lister(),
	}
}

// constraints are the default ones of one kind with the selector of the pod; none if it
// belongs with nobody.
func (d *defaults) constraints(pod *v1.Pod, action v1.UnsatisfiableConstraintAction) []topologySpreadConstraint {
	parsed := parse(d.list, action)
	if len(parsed) == 0 {
		return nil
	}
	selector := d.selector(pod)
	if selector.Empty() {
		return nil
	}
	for i := range parsed {
		parsed[i].Selector = selector
	}
	return parsed
}

// selector takes the pods that all of the pod's Services and its controller select.
func (d *defaults) selector(pod *v1.Pod) labels.Selector {
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

func (d *defaults) ownerSelector(namespace string, owner *metav1.OwnerReference) labels.Selector {
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
