package job

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

// ValidateStatusUpdate checks what a controller says of a job: whoever counts pods by a status (a queue, a pipeline) must be
// able to rely on it. What the writer leaves as it was is let through: it may have been right under the spec of before.
func ValidateStatusUpdate(j, old *batchv1.Job) field.ErrorList {
	path := field.NewPath("status")
	was, now := statusOf(old), statusOf(j)
	s := &statusChange{j: j, old: old, was: was, now: now, path: path}
	errs := s.validateCounts()
	errs = append(errs, s.validateConditions()...)
	errs = append(errs, s.validateTimes()...)
	errs = append(errs, s.validateFinished()...)
	errs = append(errs, s.validateIndexes()...)
	return append(errs, s.validateKept()...)
}

// terminal are the conditions that a job's end is told by.
type terminal struct{ complete, failed, met, target bool }

func statusOf(j *batchv1.Job) terminal {
	return terminal{isTrue(j, batchv1.JobComplete), isTrue(j, batchv1.JobFailed), isTrue(j, batchv1.JobSuccessCriteriaMet), isTrue(j, batchv1.JobFailureTarget)}
}

func (t terminal) finished() bool { return t.complete || t.failed }

// statusChange is one write of a job's status.
type statusChange struct {
	j, old   *batchv1.Job
	was, now terminal
	path     *field.Path
}

func (s *statusChange) completionTimeChanged() bool {
	return !ptr.Equal(s.j.Status.CompletionTime, s.old.Status.CompletionTime)
}

func (s *statusChange) startTimeChanged() bool {
	return !ptr.Equal(s.j.Status.StartTime, s.old.Status.StartTime)
}

func isTrue(j *batchv1.Job, kind batchv1.JobConditionType) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == kind {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

func isFalse(j *batchv1.Job, kind batchv1.JobConditionType) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == kind {
			return c.Status == v1.ConditionFalse
		}
	}
	return false
}

