// Package pod is the apiserver's room of Pods: what create and update may change,
// how long a deletion waits, kubectl's columns, and the subresources that write a
// pod (binding, eviction, ephemeralcontainers). The ones that open a connection
// to a kubelet are elsewhere.
//
// In Kubernetes: pkg/registry/core/pod (strategy.go, storage/storage.go,
// storage/eviction.go) and printPod of pkg/printers/internalversion.
package pod

import (
	"fmt"
	"slices"
	"strconv"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	podutil "hyperkube/api/core/pod"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/typed"
)

// Resource is the line of pods in the table of the core group.
func Resource(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "pods", Singular: "pod", Kind: v1.SchemeGroupVersion.WithKind("Pod"),
		ShortNames: []string{"po"}, Categories: []string{"all"},
		New:                 func() runtime.Object { return &v1.Pod{} },
		NewList:             func() runtime.Object { return &v1.PodList{} },
		Default:             typed.Default(podutil.SetDefaultsPod),
		Strategy:            podStrategy,
		StatusStrategy:      podStatusStrategy,
		Fields:              typed.Fields(selectableFields),
		Selects:             selects,
		Table:               table,
		Index:               "spec.nodeName",
		ReturnDeletedObject: true,
		Subresources: map[string]registry.Subresource{
			"binding":             bindingSubresource(env),
			"eviction":            evictionSubresource(env),
			"ephemeralcontainers": {Kind: v1.SchemeGroupVersion.WithKind("Pod"), New: func() runtime.Object { return &v1.Pod{} }, View: podEphemeralContainersStrategy},
			"resize":              {Kind: v1.SchemeGroupVersion.WithKind("Pod"), New: func() runtime.Object { return &v1.Pod{} }, View: podResizeStrategy},
		},
	}
}

var podStrategy = typed.Strategy[*v1.Pod]{
	OnCreate: func(pod *v1.Pod) {
		pod.Generation = 1
		pod.Status = v1.PodStatus{Phase: v1.PodPending, QOSClass: podutil.ComputePodQOS(&pod.Spec)}
		applySchedulingGatedCondition(pod)
		mergeMatchLabelKeys(pod)
	},
	OnUpdate: func(pod, old *v1.Pod) {
		pod.Status = old.Status
		if len(old.Spec.SchedulingGates) > 0 && len(pod.Spec.SchedulingGates) == 0 {
			pod.Status = *old.Status.DeepCopy()
			pod.Status.Conditions = slices.DeleteFunc(pod.Status.Conditions, func(c v1.PodCondition) bool {
				return c.Type == v1.PodScheduled && c.Reason == v1.PodReasonSchedulingGated
			})
		}
		typed.Bump(pod, pod.Spec, old.Spec)
	},
	Check:       podutil.ValidatePodCreate,
	CheckUpdate: podutil.ValidatePodUpdate,
	Warn:        podutil.Warnings,
	// Updates are for the most part by controllers, which read no warnings.
	WarnUpdate: func(pod, old *v1.Pod) []string { return nil },
	Grace:      gracePeriod,
}

// gracePeriod is how long a kubelet gets to stop the pod, in seconds. Where no
// kubelet has anything to stop it is 0: the pod goes at once.
func gracePeriod(pod *v1.Pod, options *metav1.DeleteOptions) int64 {
	if pod.Spec.NodeName == "" || podutil.IsPodPhaseTerminal(pod.Status.Phase) {
		return 0
	}
	period := int64(0)
	if options.GracePeriodSeconds != nil {
		period = *options.GracePeriodSeconds
	} else if pod.Spec.TerminationGracePeriodSeconds != nil {
		period = *pod.Spec.TerminationGracePeriodSeconds
	}
	if period < 0 {
		period = 1
	}
	return period
}

func applySchedulingGatedCondition(pod *v1.Pod) {
	if len(pod.Spec.SchedulingGates) > 0 {
		pod.Status.Conditions = append(pod.Status.Conditions, v1.PodCondition{
			Type: v1.PodScheduled, Status: v1.ConditionFalse, Reason: v1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates",
		})
	}
}

// podStatusStrategy is for kubelets and schedulers: only the status changes.
var podStatusStrategy = typed.Strategy[*v1.Pod]{
	OnUpdate: func(pod, old *v1.Pod) {
		pod.Spec = old.Spec
		// Kubelets once sent these back wrongly; they have no business in a status.
		pod.OwnerReferences = old.OwnerReferences
		if pod.Status.QOSClass == "" {
			pod.Status.QOSClass = old.Status.QOSClass
		}
		if pod.Status.ResourceClaimStatuses == nil {
			pod.Status.ResourceClaimStatuses = old.Status.ResourceClaimStatuses
		}
	},
	CheckUpdate: podutil.ValidatePodStatusUpdate,
}

