package job

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// Bounds of an indexed job: its status lists indexes, and must fit into an object.
const (
	maxParallelism       = 100_000
	maxFailedIndexes     = 100_000
	manyCompletions      = 100_000 // from here on, indexes that fail are counted within closer bounds
	maxParallelismOfMany = 10_000
	maxFailedOfMany      = 10_000
	maxManagedBy         = 63
)

// Validate checks a job whose selector is made.
func Validate(j *batchv1.Job) field.ErrorList {
	path := field.NewPath("spec")
	errs := ValidateSpec(&j.Spec, path)
	if isIndexed(&j.Spec) && ptr.Deref(j.Spec.Completions, 0) > 0 {
		// The pod of the last index has the longest name, which is its host name as well.
		if last := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1); j.Name != "" && len(validation.IsDNS1123Label(last)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+last))
		}
	}
	if j.Spec.Selector == nil {
		return append(errs, field.Required(path.Child("selector"), ""))
	}
	errs = append(errs, validateGeneratedSelector(j)...)
	errs = append(errs, metav1validation.ValidateLabelSelector(j.Spec.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(labels.Set(j.Spec.Template.Labels)) {
		errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), j.Spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

// validateGeneratedSelector: who does not say manualSelector cannot have given a selector or labels of another job.
func validateGeneratedSelector(j *batchv1.Job) field.ErrorList {
	if ptr.Deref(j.Spec.ManualSelector, false) {
		return nil
	}
	if _, made := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !made {
		return nil // of a job from before there was this label
	}
	var errs field.ErrorList
	at := field.NewPath("spec", "template", "metadata", "labels")
	for _, label := range []struct{ key, value string }{{batchv1.ControllerUidLabel, string(j.UID)}, {batchv1.JobNameLabel, j.Name}, {"controller-uid", string(j.UID)}, {"job-name", j.Name}} {
		if got := j.Spec.Template.Labels[label.key]; got != label.value {
			errs = append(errs, field.Invalid(at.Key(label.key), got, fmt.Sprintf("must be '%s'", label.value)))
		}
	}
	if got := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; got != string(j.UID) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func isIndexed(spec *batchv1.JobSpec) bool {
	return ptr.Deref(spec.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion
}

// ValidateSpec checks the spec of a job, or of the job template in a CronJob.
func ValidateSpec(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, number := range []struct {
		name  string
		value *int32
	}{
		{"parallelism", spec.Parallelism}, {"completions", spec.Completions}, {"backoffLimit", spec.BackoffLimit},
		{"ttlSecondsAfterFinished", spec.TTLSecondsAfterFinished}, {"backoffLimitPerIndex", spec.BackoffLimitPerIndex}, {"maxFailedIndexes", spec.MaxFailedIndexes},
	} {
		if number.value != nil {
			errs = append(errs, rule.NonNegative(int64(*number.value), path.Child(number.name))...)
		}
	}
	if n := spec.ActiveDeadlineSeconds; n != nil {
		errs = append(errs, rule.NonNegative(*n, path.Child("activeDeadlineSeconds"))...)
	}
	if name := spec.ManagedBy; name != nil {
		errs = append(errs, validation.IsDomainPrefixedPath(path.Child("managedBy"), *name)...)
		if len(*name) > maxManagedBy {
			errs = append(errs, field.TooLong(path.Child("managedBy"), *name, maxManagedBy))
		}
	}
	errs = append(errs, validateIndexed(spec, path)...)
	errs = append(errs, validateFailurePolicy(spec, path.Child("podFailurePolicy"))...)
	errs = append(errs, validateSuccessPolicy(spec, path.Child("successPolicy"))...)
	if p := spec.PodReplacementPolicy; p != nil {
		if spec.PodFailurePolicy != nil {
			errs = append(errs, rule.OneOf(*p, path.Child("podReplacementPolicy"), batchv1.Failed)...)
		} else {
			errs = append(errs, rule.OneOf(*p, path.Child("podReplacementPolicy"), batchv1.TerminatingOrFailed, batchv1.Failed)...)
		}
	}
	errs = append(errs, pod.ValidatePodTemplateSpec(&spec.Template, path.Child("template"))...)
	return append(errs, validateRestartPolicy(spec, path.Child("template", "spec", "restartPolicy"))...)
}

// validateRestartPolicy: a pod that always starts anew never completes.
func validateRestartPolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	switch p := spec.Template.Spec.RestartPolicy; {
	case p == "" || p == v1.RestartPolicyAlways:
		return field.ErrorList{field.Required(path, `valid values: "OnFailure", "Never"`)}
	case p != v1.RestartPolicyOnFailure && p != v1.RestartPolicyNever:
		return field.ErrorList{field.NotSupported(path, p, []v1.RestartPolicy{v1.RestartPolicyOnFailure, v1.RestartPolicyNever})}
	case spec.PodFailurePolicy != nil && p != v1.RestartPolicyNever:
		return field.ErrorList{field.Invalid(path, p, `only "Never" is supported when podFailurePolicy is specified`)}
	}
	return nil
}

// validateIndexed checks the completion mode, and what only one of the two modes has.
func validateIndexed(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if m := spec.CompletionMode; m != nil {
		errs = append(errs, rule.OneOf(*m, path.Child("completionMode"), batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)...)
	}
	if spec.MaxFailedIndexes != nil && spec.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if ptr.Deref(spec.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.NonIndexedCompletion {
		const message = "requires indexed completion mode"
		if n := spec.BackoffLimitPerIndex; n != nil {
			errs = append(errs, field.Invalid(path.Child("backoffLimitPerIndex"), *n, message))
		}
		if n := spec.MaxFailedIndexes; n != nil {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *n, message))
		}
		return errs
	}
	if !isIndexed(spec) {
		return errs
	}
	if spec.Completions == nil {
		errs = append(errs, field.Required(path.Child("completions"), "when completion mode is Indexed"))
	}
	if n := spec.Parallelism; n != nil && *n > maxParallelism {
		errs = append(errs, field.Invalid(path.Child("parallelism"), *n, fmt.Sprintf("must be less than or equal to %d when completion mode is Indexed", maxParallelism)))
	}
	if n := spec.MaxFailedIndexes; n != nil {
		if spec.Completions != nil && *n > *spec.Completions {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *n, "must be less than or equal to completions"))
		}
		if *n > maxFailedIndexes {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *n, fmt.Sprintf("must be less than or equal to %d", maxFailedIndexes)))
		}
	}
	if ptr.Deref(spec.Completions, 0) > manyCompletions && spec.BackoffLimitPerIndex != nil {
		errs = append(errs, validateManyIndexes(spec, path)...)
	}
	return errs
}

