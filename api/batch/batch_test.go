// Package batch_test checks jobs, cron jobs and what a schedule means.
package batch_test

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"hyperkube/api/batch/cronjob"
	"hyperkube/api/batch/job"
	"hyperkube/api/rule/ruletest"
)

func template() v1.PodTemplateSpec {
	return v1.PodTemplateSpec{Spec: v1.PodSpec{RestartPolicy: v1.RestartPolicyNever, Containers: []v1.Container{{Name: "a", Image: "a"}}}}
}

func TestJob(t *testing.T) {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "j", UID: "u"}, Spec: batchv1.JobSpec{Template: template()}}
	job.SetDefaults(j)
	job.GenerateSelector(j)
	s := j.Spec
	if *s.Completions != 1 || *s.Parallelism != 1 || *s.BackoffLimit != 6 || *s.CompletionMode != batchv1.NonIndexedCompletion || *s.Suspend || *s.PodReplacementPolicy != batchv1.TerminatingOrFailed {
		t.Errorf("defaults: %+v", s)
	}
	if s.Selector.MatchLabels["batch.kubernetes.io/controller-uid"] != "u" || s.Template.Labels["job-name"] != "j" {
		t.Errorf("the selector is %v, the labels %v", s.Selector, s.Template.Labels)
	}
	ruletest.Expect(t, job.Validate(j))
	old := j.DeepCopy()
	j.Spec.Parallelism = ptr.To[int32](3)
	ruletest.Expect(t, job.ValidateUpdate(j, old))
	j.Spec.Completions = ptr.To[int32](3)
	ruletest.Expect(t, job.ValidateUpdate(j, old), "spec.completions: Invalid value … field is immutable")
	j = old.DeepCopy()
	j.Spec.Template.Spec.NodeSelector = map[string]string{"a": "b"}
	ruletest.Expect(t, job.ValidateUpdate(j, old), "spec.template: Invalid value … field is immutable")
	old.Spec.Suspend, j.Spec.Suspend = ptr.To(true), ptr.To(true)
	ruletest.Expect(t, job.ValidateUpdate(j, old))
	j.Spec.Template.Spec.RestartPolicy = v1.RestartPolicyAlways
	ruletest.Expect(t, job.Validate(j), `spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"`)
	j.Spec.Template.Spec.RestartPolicy = v1.RestartPolicyNever
	j.Spec.CompletionMode, j.Spec.Completions = ptr.To(batchv1.IndexedCompletion), nil
	ruletest.Expect(t, job.Validate(j), "spec.completions: Required value: when completion mode is Indexed")
}

