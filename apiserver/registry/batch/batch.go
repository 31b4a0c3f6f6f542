// Package batch is the table of batch/v1.
//
// In Kubernetes: pkg/registry/batch.
package batch

import (
	"fmt"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/batch/cronjob"
	"hyperkube/api/batch/job"
	"hyperkube/api/core/pod"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of batch/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{jobs(), cronJobs()}
}

func jobs() registry.Resource {
	return registry.Resource{
		Name: "jobs", Singular: "job", Kind: batchv1.SchemeGroupVersion.WithKind("Job"),
		Categories: []string{"all"}, OrphanByDefault: true,
		OrphanWarning: "child pods are preserved by default when jobs are deleted; " +
			"set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
		New:     func() runtime.Object { return &batchv1.Job{} },
		NewList: func() runtime.Object { return &batchv1.JobList{} },
		Default: typed.Default(job.SetDefaults),
		Strategy: typed.Strategy[*batchv1.Job]{
			OnCreate: func(j *batchv1.Job) {
				job.GenerateSelector(j)
				j.Status, j.Generation = batchv1.JobStatus{}, 1
			},
			OnUpdate: func(j, old *batchv1.Job) {
				j.Status = old.Status
				typed.Bump(j, j.Spec, old.Spec)
			},
			Check:       job.Validate,
			CheckUpdate: job.ValidateUpdate,
			Warn:        func(j *batchv1.Job) []string { return append(pod.WarnWorkloadName(j.Name), warnJob(j)...) },
			WarnUpdate:  typed.WarnIf(typed.GenerationRose, warnJob),
		},
		StatusStrategy: typed.Strategy[*batchv1.Job]{
			OnUpdate:    func(j, old *batchv1.Job) { j.Spec = old.Spec },
			CheckUpdate: job.ValidateStatusUpdate,
		},
		Fields: typed.Fields(func(j *batchv1.Job) fields.Set {
			return fields.Set{"status.successful": strconv.Itoa(int(j.Status.Succeeded))}
		}),
		Selects: func(label string) (string, error) {
			switch label {
			case "metadata.name", "metadata.namespace", "status.successful":
				return label, nil
			}
			return "", fmt.Errorf("field label %q not supported for Job", label)
		},
		Table: typed.Table(jobCells, append([]metav1.TableColumnDefinition{
			column.Name(),
			column.Text("Status", "Status of the job."),
			column.Text("Completions", batchv1.JobStatus{}.SwaggerDoc()["succeeded"]),
			column.Text("Duration", "Time required to complete the job."),
			column.Age(),
		}, append(column.ContainersAndImages(), column.Wide(column.Text("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"])))...)...),
	}
}

func warnJob(j *batchv1.Job) []string { return job.Warnings(&j.Spec, field.NewPath("spec")) }

func jobCells(j *batchv1.Job) []any {
	completions := fmt.Sprintf("%d/1", j.Status.Succeeded)
	if n := j.Spec.Completions; n != nil {
		completions = fmt.Sprintf("%d/%d", j.Status.Succeeded, *n)
	} else if n := ptr.Deref(j.Spec.Parallelism, 0); n > 1 {
		completions = fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, n)
	}
	took := ""
	switch start, end := j.Status.StartTime, j.Status.CompletionTime; {
	case start == nil:
	case end == nil:
		took = duration.HumanDuration(time.Since(start.Time))
	default:
		took = duration.HumanDuration(end.Sub(start.Time))
	}
	names, images := column.ContainerCells(j.Spec.Template.Spec.Containers)
	return []any{j.Name, jobStatus(j), completions, took, column.Since(j.CreationTimestamp), names, images, metav1.FormatLabelSelector(j.Spec.Selector)}
}

func jobStatus(j *batchv1.Job) string {
	has := func(kind batchv1.JobConditionType) bool {
		for _, c := range j.Status.Conditions {
			if c.Type == kind {
				return c.Status == v1.ConditionTrue
			}
		}
		return false
	}
	switch {
	case has(batchv1.JobComplete):
		return "Complete"
	case has(batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case has(batchv1.JobSuspended):
		return "Suspended"
	case has(batchv1.JobFailureTarget):
		return "FailureTarget"
	case has(batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func cronJobs() registry.Resource {
	return registry.Resource{
		Name: "cronjobs", Singular: "cronjob", Kind: batchv1.SchemeGroupVersion.WithKind("CronJob"),
		ShortNames: []string{"cj"}, Categories: []string{"all"},
		New:     func() runtime.Object { return &batchv1.CronJob{} },
		NewList: func() runtime.Object { return &batchv1.CronJobList{} },
		Default: typed.Default(cronjob.SetDefaults),
		Strategy: typed.Strategy[*batchv1.CronJob]{
			OnCreate: func(c *batchv1.CronJob) {
				c.Status, c.Generation = batchv1.CronJobStatus{}, 1
			},
			OnUpdate: func(c, old *batchv1.CronJob) {
				c.Status = old.Status
				typed.Bump(c, c.Spec, old.Spec)
			},
			Check:       cronjob.Validate,
			CheckUpdate: cronjob.ValidateUpdate,
			Warn:        cronjob.Warnings,
			WarnUpdate:  cronjob.WarningsOnUpdate,
		},
		StatusStrategy: typed.Strategy[*batchv1.CronJob]{
			Meta:        registry.MetaRules{AnyFinalizer: true},
			OnUpdate:    func(c, old *batchv1.CronJob) { c.Spec = old.Spec },
			CheckUpdate: func(c, old *batchv1.CronJob) field.ErrorList { return nil },
		},
		Table: typed.Table(cronJobCells, append([]metav1.TableColumnDefinition{
			column.Name(),
			column.Text("Schedule", batchv1.CronJobSpec{}.SwaggerDoc()["schedule"]),
			column.Text("Timezone", batchv1.CronJobSpec{}.SwaggerDoc()["timeZone"]),
			column.Bool("Suspend", batchv1.CronJobSpec{}.SwaggerDoc()["suspend"]),
			column.Number("Active", batchv1.CronJobStatus{}.SwaggerDoc()["active"]),
			column.Text("Last Schedule", batchv1.CronJobStatus{}.SwaggerDoc()["lastScheduleTime"]),
			column.Age(),
		}, append(column.ContainersAndImages(), column.Wide(column.Text("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"])))...)...),
	}
}

func cronJobCells(c *batchv1.CronJob) []any {
	last := "<none>"
	if t := c.Status.LastScheduleTime; t != nil {
		last = column.Since(*t)
	}
	suspended := "<unset>"
	if c.Spec.Suspend != nil {
		suspended = "False"
		if *c.Spec.Suspend {
			suspended = "True"
		}
	}
	template := c.Spec.JobTemplate.Spec
	names, images := column.ContainerCells(template.Template.Spec.Containers)
	return []any{c.Name, c.Spec.Schedule, column.Deref(c.Spec.TimeZone, "<none>"), suspended, int64(len(c.Status.Active)), last,
		column.Since(c.CreationTimestamp), names, images, metav1.FormatLabelSelector(template.Selector)}
}
