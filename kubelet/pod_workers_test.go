package kubelet

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"

	kubecontainer "hyperkube/kubelet/container"
)

// fakeSyncer writes down what the workers ask for; each call waits for an answer.
type fakeSyncer struct {
	calls   chan string
	answers chan syncAnswer
}

type syncAnswer struct {
	terminal bool
	err      error
}

func (f *fakeSyncer) GetPodStatus(context.Context, types.UID, string, string) (*kubecontainer.PodStatus, error) {
	return &kubecontainer.PodStatus{}, nil
}

func (f *fakeSyncer) ask(ctx context.Context, call string) (bool, error) {
	f.calls <- call
	select {
	case a := <-f.answers:
		return a.terminal, a.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (f *fakeSyncer) SyncPod(ctx context.Context, update UpdateType, pod *v1.Pod, _ *kubecontainer.PodStatus) (bool, error) {
	return f.ask(ctx, "sync "+string(update))
}

func (f *fakeSyncer) SyncTerminatingPod(ctx context.Context, pod *v1.Pod, _ *kubecontainer.PodStatus, grace *int64, _ PodStatusFunc) error {
	text := "default"
	if grace != nil {
		text = fmt.Sprint(*grace)
	}
	_, err := f.ask(ctx, "terminating "+text)
	return err
}

func (f *fakeSyncer) SyncTerminatingRuntimePod(ctx context.Context, _ *kubecontainer.Pod) error {
	_, err := f.ask(ctx, "orphan")
	return err
}

func (f *fakeSyncer) SyncTerminatedPod(ctx context.Context, _ *v1.Pod, _ *kubecontainer.PodStatus) error {
	_, err := f.ask(ctx, "terminated")
	return err
}

type workerTest struct {
	*testing.T
	syncer  *fakeSyncer
	workers *podWorkers
	queue   *workQueue
	clock   *testingclock.FakeClock
}

func newWorkerTest(t *testing.T) *workerTest {
	w := &workerTest{T: t, syncer: &fakeSyncer{calls: make(chan string, 10), answers: make(chan syncAnswer)}, clock: testingclock.NewFakeClock(time.Unix(1000, 0))}
	w.queue = newWorkQueue(w.clock)
	w.workers = newPodWorkers(context.Background(), w.syncer, w.queue, w.clock)
	t.Cleanup(w.workers.stop)
	return w
}

// expect waits for the next call; the time is a limit for a broken test only.
func (w *workerTest) expect(want string) {
	w.Helper()
	select {
	case got := <-w.syncer.calls:
		if got != want {
			w.Fatalf("call %q, want %q", got, want)
		}
	case <-time.After(time.Minute):
		w.Fatalf("no call, want %q", want)
	}
}

func (w *workerTest) answer(terminal bool, err error) {
	w.Helper()
	select {
	case w.syncer.answers <- syncAnswer{terminal, err}:
	case <-time.After(time.Minute):
		w.Fatal("nobody waits for an answer")
	}
}

func workerPod(grace *int64) *v1.Pod {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "u"}}
	if grace != nil {
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Unix(1000, 0)}, grace
	}
	return pod
}

func int64p(i int64) *int64 { return &i }

// A deletion interrupts a sync that hangs (an image that takes its time), and the
// pod goes its way to the end.
func TestDeletionInterruptsSync(t *testing.T) {
	w := newWorkerTest(t)
	w.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodCreate, Pod: workerPod(nil)})
	w.expect("sync create")
	w.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodUpdate, Pod: workerPod(int64p(30))})
	w.expect("terminating 30")
	w.answer(false, nil)
	w.expect("terminated")
	w.answer(false, nil)
	w.workers.group.Wait()
	if s := w.workers.state("u"); !s.finished || !s.deleted {
		t.Errorf("state %+v", s)
	}
}

// A grace period only ever shrinks, and a shorter one takes effect at once.
func TestGracePeriodShrinks(t *testing.T) {
	w := newWorkerTest(t)
	w.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodUpdate, Pod: workerPod(int64p(30))})
	w.expect("terminating 30")
	w.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodUpdate, Pod: workerPod(int64p(60))})
	w.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodUpdate, Pod: workerPod(int64p(0))})
	w.expect("terminating 1")
	w.answer(false, nil)
	w.expect("terminated")
	w.answer(false, nil)
}

// A pod that ran to its end is taken down without anybody's asking.
func TestTerminalPodIsTakenDown(t *testing.T) {
	w := newWorkerTest(t)
	w.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodCreate, Pod: workerPod(nil)})
	w.expect("sync create")
	w.answer(true, nil)
	w.expect("terminating default")
	w.answer(false, nil)
	w.expect("terminated")
	w.answer(false, nil)
}

// Messages that come during a sync become one.
func TestMessagesBecomeOne(t *testing.T) {
	w := newWorkerTest(t)
	w.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodCreate, Pod: workerPod(nil)})
	w.expect("sync create")
	for range 5 {
		w.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodUpdate, Pod: workerPod(nil)})
	}
	w.answer(false, nil)
	w.expect("sync update")
	w.answer(false, nil)
	if len(w.syncer.calls) != 0 {
		t.Errorf("further call %q", <-w.syncer.calls)
	}
}

// An error is tried again when its back-off lapses; no container that cannot be
// ended is given up.
func TestErrorsAreTriedAgain(t *testing.T) {
	w := newWorkerTest(t)
	pod := workerPod(nil)
	w.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodCreate, Pod: pod})
	w.expect("sync create")
	w.answer(false, &kubecontainer.SyncError{Messages: []string{"crash"}, RetryAt: w.clock.Now().Add(40 * time.Second)})
	w.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodKill, Pod: pod, Kill: &KillPodOptions{Completed: make(chan struct{})}})
	w.expect("terminating default")
	w.answer(false, errors.New("stuck"))
	w.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodSync, Pod: pod})
	w.expect("terminating default")
	w.answer(false, nil)
	w.expect("terminated")
	w.answer(false, nil)
}

func TestErrorDelay(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		err      error
		failures int
		want     time.Duration
	}{
		{errors.New("x"), 1, 500 * time.Millisecond},
		{errors.New("x"), 3, 2 * time.Second},
		{errors.New("x"), 50, 10 * time.Second},
		{&kubecontainer.SyncError{RetryAt: now.Add(40 * time.Second)}, 9, 40 * time.Second},
		{fmt.Errorf("syncing: %w", &kubecontainer.SyncError{RetryAt: now.Add(-time.Second)}), 9, 0},
	} {
		if got := errorDelay(c.err, c.failures, now); got != c.want {
			t.Errorf("%v after %d failures: %v, want %v", c.err, c.failures, got, c.want)
		}
	}
}

// What runs without anybody's wish is ended, and then forgotten.
func TestOrphanIsEnded(t *testing.T) {
	w := newWorkerTest(t)
	w.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodKill, RunningPod: &kubecontainer.Pod{ID: "o"}})
	w.expect("orphan")
	w.answer(false, nil)
	w.workers.group.Wait()
	if states := w.workers.SyncKnownPods(map[types.UID]bool{}); len(states) != 0 {
		t.Errorf("still known: %v", states)
	}
}

// A pod that is gone from its source is ended though nobody set a deletion time.
func TestPodGoneFromSource(t *testing.T) {
	w := newWorkerTest(t)
	w.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodCreate, Pod: workerPod(nil)})
	w.expect("sync create")
	w.answer(false, nil)
	w.workers.SyncKnownPods(map[types.UID]bool{})
	w.expect("terminating default")
	w.answer(false, nil)
	w.expect("terminated")
	w.answer(false, nil)
}