// What a queue or a pipeline reads off a job must hold: the rules of spec and status in one table each.
func TestJobRules(t *testing.T) {
	indexed := func(s *batchv1.JobSpec) {
		s.CompletionMode, s.Completions = ptr.To(batchv1.IndexedCompletion), ptr.To[int32](5)
	}
	rules := func(r batchv1.PodFailurePolicyRule) func(s *batchv1.JobSpec) {
		return func(s *batchv1.JobSpec) {
			s.PodFailurePolicy, s.PodReplacementPolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{r}}, ptr.To(batchv1.Failed)
		}
	}
	success := func(r batchv1.SuccessPolicyRule) func(s *batchv1.JobSpec) {
		return func(s *batchv1.JobSpec) {
			indexed(s)
			s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{r}}
		}
	}
	codes := func(values ...int32) *batchv1.PodFailurePolicyOnExitCodesRequirement {
		return &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: values}
	}
	for name, test := range map[string]struct {
		change func(s *batchv1.JobSpec)
		want   []string
	}{
		"indexed":         {indexed, nil},
		"limit per index": {func(s *batchv1.JobSpec) { s.BackoffLimitPerIndex = ptr.To[int32](1) }, []string{"spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"}},
		"managed by":      {func(s *batchv1.JobSpec) { s.ManagedBy = ptr.To("me") }, []string{"spec.managedBy: Invalid value"}},
		"failed indexes":  {func(s *batchv1.JobSpec) { indexed(s); s.MaxFailedIndexes = ptr.To[int32](6) }, []string{"spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified", "spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions"}},
		"no matcher":      {rules(batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionCount}), []string{"spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"}},
		"action":          {rules(batchv1.PodFailurePolicyRule{OnExitCodes: codes(1)}), []string{`spec.podFailurePolicy.rules[0].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]`}},
		"codes":           {rules(batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionCount, OnExitCodes: codes(3, 0, 3)}), []string{"spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator", "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 3", "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value … must be ordered"}},
		"fail index":      {rules(batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionFailIndex, OnExitCodes: codes(1)}), []string{`spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set`}},
		"success":         {success(batchv1.SuccessPolicyRule{SucceededIndexes: ptr.To("0,2-4"), SucceededCount: ptr.To[int32](4)}), nil},
		"too many":        {success(batchv1.SuccessPolicyRule{SucceededIndexes: ptr.To("0,2"), SucceededCount: ptr.To[int32](3)}), []string{"spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)"}},
		"beyond":          {success(batchv1.SuccessPolicyRule{SucceededIndexes: ptr.To("3-5")}), []string{`spec.successPolicy.rules[0].succeededIndexes: Invalid value: "3-5": error parsing succeededIndexes: too large index: "5"`}},
		"falling":         {success(batchv1.SuccessPolicyRule{SucceededIndexes: ptr.To("3,1")}), []string{"spec.successPolicy.rules[0].succeededIndexes: Invalid value … non-increasing order, previous: 3, current: 1"}},
		"restart":         {func(s *batchv1.JobSpec) { s.Template.Spec.RestartPolicy = "x" }, []string{"spec.template.spec.restartPolicy: Unsupported value", "spec.template.spec.restartPolicy: Unsupported value"}},
		"policy, OnFailure": {func(s *batchv1.JobSpec) {
			rules(batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionCount, OnExitCodes: codes(1)})(s)
			s.Template.Spec.RestartPolicy = v1.RestartPolicyOnFailure
		}, []string{`spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified`}},
	} {
		t.Run(name, func(t *testing.T) {
			j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "j", UID: "u"}, Spec: batchv1.JobSpec{Template: template()}}
			test.change(&j.Spec)
			job.SetDefaults(j)
			job.GenerateSelector(j)
			ruletest.Expect(t, job.Validate(j), test.want...)
		})
	}
	stolen := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "j", UID: "u"}, Spec: batchv1.JobSpec{Template: template(), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{batchv1.ControllerUidLabel: "other"}}}}
	job.SetDefaults(stolen)
	job.GenerateSelector(stolen)
	ruletest.Expect(t, job.Validate(stolen), "spec.selector: Invalid value … `selector` not auto-generated", "spec.template.metadata.labels: Invalid value … `selector` does not match template `labels`")
}

