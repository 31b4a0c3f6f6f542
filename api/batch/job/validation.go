package job

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
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
	errs := validateGeneratedSelector(j)
	errs = append(errs, ValidateSpec(&j.Spec, path)...)
	errs = append(errs, validateSelector(&j.Spec, path)...)
	return append(errs, validateLastName(j)...)
}

func validateLastName(j *batchv1.Job) field.ErrorList {
	if n := ptr.Deref(j.Spec.Completions, 0); isIndexed(&j.Spec) && n > 0 {
		// The pod of the last index has the longest name, which is its host name as well.
		if last := fmt.Sprintf("%s-%d", j.Name, n-1); len(validation.IsDNS1123Label(last)) > 0 {
			return field.ErrorList{field.Invalid(field.NewPath("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+last)}
		}
	}
	return nil
}

func validateSelector(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.Selector == nil {
		errs = append(errs, field.Required(path.Child("selector"), ""))
	} else {
		errs = append(errs, metav1validation.ValidateLabelSelector(spec.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	}
	if selector, err := metav1.LabelSelectorAsSelector(spec.Selector); err == nil && !selector.Matches(labels.Set(spec.Template.Labels)) {
		errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

// validateGeneratedSelector: who does not say manualSelector cannot have given a selector or labels of another job.
func validateGeneratedSelector(j *batchv1.Job) field.ErrorList {
	if ptr.Deref(j.Spec.ManualSelector, false) || j.Spec.Selector == nil {
		return nil
	}
	var errs field.ErrorList
	if j.UID == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "uid"), ""))
	}
	uid := string(j.UID)
	made := labels.Set{"controller-uid": uid, "job-name": j.Name, batchv1.ControllerUidLabel: uid, batchv1.JobNameLabel: j.Name}
	at := field.NewPath("spec", "template", "metadata", "labels")
	for _, key := range []string{"controller-uid", "job-name", batchv1.ControllerUidLabel, batchv1.JobNameLabel} {
		message := fmt.Sprintf("must be '%s'", made[key])
		if got, ok := j.Spec.Template.Labels[key]; !ok {
			errs = append(errs, field.Required(at.Key(key), message))
		} else if got != made[key] {
			errs = append(errs, field.Invalid(at.Key(key), j.Spec.Template.Labels, message))
		}
	}
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(made) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func isIndexed(spec *batchv1.JobSpec) bool {
	return ptr.Deref(spec.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion
}

// ValidateSpec checks the spec of a job, or of the job template in a CronJob; the selector aside.
func ValidateSpec(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	errs := validateNumbers(spec, path)
	if name := spec.ManagedBy; name != nil {
		errs = append(errs, validation.IsDomainPrefixedPath(path.Child("managedBy"), *name)...)
		if len(*name) > maxManagedBy {
			errs = append(errs, field.TooLong(path.Child("managedBy"), "", maxManagedBy))
		}
	}
	errs = append(errs, validateCompletionMode(spec, path)...)
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

func validateNumbers(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, number := range []struct {
		name  string
		value *int32
	}{
		{"parallelism", spec.Parallelism}, {"completions", spec.Completions}, {"activeDeadlineSeconds", nil}, {"backoffLimit", spec.BackoffLimit},
		{"ttlSecondsAfterFinished", spec.TTLSecondsAfterFinished}, {"backoffLimitPerIndex", spec.BackoffLimitPerIndex}, {"maxFailedIndexes", spec.MaxFailedIndexes},
	} {
		switch {
		case number.value != nil:
			errs = append(errs, rule.NonNegative(int64(*number.value), path.Child(number.name))...)
		case number.name == "activeDeadlineSeconds" && spec.ActiveDeadlineSeconds != nil: // the one of 64 bits
			errs = append(errs, rule.NonNegative(*spec.ActiveDeadlineSeconds, path.Child(number.name))...)
		}
	}
	if spec.MaxFailedIndexes != nil && spec.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	return errs
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

// validateCompletionMode checks the mode, and what only one of the two has.
func validateCompletionMode(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	mode := ptr.Deref(spec.CompletionMode, batchv1.NonIndexedCompletion)
	switch mode {
	case batchv1.IndexedCompletion:
		return validateIndexed(spec, path)
	case batchv1.NonIndexedCompletion:
	default:
		return field.ErrorList{field.NotSupported(path.Child("completionMode"), mode, []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion})}
	}
	const message = "requires indexed completion mode"
	var errs field.ErrorList
	if n := spec.BackoffLimitPerIndex; n != nil {
		errs = append(errs, field.Invalid(path.Child("backoffLimitPerIndex"), *n, message))
	}
	if n := spec.MaxFailedIndexes; n != nil {
		errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *n, message))
	}
	return errs
}

func validateIndexed(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
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
	if spec.MaxFailedIndexes == nil {
		errs = append(errs, field.Required(path.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", manyCompletions)))
	}
	if n := spec.Parallelism; n != nil && *n > maxParallelismOfMany {
		errs = append(errs, field.Invalid(path.Child("parallelism"), *n, message(maxParallelismOfMany)))
	}
	if n := spec.MaxFailedIndexes; n != nil && *n > maxFailedOfMany {
		errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *n, message(maxFailedOfMany)))
	}
	return errs
}

// ValidateUpdate: what pods were made from is fixed while they may run.
func ValidateUpdate(j, old *batchv1.Job) field.ErrorList {
	path := field.NewPath("spec")
	errs := ValidateSpec(&j.Spec, path)
	errs = append(errs, validateSelector(&j.Spec, path)...)
	errs = append(errs, validateCompletionsUpdate(&j.Spec, &old.Spec, path.Child("completions"))...)
	errs = append(errs, rule.Immutable(j.Spec.Selector, old.Spec.Selector, path.Child("selector"))...)
	errs = append(errs, validateTemplateUpdate(j, old, path)...)
	errs = append(errs, rule.Immutable(j.Spec.CompletionMode, old.Spec.CompletionMode, path.Child("completionMode"))...)
	errs = append(errs, rule.Immutable(j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy, path.Child("podFailurePolicy"))...)
	errs = append(errs, rule.Immutable(j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex, path.Child("backoffLimitPerIndex"))...)
	errs = append(errs, rule.Immutable(j.Spec.ManagedBy, old.Spec.ManagedBy, path.Child("managedBy"))...)
	errs = append(errs, rule.Immutable(j.Spec.SuccessPolicy, old.Spec.SuccessPolicy, path.Child("successPolicy"))...)
	return append(errs, validateLastName(j)...)
}

// validateCompletionsUpdate: an indexed job may be resized, completions and parallelism together.
func validateCompletionsUpdate(spec, old *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if !isIndexed(spec) {
		return rule.Immutable(spec.Completions, old.Completions, path)
	}
	if spec.Completions == nil || ptr.Equal(spec.Completions, old.Completions) || *spec.Completions == ptr.Deref(spec.Parallelism, 1) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, *spec.Completions, "can only be modified in tandem with spec.parallelism")}
}

// validateTemplateUpdate: while a suspended job has no pods, a queue may still decide where they go and what they get.
func validateTemplateUpdate(j, old *batchv1.Job, path *field.Path) field.ErrorList {
	suspended := ptr.Deref(old.Spec.Suspend, false)
	if !suspended || (old.Status.StartTime != nil && !isTrue(old, batchv1.JobSuspended)) || old.Status.Active > 0 {
		return rule.Immutable(j.Spec.Template, old.Spec.Template, path.Child("template"))
	}
	before := old.Spec.Template.DeepCopy()
	takeScheduling(before, &j.Spec.Template)
	takeResources(before.Spec.Containers, j.Spec.Template.Spec.Containers)
	takeResources(before.Spec.InitContainers, j.Spec.Template.Spec.InitContainers)
	return rule.Immutable(j.Spec.Template.Spec, before.Spec, path.Child("template.spec"))
}

// takeResources gives containers the resources of those of the same place and name.
func takeResources(into, from []v1.Container) {
	if len(into) != len(from) {
		return
	}
	for i := range into {
		if into[i].Name == from[i].Name {
			into[i].Resources = from[i].Resources
		}
	}
}

// takeScheduling gives before what says where pods go (KEP-2926).
func takeScheduling(before, now *v1.PodTemplateSpec) {
	before.Labels, before.Annotations = now.Labels, now.Annotations
	before.Spec.NodeSelector = now.Spec.NodeSelector
	before.Spec.Tolerations = now.Spec.Tolerations
	before.Spec.SchedulingGates = now.Spec.SchedulingGates
	// Of affinity, the part about nodes.
	switch was, is := before.Spec.Affinity, now.Spec.Affinity; {
	case was != nil && is == nil:
		was.NodeAffinity = nil
		if *was == (v1.Affinity{}) {
			before.Spec.Affinity = nil
		}
	case was != nil:
		was.NodeAffinity = is.NodeAffinity
	case is != nil:
		before.Spec.Affinity = &v1.Affinity{NodeAffinity: is.NodeAffinity}
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
