// Package statefulset is what is true of a StatefulSet: defaults and validation.
//
// In Kubernetes: SetDefaults_StatefulSet and ValidateStatefulSet*.
package statefulset

import (
	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
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
	if r := spec.UpdateStrategy.RollingUpdate; r != nil {
		if r.Partition == nil { // of any type: upstream's inner type has a number there
			r.Partition = ptr.To[int32](0)
		}
		if spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && r.MaxUnavailable == nil {
			r.MaxUnavailable = ptr.To(intstr.FromInt32(1))
		}
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
		claim.APIVersion, claim.Kind = "v1", "PersistentVolumeClaim" // whatever was written
		if claim.Status.Phase == "" {
			claim.Status.Phase = v1.ClaimPending
		}
		pod.SetDefaultsPersistentVolumeClaimSpec(&claim.Spec)
	}
}

// ValidateName: pods are named <set>-<ordinal>, which must do as a host name.
func ValidateName(name string, prefix bool) []string {
	return apivalidation.NameIsDNSLabel(name, prefix)
}

// Validate checks a new stateful set.
func Validate(set *appsv1.StatefulSet) field.ErrorList {
	return validateSpec(&set.Spec, field.NewPath("spec"), checks{claims: true, serviceName: true, template: true})
}

// checks are those that an update leaves out: of what cannot change any more, and of what was already wrong.
type checks struct{ claims, serviceName, template bool }

func validateSpec(spec *appsv1.StatefulSetSpec, path *field.Path, check checks) field.ErrorList {
	errs := validatePodManagement(spec.PodManagementPolicy, path.Child("podManagementPolicy"))
	errs = append(errs, validateStrategy(&spec.UpdateStrategy, path.Child("updateStrategy"))...)
	if r := spec.PersistentVolumeClaimRetentionPolicy; r != nil {
		at := path.Child("persistentVolumeClaimRetentionPolicy")
		for _, policy := range []struct {
			field string
			value appsv1.PersistentVolumeClaimRetentionPolicyType
		}{{"whenDeleted", r.WhenDeleted}, {"whenScaled", r.WhenScaled}} {
			if v := policy.value; v != appsv1.RetainPersistentVolumeClaimRetentionPolicyType && v != appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
				errs = append(errs, field.NotSupported(at.Child(policy.field), v, []appsv1.PersistentVolumeClaimRetentionPolicyType{appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType}))
			}
		}
	}
	if check.claims {
		for i := range spec.VolumeClaimTemplates {
			errs = append(errs, pod.ValidatePersistentVolumeClaimSpec(&spec.VolumeClaimTemplates[i].Spec, path.Child("volumeClaimTemplates").Index(i).Child("spec"))...)
		}
	}
	errs = append(errs, rule.NonNegative(int64(ptr.Deref(spec.Replicas, 0)), path.Child("replicas"))...)
	errs = append(errs, rule.NonNegative(int64(spec.MinReadySeconds), path.Child("minReadySeconds"))...)
	if spec.Ordinals != nil {
		errs = append(errs, rule.NonNegative(int64(spec.Ordinals.Start), path.Child("ordinals", "start"))...)
	}
	if check.serviceName && spec.ServiceName != "" {
		errs = append(errs, rule.DNSLabel(spec.ServiceName, path.Child("serviceName"))...)
	}
	return append(errs, validateSelectorAndTemplate(spec, path, check.template)...)
}

func validatePodManagement(policy appsv1.PodManagementPolicyType, path *field.Path) field.ErrorList {
	switch policy {
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
		return nil
	case "":
		return field.ErrorList{field.Required(path, "")}
	}
	return field.ErrorList{field.Invalid(path, policy, "must be 'OrderedReady' or 'Parallel'")}
}

func validateSelectorAndTemplate(spec *appsv1.StatefulSetSpec, path *field.Path, wholeTemplate bool) field.ErrorList {
	errs := pod.ValidateWorkloadSelector(spec.Selector, "statefulset", path.Child("selector"))
	selector, err := metav1.LabelSelectorAsSelector(spec.Selector)
	if err != nil {
		errs = append(errs, field.Invalid(path.Child("selector"), spec.Selector, ""))
	} else {
		errs = append(errs, pod.ValidateTemplateLabels(&spec.Template, selector, path.Child("template"))...)
	}
	if err == nil && wholeTemplate {
		errs = append(errs, pod.ValidatePodTemplateSpec(asPods(spec), path.Child("template"))...)
	}
	return append(errs, pod.ValidateNeverEnding(&spec.Template.Spec, "StatefulSet", path.Child("template", "spec"))...)
}

// asPods is the template as the controller will use it: host name and subdomain are the pod's and the service's, and
// the claims are volumes, in place of any of the same name, so that mounts may refer to them.
func asPods(spec *appsv1.StatefulSetSpec) *v1.PodTemplateSpec {
	template := spec.Template.DeepCopy()
	template.Spec.Hostname, template.Spec.Subdomain = "", ""
	var volumes []v1.Volume
	claimed := sets.New[string]()
	for _, claim := range spec.VolumeClaimTemplates {
		if claimed.Has(claim.Name) {
			continue
		}
		claimed.Insert(claim.Name)
		volumes = append(volumes, v1.Volume{Name: claim.Name, VolumeSource: v1.VolumeSource{
			PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name},
		}})
	}
	for _, volume := range template.Spec.Volumes {
		if !claimed.Has(volume.Name) {
			volumes = append(volumes, volume)
		}
	}
	template.Spec.Volumes = volumes
	return template
}

