// Package podtopologyspread spreads the pods that look alike over topologies (zones,
// nodes, whatever a label names): spec.topologySpreadConstraints.
//
// The skew of a topology is how many matching pods it has, less those of the emptiest
// one. A constraint bounds the skew that a placement would lead to: DoNotSchedule
// refuses nodes (filtering.go), ScheduleAnyway lowers their score (scoring.go). A pod that
// says nothing is spread a little over nodes and zones all the same, with the pods of
// its Service or controller (defaults.go).
//
// In Kubernetes: pkg/scheduler/framework/plugins/podtopologyspread. matchLabelKeys are
// merged into the selector by the apiserver already.
package podtopologyspread

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "PodTopologySpread"

const (
	preFilterStateKey = "PreFilter" + Name
	preScoreStateKey  = "PreScore" + Name
)

// PodTopologySpread is a PreFilter, Filter, PreScore and Score plugin.
type PodTopologySpread struct {
	nodes    framework.SharedLister
	defaults defaults
}

// New makes the plugin; it reads Services and controllers for the default constraints.
func New(_ context.Context, h framework.Handle, args framework.Args) (framework.Plugin, error) {
	settings := configv1.PodTopologySpreadArgs{DefaultingType: configv1.SystemDefaulting}
	if err := args.Into(&settings); err != nil {
		return nil, err
	}
	pl := &PodTopologySpread{nodes: h.SnapshotSharedLister(), defaults: newDefaults(h.SharedInformerFactory())}
	switch {
	case settings.DefaultingType == configv1.ListDefaulting:
		pl.defaults.list, pl.defaults.own = settings.DefaultConstraints, true
	case settings.DefaultingType != configv1.SystemDefaulting:
		return nil, fmt.Errorf("defaultingType: Unsupported value: %q: supported values: \"System\", \"List\"", settings.DefaultingType)
	case len(settings.DefaultConstraints) > 0:
		return nil, errors.New("defaultingType: Invalid value: \"System\": when .defaultConstraints are not empty")
	}
	return pl, checkDefaultConstraints(settings.DefaultConstraints)
}

// checkDefaultConstraints holds them to what a pod's own are held to. They have no selector: each pod's Service or controller gives it.
func checkDefaultConstraints(constraints []v1.TopologySpreadConstraint) error {
	var faults field.ErrorList
	for i, c := range constraints {
		path := field.NewPath("defaultConstraints").Index(i)
		if c.MaxSkew <= 0 {
			faults = append(faults, field.Invalid(path.Child("maxSkew"), c.MaxSkew, "not in valid range (0, inf)"))
		}
		if c.TopologyKey == "" {
			faults = append(faults, field.Required(path.Child("topologyKey"), "can not be empty"))
		} else {
			faults = append(faults, metav1validation.ValidateLabelName(c.TopologyKey, path.Child("topologyKey"))...)
		}
		switch c.WhenUnsatisfiable {
		case v1.DoNotSchedule, v1.ScheduleAnyway:
		case "":
			faults = append(faults, field.Required(path.Child("whenUnsatisfiable"), "can not be empty"))
		default:
			faults = append(faults, field.NotSupported(path.Child("whenUnsatisfiable"), c.WhenUnsatisfiable, []v1.UnsatisfiableConstraintAction{v1.DoNotSchedule, v1.ScheduleAnyway}))
		}
		if c.LabelSelector != nil {
			faults = append(faults, field.Forbidden(path.Child("labelSelector"), "constraint must not define a selector, as they deduced for each pod"))
		}
		if slices.ContainsFunc(constraints[:i], func(o v1.TopologySpreadConstraint) bool {
			return o.TopologyKey == c.TopologyKey && o.WhenUnsatisfiable == c.WhenUnsatisfiable
		}) {
			faults = append(faults, field.Duplicate(path, fmt.Sprintf("{%v, %v}", c.TopologyKey, c.WhenUnsatisfiable)))
		}
	}
	return faults.ToAggregate()
}

// Name returns the plugin's name.
func (*PodTopologySpread) Name() string { return Name }

// topologySpreadConstraint is a v1.TopologySpreadConstraint, parsed.
type topologySpreadConstraint struct {
	MaxSkew            int32
	TopologyKey        string
	Selector           labels.Selector
	MinDomains         int32
	NodeAffinityPolicy v1.NodeInclusionPolicy
	NodeTaintsPolicy   v1.NodeInclusionPolicy
}

// constraints are the pod's of one kind, or the default ones if it has none at all.
func (pl *PodTopologySpread) constraints(pod *v1.Pod, action v1.UnsatisfiableConstraintAction) []topologySpreadConstraint {
	if len(pod.Spec.TopologySpreadConstraints) > 0 {
		return parse(pod.Spec.TopologySpreadConstraints, action)
	}
	return pl.defaults.constraints(pod, action)
}

