// Package deployment is what is true of a Deployment: defaults and validation.
//
// In Kubernetes: SetDefaults_Deployment (pkg/apis/apps/v1) and
// ValidateDeployment* (pkg/apis/apps/validation).
package deployment

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// SetDefaults fills what the writer of a deployment left out.
func SetDefaults(d *appsv1.Deployment) {
	spec := &d.Spec
	pod.SetDefaultsPodTemplate(&spec.Template)
	if spec.Replicas == nil {
		spec.Replicas = ptr.To[int32](1)
	}
	if spec.Strategy.Type == "" {
		spec.Strategy.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	if spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		if spec.Strategy.RollingUpdate == nil {
			spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{}
		}
		if spec.Strategy.RollingUpdate.MaxUnavailable == nil {
			spec.Strategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromString("25%"))
		}
		if spec.Strategy.RollingUpdate.MaxSurge == nil {
			spec.Strategy.RollingUpdate.MaxSurge = ptr.To(intstr.FromString("25%"))
		}
	}
	if r := spec.Strategy.RollingUpdate; r != nil {
		// Of any other type, too, upstream's inner type has numbers where nothing was said.
		r.MaxUnavailable, r.MaxSurge = orZero(r.MaxUnavailable), orZero(r.MaxSurge)
	}
	if spec.RevisionHistoryLimit == nil {
		spec.RevisionHistoryLimit = ptr.To[int32](10)
	}
	if spec.ProgressDeadlineSeconds == nil {
		spec.ProgressDeadlineSeconds = ptr.To[int32](600)
	}
}

func orZero(n *intstr.IntOrString) *intstr.IntOrString {
	if n == nil {
		return &intstr.IntOrString{}
	}
	return n
}

// Validate checks a deployment on its own.
func Validate(d *appsv1.Deployment) field.ErrorList {
	spec, path := &d.Spec, field.NewPath("spec")
	errs := rule.NonNegative(int64(ptr.Deref(spec.Replicas, 0)), path.Child("replicas"))
	errs = append(errs, pod.ValidateSelectorAndTemplate(spec.Selector, &spec.Template, path)...)
	errs = append(errs, validateStrategy(&spec.Strategy, path.Child("strategy"))...)
	errs = append(errs, rule.NonNegative(int64(spec.MinReadySeconds), path.Child("minReadySeconds"))...)
	if n := spec.RevisionHistoryLimit; n != nil {
		errs = append(errs, rule.NonNegative(int64(*n), path.Child("revisionHistoryLimit"))...)
	}
	if n := spec.ProgressDeadlineSeconds; n != nil {
		errs = append(errs, rule.NonNegative(int64(*n), path.Child("progressDeadlineSeconds"))...)
		if *n <= spec.MinReadySeconds {
			errs = append(errs, field.Invalid(path.Child("progressDeadlineSeconds"), *n, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

func validateStrategy(s *appsv1.DeploymentStrategy, path *field.Path) field.ErrorList {
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(path.Child("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'")}
		}
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			return field.ErrorList{field.Required(path.Child("rollingUpdate"), "this should be defaulted and never be nil")}
		}
		return validateRollingUpdate(s.RollingUpdate, path.Child("rollingUpdate"))
	default:
		return field.ErrorList{field.NotSupported(path, rule.Untagged(s), []appsv1.DeploymentStrategyType{appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType})}
	}
	return nil
}

func validateRollingUpdate(r *appsv1.RollingUpdateDeployment, path *field.Path) field.ErrorList {
	unavailable, surge := ptr.Deref(r.MaxUnavailable, intstr.IntOrString{}), ptr.Deref(r.MaxSurge, intstr.IntOrString{})
	errs := rule.IntOrPercent(unavailable, path.Child("maxUnavailable"))
	errs = append(errs, rule.IntOrPercent(surge, path.Child("maxSurge"))...)
	if isZero(unavailable) && isZero(surge) {
		errs = append(errs, field.Invalid(path.Child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0"))
	}
	return append(errs, rule.NotMoreThan100Percent(unavailable, path.Child("maxUnavailable"))...)
}

func isZero(n intstr.IntOrString) bool {
	if percent, ok := rule.Percent(n); ok {
		return percent == 0
	}
	return n.IntValue() == 0
}

// ValidateUpdate: a changed selector would disown the pods that run.
func ValidateUpdate(d, old *appsv1.Deployment) field.ErrorList {
	return append(Validate(d), rule.Immutable(d.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))...)
}

// ValidateStatusUpdate checks that the numbers a controller reports fit each other.
func ValidateStatusUpdate(d, old *appsv1.Deployment) field.ErrorList {
	s, path := &d.Status, field.NewPath("status")
	updated, ready := rule.Count{Field: "updatedReplicas", N: int64(s.UpdatedReplicas)}, rule.Count{Field: "readyReplicas", N: int64(s.ReadyReplicas)}
	available := rule.Count{Field: "availableReplicas", N: int64(s.AvailableReplicas)}
	errs := rule.NonNegativeCounts(path, rule.Count{Field: "observedGeneration", N: s.ObservedGeneration}, rule.Count{Field: "replicas", N: int64(s.Replicas)},
		updated, ready, available, rule.Count{Field: "unavailableReplicas", N: int64(s.UnavailableReplicas)},
		rule.Count{Field: "terminatingReplicas", N: int64(ptr.Deref(s.TerminatingReplicas, 0))}, rule.Count{Field: "collisionCount", N: int64(ptr.Deref(s.CollisionCount, 0))})
	errs = append(errs, rule.CountsAtMost(path, int64(s.Replicas), "status.replicas", updated, ready, available)...)
	errs = append(errs, rule.CountsAtMost(path, int64(s.ReadyReplicas), "readyReplicas", available)...)
	return append(errs, rule.NotDecremented(s.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}

// Warnings are those of the name, and of the pods.
func Warnings(d *appsv1.Deployment) []string {
	return append(pod.WarnWorkloadName(d.Name), WarningsOnUpdate(d)...)
}

// WarningsOnUpdate: its name cannot be helped any more.
func WarningsOnUpdate(d *appsv1.Deployment) []string {
	return pod.WarningsForTemplate(&d.Spec.Template, field.NewPath("spec", "template"))
}
