// Package daemonset is what is true of a DaemonSet: defaults and validation.
//
// In Kubernetes: SetDefaults_DaemonSet and ValidateDaemonSet*.
package daemonset

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// SetDefaults fills what the writer left out.
func SetDefaults(ds *appsv1.DaemonSet) {
	spec := &ds.Spec
	pod.SetDefaultsPodTemplate(&spec.Template)
	if spec.UpdateStrategy.Type == "" {
		spec.UpdateStrategy.Type = appsv1.RollingUpdateDaemonSetStrategyType
	}
	if spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		if spec.UpdateStrategy.RollingUpdate == nil {
			spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{}
		}
		if spec.UpdateStrategy.RollingUpdate.MaxUnavailable == nil {
			spec.UpdateStrategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromInt32(1))
		}
		if spec.UpdateStrategy.RollingUpdate.MaxSurge == nil {
			spec.UpdateStrategy.RollingUpdate.MaxSurge = ptr.To(intstr.FromInt32(0))
		}
	}
	if spec.RevisionHistoryLimit == nil {
		spec.RevisionHistoryLimit = ptr.To[int32](10)
	}
}

// Validate checks a daemon set on its own.
func Validate(ds *appsv1.DaemonSet) field.ErrorList {
	spec, path := &ds.Spec, field.NewPath("spec")
	errs := pod.ValidateReplicas(nil, spec.MinReadySeconds, path)
	errs = append(errs, pod.ValidateSelectorAndTemplate(spec.Selector, &spec.Template, "daemonset", path)...)
	if n := spec.RevisionHistoryLimit; n != nil {
		errs = append(errs, rule.NonNegative(int64(*n), path.Child("revisionHistoryLimit"))...)
	}
	return append(errs, validateStrategy(&spec.UpdateStrategy, path.Child("updateStrategy"))...)
}

func validateStrategy(s *appsv1.DaemonSetUpdateStrategy, path *field.Path) field.ErrorList {
	errs := rule.Supported(s.Type, path.Child("type"), appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType)
	if s.Type != appsv1.RollingUpdateDaemonSetStrategyType {
		return errs
	}
	path = path.Child("rollingUpdate")
	if s.RollingUpdate == nil {
		return append(errs, field.Required(path, ""))
	}
	unavailable, surge := ptr.Deref(s.RollingUpdate.MaxUnavailable, intstr.IntOrString{}), ptr.Deref(s.RollingUpdate.MaxSurge, intstr.IntOrString{})
	for name, n := range map[string]intstr.IntOrString{"maxUnavailable": unavailable, "maxSurge": surge} {
		errs = append(errs, rule.IntOrPercent(n, path.Child(name))...)
		errs = append(errs, rule.NotMoreThan100Percent(n, path.Child(name))...)
	}
	// Of a pod per node either the old one goes first or the new one comes first.
	switch hasUnavailable, hasSurge := nonZero(unavailable), nonZero(surge); {
	case hasUnavailable && hasSurge:
		errs = append(errs, field.Invalid(path.Child("maxSurge"), surge, "may not be set when maxUnavailable is non-zero"))
	case !hasUnavailable && !hasSurge:
		errs = append(errs, field.Required(path.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
	}
	return errs
}

func nonZero(n intstr.IntOrString) bool {
	if percent, ok := rule.Percent(n); ok {
		return percent != 0
	}
	return n.IntValue() != 0
}

// ValidateUpdate: a changed selector would disown the pods that run.
func ValidateUpdate(ds, old *appsv1.DaemonSet) field.ErrorList {
	return append(Validate(ds), rule.Immutable(ds.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))...)
}

// ValidateStatusUpdate checks the numbers a controller reports.
func ValidateStatusUpdate(ds, old *appsv1.DaemonSet) field.ErrorList {
	s, path := &ds.Status, field.NewPath("status")
	errs := rule.NonNegative(s.ObservedGeneration, path.Child("observedGeneration"))
	for name, n := range map[string]int32{
		"currentNumberScheduled": s.CurrentNumberScheduled, "numberMisscheduled": s.NumberMisscheduled,
		"desiredNumberScheduled": s.DesiredNumberScheduled, "numberReady": s.NumberReady,
		"updatedNumberScheduled": s.UpdatedNumberScheduled, "numberAvailable": s.NumberAvailable,
		"numberUnavailable": s.NumberUnavailable,
	} {
		errs = append(errs, rule.NonNegative(int64(n), path.Child(name))...)
	}
	return errs
}

// Warnings are those of the pods.
func Warnings(ds *appsv1.DaemonSet) []string {
	return pod.WarningsForTemplate(&ds.Spec.Template, field.NewPath("spec", "template"))
}
