// Package batch_test checks jobs, cron jobs and what a schedule means.
package batch_test

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
		"0 0 * * 7":        "2026-02-01 00:00",
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
	for _, text := range []string{"", "60 * * * *", "* * 0 * *", "*/0 * * * *", "5-1 * * * *", "a * * * *", "@never", "@every x", "* * * * * *"} {
		if _, err := cronjob.ParseSchedule(text); err == nil {
			t.Errorf("%q was understood", text)
		}
	}
}
