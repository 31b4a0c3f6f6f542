// Package cronjob is what is true of a CronJob: defaults, validation, and what
// its schedule means.
//
// In Kubernetes: SetDefaults_CronJob, ValidateCronJob*; the schedule is read
// there by github.com/robfig/cron.
package cronjob

import (
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/batch/job"
	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// maxNameLength leaves room for the time that is appended to name a job.
const maxNameLength = 52

// SetDefaults fills what the writer left out.
func SetDefaults(c *batchv1.CronJob) {
	spec := &c.Spec
	pod.SetDefaultsPodTemplate(&spec.JobTemplate.Spec.Template)
	if spec.ConcurrencyPolicy == "" {
		spec.ConcurrencyPolicy = batchv1.AllowConcurrent
	}
	if spec.Suspend == nil {
		spec.Suspend = ptr.To(false)
	}
	if spec.SuccessfulJobsHistoryLimit == nil {
		spec.SuccessfulJobsHistoryLimit = ptr.To[int32](3)
	}
	if spec.FailedJobsHistoryLimit == nil {
		spec.FailedJobsHistoryLimit = ptr.To[int32](1)
	}
}

// Validate checks a cron job on its own.
func Validate(c *batchv1.CronJob) field.ErrorList {
	spec, path := &c.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if len(c.Name) > maxNameLength {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, "must be no more than 52 characters"))
	}
	errs = append(errs, validateSchedule(spec, path)...)
	errs = append(errs, rule.Supported(spec.ConcurrencyPolicy, path.Child("concurrencyPolicy"), batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)...)
	if n := spec.StartingDeadlineSeconds; n != nil {
		errs = append(errs, rule.NonNegative(*n, path.Child("startingDeadlineSeconds"))...)
	}
	for name, n := range map[string]*int32{"successfulJobsHistoryLimit": spec.SuccessfulJobsHistoryLimit, "failedJobsHistoryLimit": spec.FailedJobsHistoryLimit} {
		if n != nil {
			errs = append(errs, rule.NonNegative(int64(*n), path.Child(name))...)
		}
	}
	at := path.Child("jobTemplate", "spec")
	if spec.JobTemplate.Spec.ManualSelector != nil && *spec.JobTemplate.Spec.ManualSelector {
		errs = append(errs, field.NotSupported(at.Child("manualSelector"), "true", []string{"nil", "false"}))
	}
	return append(errs, job.ValidateSpec(&spec.JobTemplate.Spec, at)...)
}

func validateSchedule(spec *batchv1.CronJobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.Schedule == "" {
		errs = append(errs, field.Required(path.Child("schedule"), ""))
	} else if strings.Contains(spec.Schedule, "TZ") {
		errs = append(errs, field.Invalid(path.Child("schedule"), spec.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
	} else if _, err := ParseSchedule(spec.Schedule); err != nil {
		errs = append(errs, field.Invalid(path.Child("schedule"), spec.Schedule, err.Error()))
	}
	if zone := spec.TimeZone; zone != nil {
		if *zone == "" || strings.EqualFold(*zone, "Local") {
			errs = append(errs, field.Invalid(path.Child("timeZone"), *zone, "timeZone must be nil or non-empty string, and not Local"))
		} else if _, err := time.LoadLocation(*zone); err != nil {
			errs = append(errs, field.Invalid(path.Child("timeZone"), *zone, err.Error()))
		}
	}
	return errs
}