func (c *statusChange) validateCounts() field.ErrorList {
	s, path := &c.j.Status, c.path
	var errs field.ErrorList
	for _, number := range []struct {
		name  string
		value int32
	}{{"active", s.Active}, {"succeeded", s.Succeeded}, {"failed", s.Failed}, {"ready", ptr.Deref(s.Ready, 0)}, {"terminating", ptr.Deref(s.Terminating, 0)}} {
		errs = append(errs, rule.NonNegative(int64(number.value), path.Child(number.name))...)
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
func (c *statusChange) validateConditions() field.ErrorList {
	was, now := c.was, c.now
	completeChanged, failedChanged := was.complete != now.complete, was.failed != now.failed
	return c.refuse([]refusal{
		{(completeChanged || failedChanged) && now.complete && now.failed, "cannot set Complete=True and Failed=true conditions"},
		{(completeChanged || was.target != now.target) && now.complete && now.target, "cannot set Complete=True and FailureTarget=true conditions"},
	})
}

type refusal struct {
	broken bool
	text   string
}

func (c *statusChange) refuse(list []refusal) field.ErrorList {
	var errs field.ErrorList
	for _, r := range list {
		if r.broken {
			errs = append(errs, field.Invalid(c.path.Child("conditions"), field.OmitValueType{}, r.text))
		}
	}
	return errs
}

func (c *statusChange) validateTimes() field.ErrorList {
	var errs field.ErrorList
	start, end := c.j.Status.StartTime, c.j.Status.CompletionTime
	path := c.path.Child("completionTime")
	if c.was.complete != c.now.complete || c.completionTimeChanged() {
		if end != nil && !c.now.complete {
			errs = append(errs, field.Invalid(path, end, "cannot set completionTime when there is no Complete=True condition"))
		}
		if end == nil && c.now.complete {
			errs = append(errs, field.Required(path, "completionTime is required for Complete jobs"))
		}
	}
	if (c.startTimeChanged() || c.completionTimeChanged()) && start != nil && end != nil && end.Before(start) {
		errs = append(errs, field.Invalid(path, end, "must be equal to or after `startTime`"))
	}
	return errs
}

// validateFinished: of a job that has ended nothing is left to be done.
func (c *statusChange) validateFinished() field.ErrorList {
	s, path := &c.j.Status, c.path
	errs := c.refuse([]refusal{
		{(c.was.failed != c.now.failed || c.failedIndexesChanged()) && c.now.failed && !c.now.target, "cannot set Failed=True condition without the FailureTarget=true condition"},
		{(c.was.complete != c.now.complete || c.was.met != c.now.met) && c.now.complete && !c.now.met, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"},
	})
	if !c.now.finished() {
		return errs
	}
	changed := !c.was.finished()
	if (changed || s.Active != c.old.Status.Active) && s.Active > 0 {
		errs = append(errs, field.Invalid(path.Child("active"), s.Active, "active>0 is invalid for finished job"))
	}
	neverRan := ptr.Deref(c.j.Spec.Suspend, false) && c.j.Spec.Completions != nil && *c.j.Spec.Completions == 0
	if (changed || c.startTimeChanged()) && !neverRan && s.StartTime == nil {
		errs = append(errs, field.Required(path.Child("startTime"), "startTime is required for finished job"))
	}
	uncounted := s.UncountedTerminatedPods
	if (changed || !equality.Semantic.DeepEqual(uncounted, c.old.Status.UncountedTerminatedPods)) && uncounted != nil && len(uncounted.Succeeded)+len(uncounted.Failed) > 0 {
		errs = append(errs, field.Invalid(path.Child("uncountedTerminatedPods"), rule.Untagged(uncounted), "must be empty for finished job"))
	}
	return errs
}

func (c *statusChange) failedIndexesChanged() bool {
	return !ptr.Equal(c.j.Status.FailedIndexes, c.old.Status.FailedIndexes)
}

func (c *statusChange) validateIndexes() field.ErrorList {
	s, spec := &c.j.Status, &c.j.Spec
	completed, failed := c.path.Child("completedIndexes"), c.path.Child("failedIndexes")
	completedChanged, failedChanged := s.CompletedIndexes != c.old.Status.CompletedIndexes, c.failedIndexesChanged()
	var errs field.ErrorList
	if completedChanged && spec.Completions != nil {
		if _, err := countIndexes(s.CompletedIndexes, *spec.Completions); err != nil {
			errs = append(errs, field.Invalid(completed, s.CompletedIndexes, fmt.Sprintf("error parsing completedIndexes: %s", err)))
		}
	}
	if failedChanged && spec.Completions != nil && spec.BackoffLimitPerIndex != nil && s.FailedIndexes != nil {
		if _, err := countIndexes(*s.FailedIndexes, *spec.Completions); err != nil {
			errs = append(errs, field.Invalid(failed, *s.FailedIndexes, fmt.Sprintf("error parsing failedIndexes: %s", err)))
		}
	}
	if completedChanged && s.CompletedIndexes != "" && !isIndexed(spec) {
		errs = append(errs, field.Invalid(completed, s.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode"))
	}
	if failedChanged && s.FailedIndexes != nil && spec.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Invalid(failed, *s.FailedIndexes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null"))
	}
	if (completedChanged || failedChanged) && spec.Completions != nil && s.FailedIndexes != nil {
		if index, both := overlap(s.CompletedIndexes, *s.FailedIndexes, *spec.Completions); both {
			errs = append(errs, field.Invalid(failed, *s.FailedIndexes, fmt.Sprintf("failedIndexes and completedIndexes overlap at index: %d", index)))
		}
	}
	return errs
}

// validateKept: what has been counted or decided stays so.
func (c *statusChange) validateKept() field.ErrorList {
	s, old, path := &c.j.Status, &c.old.Status, c.path
	var errs field.ErrorList
	if n := ptr.Deref(s.Terminating, 0); n > 0 && c.now.finished() && (!c.was.finished() || !ptr.Equal(s.Terminating, old.Terminating)) {
		errs = append(errs, field.Invalid(path.Child("terminating"), n, "terminating>0 is invalid for finished job"))
	}
	if n := ptr.Deref(s.Ready, 0); s.Ready != nil && n > s.Active && (!ptr.Equal(s.Ready, old.Ready) || s.Active != old.Active) {
		errs = append(errs, field.Invalid(path.Child("ready"), n, "cannot set more ready pods than active"))
	}
	was, now := c.was, c.now
	errs = append(errs, c.refuse([]refusal{
		{now.met && now.failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions"},
		{now.met && now.target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"},
		{c.j.Spec.SuccessPolicy != nil && now.complete && !now.met, "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"},
		{was.failed && !now.failed, "cannot disable the terminal Failed=True condition"},
		{was.complete && !now.complete, "cannot disable the terminal Complete=True condition"},
		{was.target && !now.target, "cannot disable the terminal FailureTarget=True condition"},
	})...)
	if s.Failed < old.Failed {
		errs = append(errs, field.Invalid(path.Child("failed"), s.Failed, "cannot decrease the failed counter"))
	}
	// An indexed job that became smaller forgets the indexes it no longer has.
	if resizable := isIndexed(&c.j.Spec) && ptr.Equal(c.j.Spec.Completions, c.j.Spec.Parallelism); !resizable && s.Succeeded < old.Succeeded {
		errs = append(errs, field.Invalid(path.Child("succeeded"), s.Succeeded, "cannot decrease the succeeded counter"))
	}
	if s.CompletionTime != nil && old.CompletionTime != nil && c.completionTimeChanged() {
		errs = append(errs, field.Invalid(path.Child("completionTime"), s.CompletionTime, "field is immutable"))
	}
	resuming := isTrue(c.old, batchv1.JobSuspended) && isFalse(c.j, batchv1.JobSuspended)
	if old.StartTime != nil && c.startTimeChanged() && !resuming && !ptr.Deref(c.j.Spec.Suspend, false) {
		errs = append(errs, field.Invalid(path.Child("startTime"), s.StartTime, "field is immutable for unsuspended job once set"))
	}
	return append(errs, c.refuse([]refusal{
		{was.met && !now.met, "cannot disable the SuccessCriteriaMet=True condition"},
		{was.complete && !was.met && now.met, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"},
	})...)
}