func parse(constraints []v1.TopologySpreadConstraint, action v1.UnsatisfiableConstraintAction) []topologySpreadConstraint {
	var parsed []topologySpreadConstraint
	for _, c := range constraints {
		if c.WhenUnsatisfiable != action {
			continue
		}
		constraint := topologySpreadConstraint{
			MaxSkew: c.MaxSkew, TopologyKey: c.TopologyKey, Selector: framework.ParseSelector(c.LabelSelector),
			MinDomains: 1, NodeAffinityPolicy: v1.NodeInclusionPolicyHonor, NodeTaintsPolicy: v1.NodeInclusionPolicyIgnore,
		}
		if c.MinDomains != nil {
			constraint.MinDomains = *c.MinDomains
		}
		if c.NodeAffinityPolicy != nil {
			constraint.NodeAffinityPolicy = *c.NodeAffinityPolicy
		}
		if c.NodeTaintsPolicy != nil {
			constraint.NodeTaintsPolicy = *c.NodeTaintsPolicy
		}
		parsed = append(parsed, constraint)
	}
	return parsed
}

// includes says whether the pods of a node count: a node on which the pod could never run
// is no place that stays empty by neglect.
func (c *topologySpreadConstraint) includes(pod *v1.Pod, node *v1.Node, required nodeaffinity.RequiredNodeAffinity) bool {
	if c.NodeAffinityPolicy == v1.NodeInclusionPolicyHonor {
		if match, _ := required.Match(node); !match {
			return false
		}
	}
	if c.NodeTaintsPolicy == v1.NodeInclusionPolicyHonor {
		_, untolerated := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, pod.Spec.Tolerations, func(t *v1.Taint) bool {
			return t.Effect == v1.TaintEffectNoSchedule || t.Effect == v1.TaintEffectNoExecute
		}, true)
		return !untolerated
	}
	return true
}

// hasAllTopologies says whether a node has the label of each constraint. One that lacks
// one is in no topology of it, and counts for none.
func hasAllTopologies(node *v1.Node, constraints []topologySpreadConstraint) bool {
	for i := range constraints {
		if _, ok := node.Labels[constraints[i].TopologyKey]; !ok {
			return false
		}
	}
	return true
}

// countPods counts the pods that the selector takes. Those that are going leave room already.
func countPods(pods []*framework.PodInfo, selector labels.Selector, namespace string) int {
	if selector.Empty() {
		return 0
	}
	n := 0
	for _, p := range pods {
		if p.Pod.DeletionTimestamp == nil && p.Pod.Namespace == namespace && selector.Matches(labels.Set(p.Pod.Labels)) {
			n++
		}
	}
	return n
}

// EventsToRegister: a pod that counts comes, goes or changes its labels; topologies
// come, go, or change.
func (pl *PodTopologySpread) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	return []framework.ClusterEventWithHint{
		{Event: framework.ClusterEvent{Resource: framework.Pod, ActionType: framework.Add | framework.UpdatePodLabel | framework.Delete}, QueueingHintFn: pl.isSchedulableAfterPodChange},
		{Event: framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add | framework.Delete | framework.UpdateNodeLabel | framework.UpdateNodeTaint}, QueueingHintFn: pl.isSchedulableAfterNodeChange},
	}, nil
}

// isSchedulableAfterPodChange: does the change count for one of the pod's constraints?
func (pl *PodTopologySpread) isSchedulableAfterPodChange(_ klog.Logger, pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	before, _ := oldObj.(*v1.Pod)
	after, _ := newObj.(*v1.Pod)
	if after != nil && after.UID == pod.UID {
		return framework.Queue, nil // its own labels: it counts itself
	}
	counted := func(c topologySpreadConstraint, other *v1.Pod) bool {
		return other != nil && other.Namespace == pod.Namespace && other.Spec.NodeName != "" && c.Selector.Matches(labels.Set(other.Labels))
	}
	for _, c := range pl.constraints(pod, v1.DoNotSchedule) {
		if counted(c, before) != counted(c, after) {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}

// isSchedulableAfterNodeChange: a topology has come, gone or changed, for the pod's constraints.
func (pl *PodTopologySpread) isSchedulableAfterNodeChange(_ klog.Logger, pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	before, _ := oldObj.(*v1.Node)
	after, _ := newObj.(*v1.Node)
	constraints := pl.constraints(pod, v1.DoNotSchedule)
	was := before != nil && hasAllTopologies(before, constraints)
	is := after != nil && hasAllTopologies(after, constraints)
	switch {
	case !was && !is:
		return framework.QueueSkip, nil
	case was != is:
		return framework.Queue, nil
	}
	taints := !slices.EqualFunc(before.Spec.Taints, after.Spec.Taints, func(a, b v1.Taint) bool { return a.MatchTaint(&b) && a.Value == b.Value })
	for _, c := range constraints {
		if before.Labels[c.TopologyKey] != after.Labels[c.TopologyKey] || taints && c.NodeTaintsPolicy == v1.NodeInclusionPolicyHonor {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}