func TestJobStatus(t *testing.T) {
	start, end, later := metav1.Unix(10, 0), metav1.Unix(20, 0), metav1.Unix(30, 0)
	is := func(kinds ...batchv1.JobConditionType) (list []batchv1.JobCondition) {
		for _, kind := range kinds {
			list = append(list, batchv1.JobCondition{Type: kind, Status: v1.ConditionTrue})
		}
		return list
	}
	done := batchv1.JobStatus{StartTime: &start, CompletionTime: &end, Succeeded: 1, Conditions: is(batchv1.JobSuccessCriteriaMet, batchv1.JobComplete)}
	for name, test := range map[string]struct {
		old, now batchv1.JobStatus
		want     []string
	}{
		"done":         {batchv1.JobStatus{}, done, nil},
		"at once":      {batchv1.JobStatus{}, batchv1.JobStatus{StartTime: &start, CompletionTime: &end, Conditions: is(batchv1.JobComplete)}, []string{"status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition"}},
		"no end":       {batchv1.JobStatus{}, batchv1.JobStatus{StartTime: &start, Conditions: done.Conditions}, []string{"status.completionTime: Required value: completionTime is required for Complete jobs"}},
		"undone":       {done, batchv1.JobStatus{StartTime: &start, Succeeded: 1, Conditions: is(batchv1.JobSuccessCriteriaMet)}, []string{"status.conditions: Invalid value: cannot disable the terminal Complete=True condition"}},
		"both":         {batchv1.JobStatus{}, batchv1.JobStatus{StartTime: &start, Conditions: is(batchv1.JobFailureTarget, batchv1.JobFailed, batchv1.JobSuccessCriteriaMet)}, []string{"status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and Failed=true conditions", "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"}},
		"still active": {batchv1.JobStatus{}, batchv1.JobStatus{StartTime: &start, Active: 1, Conditions: is(batchv1.JobFailureTarget, batchv1.JobFailed)}, []string{"status.active: Invalid value: 1: active>0 is invalid for finished job"}},
		"fewer":        {batchv1.JobStatus{Failed: 2, Succeeded: 2}, batchv1.JobStatus{Failed: 1, Succeeded: 1}, []string{"status.failed: Invalid value: 1: cannot decrease the failed counter", "status.succeeded: Invalid value: 1: cannot decrease the succeeded counter"}},
		"more ready":   {batchv1.JobStatus{}, batchv1.JobStatus{Ready: ptr.To[int32](1)}, []string{"status.ready: Invalid value: 1: cannot set more ready pods than active"}},
		"uncounted":    {batchv1.JobStatus{}, batchv1.JobStatus{UncountedTerminatedPods: &batchv1.UncountedTerminatedPods{Succeeded: []types.UID{"a"}, Failed: []types.UID{"a"}}}, []string{`status.uncountedTerminatedPods.failed[0]: Duplicate value: "a"`}},
		"both ends": {batchv1.JobStatus{}, batchv1.JobStatus{StartTime: &start, CompletionTime: &end, Conditions: is(batchv1.JobSuccessCriteriaMet, batchv1.JobComplete, batchv1.JobFailureTarget, batchv1.JobFailed)}, []string{
			"status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions", "status.conditions: Invalid value: cannot set Complete=True and FailureTarget=true conditions",
			"status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and Failed=true conditions", "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"}},
		"failed at once": {batchv1.JobStatus{}, batchv1.JobStatus{StartTime: &start, Conditions: is(batchv1.JobFailed)}, []string{"status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition"}},
		"early end":      {batchv1.JobStatus{StartTime: &start}, batchv1.JobStatus{StartTime: &start, CompletionTime: &end}, []string{"status.completionTime: Invalid value … cannot set completionTime when there is no Complete=True condition"}},
		"backwards":      {batchv1.JobStatus{}, batchv1.JobStatus{StartTime: &end, CompletionTime: &start, Conditions: done.Conditions}, []string{"status.completionTime: Invalid value … must be equal to or after `startTime`"}},
		"other end":      {done, batchv1.JobStatus{StartTime: &start, CompletionTime: &later, Succeeded: 1, Conditions: done.Conditions}, []string{"status.completionTime: Invalid value … field is immutable"}},
		"other start":    {batchv1.JobStatus{StartTime: &start}, batchv1.JobStatus{StartTime: &end}, []string{"status.startTime: Invalid value … field is immutable for unsuspended job once set"}},
		"resumed":        {batchv1.JobStatus{StartTime: &start, Conditions: is(batchv1.JobSuspended)}, batchv1.JobStatus{StartTime: &end, Conditions: []batchv1.JobCondition{{Type: batchv1.JobSuspended, Status: v1.ConditionFalse}}}, nil},
		"never began":    {batchv1.JobStatus{}, batchv1.JobStatus{CompletionTime: &end, Conditions: done.Conditions}, []string{"status.startTime: Required value: startTime is required for finished job"}},
		"not counted":    {batchv1.JobStatus{}, batchv1.JobStatus{StartTime: &start, CompletionTime: &end, Conditions: done.Conditions, UncountedTerminatedPods: &batchv1.UncountedTerminatedPods{Failed: []types.UID{"a"}}}, []string{"status.uncountedTerminatedPods: Invalid value … must be empty for finished job"}},
		"going":          {batchv1.JobStatus{}, batchv1.JobStatus{StartTime: &start, CompletionTime: &end, Conditions: done.Conditions, Terminating: ptr.To[int32](1)}, []string{"status.terminating: Invalid value: 1: terminating>0 is invalid for finished job"}},
		"negative":       {batchv1.JobStatus{}, batchv1.JobStatus{Active: -1, Terminating: ptr.To[int32](-2)}, []string{"status.active: Invalid value: -1", "status.terminating: Invalid value: -2"}},
		"no uid":         {batchv1.JobStatus{}, batchv1.JobStatus{UncountedTerminatedPods: &batchv1.UncountedTerminatedPods{Succeeded: []types.UID{""}}}, []string{"status.uncountedTerminatedPods.succeeded[0]: Invalid value … must not be empty"}},
		"unmet": {done, batchv1.JobStatus{StartTime: &start, CompletionTime: &end, Succeeded: 1, Conditions: is(batchv1.JobComplete)}, []string{
			"status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition", "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition"}},
		"failed indexes": {batchv1.JobStatus{}, batchv1.JobStatus{FailedIndexes: ptr.To("1")}, []string{`status.failedIndexes: Invalid value: "1": cannot set non-null failedIndexes when backoffLimitPerIndex is null`}},
		"indexes":        {batchv1.JobStatus{}, batchv1.JobStatus{CompletedIndexes: "1"}, []string{`status.completedIndexes: Invalid value: "1": cannot set non-empty completedIndexes when non-indexed completion mode`}},
	} {
		t.Run(name, func(t *testing.T) {
			ruletest.Expect(t, job.ValidateStatusUpdate(&batchv1.Job{Status: test.now}, &batchv1.Job{Status: test.old}), test.want...)
		})
	}
}