// podEphemeralContainersStrategy takes only the ephemeral containers from the request.
var podEphemeralContainersStrategy = typed.Strategy[*v1.Pod]{
	OnUpdate: func(pod, old *v1.Pod) {
		merged := old.DeepCopy()
		merged.ResourceVersion = pod.ResourceVersion
		merged.ManagedFields = pod.ManagedFields
		merged.Spec.EphemeralContainers = pod.Spec.EphemeralContainers
		*pod = *merged
		typed.Bump(pod, pod.Spec, old.Spec)
	},
	CheckUpdate: podutil.ValidatePodEphemeralContainersUpdate,
}

// podResizeStrategy takes only the resources of containers from the request. What becomes of it is the kubelet's to do and
// to say (conditions PodResizePending and PodResizeInProgress).
var podResizeStrategy = typed.Strategy[*v1.Pod]{
	OnUpdate: func(pod, old *v1.Pod) {
		merged := old.DeepCopy()
		merged.ResourceVersion = pod.ResourceVersion
		merged.ManagedFields = pod.ManagedFields
		if len(pod.Spec.Containers) != len(old.Spec.Containers) || len(pod.Spec.InitContainers) != len(old.Spec.InitContainers) {
			merged.Spec = pod.Spec // for validation to refuse
		}
		for _, lists := range []struct{ now, before []v1.Container }{{pod.Spec.Containers, merged.Spec.Containers}, {pod.Spec.InitContainers, merged.Spec.InitContainers}} {
			for i := range lists.before {
				at := slices.IndexFunc(lists.now, func(c v1.Container) bool { return c.Name == lists.before[i].Name })
				if at >= 0 {
					lists.before[i].Resources, lists.before[i].ResizePolicy = lists.now[at].Resources, lists.now[at].ResizePolicy
				}
			}
		}
		*pod = *merged
		typed.Bump(pod, pod.Spec, old.Spec)
	},
	CheckUpdate: podutil.ValidatePodResize,
}

func selectableFields(pod *v1.Pod) fields.Set {
	ip := pod.Status.PodIP
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	return fields.Set{
		"spec.nodeName":            pod.Spec.NodeName,
		"spec.restartPolicy":       string(pod.Spec.RestartPolicy),
		"spec.schedulerName":       pod.Spec.SchedulerName,
		"spec.serviceAccountName":  pod.Spec.ServiceAccountName,
		"spec.hostNetwork":         strconv.FormatBool(pod.Spec.HostNetwork),
		"status.phase":             string(pod.Status.Phase),
		"status.podIP":             ip,
		"status.nominatedNodeName": pod.Status.NominatedNodeName,
	}
}

// selects knows two labels more than pods have fields: spec.host is what spec.nodeName once was called, and status.podIPs may be
// asked for, though no pod is found by it.
func selects(label string) (string, error) {
	switch label {
	case "spec.host":
		return "spec.nodeName", nil
	case "metadata.name", "metadata.namespace", "status.podIPs":
		return label, nil
	}
	if _, known := selectableFields(&v1.Pod{})[label]; !known {
		return "", fmt.Errorf("field label not supported: %s", label)
	}
	return label, nil
}

// mergeMatchLabelKeys writes the values of the pod's own labels named by
// matchLabelKeys into the selectors beside them, so that whoever reads the pod
// later needs no second rule (KEP-3243, KEP-3633).
func mergeMatchLabelKeys(pod *v1.Pod) {
	if affinity := pod.Spec.Affinity; affinity != nil {
		if a := affinity.PodAffinity; a != nil {
			mergeTerms(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution, pod.Labels)
		}
		if a := affinity.PodAntiAffinity; a != nil {
			mergeTerms(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution, pod.Labels)
		}
	}
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		mergeKeys(c.LabelSelector, c.MatchLabelKeys, metav1.LabelSelectorOpIn, pod.Labels)
	}
}

func mergeTerms(required []v1.PodAffinityTerm, preferred []v1.WeightedPodAffinityTerm, labels map[string]string) {
	merge := func(term *v1.PodAffinityTerm) {
		mergeKeys(term.LabelSelector, term.MatchLabelKeys, metav1.LabelSelectorOpIn, labels)
		mergeKeys(term.LabelSelector, term.MismatchLabelKeys, metav1.LabelSelectorOpNotIn, labels)
	}
	for i := range required {
		merge(&required[i])
	}
	for i := range preferred {
		merge(&preferred[i].PodAffinityTerm)
	}
}

func mergeKeys(selector *metav1.LabelSelector, keys []string, operator metav1.LabelSelectorOperator, labels map[string]string) {
	for _, key := range keys {
		if value, ok := labels[key]; ok && selector != nil {
			selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: operator, Values: []string{value}})
		}
	}
}
