// Package statefulset is what is true of a StatefulSet: defaults and validation.
//
// In Kubernetes: SetDefaults_StatefulSet and ValidateStatefulSet*.
package statefulset

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// SetDefaults fills what the writer left out.
func SetDefaults(set *appsv1.StatefulSet) {
	spec := &set.Spec
	pod.SetDefaultsPodTemplate(&spec.Template)
	if spec.PodManagementPolicy == "" {
		spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	}
	if spec.UpdateStrategy.Type == "" {
		spec.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
		if spec.UpdateStrategy.RollingUpdate == nil {
			spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{}
		}
	}
	if r := spec.UpdateStrategy.RollingUpdate; spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && r != nil && r.Partition == nil {
		r.Partition = ptr.To[int32](0)
	}
	if spec.PersistentVolumeClaimRetentionPolicy == nil {
		spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}
	}
	retention := spec.PersistentVolumeClaimRetentionPolicy
	if retention.WhenDeleted == "" {
		retention.WhenDeleted = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	if retention.WhenScaled == "" {
		retention.WhenScaled = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	if spec.Replicas == nil {
		spec.Replicas = ptr.To[int32](1)
	}
	if spec.RevisionHistoryLimit == nil {
		spec.RevisionHistoryLimit = ptr.To[int32](10)
	}
	for i := range spec.VolumeClaimTemplates {
		claim := &spec.VolumeClaimTemplates[i]
		if claim.APIVersion == "" {
			claim.APIVersion, claim.Kind = "v1", "PersistentVolumeClaim"
		}
		if claim.Status.Phase == "" {
			claim.Status.Phase = v1.ClaimPending
		}
		pod.SetDefaultsPersistentVolumeClaimSpec(&claim.Spec)
	}
}

// ValidateName: pods are named <set>-<ordinal>, which must do as a host name.
func ValidateName(name string, prefix bool) []string {
	if prefix && len(name) > 1 && name[len(name)-1] == '-' {
		name = name[:len(name)-1] + "a"
	}
	return validation.IsDNS1123Label(name)
}

// Validate checks a stateful set on its own.
func Validate(set *appsv1.StatefulSet) field.ErrorList {
	spec, path := &set.Spec, field.NewPath("spec")
	errs := rule.Supported(spec.PodManagementPolicy, path.Child("podManagementPolicy"), appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement)
	errs = append(errs, validateStrategy(&spec.UpdateStrategy, path.Child("updateStrategy"))...)
	errs = append(errs, pod.ValidateReplicas(spec.Replicas, spec.MinReadySeconds, path)...)
	if spec.Ordinals != nil {
		errs = append(errs, rule.NonNegative(int64(spec.Ordinals.Start), path.Child("ordinals", "start"))...)
	}
	if r := spec.PersistentVolumeClaimRetentionPolicy; r != nil {
		at := path.Child("persistentVolumeClaimRetentionPolicy")
		errs = append(errs, rule.Supported(r.WhenDeleted, at.Child("whenDeleted"), appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType)...)
		errs = append(errs, rule.Supported(r.WhenScaled, at.Child("whenScaled"), appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType)...)
	}
	// The claims become volumes of the pods: mounts may refer to them.
	template := spec.Template.DeepCopy()
	for _, claim := range spec.VolumeClaimTemplates {
		template.Spec.Volumes = append(template.Spec.Volumes, v1.Volume{Name: claim.Name, VolumeSource: v1.VolumeSource{
			PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name},
		}})
	}
	return append(errs, pod.ValidateSelectorAndTemplate(spec.Selector, template, "statefulset", path)...)
}

func validateStrategy(s *appsv1.StatefulSetUpdateStrategy, path *field.Path) field.ErrorList {
	errs := rule.Supported(s.Type, path.Child("type"), appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType)
	r := s.RollingUpdate
	if s.Type == appsv1.OnDeleteStatefulSetStrategyType && r != nil {
		return append(errs, field.Invalid(path.Child("rollingUpdate"), r, "only allowed for updateStrategy 'RollingUpdate'"))
	}
	if r == nil {
		return errs
	}
	path = path.Child("rollingUpdate")
	if r.Partition != nil {
		errs = append(errs, rule.NonNegative(int64(*r.Partition), path.Child("partition"))...)
	}
	if n := r.MaxUnavailable; n != nil {
		errs = append(errs, rule.IntOrPercent(*n, path.Child("maxUnavailable"))...)
		errs = append(errs, rule.NotMoreThan100Percent(*n, path.Child("maxUnavailable"))...)
		if *n == intstr.FromInt32(0) || *n == intstr.FromString("0%") {
			errs = append(errs, field.Invalid(path.Child("maxUnavailable"), *n, "cannot be 0"))
		}
	}
	return errs
}

// ValidateUpdate: what running pods and claims were made from cannot change under them.
func ValidateUpdate(set, old *appsv1.StatefulSet) field.ErrorList {
	errs := Validate(set)
	rest := set.Spec.DeepCopy()
	rest.Replicas = old.Spec.Replicas
	rest.Template = old.Spec.Template
	rest.UpdateStrategy = old.Spec.UpdateStrategy
	rest.MinReadySeconds = old.Spec.MinReadySeconds
	rest.Ordinals = old.Spec.Ordinals
	rest.RevisionHistoryLimit = old.Spec.RevisionHistoryLimit
	rest.PersistentVolumeClaimRetentionPolicy = old.Spec.PersistentVolumeClaimRetentionPolicy
	if !equality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(field.NewPath("spec"), "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"))
	}
	return errs
}

// ValidateStatusUpdate checks that the numbers a controller reports fit each other.
func ValidateStatusUpdate(set, old *appsv1.StatefulSet) field.ErrorList {
	s, path := &set.Status, field.NewPath("status")
	errs := rule.NonNegative(s.ObservedGeneration, path.Child("observedGeneration"))
	for name, n := range map[string]int32{
		"replicas": s.Replicas, "readyReplicas": s.ReadyReplicas, "currentReplicas": s.CurrentReplicas,
		"updatedReplicas": s.UpdatedReplicas, "availableReplicas": s.AvailableReplicas,
	} {
		errs = append(errs, rule.NonNegative(int64(n), path.Child(name))...)
		if n > s.Replicas {
			errs = append(errs, field.Invalid(path.Child(name), n, "cannot be greater than status.replicas"))
		}
	}
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than status.readyReplicas"))
	}
	if now, was := ptr.Deref(s.CollisionCount, 0), ptr.Deref(old.Status.CollisionCount, 0); s.CollisionCount != nil && now < was {
		errs = append(errs, field.Invalid(path.Child("collisionCount"), now, "cannot be decremented"))
	}
	return errs
}

// Warnings are those of the pods and of their claims, and of a revision history that nothing will be kept in.
func Warnings(set *appsv1.StatefulSet) []string {
	path := field.NewPath("spec")
	warnings := pod.WarningsForTemplate(&set.Spec.Template, path.Child("template"))
	for i := range set.Spec.VolumeClaimTemplates {
		warnings = append(warnings, pod.WarningsForClaimSpec(&set.Spec.VolumeClaimTemplates[i].Spec, path.Child("volumeClaimTemplates").Index(i))...)
	}
	if n := set.Spec.RevisionHistoryLimit; n != nil && *n < 0 {
		warnings = append(warnings, fmt.Sprintf("%s: a negative value retains all historical revisions; a value >= 0 is recommended", path.Child("revisionHistoryLimit")))
	}
	return warnings
}