func TestCronJob(t *testing.T) {
	c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: batchv1.CronJobSpec{Schedule: "@daily", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template()}}}}
	cronjob.SetDefaults(c)
	if *c.Spec.SuccessfulJobsHistoryLimit != 3 || *c.Spec.FailedJobsHistoryLimit != 1 || c.Spec.ConcurrencyPolicy != batchv1.AllowConcurrent || *c.Spec.Suspend {
		t.Errorf("defaults: %+v", c.Spec)
	}
	ruletest.Expect(t, cronjob.Validate(c))
	c.Spec.Schedule = "* * * *"
	ruletest.Expect(t, cronjob.Validate(c), `spec.schedule: Invalid value: "* * * *": expected exactly 5 fields, found 4`)
	c.Spec.Schedule = "TZ=UTC * * * * *"
	ruletest.Expect(t, cronjob.Validate(c), "spec.schedule: Invalid value … use timeZone field instead")
	c.Spec.Schedule, c.Spec.TimeZone = "@daily", ptr.To("Nowhere/At-All")
	ruletest.Expect(t, cronjob.Validate(c), "spec.timeZone: Invalid value")
}

func TestScheduleNext(t *testing.T) {
	from := time.Date(2026, time.January, 30, 23, 58, 30, 0, time.UTC) // a Friday
	for text, want := range map[string]string{
		"* * * * *":        "2026-01-30 23:59",
		"*/15 * * * *":     "2026-01-31 00:00",
		"5,10 8-9 * * *":   "2026-01-31 08:05",
		"0 0 1 * *":        "2026-02-01 00:00",
		"0 12 * * mon-Wed": "2026-02-02 12:00",
		"0 0 * * 0":        "2026-02-01 00:00",
		"0 0 */2 * 6":      "2026-01-31 00:00", // a step restricts: an odd day or a Saturday
		"0 0 13 * 5":       "2026-02-06 00:00", // both restricted: a 13th or a Friday
		"0 0 29 2 *":       "2028-02-29 00:00",
		"30 4 1/10 jun *":  "2026-06-01 04:30",
		"@yearly":          "2027-01-01 00:00",
		"@every 1h":        "2026-01-31 00:58",
	} {
		s, err := cronjob.ParseSchedule(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := s.Next(from).Format("2006-01-02 15:04"); got != want {
			t.Errorf("%s after %s: %s, want %s", text, from, got, want)
		}
	}
	never, err := cronjob.ParseSchedule("0 0 30 2 *")
	if err != nil || !never.Next(from).IsZero() {
		t.Errorf("the 30th of February: %v", err)
	}
	for _, text := range []string{"", "60 * * * *", "* * 0 * *", "*/0 * * * *", "5-1 * * * *", "a * * * *", "@never", "@every x", "* * * * * *", "0 0 * * 7"} {
		if _, err := cronjob.ParseSchedule(text); err == nil {
			t.Errorf("%q was understood", text)
		}
	}
}

// An indexed job says which of its indexes are done, and which have failed: each one of them, once.
func TestJobStatusIndexes(t *testing.T) {
	indexed := batchv1.JobSpec{CompletionMode: ptr.To(batchv1.IndexedCompletion), Completions: ptr.To[int32](5), Parallelism: ptr.To[int32](5), BackoffLimitPerIndex: ptr.To[int32](1)}
	for name, test := range map[string]struct {
		completed string
		failed    *string
		want      []string
	}{
		"good":    {"0,2-3", ptr.To("1"), nil},
		"beyond":  {"5", nil, []string{`status.completedIndexes: Invalid value: "5": error parsing completedIndexes: too large index: "5"`}},
		"failing": {"", ptr.To("x"), []string{`status.failedIndexes: Invalid value: "x": error parsing failedIndexes: cannot convert string to integer for index: "x"`}},
		"overlap": {"0-2", ptr.To("2-3"), []string{`status.failedIndexes: Invalid value: "2-3": failedIndexes and completedIndexes overlap at index: 2`}},
	} {
		t.Run(name, func(t *testing.T) {
			j := &batchv1.Job{Spec: indexed, Status: batchv1.JobStatus{CompletedIndexes: test.completed, FailedIndexes: test.failed}}
			ruletest.Expect(t, job.ValidateStatusUpdate(j, &batchv1.Job{Spec: indexed}), test.want...)
		})
	}
	// It may become smaller, and then counts fewer.
	shrunk := &batchv1.Job{Spec: indexed}
	ruletest.Expect(t, job.ValidateStatusUpdate(shrunk, &batchv1.Job{Spec: indexed, Status: batchv1.JobStatus{Succeeded: 3}}))
}

// What an update says of a selector is that it may not change, not that nobody has generated the new one; and the labels that a job
// has from its template are one map with those of the pods, to which the apiserver adds its own.
func TestJobSelector(t *testing.T) {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "j", UID: "u"}, Spec: batchv1.JobSpec{Template: template()}}
	j.Spec.Template.Labels = map[string]string{"app": "a"}
	job.SetDefaults(j)
	job.GenerateSelector(j)
	if j.Labels["app"] != "a" || j.Labels["job-name"] != "j" {
		t.Errorf("labels: %v", j.Labels)
	}
	old := j.DeepCopy()
	j.Spec.Selector.MatchLabels = map[string]string{"a": "b"}
	ruletest.Expect(t, job.Validate(j), "spec.selector: Invalid value … `selector` not auto-generated", "spec.template.metadata.labels: Invalid value")
	ruletest.Expect(t, job.ValidateUpdate(j, old), "spec.template.metadata.labels: Invalid value", "spec.selector: Invalid value … field is immutable")
}
