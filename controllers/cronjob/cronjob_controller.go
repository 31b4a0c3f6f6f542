// Package cronjob makes a Job at each time that a CronJob's schedule names.
//
//	CronJob ─┐
//	Job ─────┼─► key ─► syncCronJob ─► create Job ─► /status (active, last times)
//	timer ───┘                    └──► delete Jobs beyond the history limits
//
// One turn is `controllers/cronjob/cronjob_controller.go:ControllerV2.syncCronJob`. It
// looks for the most recent time that the schedule named and no Job was made for. Only
// one Job is made, however many times were missed: a CronJob whose controller slept for
// a day does not run a thousand times on waking. The Job's name carries its time, so
// that no time gets two Jobs, whoever was killed between creating and writing it down.
//
// # In Kubernetes
//
// pkg/controller/cronjob (cronjob_controllerv2.go, utils.go). Left out: TZ inside of
// the schedule, which validation refuses, the metrics of the skew, and the second event
// (UnParseableCronJobSchedule) of a schedule that is changed to an unparseable one. Without the
// estimate in mostRecentScheduleTime, a schedule of every minute that slept for a year
// would be walked half a million times in each turn.
package cronjob

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/reference"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	cronjobapi "hyperkube/api/batch/cronjob"
	jobapi "hyperkube/api/batch/job"
	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

var controllerKind = batchv1.SchemeGroupVersion.WithKind("CronJob")

// nextScheduleDelta is added to a wait, for timers may fire a little early.
const nextScheduleDelta = 100 * time.Millisecond

// ControllerV2 is the loop over CronJobs.
type ControllerV2 struct {
	*reconcile.Loop
	client        kubernetes.Interface
	recorder      record.EventRecorder
	cronJobLister batchlisters.CronJobLister
	jobLister     batchlisters.JobLister
	clock         clock.PassiveClock
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) *ControllerV2 {
	options = options.WithDefaults()
	cronJobs, jobs := factory.Batch().V1().CronJobs(), factory.Batch().V1().Jobs()
	jm := &ControllerV2{client: client, recorder: recorder, cronJobLister: cronJobs.Lister(), jobLister: jobs.Lister(), clock: options.Clock}
	jm.Loop = reconcile.New("cronjob", jm.syncCronJob, options)
	jm.Watch(cronJobs.Informer(), reconcile.Self)
	jm.Watch(jobs.Informer(), reconcile.Owner(controllerKind))
	return jm
}

// syncCronJob is one turn for one CronJob:
//
//  1. bring the list of active Jobs up to date,
//  2. start a Job, if it is time,
//  3. delete old Jobs,
//  4. write the status, and come back at the schedule's next time.
func (jm *ControllerV2) syncCronJob(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	cached, err := jm.cronJobLister.CronJobs(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil // its Jobs are the garbage collector's
	}
	if err != nil {
		return reconcile.Done, err
	}
	cj := cached.DeepCopy()
	jobs, err := jm.getJobsToBeReconciled(cj)
	if err != nil {
		return reconcile.Done, err
	}

	// Step 1: bring the list of active Jobs up to date.
	if err := jm.updateActive(ctx, cj, jobs); err != nil {
		return reconcile.Done, err
	}
	// Step 2: start a Job, if it is time.
	after, startErr := jm.startIfDue(ctx, cj)
	// Step 3: delete old Jobs.
	jm.cleanupFinishedJobs(ctx, cj, jobs)
	// Step 4: write the status.
	if !equality.Semantic.DeepEqual(cj.Status, cached.Status) {
		if _, err := jm.client.BatchV1().CronJobs(cj.Namespace).UpdateStatus(ctx, cj, metav1.UpdateOptions{}); err != nil {
			return reconcile.Done, err
		}
	}
	return reconcile.Result{After: after}, startErr
}

func (jm *ControllerV2) getJobsToBeReconciled(cj *batchv1.CronJob) ([]*batchv1.Job, error) {
	all, err := jm.jobLister.Jobs(cj.Namespace).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(job *batchv1.Job) bool { return !metav1.IsControlledBy(job, cj) }), nil
}

