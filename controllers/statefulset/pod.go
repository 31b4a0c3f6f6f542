package statefulset

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"hyperkube/controllers/podcontrol"
)

// getParentNameAndOrdinal reads a pod's name: "web-12" is ("web", 12).
func getParentNameAndOrdinal(pod *corev1.Pod) (string, int) {
	i := strings.LastIndexByte(pod.Name, '-')
	if i < 0 {
		return "", -1
	}
	ordinal, err := strconv.ParseInt(pod.Name[i+1:], 10, 32)
	if err != nil || ordinal < 0 {
		return "", -1
	}
	return pod.Name[:i], int(ordinal)
}

func getOrdinal(pod *corev1.Pod) int {
	_, ordinal := getParentNameAndOrdinal(pod)
	return ordinal
}

func isMemberOf(set *appsv1.StatefulSet, pod *corev1.Pod) bool {
	parent, _ := getParentNameAndOrdinal(pod)
	return parent == set.Name
}

func getPodName(set *appsv1.StatefulSet, ordinal int) string {
	return fmt.Sprintf("%s-%d", set.Name, ordinal)
}

func getPodRevision(pod *corev1.Pod) string { return pod.Labels[appsv1.StatefulSetRevisionLabel] }

func getStartOrdinal(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

// newVersionedStatefulSetPod is the pod of that ordinal, of the current revision where
// a rollout must not come yet (below the partition), else of the update revision.
func newVersionedStatefulSetPod(t *turn, ordinal int) *corev1.Pod {
	if t.wantsCurrent(ordinal) {
		return newStatefulSetPod(t.set, t.currentTemplate, t.current, ordinal)
	}
	return newStatefulSetPod(t.set, &t.set.Spec.Template, t.update, ordinal)
}

func (t *turn) wantsCurrent(ordinal int) bool {
	strategy := t.set.Spec.UpdateStrategy
	if strategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		return false
	}
	if strategy.RollingUpdate == nil {
		return ordinal < getStartOrdinal(t.set)+int(t.set.Status.CurrentReplicas)
	}
	return ordinal < getStartOrdinal(t.set)+int(ptr.Deref(strategy.RollingUpdate.Partition, 0))
}

func newStatefulSetPod(set *appsv1.StatefulSet, template *corev1.PodTemplateSpec, revision string, ordinal int) *corev1.Pod {
	pod := podcontrol.GetPodFromTemplate(template, set, metav1.NewControllerRef(set, controllerKind))
	pod.GenerateName, pod.Name = "", getPodName(set, ordinal)
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, set.Spec.ServiceName
	updateIdentity(set, pod)
	pod.Labels[appsv1.StatefulSetRevisionLabel] = revision
	updateStorage(set, pod)
	return pod
}

// updateIdentity gives the pod the labels that tell it from the others.
func updateIdentity(set *appsv1.StatefulSet, pod *corev1.Pod) {
	pod.Namespace = set.Namespace
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[appsv1.StatefulSetPodNameLabel] = pod.Name
	pod.Labels[appsv1.PodIndexLabel] = strconv.Itoa(getOrdinal(pod))
}

func identityMatches(set *appsv1.StatefulSet, pod *corev1.Pod) bool {
	return isMemberOf(set, pod) && pod.Labels[appsv1.StatefulSetPodNameLabel] == pod.Name
}

// updateStorage makes each claim template a volume of the pod, instead of a volume of
// that name in the template.
func updateStorage(set *appsv1.StatefulSet, pod *corev1.Pod) {
	for _, claim := range getPersistentVolumeClaims(set, pod) {
		name := strings.TrimSuffix(claim.Name, "-"+pod.Name)
		pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name}}})
	}
}

// getPersistentVolumeClaims are the claims of the pod, as the templates have them.
func getPersistentVolumeClaims(set *appsv1.StatefulSet, pod *corev1.Pod) []*corev1.PersistentVolumeClaim {
	var claims []*corev1.PersistentVolumeClaim
	for i := range set.Spec.VolumeClaimTemplates {
		claim := set.Spec.VolumeClaimTemplates[i].DeepCopy()
		claim.Name = claim.Name + "-" + pod.Name
		claim.Namespace = set.Namespace
		merged := maps.Clone(claim.Labels)
		if merged == nil {
			merged = map[string]string{}
		}
		maps.Copy(merged, set.Spec.Selector.MatchLabels)
		claim.Labels = merged
		claims = append(claims, claim)
	}
	return claims
}

// claimOwners are the owner references that the retention policy asks for on a claim:
// the set, where claims go with it; the condemned pod, where they go with a scale down.
func claimOwners(set *appsv1.StatefulSet, pod *corev1.Pod, condemned bool) []metav1.OwnerReference {
	policy := ptr.Deref(set.Spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	whenScaled := policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	whenDeleted := policy.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	switch {
	case whenScaled && condemned:
		return []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))}
	case whenDeleted:
		return []metav1.OwnerReference{*metav1.NewControllerRef(set, controllerKind)}
	}
	return nil
}

// ownerKind is what a reference of a claim refers to, as far as the set is concerned.
type ownerKind int

const (
	other      ownerKind = iota
	controller           // decides over the claim, and is neither the set nor the pod
	ours                 // the set or the pod
	stale                // a set or pod of the same name before ours
)

func kindOf(ref metav1.OwnerReference, set *appsv1.StatefulSet, pod *corev1.Pod) ownerKind {
	match := func(kind, name string, uid types.UID) ownerKind {
		switch {
		case ref.Kind != kind || ref.Name != name:
			return other
		case ref.UID == uid:
			return ours
		}
		return stale
	}
	if kind := max(match(controllerKind.Kind, set.Name, set.UID), match("Pod", pod.Name, pod.UID)); kind != other {
		return kind
	}
	if ptr.Deref(ref.Controller, false) {
		return controller
	}
	return other
}

// newClaimOwners are the references that an existing claim should have; conflict: the set
// has a policy for it, but somebody else decides, so that ours go. A claim of a former
// set's or pod's is left as it is, for the garbage collector is about to take it.
func newClaimOwners(set *appsv1.StatefulSet, pod *corev1.Pod, known, wanted []metav1.OwnerReference) (refs []metav1.OwnerReference, conflict bool) {
	var others []metav1.OwnerReference
	for _, ref := range known {
		switch kindOf(ref, set, pod) {
		case stale:
			return known, false
		case controller:
			conflict = hasClaimPolicy(set)
			fallthrough
		case other:
			others = append(others, ref)
		}
	}
	if conflict {
		return others, true
	}
	return append(others, wanted...), false
}

func hasClaimPolicy(set *appsv1.StatefulSet) bool {
	policy := ptr.Deref(set.Spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	return policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType || policy.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
}

// claimIsStale: it goes with the pod that had it before a scale down. The next pod must
// not begin with it, and waits until it is gone.
func claimIsStale(set *appsv1.StatefulSet, pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	policy := ptr.Deref(set.Spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	return policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType && slices.ContainsFunc(claim.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.Kind == "Pod" && ref.Name == pod.Name && ref.UID != pod.UID
	})
}
