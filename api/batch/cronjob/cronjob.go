// Package cronjob is what is true of a CronJob: defaults, validation, and what
// its schedule means.
//
// In Kubernetes: SetDefaults_CronJob, ValidateCronJob*; the schedule is read
// there by github.com/robfig/cron.
package cronjob

import (
	"regexp"
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
	spec.JobTemplate.Spec.Scheduling = nil // as in a job
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

// Validate checks a new cron job.
func Validate(c *batchv1.CronJob) field.ErrorList {
	errs := validateSpec(&c.Spec, nil)
	if len(c.Name) > maxNameLength {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, "must be no more than 52 characters"))
	}
	return errs
}

// ValidateUpdate checks a changed cron job. What was let in once, in a day of fewer rules, may stay.
func ValidateUpdate(c, old *batchv1.CronJob) field.ErrorList { return validateSpec(&c.Spec, &old.Spec) }

func validateSpec(spec, old *batchv1.CronJobSpec) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateSchedule(spec, old != nil && strings.Contains(old.Schedule, "TZ"), path.Child("schedule"))
	if n := spec.StartingDeadlineSeconds; n != nil {
		errs = append(errs, rule.NonNegative(*n, path.Child("startingDeadlineSeconds"))...)
	}
	if old == nil || !ptr.Equal(spec.TimeZone, old.TimeZone) {
		errs = append(errs, validateTimeZone(spec.TimeZone, path.Child("timeZone"))...)
	}
	errs = append(errs, rule.Supported(spec.ConcurrencyPolicy, path.Child("concurrencyPolicy"), batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)...)
	at := path.Child("jobTemplate", "spec")
	errs = append(errs, job.ValidateSpec(&spec.JobTemplate.Spec, at)...)
	// Each job makes a selector of its own.
	if s := spec.JobTemplate.Spec.Selector; s != nil {
		errs = append(errs, field.Invalid(at.Child("selector"), s, "`selector` will be auto-generated"))
	}
	if ptr.Deref(spec.JobTemplate.Spec.ManualSelector, false) {
		errs = append(errs, field.NotSupported(at.Child("manualSelector"), spec.JobTemplate.Spec.ManualSelector, []string{"nil", "false"}))
	}
	if n := spec.SuccessfulJobsHistoryLimit; n != nil {
		errs = append(errs, rule.NonNegative(int64(*n), path.Child("successfulJobsHistoryLimit"))...)
	}
	if n := spec.FailedJobsHistoryLimit; n != nil {
		errs = append(errs, rule.NonNegative(int64(*n), path.Child("failedJobsHistoryLimit"))...)
	}
	return errs
}

func validateSchedule(spec *batchv1.CronJobSpec, allowTZ bool, path *field.Path) field.ErrorList {
	if spec.Schedule == "" {
		return rule.Declared(rule.NonEmpty(spec.Schedule, path))
	}
	var errs field.ErrorList
	if _, err := ParseSchedule(spec.Schedule); err != nil {
		errs = append(errs, field.Invalid(path, spec.Schedule, err.Error()))
	}
	switch zoned := strings.Contains(spec.Schedule, "TZ"); {
	case zoned && !allowTZ:
		errs = append(errs, field.Invalid(path, spec.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
	case zoned && spec.TimeZone != nil:
		errs = append(errs, field.Invalid(path, spec.Schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule"))
	}
	return errs
}

// Warnings are those of the name, and of the jobs.
func Warnings(c *batchv1.CronJob) []string {
	return append(pod.WarnWorkloadName(c.Name), warnJobs(c)...)
}

// WarningsOnUpdate tell each time of a time zone where it does not belong; the path in the text is upstream's.
func WarningsOnUpdate(c, old *batchv1.CronJob) []string {
	var warnings []string
	if c.Generation != old.Generation {
		warnings = warnJobs(c)
	}
	if strings.Contains(c.Spec.Schedule, "TZ") {
		warnings = append(warnings, "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details")
	}
	return warnings
}

func warnJobs(c *batchv1.CronJob) []string {
	return job.Warnings(&c.Spec.JobTemplate.Spec, field.NewPath("spec", "jobTemplate", "spec"))
}

// zonePart is a part of the name of a time zone ("Europe", "Etc", "GMT+5").
var zonePart = regexp.MustCompile(`^[A-Za-z._0-9+][A-Za-z.\-_0-9+]{0,13}$`)

func validateTimeZone(zone *string, path *field.Path) field.ErrorList {
	if zone == nil {
		return nil
	}
	if *zone == "" {
		return field.ErrorList{field.Invalid(path, *zone, "timeZone must be nil or non-empty string")}
	}
	for _, part := range strings.Split(*zone, "/") {
		if part == "." || part == ".." || !zonePart.MatchString(part) {
			return field.ErrorList{field.Invalid(path, *zone, "unknown time zone "+*zone)}
		}
	}
	var errs field.ErrorList
	if strings.EqualFold(*zone, "Local") {
		errs = append(errs, field.Invalid(path, *zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
	}
	if _, err := time.LoadLocation(*zone); err != nil {
		errs = append(errs, field.Invalid(path, *zone, err.Error()))
	}
	return errs
}