func validateStrategy(s *appsv1.StatefulSetUpdateStrategy, path *field.Path) field.ErrorList {
	r := s.RollingUpdate
	switch s.Type {
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if r != nil {
			return validateRollingUpdate(r, path.Child("rollingUpdate"))
		}
	case appsv1.OnDeleteStatefulSetStrategyType:
		if r != nil {
			return field.ErrorList{field.Invalid(path.Child("rollingUpdate"), rule.Untagged(r), "only allowed for updateStrategy 'RollingUpdate'")}
		}
	case "":
		return field.ErrorList{field.Required(path, "")}
	default:
		return field.ErrorList{field.Invalid(path, rule.Untagged(s), "must be 'RollingUpdate' or 'OnDelete'")}
	}
	return nil
}

func validateRollingUpdate(r *appsv1.RollingUpdateStatefulSetStrategy, path *field.Path) field.ErrorList {
	errs := rule.NonNegative(int64(ptr.Deref(r.Partition, 0)), path.Child("partition"))
	n := r.MaxUnavailable
	if n == nil {
		return errs
	}
	path = path.Child("maxUnavailable")
	errs = append(errs, rule.IntOrPercent(*n, path)...)
	if percent, ok := rule.Percent(*n); ok && percent == 0 || !ok && n.IntValue() == 0 {
		errs = append(errs, field.Invalid(path, *n, "cannot be 0"))
	}
	return append(errs, rule.NotMoreThan100Percent(*n, path)...)
}

// ValidateUpdate: what running pods and claims were made from cannot change under them.
func ValidateUpdate(set, old *appsv1.StatefulSet) field.ErrorList {
	check := checks{template: true}
	// A template that was let in under fewer rules does not keep the rest from being changed.
	check.template = len(validateSpec(&old.Spec, nil, check)) == 0
	errs := validateSpec(&set.Spec, field.NewPath("spec"), check)
	spec, was, path := &set.Spec, &old.Spec, field.NewPath("spec")
	errs = append(errs, rule.Immutable(spec.Selector, was.Selector, path.Child("selector"))...)
	errs = append(errs, rule.Immutable(spec.VolumeClaimTemplates, was.VolumeClaimTemplates, path.Child("volumeClaimTemplates"))...)
	errs = append(errs, rule.Immutable(spec.ServiceName, was.ServiceName, path.Child("serviceName"))...)
	return append(errs, rule.Immutable(spec.PodManagementPolicy, was.PodManagementPolicy, path.Child("podManagementPolicy"))...)
}

// ValidateStatusUpdate checks that the numbers a controller reports fit each other.
func ValidateStatusUpdate(set, old *appsv1.StatefulSet) field.ErrorList {
	s, path := &set.Status, field.NewPath("status")
	ready, available := rule.Count{Field: "readyReplicas", N: int64(s.ReadyReplicas)}, rule.Count{Field: "availableReplicas", N: int64(s.AvailableReplicas)}
	current, updated := rule.Count{Field: "currentReplicas", N: int64(s.CurrentReplicas)}, rule.Count{Field: "updatedReplicas", N: int64(s.UpdatedReplicas)}
	errs := rule.NonNegativeCounts(path, rule.Count{Field: "replicas", N: int64(s.Replicas)}, ready, current, updated, available,
		rule.Count{Field: "observedGeneration", N: s.ObservedGeneration}, rule.Count{Field: "collisionCount", N: int64(ptr.Deref(s.CollisionCount, 0))})
	errs = append(errs, rule.CountsAtMost(path, int64(s.Replicas), "status.replicas", ready, current, updated, available)...)
	errs = append(errs, rule.CountsAtMost(path, int64(s.ReadyReplicas), "status.readyReplicas", available)...)
	return append(errs, rule.NotDecremented(s.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}

// Warnings are those of the pods and of their claims, and of a revision history without an end.
func Warnings(set *appsv1.StatefulSet) []string {
	return append(pod.WarningsForTemplate(&set.Spec.Template, field.NewPath("spec", "template")), warnSpec(set, "")...)
}

// WarningsOnUpdate: of the pods only when something was changed; of the rest each time. The paths of claims are upstream's.
func WarningsOnUpdate(set, old *appsv1.StatefulSet) []string {
	var warnings []string
	if set.Generation != old.Generation {
		warnings = pod.WarningsForTemplate(&set.Spec.Template, field.NewPath("spec", "template"))
	}
	return append(warnings, warnSpec(set, "Spec")...)
}

func warnSpec(set *appsv1.StatefulSet, below string) []string {
	var warnings []string
	for i := range set.Spec.VolumeClaimTemplates {
		path := field.NewPath("spec", "volumeClaimTemplates").Index(i)
		if below != "" {
			path = path.Child(below)
		}
		warnings = append(warnings, pod.WarningsForClaimSpec(&set.Spec.VolumeClaimTemplates[i].Spec, path)...)
	}
	if n := set.Spec.RevisionHistoryLimit; n != nil && *n < 0 {
		warnings = append(warnings, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return warnings
}