// updateActive takes ended and missing Jobs off status.active.
func (jm *ControllerV2) updateActive(ctx context.Context, cj *batchv1.CronJob, jobs []*batchv1.Job) error {
	known := map[string]bool{}
	for _, job := range jobs {
		known[string(job.UID)] = true
		active := slices.ContainsFunc(cj.Status.Active, func(ref corev1.ObjectReference) bool { return ref.UID == job.UID })
		finished, how := jobapi.IsFinished(job)
		switch {
		case !active && !finished:
			// Made by a turn that could not write it down, or by a person.
			fresh, err := jm.client.BatchV1().CronJobs(cj.Namespace).Get(ctx, cj.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if slices.ContainsFunc(fresh.Status.Active, func(ref corev1.ObjectReference) bool { return ref.UID == job.UID }) {
				cj.ResourceVersion, cj.Status = fresh.ResourceVersion, fresh.Status // our cache is behind
				continue
			}
			jm.recorder.Eventf(cj, corev1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", job.Name)
		case active && finished:
			removeActive(cj, job)
			jm.recorder.Eventf(cj, corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %v", job.Name, how)
		}
		if end := job.Status.CompletionTime; finished && how == batchv1.JobComplete && end != nil &&
			(cj.Status.LastSuccessfulTime == nil || cj.Status.LastSuccessfulTime.Before(end)) {
			cj.Status.LastSuccessfulTime = end.DeepCopy()
		}
	}
	for _, ref := range slices.Clone(cj.Status.Active) {
		if known[string(ref.UID)] {
			continue
		}
		// Missing from the cache may only mean that the cache is behind.
		_, err := jm.client.BatchV1().Jobs(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			jm.recorder.Eventf(cj, corev1.EventTypeNormal, "MissingJob", "Active job went missing: %v", ref.Name)
			removeActive(cj, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: ref.UID}})
		} else if err != nil {
			return err
		}
	}
	return nil
}

func removeActive(cj *batchv1.CronJob, job *batchv1.Job) {
	cj.Status.Active = slices.DeleteFunc(slices.Clone(cj.Status.Active), func(ref corev1.ObjectReference) bool { return ref.UID == job.UID })
}

// startIfDue starts the Job of the most recent time that has none, and returns how
// long it is to the next.
func (jm *ControllerV2) startIfDue(ctx context.Context, cj *batchv1.CronJob) (time.Duration, error) {
	if cj.DeletionTimestamp != nil || ptr.Deref(cj.Spec.Suspend, false) {
		return 0, nil // the next event, if any, is a change of it
	}
	now := jm.clock.Now()
	if zone := cj.Spec.TimeZone; zone != nil {
		location, err := time.LoadLocation(*zone)
		if err != nil {
			jm.recorder.Eventf(cj, corev1.EventTypeWarning, "UnknownTimeZone", "invalid timeZone: %q: %s", *zone, err)
			return 0, nil
		}
		now = now.In(location)
	}
	if strings.Contains(cj.Spec.Schedule, "TZ") {
		// One that was created before validation refused it.
		jm.recorder.Eventf(cj, corev1.EventTypeWarning, "UnsupportedSchedule",
			"CRON_TZ or TZ used in schedule %q is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details", cj.Spec.Schedule)
	}
	schedule, err := cronjobapi.ParseSchedule(cj.Spec.Schedule)
	if err != nil {
		jm.recorder.Eventf(cj, corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule: %q : %s", cj.Spec.Schedule, err)
		return 0, nil
	}
	var after time.Duration
	if next := schedule.Next(now); !next.IsZero() {
		after = next.Sub(now) + nextScheduleDelta
	}
	if after == 0 {
		// Well formed, but of no day that exists, such as the 31st of February.
		jm.recorder.Eventf(cj, corev1.EventTypeWarning, "InvalidSchedule", "invalid schedule: %s : %s", cj.Spec.Schedule,
			"time difference between two schedules is less than 1 second")
		return 0, nil
	}
	scheduled, tooMany := mostRecentScheduleTime(cj, now, schedule)
	if tooMany {
		jm.recorder.Eventf(cj, corev1.EventTypeWarning, "TooManyMissedTimes",
			"too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	if scheduled.IsZero() {
		return after, nil
	}
	if limit := cj.Spec.StartingDeadlineSeconds; limit != nil && scheduled.Add(time.Duration(*limit)*time.Second).Before(now) {
		jm.recorder.Eventf(cj, corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: %s", scheduled.UTC().Format(time.RFC1123Z))
		return after, nil
	}
	if len(cj.Status.Active) > 0 && cj.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent {
		jm.recorder.Eventf(cj, corev1.EventTypeNormal, "JobAlreadyActive",
			"Not starting job because prior execution is running and concurrency policy is Forbid")
		return after, nil // when that one ends, its event brings us back
	}
	if cj.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent {
		for _, ref := range slices.Clone(cj.Status.Active) {
			job, err := jm.client.BatchV1().Jobs(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
			if err != nil {
				jm.recorder.Eventf(cj, corev1.EventTypeWarning, "FailedGet", "Get job: %v", err)
				return after, err
			}
			if err := jm.deleteJob(ctx, cj, job); err != nil {
				return after, err
			}
		}
	}
	return after, jm.start(ctx, cj, scheduled)
}

// start creates the Job and writes it into the status.
func (jm *ControllerV2) start(ctx context.Context, cj *batchv1.CronJob, scheduled time.Time) error {
	job, err := jm.client.BatchV1().Jobs(cj.Namespace).Create(ctx, getJobFromTemplate2(cj, scheduled), metav1.CreateOptions{})
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // all is about to go
	case apierrors.IsAlreadyExists(err):
		// A former turn made it, and could not write it down.
		job, err = jm.client.BatchV1().Jobs(cj.Namespace).Get(ctx, jobName(cj, scheduled), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if finished, _ := jobapi.IsFinished(job); finished || !metav1.IsControlledBy(job, cj) {
			cj.Status.LastScheduleTime = &metav1.Time{Time: scheduled}
			return nil
		}
	case err != nil:
		jm.recorder.Eventf(cj, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return err
	default:
		jm.recorder.Eventf(cj, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %v", job.Name)
	}
	cj.Status.LastScheduleTime = &metav1.Time{Time: scheduled}
	if slices.ContainsFunc(cj.Status.Active, func(ref corev1.ObjectReference) bool { return ref.UID == job.UID }) {
		return nil
	}
	ref, err := reference.GetReference(scheme.Scheme, job)
	if err != nil {
		return fmt.Errorf("unable to make object reference for job %s: %w", job.Name, err)
	}
	cj.Status.Active = append(cj.Status.Active, *ref)
	return nil
}

func jobName(cj *batchv1.CronJob, scheduled time.Time) string {
	return fmt.Sprintf("%s-%d", cj.Name, scheduled.Unix()/60)
}

// getJobFromTemplate2 is the Job of that time.
func getJobFromTemplate2(cj *batchv1.CronJob, scheduled time.Time) *batchv1.Job {
	template := cj.Spec.JobTemplate.DeepCopy()
	annotations := template.Annotations
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[batchv1.CronJobScheduledTimestampAnnotation] = scheduled.Format(time.RFC3339)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cj.Namespace, Name: jobName(cj, scheduled), Labels: template.Labels, Annotations: annotations,
			CreationTimestamp: metav1.Time{Time: scheduled},
			OwnerReferences:   []metav1.OwnerReference{*metav1.NewControllerRef(cj, controllerKind)},
		},
		Spec: template.Spec,
	}
}

func (jm *ControllerV2) deleteJob(ctx context.Context, cj *batchv1.CronJob, job *batchv1.Job) error {
	err := jm.client.BatchV1().Jobs(job.Namespace).Delete(ctx, job.Name, metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)})
	if err != nil && !apierrors.IsNotFound(err) {
		jm.recorder.Eventf(cj, corev1.EventTypeWarning, "FailedDelete", "Deleted job: %v", err)
		return err
	}
	removeActive(cj, job)
	jm.recorder.Eventf(cj, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %v", job.Name)
	return nil
}

// cleanupFinishedJobs keeps the newest of the ended Jobs, as many as the limits say.
// What cannot be deleted now is met again by the next turn.
func (jm *ControllerV2) cleanupFinishedJobs(ctx context.Context, cj *batchv1.CronJob, jobs []*batchv1.Job) {
	for how, limit := range map[batchv1.JobConditionType]*int32{
		batchv1.JobComplete: cj.Spec.SuccessfulJobsHistoryLimit, batchv1.JobFailed: cj.Spec.FailedJobsHistoryLimit,
	} {
		if limit == nil {
			continue
		}
		var ended []*batchv1.Job
		for _, job := range jobs {
			if finished, kind := jobapi.IsFinished(job); finished && kind == how && job.DeletionTimestamp == nil {
				ended = append(ended, job)
			}
		}
		slices.SortFunc(ended, func(a, b *batchv1.Job) int {
			return ptr.Deref(a.Status.StartTime, metav1.Time{}).Compare(ptr.Deref(b.Status.StartTime, metav1.Time{}).Time)
		})
		for _, job := range ended[:max(0, len(ended)-int(*limit))] {
			_ = jm.deleteJob(ctx, cj, job)
		}
	}
}

// mostRecentScheduleTime returns the newest time up to now that has no Job yet, or
// zero, and whether suspiciously many were missed.
func mostRecentScheduleTime(cj *batchv1.CronJob, now time.Time, schedule *cronjobapi.Schedule) (time.Time, bool) {
	earliest := cj.CreationTimestamp.Time
	if last := cj.Status.LastScheduleTime; last != nil {
		earliest = last.Time
	}
	if limit := cj.Spec.StartingDeadlineSeconds; limit != nil {
		if bound := now.Add(-time.Duration(*limit) * time.Second); bound.After(earliest) {
			earliest = bound
		}
	}
	earliest = earliest.In(now.Location())
	first := schedule.Next(earliest)
	if first.IsZero() || now.Before(first) {
		return time.Time{}, false
	}
	second := schedule.Next(first)
	if second.IsZero() || now.Before(second) {
		return first, false
	}
	// Jump to just before now by the distance of the first two, and walk from there.
	distance := second.Sub(first)
	missed := int64(now.Sub(first)/distance) + 1
	recent := second
	start := first.Add(time.Duration(max(0, missed-2)) * distance)
	for t := schedule.Next(start); !t.IsZero() && !t.After(now); t = schedule.Next(t) {
		recent = t
	}
	return recent, missed > 100
}
