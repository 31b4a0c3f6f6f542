// Package job is what is true of a Job: defaults, the selector the apiserver
// makes for it, and validation.
//
// In Kubernetes: SetDefaults_Job, ValidateJob* and generateSelector of
// pkg/registry/batch/job.
package job

import (
	"maps"
	"math"

	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// SetDefaults fills what the writer of a job left out.
func SetDefaults(j *batchv1.Job) {
	spec := &j.Spec
	pod.SetDefaultsPodTemplate(&spec.Template)
	if spec.Completions == nil && spec.Parallelism == nil {
		spec.Completions = ptr.To[int32](1)
	}
	setDefault(&spec.Parallelism, 1)
	if spec.BackoffLimitPerIndex != nil {
		setDefault(&spec.BackoffLimit, math.MaxInt32)
	}
	setDefault(&spec.BackoffLimit, 6)
	setDefault(&spec.CompletionMode, batchv1.NonIndexedCompletion)
	setDefault(&spec.Suspend, false)
	if spec.PodFailurePolicy != nil {
		setDefault(&spec.PodReplacementPolicy, batchv1.Failed)
		for i := range spec.PodFailurePolicy.Rules {
			for j := range spec.PodFailurePolicy.Rules[i].OnPodConditions {
				if p := &spec.PodFailurePolicy.Rules[i].OnPodConditions[j]; p.Status == "" {
					p.Status = v1.ConditionTrue
				}
			}
		}
	}
	setDefault(&spec.PodReplacementPolicy, batchv1.TerminatingOrFailed)
	if len(j.Labels) == 0 && spec.Template.Labels != nil {
		j.Labels = maps.Clone(spec.Template.Labels)
	}
}

func setDefault[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

// GenerateSelector ties the job to its own pods by its uid: a job of the same
// name made later must not adopt the pods of this one.
func GenerateSelector(j *batchv1.Job) {
	if j.Spec.ManualSelector != nil && *j.Spec.ManualSelector {
		return
	}
	if j.Spec.Template.Labels == nil {
		j.Spec.Template.Labels = map[string]string{}
	}
	uid := string(j.UID)
	for key, value := range map[string]string{
		batchv1.ControllerUidLabel: uid, batchv1.JobNameLabel: j.Name,
		// The names these labels had before they got a prefix.
		"controller-uid": uid, "job-name": j.Name,
	} {
		if _, ok := j.Spec.Template.Labels[key]; !ok {
			j.Spec.Template.Labels[key] = value
		}
	}
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, ok := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !ok {
		j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = uid
	}
}

// Validate checks a job whose selector is made.
func Validate(j *batchv1.Job) field.ErrorList {
	path := field.NewPath("spec")
	errs := ValidateSpec(&j.Spec, path)
	if j.Spec.Selector == nil {
		return append(errs, field.Required(path.Child("selector"), ""))
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(j.Spec.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(labels.Set(j.Spec.Template.Labels)) {
		errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), j.Spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

// ValidateSpec checks the spec of a job, or of the job template in a CronJob.
func ValidateSpec(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, n := range map[string]*int32{
		"parallelism": spec.Parallelism, "completions": spec.Completions, "backoffLimit": spec.BackoffLimit,
		"ttlSecondsAfterFinished": spec.TTLSecondsAfterFinished, "backoffLimitPerIndex": spec.BackoffLimitPerIndex, "maxFailedIndexes": spec.MaxFailedIndexes,
	} {
		if n != nil {
			errs = append(errs, rule.NonNegative(int64(*n), path.Child(name))...)
		}
	}
	if n := spec.ActiveDeadlineSeconds; n != nil {
		errs = append(errs, rule.NonNegative(*n, path.Child("activeDeadlineSeconds"))...)
	}
	if m := spec.CompletionMode; m != nil {
		errs = append(errs, rule.Supported(*m, path.Child("completionMode"), batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)...)
		if *m == batchv1.IndexedCompletion && spec.Completions == nil {
			errs = append(errs, field.Required(path.Child("completions"), "when completion mode is Indexed"))
		}
	}
	if p := spec.PodReplacementPolicy; p != nil {
		errs = append(errs, rule.Supported(*p, path.Child("podReplacementPolicy"), batchv1.TerminatingOrFailed, batchv1.Failed)...)
	}
	errs = append(errs, validateFailurePolicy(spec, path.Child("podFailurePolicy"))...)
	errs = append(errs, pod.ValidatePodTemplateSpec(&spec.Template, path.Child("template"))...)
	if p := spec.Template.Spec.RestartPolicy; p != v1.RestartPolicyOnFailure && p != v1.RestartPolicyNever {
		errs = append(errs, field.Required(path.Child("template", "spec", "restartPolicy"), `valid values: "OnFailure", "Never"`))
	}
	return errs
}

func validateFailurePolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if spec.PodFailurePolicy == nil {
		return nil
	}
	var errs field.ErrorList
	if spec.Template.Spec.RestartPolicy != v1.RestartPolicyNever {
		errs = append(errs, field.Invalid(field.NewPath("spec", "template", "spec", "restartPolicy"), spec.Template.Spec.RestartPolicy, `only "Never" is supported when podFailurePolicy is specified`))
	}
	for i, r := range spec.PodFailurePolicy.Rules {
		at := path.Child("rules").Index(i)
		errs = append(errs, rule.Supported(r.Action, at.Child("action"), batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionFailIndex,
			batchv1.PodFailurePolicyActionIgnore, batchv1.PodFailurePolicyActionCount)...)
		if (r.OnExitCodes == nil) == (len(r.OnPodConditions) == 0) {
			errs = append(errs, field.Invalid(at, r.Action, "specifying one of OnExitCodes and OnPodConditions is required"))
		}
	}
	return errs
}

// ValidateUpdate: what pods were made from is fixed while they may run.
func ValidateUpdate(j, old *batchv1.Job) field.ErrorList {
	path := field.NewPath("spec")
	errs := Validate(j)
	indexed := old.Spec.CompletionMode != nil && *old.Spec.CompletionMode == batchv1.IndexedCompletion
	// An indexed job may be resized, completions and parallelism together.
	resized := indexed && j.Spec.Completions != nil && equality.Semantic.DeepEqual(j.Spec.Completions, j.Spec.Parallelism)
	if !resized {
		errs = append(errs, rule.Immutable(j.Spec.Completions, old.Spec.Completions, path.Child("completions"))...)
	}
	errs = append(errs, rule.Immutable(j.Spec.Selector, old.Spec.Selector, path.Child("selector"))...)
	errs = append(errs, rule.Immutable(j.Spec.CompletionMode, old.Spec.CompletionMode, path.Child("completionMode"))...)
	errs = append(errs, rule.Immutable(j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy, path.Child("podFailurePolicy"))...)
	errs = append(errs, rule.Immutable(j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex, path.Child("backoffLimitPerIndex"))...)
	errs = append(errs, rule.Immutable(j.Spec.ManagedBy, old.Spec.ManagedBy, path.Child("managedBy"))...)
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
	template.Spec.Affinity = old.Spec.Affinity
}

// IsFinished reports whether the job has ended, and how.
func IsFinished(j *batchv1.Job) (bool, batchv1.JobConditionType) {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == v1.ConditionTrue {
			return true, c.Type
		}
	}
	return false, ""
}
