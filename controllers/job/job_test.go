package job

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
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

var now = time.Unix(100000, 0)

func newJob(change ...func(*batchv1.Job)) *batchv1.Job {
	labels := map[string]string{"job": "x"}
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x", UID: "job-uid", ResourceVersion: "1"},
		Spec: batchv1.JobSpec{
			Completions: ptr.To[int32](3), Parallelism: ptr.To[int32](2), BackoffLimit: ptr.To[int32](6),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}},
		},
	}
	for _, c := range change {
		c(job)
	}
	return job
}

func indexed(j *batchv1.Job) { j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion) }

// pod makes one of a phase; words are "deleted", "released" (no finalizer) and "i=N".
func pod(name string, phase corev1.PodPhase, words ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{"job": "x"},
			Finalizers: []string{batchv1.JobTrackingFinalizer}, Annotations: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(newJob(), controllerKind)}},
		Status: corev1.PodStatus{Phase: phase},
	}
	for _, word := range words {
		index, isIndex := strings.CutPrefix(word, "i=")
		switch {
		case isIndex:
			p.Annotations[batchv1.JobCompletionIndexAnnotation] = index
		case word == "deleted":
			p.DeletionTimestamp = &metav1.Time{Time: now}
		case word == "released":
			p.Finalizers = nil
		}
	}
	if phase == corev1.PodFailed {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: 42, FinishedAt: metav1.NewTime(now.Add(-time.Hour))}}}}
	}
	return p
}

type fixture struct {
	*Controller
	client *fake.Clientset
}

