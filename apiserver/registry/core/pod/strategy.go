// Package pod is the apiserver's room of Pods: what create and update may change,
// how long a deletion waits, kubectl's columns, and the subresources that write a
// pod (binding, eviction, ephemeralcontainers). The ones that open a connection
// to a kubelet are elsewhere.
//
// In Kubernetes: pkg/registry/core/pod (strategy.go, storage/storage.go,
// storage/eviction.go) and printPod of pkg/printers/internalversion.
package pod

import (
	"context"
	"fmt"
	"strconv"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	podutil "hyperkube/api/core/pod"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/typed"
	"hyperkube/apiserver/request"
)

// Resource is the line of pods in the table of the core group.
func Resource(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "pods", Singular: "pod", Kind: v1.SchemeGroupVersion.WithKind("Pod"),
		ShortNames: []string{"po"}, Categories: []string{"all"},
		New:                 func() runtime.Object { return &v1.Pod{} },
		NewList:             func() runtime.Object { return &v1.PodList{} },
		Default:             typed.Default(podutil.SetDefaultsPod),
		Strategy:            creation{podStrategy},
		StatusStrategy:      podStatusStrategy,
		Resets:              map[string][]string{"status": {"metadata.deletionTimestamp", "metadata.ownerReferences"}},
		Fields:              typed.Fields(selectableFields),
		Selects:             selects,
		Table:               table,
		Index:               "spec.nodeName",
		ReturnDeletedObject: true,
		Graceful:            true,
		Subresources: map[string]registry.Subresource{
			"binding":             bindingSubresource(env),
			"eviction":            evictionSubresource(env),
			"ephemeralcontainers": {Kind: v1.SchemeGroupVersion.WithKind("Pod"), New: func() runtime.Object { return &v1.Pod{} }, View: podEphemeralContainersStrategy},
			"resize":              {Kind: v1.SchemeGroupVersion.WithKind("Pod"), New: func() runtime.Object { return &v1.Pod{} }, View: podResizeStrategy},
		},
	}
}

// creation is podStrategy with what a create tells its client before it mends it.
type creation struct{ typed.Strategy[*v1.Pod] }

func (s creation) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	for _, text := range syncAppArmor(obj.(*v1.Pod)) {
		request.AddWarning(ctx, text)
	}
	s.Strategy.PrepareForCreate(ctx, obj)
}

var podStrategy = typed.Strategy[*v1.Pod]{
	OnCreate: func(pod *v1.Pod) {
		pod.Generation = 1
		podutil.DefaultPodLevelResources(pod)
		pod.Status = v1.PodStatus{Phase: v1.PodPending, QOSClass: podutil.ComputePodQOS(&pod.Spec)}
		applySchedulingGatedCondition(pod)
		mergeMatchLabelKeys(pod)
	},
	OnUpdate: func(pod, old *v1.Pod) {
		pod.Status = old.Status
		keepPodResources(pod, old)
		typed.Bump(pod, pod.Spec, old.Spec)
	},
	Check:       podutil.ValidatePodCreate,
	CheckUpdate: podutil.ValidatePodUpdate,
	Warn:        podutil.Warnings,
	// Updates are for the most part by controllers, which read no warnings.
	WarnUpdate: func(pod, old *v1.Pod) []string { return nil },
	Grace:      gracePeriod,
}

// keepPodResources keeps the resources of the pod as a whole for a client that does not know of them: it sends back none.
func keepPodResources(pod, old *v1.Pod) {
	if pod.Spec.Resources == nil && old.Spec.Resources != nil {
		pod.Spec.Resources = old.Spec.Resources.DeepCopy()
	}
}

