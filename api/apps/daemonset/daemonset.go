// Package daemonset is what is true of a DaemonSet: defaults and validation.
//
// In Kubernetes: SetDefaults_DaemonSet and ValidateDaemonSet*.
package daemonset

import (
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
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
	if r := spec.UpdateStrategy.RollingUpdate; r != nil {
		// Of any other type, too, upstream's inner type has numbers where nothing was said.
		r.MaxUnavailable, r.MaxSurge = orZero(r.MaxUnavailable), orZero(r.MaxSurge)
	}
	if spec.RevisionHistoryLimit == nil {
		spec.RevisionHistoryLimit = ptr.To[int32](10)
	}
}

func orZero(n *intstr.IntOrString) *intstr.IntOrString {
	if n == nil {
		return &intstr.IntOrString{}
	}
	return n
}

// Validate checks a daemon set on its own.
func Validate(ds *appsv1.DaemonSet) field.ErrorList {
	spec, path := &ds.Spec, field.NewPath("spec")
	errs := metav1validation.ValidateLabelSelector(spec.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))
	// A missing selector finds no pod, so it is refused here.
	if selector, err := metav1.LabelSelectorAsSelector(spec.Selector); err == nil && !selector.Matches(labels.Set(spec.Template.Labels)) {
		errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	if s := spec.Selector; s != nil && len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(path.Child("selector"), s, "empty selector is invalid for daemonset"))
	}
	errs = append(errs, pod.ValidatePodTemplateSpec(&spec.Template, path.Child("template"))...)
	errs = append(errs, pod.ValidateNeverEnding(&spec.Template.Spec, "DaemonSet", path.Child("template", "spec"))...)
	errs = append(errs, rule.NonNegative(int64(spec.MinReadySeconds), path.Child("minReadySeconds"))...)
	errs = append(errs, validateStrategy(&spec.UpdateStrategy, path.Child("updateStrategy"))...)
	if n := spec.RevisionHistoryLimit; n != nil {
		errs = append(errs, rule.NonNegative(int64(*n), path.Child("revisionHistoryLimit"))...)
	}
	return errs
}

func validateStrategy(s *appsv1.DaemonSetUpdateStrategy, path *field.Path) field.ErrorList {
	switch {
	case s.Type == appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case s.Type != appsv1.RollingUpdateDaemonSetStrategyType:
		return field.ErrorList{field.NotSupported(path, rule.Untagged(s), []appsv1.DaemonSetUpdateStrategyType{appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType})}
	case s.RollingUpdate == nil:
		return field.ErrorList{field.Required(path.Child("rollingUpdate"), "")}
	}
	path = path.Child("rollingUpdate")
	unavailable, surge := ptr.Deref(s.RollingUpdate.MaxUnavailable, intstr.IntOrString{}), ptr.Deref(s.RollingUpdate.MaxSurge, intstr.IntOrString{})
	errs := rule.IntOrPercent(unavailable, path.Child("maxUnavailable"))
	errs = append(errs, rule.IntOrPercent(surge, path.Child("maxSurge"))...)
	errs = append(errs, rule.NotMoreThan100Percent(unavailable, path.Child("maxUnavailable"))...)
	errs = append(errs, rule.NotMoreThan100Percent(surge, path.Child("maxSurge"))...)
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
	return append(rule.Immutable(ds.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector")), Validate(ds)...)
}

// ValidateStatusUpdate checks the numbers a controller reports.
func ValidateStatusUpdate(ds, old *appsv1.DaemonSet) field.ErrorList {
	s, path := &ds.Status, field.NewPath("status")
	errs := rule.NonNegativeCounts(path, rule.Count{Field: "currentNumberScheduled", N: int64(s.CurrentNumberScheduled)},
		rule.Count{Field: "numberMisscheduled", N: int64(s.NumberMisscheduled)}, rule.Count{Field: "desiredNumberScheduled", N: int64(s.DesiredNumberScheduled)},
		rule.Count{Field: "numberReady", N: int64(s.NumberReady)}, rule.Count{Field: "observedGeneration", N: s.ObservedGeneration},
		rule.Count{Field: "updatedNumberScheduled", N: int64(s.UpdatedNumberScheduled)}, rule.Count{Field: "numberAvailable", N: int64(s.NumberAvailable)},
		rule.Count{Field: "numberUnavailable", N: int64(s.NumberUnavailable)}, rule.Count{Field: "collisionCount", N: int64(ptr.Deref(s.CollisionCount, 0))})
	return append(errs, rule.NotDecremented(s.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}

// SetTemplateGeneration counts the templates in an annotation, where the days before ControllerRevisions left the count;
// old is nil at a create. Nobody else can set it later on.
func SetTemplateGeneration(ds, old *appsv1.DaemonSet) {
	n := templateGeneration(ds)
	if old != nil {
		n = templateGeneration(old)
		if TemplateChanged(ds, old) {
			n++
		}
	}
	annotations := maps.Clone(ds.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(max(n, 1), 10)
	ds.Annotations = annotations
}

func templateGeneration(ds *appsv1.DaemonSet) int64 {
	n, _ := strconv.ParseInt(ds.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	return n
}

// TemplateChanged: the pods are to be others.
func TemplateChanged(ds, old *appsv1.DaemonSet) bool {
	return !equality.Semantic.DeepEqual(ds.Spec.Template, old.Spec.Template)
}

// Warnings are those of the pods.
func Warnings(ds *appsv1.DaemonSet) []string {
	return pod.WarningsForTemplate(&ds.Spec.Template, field.NewPath("spec", "template"))
}

// WarningsOnUpdate: whoever changed something else has not written the template.
func WarningsOnUpdate(ds, old *appsv1.DaemonSet) []string {
	if !TemplateChanged(ds, old) {
		return nil
	}
	return Warnings(ds)
}
