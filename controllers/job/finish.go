package job

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
)

// decideFinished returns the interim condition of a Job that has ended, or nil. What
// was decided once stays.
func (c *syncJobCtx) decideFinished() *batchv1.JobCondition {
	for _, kind := range []batchv1.JobConditionType{batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if condition := c.condition(kind); condition != nil && condition.Status == corev1.ConditionTrue {
			return condition
		}
	}
	spec := &c.job.Spec
	fail := func(reason, message string) *batchv1.JobCondition {
		return c.newCondition(batchv1.JobFailureTarget, reason, message)
	}
	if message := c.failJobMessage(); message != "" {
		return fail(batchv1.JobReasonPodFailurePolicy, message)
	}
	if limit := ptr.Deref(spec.BackoffLimit, 6); c.failed > limit || c.pastBackoffLimitOnFailure(limit) {
		return fail(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	}
	if limit := spec.ActiveDeadlineSeconds; limit != nil && !c.suspended() && c.job.Status.StartTime != nil &&
		c.now.Sub(c.job.Status.StartTime.Time) >= time.Duration(*limit)*time.Second {
		return fail(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	}
	if !c.indexed() {
		return nil
	}
	if rule, ok := c.matchSuccessPolicy(); ok {
		return c.newCondition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonSuccessPolicy, fmt.Sprintf("Matched rules at index %d", rule))
	}
	if most := spec.MaxFailedIndexes; most != nil && c.failedIndexes.Len() > int(*most) {
		return fail(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
	}
	if c.failedIndexes.Len() > 0 && c.failedIndexes.Len()+c.succeededIndexes.Len() >= int(ptr.Deref(spec.Completions, 0)) {
		return fail(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
	}
	return nil
}

// pastBackoffLimitOnFailure: where containers are restarted in their pod, each
// restart is a failure.
func (c *syncJobCtx) pastBackoffLimitOnFailure(limit int32) bool {
	if c.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	var restarts int32
	for _, pod := range c.pods {
		if pod.Status.Phase != corev1.PodRunning && pod.Status.Phase != corev1.PodPending {
			continue
		}
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			restarts += s.RestartCount
		}
	}
	if limit == 0 {
		return restarts > 0
	}
	return restarts >= limit
}

// failJobMessage is the message of the first failed pod that the failure policy
// fails the whole Job for.
func (c *syncJobCtx) failJobMessage() string {
	for _, pod := range c.newFailed {
		if match := c.matchFailure(pod); match.action == batchv1.PodFailurePolicyActionFailJob {
			return match.message
		}
	}
	return ""
}

// failureMatch is what the failure policy says of a failed pod.
type failureMatch struct {
	action  batchv1.PodFailurePolicyAction // empty: no rule matches
	counts  bool                           // toward the backoff limit
	message string                         // of FailJob
}

// matchFailure finds the first rule of the failure policy that matches (KEP-3329).
func (c *syncJobCtx) matchFailure(pod *corev1.Pod) failureMatch {
	policy := c.job.Spec.PodFailurePolicy
	if policy == nil {
		return failureMatch{counts: true}
	}
	for i, rule := range policy.Rules {
		what := ""
		if rule.OnExitCodes != nil {
			what = matchOnExitCodes(pod, rule.OnExitCodes)
		} else {
			what = matchOnPodConditions(pod, rule.OnPodConditions)
		}
		if what == "" || rule.Action == batchv1.PodFailurePolicyActionFailIndex && c.job.Spec.BackoffLimitPerIndex == nil {
			continue
		}
		return failureMatch{action: rule.Action, counts: rule.Action != batchv1.PodFailurePolicyActionIgnore,
			message: fmt.Sprintf("%s matching %v rule at index %d", what, rule.Action, i)}
	}
	return failureMatch{counts: true}
}

func matchOnExitCodes(pod *corev1.Pod, rule *batchv1.PodFailurePolicyOnExitCodesRequirement) string {
	for _, s := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
		end := s.State.Terminated
		if end == nil || end.ExitCode == 0 || rule.ContainerName != nil && *rule.ContainerName != s.Name {
			continue
		}
		if in := slices.Contains(rule.Values, end.ExitCode); in == (rule.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
			return fmt.Sprintf("Container %s for pod %s/%s failed with exit code %v", s.Name, pod.Namespace, pod.Name, end.ExitCode)
		}
	}
	return ""
}

func matchOnPodConditions(pod *corev1.Pod, patterns []batchv1.PodFailurePolicyOnPodConditionsPattern) string {
	for _, condition := range pod.Status.Conditions {
		for _, pattern := range patterns {
			if pattern.Type == condition.Type && pattern.Status == condition.Status {
				return fmt.Sprintf("Pod %s/%s has condition %v", pod.Namespace, pod.Name, condition.Type)
			}
		}
	}
	return ""
}

// matchSuccessPolicy returns the first rule that is fulfilled (KEP-3998).
func (c *syncJobCtx) matchSuccessPolicy() (int, bool) {
	if c.job.Spec.SuccessPolicy == nil {
		return 0, false
	}
	for i, rule := range c.job.Spec.SuccessPolicy.Rules {
		succeeded, want := c.succeededIndexes, -1
		if rule.SucceededIndexes != nil {
			among := parseIndexes(ptr.Deref(rule.SucceededIndexes, ""), int(ptr.Deref(c.job.Spec.Completions, 0)))
			succeeded, want = succeeded.Intersection(among), among.Len()
		}
		if rule.SucceededCount != nil {
			want = int(*rule.SucceededCount)
		}
		if want >= 0 && succeeded.Len() >= want {
			return i, true
		}
	}
	return 0, false
}

func (c *syncJobCtx) newCondition(kind batchv1.JobConditionType, reason, message string) *batchv1.JobCondition {
	now := metav1.NewTime(c.now)
	return &batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue, LastProbeTime: now, LastTransitionTime: now, Reason: reason, Message: message}
}

