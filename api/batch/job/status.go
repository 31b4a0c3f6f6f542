package job

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

// ValidateStatusUpdate checks what a controller says of a job: whoever counts pods by a status (a queue, a pipeline) must be
// able to rely on it.
func ValidateStatusUpdate(j, old *batchv1.Job) field.ErrorList {
	path := field.NewPath("status")
	errs := validateCounts(j, path)
	errs = append(errs, validateConditions(j, path.Child("conditions"))...)
	errs = append(errs, validateTimes(j, path)...)
	errs = append(errs, validateIndexStatus(j, path)...)
	if isTrue(j, batchv1.JobComplete) || isTrue(j, batchv1.JobFailed) {
		errs = append(errs, validateFinished(j, path)...)
	}
	return append(errs, validateStatusChange(j, old, path)...)
}

func isTrue(j *batchv1.Job, kind batchv1.JobConditionType) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == kind {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

func validateCounts(j *batchv1.Job, path *field.Path) field.ErrorList {
	s := &j.Status
	var errs field.ErrorList
	for _, number := range []struct {
		name  string
		value int32
	}{{"active", s.Active}, {"succeeded", s.Succeeded}, {"failed", s.Failed}, {"ready", ptr.Deref(s.Ready, 0)}, {"terminating", ptr.Deref(s.Terminating, 0)}} {
		errs = append(errs, rule.NonNegative(int64(number.value), path.Child(number.name))...)
	}
	if n := ptr.Deref(s.Ready, 0); n > s.Active {
		errs = append(errs, field.Invalid(path.Child("ready"), n, "cannot set more ready pods than active"))
	}
	if s.UncountedTerminatedPods == nil {
		return errs
	}
	seen := sets.New[types.UID]()
	for _, list := range []struct {
		name string
		uids []types.UID
	}{{"succeeded", s.UncountedTerminatedPods.Succeeded}, {"failed", s.UncountedTerminatedPods.Failed}} {
		for i, uid := range list.uids {
			at := path.Child("uncountedTerminatedPods", list.name).Index(i)
			if uid == "" {
				errs = append(errs, field.Invalid(at, uid, "must not be empty"))
			} else if seen.Has(uid) {
				errs = append(errs, field.Duplicate(at, uid))
			}
			seen.Insert(uid)
		}
	}
	return errs
}

// validateConditions: a job ends one way, and says first that it is about to.
func validateConditions(j *batchv1.Job, path *field.Path) field.ErrorList {
	complete, failed := isTrue(j, batchv1.JobComplete), isTrue(j, batchv1.JobFailed)
	met, target := isTrue(j, batchv1.JobSuccessCriteriaMet), isTrue(j, batchv1.JobFailureTarget)
	var errs field.ErrorList
	for _, r := range []struct {
		broken bool
		text   string
	}{
		{complete && failed, "cannot set Complete=True and Failed=true conditions"},
		{complete && target, "cannot set Complete=True and FailureTarget=true conditions"},
		{failed && !target, "cannot set Failed=True condition without the FailureTarget=true condition"},
		{complete && !met, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"},
		{met && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions"},
		{met && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"},
		{j.Spec.SuccessPolicy != nil && complete && !met, "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"},
	} {
		if r.broken {
			errs = append(errs, field.Invalid(path, field.OmitValueType{}, r.text))
		}
	}
	return errs
}

func validateTimes(j *batchv1.Job, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	start, end := j.Status.StartTime, j.Status.CompletionTime
	complete := isTrue(j, batchv1.JobComplete)
	if end != nil && !complete {
		errs = append(errs, field.Invalid(path.Child("completionTime"), end, "cannot set completionTime when there is no Complete=True condition"))
	}
	if end == nil && complete {
		errs = append(errs, field.Required(path.Child("completionTime"), "completionTime is required for Complete jobs"))
	}
	if start != nil && end != nil && end.Before(start) {
		errs = append(errs, field.Invalid(path.Child("completionTime"), end, "completionTime cannot be set before startTime"))
	}
	return errs
}

// validateFinished: of a job that has ended nothing is left to be done.
func validateFinished(j *batchv1.Job, path *field.Path) field.ErrorList {
	s := &j.Status
	var errs field.ErrorList
	if s.Active > 0 {
		errs = append(errs, field.Invalid(path.Child("active"), s.Active, "active>0 is invalid for finished job"))
	}
	if n := ptr.Deref(s.Terminating, 0); n > 0 {
		errs = append(errs, field.Invalid(path.Child("terminating"), n, "terminating>0 is invalid for finished job"))
	}
	if s.StartTime == nil {
		errs = append(errs, field.Required(path.Child("startTime"), "startTime is required for finished job"))
	}
	if u := s.UncountedTerminatedPods; u != nil && len(u.Succeeded)+len(u.Failed) > 0 {
		errs = append(errs, field.Invalid(path.Child("uncountedTerminatedPods"), u, "uncountedTerminatedPods needs to be empty for finished job"))
	}
	return errs
}

func validateIndexStatus(j *batchv1.Job, path *field.Path) field.ErrorList {
	s := &j.Status
	var errs field.ErrorList
	if s.CompletedIndexes != "" && !isIndexed(&j.Spec) {
		errs = append(errs, field.Invalid(path.Child("completedIndexes"), s.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode"))
	}
	if s.FailedIndexes != nil && j.Spec.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Invalid(path.Child("failedIndexes"), *s.FailedIndexes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null"))
	}
	if j.Spec.Completions == nil {
		return errs
	}
	if _, err := countIndexes(s.CompletedIndexes, *j.Spec.Completions); err != nil {
		errs = append(errs, field.Invalid(path.Child("completedIndexes"), s.CompletedIndexes, fmt.Sprintf("error parsing completedIndexes: %s", err)))
	}
	if s.FailedIndexes != nil {
		if _, err := countIndexes(*s.FailedIndexes, *j.Spec.Completions); err != nil {
			errs = append(errs, field.Invalid(path.Child("failedIndexes"), *s.FailedIndexes, fmt.Sprintf("error parsing failedIndexes: %s", err)))
		}
	}
	return errs
}

// validateStatusChange: what has been counted or decided stays so.
func validateStatusChange(j, old *batchv1.Job, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, kind := range []batchv1.JobConditionType{batchv1.JobFailed, batchv1.JobComplete, batchv1.JobFailureTarget} {
		if isTrue(old, kind) && !isTrue(j, kind) {
			errs = append(errs, field.Invalid(path.Child("conditions"), field.OmitValueType{}, fmt.Sprintf("cannot disable the terminal %s=True condition", kind)))
		}
	}
	if isTrue(old, batchv1.JobSuccessCriteriaMet) && !isTrue(j, batchv1.JobSuccessCriteriaMet) {
		errs = append(errs, field.Invalid(path.Child("conditions"), field.OmitValueType{}, "cannot disable the SuccessCriteriaMet=True condition"))
	}
	if j.Status.Failed < old.Status.Failed {
		errs = append(errs, field.Invalid(path.Child("failed"), j.Status.Failed, "cannot decrease the failed counter"))
	}
	// An indexed job that became smaller forgets the indexes it no longer has.
	if j.Status.Succeeded < old.Status.Succeeded && !isIndexed(&j.Spec) {
		errs = append(errs, field.Invalid(path.Child("succeeded"), j.Status.Succeeded, "cannot decrease the succeeded counter"))
	}
	if end, was := j.Status.CompletionTime, old.Status.CompletionTime; end != nil && was != nil && !end.Equal(was) {
		errs = append(errs, field.Invalid(path.Child("completionTime"), end, "completionTime cannot be mutated"))
	}
	if old.Status.StartTime != nil && j.Status.StartTime == nil && !ptr.Deref(j.Spec.Suspend, false) {
		errs = append(errs, field.Required(path.Child("startTime"), "startTime cannot be removed for unsuspended job"))
	}
	return errs
}