// syncAppArmor makes a field of the annotation that a profile of AppArmor was before it, and tells of such.
func syncAppArmor(pod *v1.Pod) []string {
	if len(pod.Annotations) == 0 || pod.Spec.OS != nil && pod.Spec.OS.Name == v1.Windows {
		return nil
	}
	var warnings []string
	podutil.VisitContainers(&pod.Spec, podutil.AllContainers, func(c *v1.Container, _ podutil.ContainerType) bool {
		key := v1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix + c.Name
		annotation, ok := pod.Annotations[key]
		if !ok || c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
			return true
		}
		profile := podutil.AppArmorFromAnnotation(annotation)
		if sc := pod.Spec.SecurityContext; profile != nil && sc != nil && equality.Semantic.DeepEqual(profile, sc.AppArmorProfile) {
			return true // the pod says so already
		}
		if profile != nil && podutil.IsAppArmorProfile(profile) {
			if c.SecurityContext == nil {
				c.SecurityContext = &v1.SecurityContext{}
			}
			c.SecurityContext.AppArmorProfile = profile
		}
		warnings = append(warnings, fmt.Sprintf("%s: %s", field.NewPath("metadata", "annotations").Key(key), podutil.AppArmorDeprecated))
		return true
	})
	return warnings
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
		podutil.UpdatePodCondition(&pod.Status, &v1.PodCondition{
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
		// Who does not know of a field sends back none; an empty list is meant.
		if pod.Status.ResourceClaimStatuses == nil {
			pod.Status.ResourceClaimStatuses = old.Status.ResourceClaimStatuses
		}
		if pod.Status.ExtendedResourceClaimStatus == nil {
			pod.Status.ExtendedResourceClaimStatus = old.Status.ExtendedResourceClaimStatus
		}
		keepObservedGenerations(&pod.Status, &old.Status)
		podutil.DropDisabledStatusFields(&pod.Status)
	},
	CheckUpdate: podutil.ValidatePodStatusUpdate,
	WarnUpdate:  func(pod, old *v1.Pod) []string { return podutil.WarningsForStatus(pod) },
}

// keepObservedGenerations: what a client leaves out, which does not know of it, is as it was. Of conditions of one type, which
// nothing forbids, the first stands for the first.
func keepObservedGenerations(status, old *v1.PodStatus) {
	if status.ObservedGeneration == 0 {
		status.ObservedGeneration = old.ObservedGeneration
	}
	before := map[v1.PodConditionType][]int64{}
	for _, c := range old.Conditions {
		before[c.Type] = append(before[c.Type], c.ObservedGeneration)
	}
	for i := range status.Conditions {
		c := &status.Conditions[i]
		if was := before[c.Type]; len(was) > 0 {
			before[c.Type] = was[1:]
			if c.ObservedGeneration == 0 {
				c.ObservedGeneration = was[0]
			}
		}
	}
}

// podEphemeralContainersStrategy takes only the ephemeral containers from the request, and labels and annotations.
var podEphemeralContainersStrategy = typed.Strategy[*v1.Pod]{
	OnUpdate: func(pod, old *v1.Pod) {
		containers := pod.Spec.EphemeralContainers
		pod.Spec, pod.Status = *old.Spec.DeepCopy(), old.Status
		pod.Spec.EphemeralContainers = containers
		metav1.ResetObjectMetaForStatus(&pod.ObjectMeta, &old.ObjectMeta)
		typed.Bump(pod, pod.Spec, old.Spec)
	},
	CheckUpdate: podutil.ValidatePodEphemeralContainersUpdate,
	WarnUpdate:  func(pod, old *v1.Pod) []string { return nil },
}

// podResizeStrategy takes only the resources of containers from the request. What becomes of it is the kubelet's to do and
// to say (conditions PodResizePending and PodResizeInProgress).
var podResizeStrategy = typed.Strategy[*v1.Pod]{
	OnUpdate: func(pod, old *v1.Pod) {
		// Other containers than before are left for validation to refuse.
		if len(pod.Spec.Containers) == len(old.Spec.Containers) && len(pod.Spec.InitContainers) == len(old.Spec.InitContainers) {
			keepButResources(pod, old)
		}
		keepPodResources(pod, old)
		podutil.DefaultPodLevelResources(pod)
		typed.Bump(pod, pod.Spec, old.Spec)
	},
	CheckUpdate: podutil.ValidatePodResize,
	WarnUpdate:  func(pod, old *v1.Pod) []string { return nil },
}

func keepButResources(pod, old *v1.Pod) {
	wanted := pod.Spec
	pod.Spec, pod.Status = *old.Spec.DeepCopy(), old.Status
	pod.Spec.Resources = wanted.Resources
	pod.Spec.Containers = resized(pod.Spec.Containers, wanted.Containers)
	pod.Spec.InitContainers = resized(pod.Spec.InitContainers, wanted.InitContainers)
	metav1.ResetObjectMetaForStatus(&pod.ObjectMeta, &old.ObjectMeta)
}

// resized are the containers of before with the resources wanted; renamed or moved ones stay as they are, for validation to refuse.
func resized(containers, wanted []v1.Container) []v1.Container {
	for i := range wanted {
		if containers[i].Name != wanted[i].Name {
			return wanted
		}
		containers[i].Resources, containers[i].ResizePolicy = wanted[i].Resources, wanted[i].ResizePolicy
	}
	return containers
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