func validateManyIndexes(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	message := func(most int) string {
		return fmt.Sprintf("must be less than or equal to %d when completions are above %d and used with backoff limit per index", most, manyCompletions)
	}
	if n := spec.MaxFailedIndexes; n == nil {
		errs = append(errs, field.Required(path.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", manyCompletions)))
	} else if *n > maxFailedOfMany {
		errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *n, message(maxFailedOfMany)))
	}
	if n := spec.Parallelism; n != nil && *n > maxParallelismOfMany {
		errs = append(errs, field.Invalid(path.Child("parallelism"), *n, message(maxParallelismOfMany)))
	}
	return errs
}

// ValidateUpdate: what pods were made from is fixed while they may run.
func ValidateUpdate(j, old *batchv1.Job) field.ErrorList {
	path := field.NewPath("spec")
	errs := Validate(j)
	// An indexed job may be resized, completions and parallelism together.
	resized := isIndexed(&old.Spec) && j.Spec.Completions != nil && equality.Semantic.DeepEqual(j.Spec.Completions, j.Spec.Parallelism)
	if !resized {
		errs = append(errs, rule.Immutable(j.Spec.Completions, old.Spec.Completions, path.Child("completions"))...)
	}
	errs = append(errs, rule.Immutable(j.Spec.Selector, old.Spec.Selector, path.Child("selector"))...)
	errs = append(errs, rule.Immutable(j.Spec.CompletionMode, old.Spec.CompletionMode, path.Child("completionMode"))...)
	errs = append(errs, rule.Immutable(j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy, path.Child("podFailurePolicy"))...)
	errs = append(errs, rule.Immutable(j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex, path.Child("backoffLimitPerIndex"))...)
	errs = append(errs, rule.Immutable(j.Spec.ManagedBy, old.Spec.ManagedBy, path.Child("managedBy"))...)
	errs = append(errs, rule.Immutable(j.Spec.SuccessPolicy, old.Spec.SuccessPolicy, path.Child("successPolicy"))...)
	template := j.Spec.Template.DeepCopy()
	if ptr.Deref(old.Spec.Suspend, false) && old.Status.StartTime == nil {
		keepScheduling(template, &old.Spec.Template)
	}
	return append(errs, rule.Immutable(*template, old.Spec.Template, path.Child("template"))...)
}

// keepScheduling lets a queue decide, before the first start, where the pods go (KEP-2926).
func keepScheduling(template, old *v1.PodTemplateSpec) {
	template.Labels, template.Annotations = old.Labels, old.Annotations
	template.Spec.NodeSelector = old.Spec.NodeSelector
	template.Spec.Tolerations = old.Spec.Tolerations
	template.Spec.SchedulingGates = old.Spec.SchedulingGates
	// Of affinity, the part about nodes.
	was := old.Spec.Affinity.DeepCopy()
	switch now := template.Spec.Affinity; {
	case now == nil && was != nil:
		was.NodeAffinity = nil
		if *was == (v1.Affinity{}) {
			template.Spec.Affinity = old.Spec.Affinity
		}
	case now != nil && was == nil:
		now.NodeAffinity = nil
		if *now == (v1.Affinity{}) {
			template.Spec.Affinity = nil
		}
	case now != nil:
		now.NodeAffinity = was.NodeAffinity
	}
}

// Warnings are those of the pods, and of indexes whose status may grow too large.
func Warnings(spec *batchv1.JobSpec, path *field.Path) []string {
	var warnings []string
	if isIndexed(spec) && ptr.Deref(spec.Completions, 0) > manyCompletions && ptr.Deref(spec.Parallelism, 0) > maxParallelismOfMany {
		warnings = append(warnings, fmt.Sprintf("%s: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail", path))
	}
	return append(warnings, pod.WarningsForTemplate(&spec.Template, path.Child("template"))...)
}