func newFixture(t *testing.T, job *batchv1.Job, pods ...*corev1.Pod) *fixture {
	t.Helper()
	objects := []runtime.Object{job}
	for _, p := range pods {
		objects = append(objects, p)
	}
	client := fake.NewClientset(objects...)
	var created atomic.Int32
	client.PrependReactor("create", "pods", func(action core.Action) (bool, runtime.Object, error) {
		p := action.(core.CreateAction).GetObject().(*corev1.Pod)
		p.Name = fmt.Sprint(p.GenerateName, created.Add(1))
		return false, nil, nil
	})
	// Removing from a list with a strategic merge patch is the apiserver's to test.
	client.PrependReactor("patch", "pods", func(core.Action) (bool, runtime.Object, error) { return true, &corev1.Pod{}, nil })
	factory := informers.NewSharedInformerFactory(client, 0)
	jm, err := New(client, factory, record.NewFakeRecorder(100), reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
	if err != nil {
		t.Fatal(err)
	}
	_ = factory.Batch().V1().Jobs().Informer().GetIndexer().Add(job)
	for _, p := range pods {
		_ = factory.Core().V1().Pods().Informer().GetIndexer().Add(p)
	}
	return &fixture{jm, client}
}

// writes are the API calls but those of the status: "create x-0-, delete a, release b".
func (f *fixture) writes() string {
	var words []string
	for _, action := range f.client.Actions() {
		switch a := action.(type) {
		case core.CreateAction:
			if a.GetVerb() == "create" {
				words = append(words, "create "+a.GetObject().(*corev1.Pod).GenerateName)
			}
		case core.DeleteAction:
			words = append(words, "delete "+a.GetName())
		case core.PatchAction:
			words = append(words, "release "+a.GetName())
		}
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// status is "active succeeded failed [indexes] conditions".
func (f *fixture) statusOf(t *testing.T) string {
	t.Helper()
	job, err := f.client.BatchV1().Jobs("ns").Get(t.Context(), "x", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := job.Status
	text := fmt.Sprint(s.Active, s.Succeeded, s.Failed)
	if s.CompletedIndexes != "" {
		text += " " + s.CompletedIndexes
	}
	if ptr.Deref(s.FailedIndexes, "") != "" {
		text += " failed " + *s.FailedIndexes
	}
	for _, c := range s.Conditions {
		text += fmt.Sprintf(" %s=%s(%s)", c.Type, c.Status, c.Reason)
	}
	if u := s.UncountedTerminatedPods; u != nil && len(u.Succeeded)+len(u.Failed) > 0 {
		text += fmt.Sprintf(" uncounted %v %v", u.Succeeded, u.Failed)
	}
	return text
}

const (
	running   = corev1.PodRunning
	succeeded = corev1.PodSucceeded
	failed    = corev1.PodFailed
)

// One turn: what is in the caches, what is written, what the status says.
func TestSyncJob(t *testing.T) {
	for _, test := range []struct {
		name           string
		change         func(*batchv1.Job)
		pods           []*corev1.Pod
		writes, status string
		after          time.Duration
	}{
		{name: "parallelism at once", writes: "create x-, create x-", status: "2 0 0"},
		{name: "one that succeeded is counted, let go and followed",
			pods: []*corev1.Pod{pod("a", succeeded), pod("b", running)}, writes: "create x-, release a", status: "2 1 0"},
		{name: "one without finalizer was counted before",
			change: func(j *batchv1.Job) { j.Status.Succeeded = 1 }, pods: []*corev1.Pod{pod("a", succeeded, "released"), pod("b", running), pod("c", running)},
			writes: "", status: "2 1 0"},
		{name: "a noted one whose finalizer is gone is counted once",
			change: func(j *batchv1.Job) {
				j.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{Succeeded: []types.UID{"a"}}
			},
			pods: []*corev1.Pod{pod("a", succeeded, "released"), pod("b", running), pod("c", running)}, status: "2 1 0"},
		{name: "a noted one that still has it is not noted twice",
			change: func(j *batchv1.Job) {
				j.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{Succeeded: []types.UID{"a"}}
			},
			pods: []*corev1.Pod{pod("a", succeeded), pod("b", running), pod("c", running)}, writes: "release a", status: "2 1 0"},
		{name: "all succeeded: complete", change: func(j *batchv1.Job) { j.Status.Succeeded = 2 }, pods: []*corev1.Pod{pod("a", succeeded)},
			writes: "release a", status: "0 3 0 SuccessCriteriaMet=True(CompletionsReached) Complete=True(CompletionsReached)"},
		{name: "no completions: the first success ends it, when none runs",
			change: func(j *batchv1.Job) { j.Spec.Completions = nil }, pods: []*corev1.Pod{pod("a", succeeded), pod("b", running)},
			writes: "release a", status: "1 1 0"},
		{name: "a failed one is followed after the backoff has passed", pods: []*corev1.Pod{pod("a", failed), pod("b", running)},
			writes: "create x-, release a", status: "2 0 1"},
		{name: "past the backoff limit: what runs is stopped, and the end waits for it",
			change: func(j *batchv1.Job) { j.Spec.BackoffLimit = ptr.To[int32](0) }, pods: []*corev1.Pod{pod("a", failed), pod("b", running)},
			writes: "delete b, release a, release b", status: "0 0 2 FailureTarget=True(BackoffLimitExceeded)"},
		{name: "past the backoff limit, nothing left: failed",
			change: func(j *batchv1.Job) { j.Spec.BackoffLimit = ptr.To[int32](0) }, pods: []*corev1.Pod{pod("a", failed)},
			writes: "release a", status: "0 0 1 FailureTarget=True(BackoffLimitExceeded) Failed=True(BackoffLimitExceeded)"},
		{name: "deadline", change: func(j *batchv1.Job) {
			j.Spec.ActiveDeadlineSeconds, j.Status.StartTime = ptr.To[int64](60), &metav1.Time{Time: now.Add(-time.Minute)}
		}, status: "0 0 0 FailureTarget=True(DeadlineExceeded) Failed=True(DeadlineExceeded)"},
		{name: "comes back for the deadline", change: func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = ptr.To[int64](60) },
			pods: []*corev1.Pod{pod("a", running), pod("b", running)}, status: "2 0 0", after: time.Minute},
		{name: "suspended: pods go and count as nothing", change: func(j *batchv1.Job) { j.Spec.Suspend = ptr.To(true) }, pods: []*corev1.Pod{pod("a", running)},
			writes: "delete a, release a", status: "0 0 0 Suspended=True(JobSuspended)"},
		{name: "smaller parallelism: the surplus goes", change: func(j *batchv1.Job) { j.Spec.Parallelism = ptr.To[int32](1) },
			pods: []*corev1.Pod{pod("a", running), pod("b", corev1.PodPending)}, writes: "delete b, release b", status: "1 0 0"},
		{name: "indexes, lowest first", change: indexed, pods: []*corev1.Pod{pod("a", running, "i=1")}, writes: "create x-0-", status: "2 0 0"},
		{name: "an index succeeds once", change: indexed, pods: []*corev1.Pod{pod("a", succeeded, "i=0"), pod("b", succeeded, "i=0"), pod("c", running, "i=1")},
			writes: "create x-2-, release a, release b", status: "2 1 0 0"},
		{name: "a second pod of an index goes", change: indexed, pods: []*corev1.Pod{pod("a", running, "i=0"), pod("b", corev1.PodPending, "i=0")},
			writes: "delete b, release b", status: "1 0 0"},
		{name: "backoff per index: an index fails alone", change: func(j *batchv1.Job) {
			indexed(j)
			j.Spec.BackoffLimitPerIndex = ptr.To[int32](0)
		}, pods: []*corev1.Pod{pod("a", failed, "i=0"), pod("b", running, "i=1")}, writes: "create x-2-, release a", status: "2 0 1 failed 0"},
		{name: "success policy", change: func(j *batchv1.Job) {
			indexed(j)
			j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ptr.To("0")}}}
		}, pods: []*corev1.Pod{pod("a", succeeded, "i=0"), pod("b", running, "i=1")},
			writes: "delete b, release a, release b", status: "0 1 0 0 SuccessCriteriaMet=True(SuccessPolicy)"},
		{name: "failure policy: FailJob", change: func(j *batchv1.Job) { failOn(j, batchv1.PodFailurePolicyActionFailJob) }, pods: []*corev1.Pod{pod("a", failed)},
			writes: "release a", status: "0 0 1 FailureTarget=True(PodFailurePolicy) Failed=True(PodFailurePolicy)"},
		{name: "failure policy: Ignore does not count", change: func(j *batchv1.Job) { failOn(j, batchv1.PodFailurePolicyActionIgnore) },
			pods: []*corev1.Pod{pod("a", failed), pod("b", running)}, writes: "create x-, release a", status: "2 0 0"},
		{name: "a failed pod is replaced when it is gone, not before", change: func(j *batchv1.Job) { j.Spec.PodReplacementPolicy = ptr.To(batchv1.Failed) },
			pods: []*corev1.Pod{pod("a", running, "deleted"), pod("b", running)}, status: "1 0 0"},
		{name: "another manager's", change: func(j *batchv1.Job) { j.Spec.ManagedBy = ptr.To("example.com/x") }, status: "0 0 0"},
		{name: "an ended job is left alone but for finalizers", change: func(j *batchv1.Job) {
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
		}, pods: []*corev1.Pod{pod("a", succeeded)}, writes: "release a", status: "0 0 0 Complete=True()"},
	} {
		t.Run(test.name, func(t *testing.T) {
			job := newJob()
			if test.change != nil {
				test.change(job)
			}
			f := newFixture(t, job, test.pods...)
			result, err := f.syncJob(t.Context(), "ns/x")
			if err != nil {
				t.Fatal(err)
			}
			if got := f.writes(); got != test.writes {
				t.Errorf("writes %q, want %q", got, test.writes)
			}
			if got := f.statusOf(t); got != test.status {
				t.Errorf("status %q, want %q", got, test.status)
			}
			if result.After != test.after {
				t.Errorf("comes back after %v, want %v", result.After, test.after)
			}
		})
	}
}

func failOn(j *batchv1.Job, action batchv1.PodFailurePolicyAction) {
	j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{Action: action,
		OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}}}}}
}

func TestBackoffDoublesAndEnds(t *testing.T) {
	for failures, want := range map[int]time.Duration{0: 0, 1: 10 * time.Second, 3: 40 * time.Second, 7: 10 * time.Minute, 100: 10 * time.Minute} {
		if got := remainingBackoff(failures, now, now); got != want {
			t.Errorf("after %d failures %v, want %v", failures, got, want)
		}
	}
	if got := remainingBackoff(1, now.Add(-time.Minute), now); got != 0 {
		t.Errorf("a minute later still %v", got)
	}
}

func TestIndexText(t *testing.T) {
	for text, want := range map[string]string{"": "", "0": "0", "0,1": "0,1", "0,1,2": "0-2", "1-3,5,7-99": "1-3,5,7-9"} {
		if got := formatIndexes(parseIndexes(text, 10)); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
