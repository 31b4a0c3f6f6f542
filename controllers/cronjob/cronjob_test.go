package cronjob

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	core "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// now is 10 seconds after a time of the schedule.
var now = time.Date(2026, 3, 1, 12, 0, 10, 0, time.UTC)

func newCronJob(last time.Duration, change ...func(*batchv1.CronJob)) *batchv1.CronJob {
	cj := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "tick", UID: "cj", CreationTimestamp: metav1.NewTime(now.Add(-24 * time.Hour))},
		Spec:       batchv1.CronJobSpec{Schedule: "* * * * *", ConcurrencyPolicy: batchv1.AllowConcurrent, SuccessfulJobsHistoryLimit: ptr.To[int32](1)},
		Status:     batchv1.CronJobStatus{LastScheduleTime: &metav1.Time{Time: now.Add(-last)}},
	}
	for _, c := range change {
		c(cj)
	}
	return cj
}

func child(name string, condition batchv1.JobConditionType, age time.Duration) *batchv1.Job {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(newCronJob(0), controllerKind)}}}
	job.Status.StartTime = &metav1.Time{Time: now.Add(-age)}
	if condition != "" {
		job.Status.Conditions = []batchv1.JobCondition{{Type: condition, Status: corev1.ConditionTrue}}
		job.Status.CompletionTime = &metav1.Time{Time: now.Add(-age)}
	}
	return job
}

func active(names ...string) func(*batchv1.CronJob) {
	return func(cj *batchv1.CronJob) {
		for _, name := range names {
			cj.Status.Active = append(cj.Status.Active, corev1.ObjectReference{Namespace: "ns", Name: name, UID: types.UID(name)})
		}
	}
}

// One turn: what is in the caches, what is written, what the events say.
func TestSyncCronJob(t *testing.T) {
	minute := now.Truncate(time.Minute).Unix() / 60
	create := fmt.Sprintf("create tick-%d", minute)
	for _, test := range []struct {
		name           string
		cj             *batchv1.CronJob
		jobs           []*batchv1.Job
		writes, events string
		active         int
		after          time.Duration
	}{
		{name: "it is time", cj: newCronJob(time.Minute), writes: create, events: "SuccessfulCreate", active: 1, after: 50*time.Second + nextScheduleDelta},
		{name: "not yet", cj: newCronJob(10 * time.Second), after: 50*time.Second + nextScheduleDelta},
		{name: "many missed: one job", cj: newCronJob(3 * time.Hour), writes: create, events: "TooManyMissedTimes SuccessfulCreate", active: 1, after: 50*time.Second + nextScheduleDelta},
		{name: "past its deadline", cj: newCronJob(time.Minute, func(cj *batchv1.CronJob) { cj.Spec.StartingDeadlineSeconds = ptr.To[int64](5) }), after: 50*time.Second + nextScheduleDelta},
		{name: "suspended", cj: newCronJob(time.Minute, func(cj *batchv1.CronJob) { cj.Spec.Suspend = ptr.To(true) })},
		{name: "unknown zone", cj: newCronJob(time.Minute, func(cj *batchv1.CronJob) { cj.Spec.TimeZone = ptr.To("Mars/Crater") }), events: "UnknownTimeZone"},
		{name: "a zone shifts the hour", cj: newCronJob(time.Minute, func(cj *batchv1.CronJob) {
			cj.Spec.Schedule, cj.Spec.TimeZone = "0 13 * * *", ptr.To("Europe/Berlin")
		}), writes: create, events: "SuccessfulCreate", active: 1, after: 24*time.Hour - 10*time.Second + nextScheduleDelta},
		{name: "forbidden while one runs", cj: newCronJob(time.Minute, active("a"), func(cj *batchv1.CronJob) { cj.Spec.ConcurrencyPolicy = batchv1.ForbidConcurrent }),
			jobs: []*batchv1.Job{child("a", "", time.Minute)}, events: "JobAlreadyActive", active: 1, after: 50*time.Second + nextScheduleDelta},
		{name: "replaced while one runs", cj: newCronJob(time.Minute, active("a"), func(cj *batchv1.CronJob) { cj.Spec.ConcurrencyPolicy = batchv1.ReplaceConcurrent }),
			jobs: []*batchv1.Job{child("a", "", time.Minute)}, writes: create + ", delete a", events: "SuccessfulDelete SuccessfulCreate", active: 1, after: 50*time.Second + nextScheduleDelta},
		{name: "a day that does not exist", cj: newCronJob(time.Minute, func(cj *batchv1.CronJob) { cj.Spec.Schedule = "0 0 31 2 *" }), events: "InvalidSchedule"},
		{name: "an ended one is no longer active", cj: newCronJob(10*time.Second, active("a")), jobs: []*batchv1.Job{child("a", batchv1.JobComplete, time.Minute)},
			events: "SawCompletedJob", after: 50*time.Second + nextScheduleDelta},
		{name: "a missing one is no longer active", cj: newCronJob(10*time.Second, active("a")), events: "MissingJob", after: 50*time.Second + nextScheduleDelta},
		{name: "the history keeps the newest", cj: newCronJob(10 * time.Second), jobs: []*batchv1.Job{child("a", batchv1.JobComplete, time.Minute), child("b", batchv1.JobComplete, time.Hour)},
			writes: "delete b", events: "SuccessfulDelete", after: 50*time.Second + nextScheduleDelta},
	} {
		t.Run(test.name, func(t *testing.T) {
			objects := []runtime.Object{test.cj}
			for _, job := range test.jobs {
				objects = append(objects, job)
			}
			client := fake.NewClientset(objects...)
			factory := informers.NewSharedInformerFactory(client, 0)
			recorder := record.NewFakeRecorder(100)
			jm := New(client, factory, recorder, reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
			_ = factory.Batch().V1().CronJobs().Informer().GetIndexer().Add(test.cj)
			for _, job := range test.jobs {
				_ = factory.Batch().V1().Jobs().Informer().GetIndexer().Add(job)
			}
			result, err := jm.syncCronJob(t.Context(), "ns/tick")
			if err != nil {
				t.Fatal(err)
			}
			var writes, events []string
			for _, action := range client.Actions() {
				switch a := action.(type) {
				case core.DeleteAction:
					writes = append(writes, "delete "+a.GetName())
				case core.CreateAction:
					if a.GetVerb() == "create" {
						writes = append(writes, "create "+a.GetObject().(*batchv1.Job).Name)
					}
				}
			}
			slices.Sort(writes)
			for len(recorder.Events) > 0 {
				events = append(events, strings.Fields(<-recorder.Events)[1])
			}
			if got := strings.Join(writes, ", "); got != test.writes {
				t.Errorf("writes %q, want %q", got, test.writes)
			}
			if got := strings.Join(events, " "); got != test.events {
				t.Errorf("events %q, want %q", got, test.events)
			}
			if result.After != test.after {
				t.Errorf("comes back after %v, want %v", result.After, test.after)
			}
			cj, err := client.BatchV1().CronJobs("ns").Get(t.Context(), "tick", metav1.GetOptions{})
			if err != nil || len(cj.Status.Active) != test.active {
				t.Errorf("active %v, error %v; want %d", cj.Status.Active, err, test.active)
			}
		})
	}
}