func (c *syncJobCtx) condition(kind batchv1.JobConditionType) *batchv1.JobCondition {
	i := slices.IndexFunc(c.job.Status.Conditions, func(known batchv1.JobCondition) bool { return known.Type == kind })
	if i < 0 {
		return nil
	}
	return &c.job.Status.Conditions[i]
}

// noteSuspension keeps the condition Suspended, and starts the clock anew when the
// Job is resumed.
func (c *syncJobCtx) noteSuspension(recorder record.EventRecorder) {
	known := c.condition(batchv1.JobSuspended)
	switch isSuspended := known != nil && known.Status == corev1.ConditionTrue; {
	case c.suspended() && !isSuspended:
		c.setCondition(*c.newCondition(batchv1.JobSuspended, "JobSuspended", "Job suspended"))
		recorder.Event(c.job, corev1.EventTypeNormal, "Suspended", "Job suspended")
	case !c.suspended() && isSuspended:
		resumed := c.newCondition(batchv1.JobSuspended, "JobResumed", "Job resumed")
		resumed.Status = corev1.ConditionFalse
		c.setCondition(*resumed)
		recorder.Event(c.job, corev1.EventTypeNormal, "Resumed", "Job resumed")
		c.job.Status.StartTime = &metav1.Time{Time: c.now}
	}
}

func (c *syncJobCtx) setCondition(condition batchv1.JobCondition) {
	c.needsUpdate = true
	if known := c.condition(condition.Type); known != nil {
		*known = condition
		return
	}
	c.job.Status.Conditions = append(c.job.Status.Conditions, condition)
}

// enactJobFinished makes the interim condition the final one.
func (c *syncJobCtx) enactJobFinished(recorder record.EventRecorder) {
	end := *c.newCondition(batchv1.JobFailed, c.finished.Reason, c.finished.Message)
	if c.finished.Type == batchv1.JobSuccessCriteriaMet {
		end.Type = batchv1.JobComplete
		c.job.Status.CompletionTime = &metav1.Time{Time: c.now}
		if want := c.job.Spec.Completions; want != nil && c.succeeded > *want {
			recorder.Event(c.job, corev1.EventTypeWarning, "TooManySucceededPods", "Too many succeeded pods running after completion count reached")
		}
		recorder.Event(c.job, corev1.EventTypeNormal, "Completed", "Job completed")
	} else {
		recorder.Event(c.job, corev1.EventTypeWarning, end.Reason, end.Message)
	}
	c.setCondition(end)
}

const (
	defaultJobPodFailureBackOff = 10 * time.Second
	maxJobPodFailureBackOff     = 10 * time.Minute
)

// backoffRecord times the next pod after failures: 10 s, doubled by each failure
// since the last success, at most 10 minutes.
type backoffRecord struct {
	failuresAfterLastSuccess int
	lastFailureTime          time.Time
	seen                     map[string]bool // pods by UID, since they stay until their finalizer is removed
}

func (r *backoffRecord) observe(succeeded, failed []*corev1.Pod, now time.Time) {
	seen := map[string]bool{}
	for _, pod := range succeeded {
		uid := string(pod.UID)
		if seen[uid] = true; !r.seen[uid] {
			r.failuresAfterLastSuccess = 0
		}
	}
	for _, pod := range failed {
		uid := string(pod.UID)
		if seen[uid] = true; r.seen[uid] {
			continue
		}
		r.failuresAfterLastSuccess++
		if at := finishTime(pod, now); at.After(r.lastFailureTime) {
			r.lastFailureTime = at
		}
	}
	r.seen = seen
}

// remaining is how long to wait before the next pod.
func (r *backoffRecord) remaining(now time.Time) time.Duration {
	return remainingBackoff(r.failuresAfterLastSuccess, r.lastFailureTime, now)
}

func remainingBackoff(failures int, last, now time.Time) time.Duration {
	if failures == 0 {
		return 0
	}
	pause := maxJobPodFailureBackOff
	if failures < 8 { // 10 s doubled seven times is more than the most
		pause = min(pause, defaultJobPodFailureBackOff<<(failures-1))
	}
	return max(0, last.Add(pause).Sub(now))
}

// finishTime is when the last container ended; now, when none says.
func finishTime(pod *corev1.Pod, now time.Time) time.Time {
	var last time.Time
	for _, s := range pod.Status.ContainerStatuses {
		if end := s.State.Terminated; end != nil && end.FinishedAt.After(last) {
			last = end.FinishedAt.Time
		}
	}
	if last.IsZero() || last.After(now) {
		return now
	}
	return last
}
