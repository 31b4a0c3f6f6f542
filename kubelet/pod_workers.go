package kubelet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	kubecontainer "hyperkube/kubelet/container"
	kubepod "hyperkube/kubelet/pod"
	"hyperkube/reconcile"
)

// UpdateType is why a pod is to be looked at.
type UpdateType string

const (
	SyncPodCreate UpdateType = "create"
	SyncPodUpdate UpdateType = "update"
	SyncPodSync   UpdateType = "sync"
	SyncPodKill   UpdateType = "kill"
)

// PodStatusFunc changes the status of a pod that is being killed, to say why.
type PodStatusFunc func(*v1.PodStatus)

// UpdatePodOptions is one message to a pod's worker.
type UpdatePodOptions struct {
	UpdateType UpdateType
	Pod        *v1.Pod
	// RunningPod, instead of Pod, is something that runs without anybody's wish.
	RunningPod *kubecontainer.Pod
	// Kill says how, for SyncPodKill.
	Kill *KillPodOptions
}

// KillPodOptions say how a pod is to be killed.
type KillPodOptions struct {
	// Evict keeps the pod from being started again.
	Evict bool
	// GracePeriodSeconds overrides the pod's.
	GracePeriodSeconds *int64
	PodStatusFunc      PodStatusFunc
	// Completed is closed when all containers have ended.
	Completed chan struct{}
}

// podSyncer performs what the workers decide; `kubelet/kubelet_pods.go` has it.
type podSyncer interface {
	// GetPodStatus asks the runtime.
	GetPodStatus(ctx context.Context, uid types.UID, name, namespace string) (*kubecontainer.PodStatus, error)
	// SyncPod makes what runs match the pod. terminal: the pod has run to its end.
	SyncPod(ctx context.Context, update UpdateType, pod *v1.Pod, podStatus *kubecontainer.PodStatus) (terminal bool, err error)
	// SyncTerminatingPod ends all containers; after it returned nil none runs.
	SyncTerminatingPod(ctx context.Context, pod *v1.Pod, podStatus *kubecontainer.PodStatus, gracePeriod *int64, podStatusFn PodStatusFunc) error
	// SyncTerminatingRuntimePod does the same for what runs without a wish.
	SyncTerminatingRuntimePod(ctx context.Context, running *kubecontainer.Pod) error
	// SyncTerminatedPod frees what the pod had: volumes, cgroup.
	SyncTerminatedPod(ctx context.Context, pod *v1.Pod, podStatus *kubecontainer.PodStatus) error
}

// podWorkState is where a pod stands on its one-way road.
type podWorkState string

const (
	syncing     podWorkState = "sync"
	terminating podWorkState = "terminating"
	terminated  podWorkState = "terminated"
)

// podSyncStatus is what the workers know of one pod.
//
//	sync ──(deleted, killed, ran to its end, gone from its source)──► terminating ──(nothing runs)──► terminated ──(freed)──► finished
//
// Invariants: a pod never goes back; a grace period only ever shrinks; at most one
// sync of a pod runs at any time.
type podSyncStatus struct {
	pending *UpdatePodOptions // what the worker takes next
	pod     *v1.Pod           // the newest one
	running *kubecontainer.Pod
	// cancel ends the sync that runs, because something more urgent came.
	cancel context.CancelFunc
	wake   chan struct{}

	firstSync     time.Time
	terminatingAt time.Time
	terminatedAt  time.Time
	finished      bool
	deleted       bool // the API asked, or the pod is gone from its source
	evicted       bool
	// restartRequested: a pod of the same UID came again after this one finished.
	restartRequested bool
	gracePeriod      *int64
	statusFuncs      []PodStatusFunc
	completed        []chan struct{}
	failures         int // in a row
}

func (s *podSyncStatus) state() podWorkState {
	switch {
	case !s.terminatedAt.IsZero():
		return terminated
	case !s.terminatingAt.IsZero():
		return terminating
	}
	return syncing
}

// podWorkers gives each pod a goroutine of its own, so that a slow image of one
// pod delays no other, and decides which of the three syncs the pod is due for.
type podWorkers struct {
	syncer podSyncer
	queue  *workQueue
	clock  clock.Clock
	ctx    context.Context // ends all workers
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu   sync.Mutex
	pods map[types.UID]*podSyncStatus
	// static is the UID that runs now under a static pod's full name: its successor waits.
	static map[string]types.UID
}

func newPodWorkers(ctx context.Context, syncer podSyncer, queue *workQueue, c clock.Clock) *podWorkers {
	p := &podWorkers{syncer: syncer, queue: queue, clock: c, pods: map[types.UID]*podSyncStatus{}, static: map[string]types.UID{}}
	p.ctx, p.cancel = context.WithCancel(ctx)
	return p
}

// UpdatePod tells a pod's worker what came, and starts the worker if need be. It
// never blocks. Messages that the worker did not get to become one.
func (p *podWorkers) UpdatePod(options UpdatePodOptions) {
	p.mu.Lock()
	defer p.mu.Unlock()
	uid := podUID(options)
	status, known := p.pods[uid]
	switch {
	case p.ctx.Err() != nil:
		closeCompleted(options)
		return
	case !known && options.Pod == nil && options.RunningPod == nil:
		return
	case !known:
		status = &podSyncStatus{wake: make(chan struct{}, 1)}
		p.pods[uid] = status
	case status.finished:
		// A static pod may come back with the same content; nothing else does.
		status.restartRequested = status.restartRequested || options.UpdateType == SyncPodCreate
		closeCompleted(options)
		return
	}
	if options.Pod != nil {
		status.pod, status.running = options.Pod, nil
	} else if status.pod == nil {
		status.running = options.RunningPod
	}
	p.transition(status, options)
	status.pending = &options
	if !known {
		p.group.Go(func() { p.podWorkerLoop(uid, status) })
	}
	select {
	case status.wake <- struct{}{}:
	default:
	}
}

func podUID(options UpdatePodOptions) types.UID {
	if options.Pod != nil {
		return options.Pod.UID
	}
	return options.RunningPod.ID
}

func closeCompleted(options UpdatePodOptions) {
	if options.Kill != nil && options.Kill.Completed != nil {
		close(options.Kill.Completed)
	}
}

// transition begins the end of a pod if the message calls for it, and shortens
// the grace of one that is ending.
func (p *podWorkers) transition(status *podSyncStatus, options UpdatePodOptions) {
	before := status.state()
	begin := false
	switch {
	case before != syncing:
	case status.pod == nil: // an orphan
		begin, status.deleted = true, true
	case status.pod.DeletionTimestamp != nil:
		begin, status.deleted = true, true
	case status.pod.Status.Phase == v1.PodFailed || status.pod.Status.Phase == v1.PodSucceeded:
		begin = true // it ended in a former life of the kubelet
	case options.UpdateType == SyncPodKill:
		begin = true
	}
	if begin {
		status.terminatingAt = p.clock.Now()
	}
	if status.state() == syncing {
		return
	}
	if status.pod != nil && status.pod.DeletionTimestamp != nil {
		status.deleted = true
	}
	if kill := options.Kill; kill != nil {
		status.evicted = status.evicted || kill.Evict
		if kill.PodStatusFunc != nil {
			status.statusFuncs = append(status.statusFuncs, kill.PodStatusFunc)
		}
		if kill.Completed != nil {
			if status.state() == terminated {
				close(kill.Completed)
			} else {
				status.completed = append(status.completed, kill.Completed)
			}
		}
	}
	shorter := shortenGracePeriod(status, options)
	// A sync in the middle of a pull, or an ending with more grace than is left, must not be waited for.
	if (begin || shorter && before == terminating) && status.cancel != nil {
		status.cancel()
	}
}

// shortenGracePeriod keeps the shortest grace period asked for, at least a second.
func shortenGracePeriod(status *podSyncStatus, options UpdatePodOptions) (shorter bool) {
	var asked *int64
	switch {
	case options.Kill != nil && options.Kill.GracePeriodSeconds != nil:
		asked = options.Kill.GracePeriodSeconds
	case status.pod == nil:
	case status.pod.DeletionGracePeriodSeconds != nil:
		asked = status.pod.DeletionGracePeriodSeconds
	case status.pod.Spec.TerminationGracePeriodSeconds != nil:
		asked = status.pod.Spec.TerminationGracePeriodSeconds
	}
	if asked == nil {
		return false
	}
	grace := max(*asked, 1)
	if status.gracePeriod != nil && *status.gracePeriod <= grace {
		return false
	}
	shorter = status.gracePeriod != nil
	status.gracePeriod = &grace
	return shorter
}

// podWorkerLoop is the life of one pod's worker: take a message, sync, decide
// what follows, until the pod is finished.
func (p *podWorkers) podWorkerLoop(uid types.UID, status *podSyncStatus) {
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-status.wake:
		}
		work, ok := p.startPodSync(uid, status)
		if !ok {
			continue
		}
		terminal, err := p.syncOnce(work)
		work.cancel()
		if finished := p.completeSync(uid, status, work, terminal, err); finished {
			return
		}
	}
}

// podWork is one sync.
type podWork struct {
	state       podWorkState
	update      UpdateType
	pod         *v1.Pod
	running     *kubecontainer.Pod
	gracePeriod *int64
	statusFn    PodStatusFunc
	ctx         context.Context
	cancel      context.CancelFunc
}

// startPodSync decides what the pod is due for.
func (p *podWorkers) startPodSync(uid types.UID, status *podSyncStatus) (podWork, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if status.pending == nil {
		return podWork{}, false
	}
	if !p.allowPodStart(status.pod) {
		p.queue.Enqueue(uid, time.Second)
		return podWork{}, false
	}
	if status.firstSync.IsZero() {
		status.firstSync = p.clock.Now()
	}
	work := podWork{state: status.state(), update: status.pending.UpdateType, pod: status.pod, running: status.running, gracePeriod: status.gracePeriod}
	funcs := append([]PodStatusFunc{}, status.statusFuncs...)
	if len(funcs) > 0 {
		work.statusFn = func(s *v1.PodStatus) {
			for _, f := range funcs {
				f(s)
			}
		}
	}
	work.ctx, work.cancel = context.WithCancel(p.ctx)
	status.cancel = work.cancel
	status.pending = nil
	return work, true
}

// allowPodStart holds a static pod back while another of its name has not finished.
func (p *podWorkers) allowPodStart(pod *v1.Pod) bool {
	if pod == nil || !kubepod.IsStatic(pod) {
		return true
	}
	name := kubepod.FullName(pod)
	if current, taken := p.static[name]; taken && current != pod.UID {
		if other := p.pods[current]; other != nil && !other.finished {
			return false
		}
	}
	p.static[name] = pod.UID
	return true
}

// syncOnce performs one sync.
func (p *podWorkers) syncOnce(work podWork) (terminal bool, err error) {
	ctx := work.ctx
	if work.pod == nil {
		if work.state == terminating {
			return false, p.syncer.SyncTerminatingRuntimePod(ctx, work.running)
		}
		return false, nil
	}
	ctx = reconcile.Because(ctx, "MODIFIED", work.pod)
	podStatus, err := p.syncer.GetPodStatus(ctx, work.pod.UID, work.pod.Name, work.pod.Namespace)
	if err != nil {
		return false, err
	}
	switch work.state {
	case terminated:
		return false, p.syncer.SyncTerminatedPod(ctx, work.pod, podStatus)
	case terminating:
		return false, p.syncer.SyncTerminatingPod(ctx, work.pod, podStatus, work.gracePeriod, work.statusFn)
	}
	return p.syncer.SyncPod(ctx, work.update, work.pod, podStatus)
}

// Times until the next sync of a pod.
const (
	resyncInterval = time.Minute
	maxErrorDelay  = 10 * time.Second
)

// completeSync takes the result and has the next sync come when it should: at
// once after a step on the road, when a back-off lapses, soon after an error,
// in a minute otherwise.
func (p *podWorkers) completeSync(uid types.UID, status *podSyncStatus, work podWork, terminal bool, err error) (finished bool) {
	logger := klog.FromContext(p.ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	status.cancel = nil
	name := klog.KRef("", string(uid))
	if work.pod != nil {
		name = klog.KObj(work.pod)
	}
	again := func() {
		if status.pending == nil {
			status.pending = &UpdatePodOptions{UpdateType: SyncPodSync, Pod: status.pod, RunningPod: status.running}
		}
		select {
		case status.wake <- struct{}{}:
		default:
		}
	}
	if err != nil {
		if work.ctx.Err() != nil && status.pending != nil {
			return false // interrupted for what is pending
		}
		status.failures++
		delay := errorDelay(err, status.failures, p.clock.Now())
		if p.ctx.Err() == nil {
			logger.V(1).Info("Error syncing pod, trying again", "pod", name, "state", work.state, "in", delay, "err", err)
		}
		p.queue.Enqueue(uid, delay)
		return false
	}
	status.failures = 0
	switch {
	case work.state == terminated || work.state == terminating && work.pod == nil:
		logger.V(2).Info("Pod finished", "pod", name)
		status.terminatedAt, status.finished = p.clock.Now(), true
		p.closeAll(status)
		if work.pod != nil && p.static[kubepod.FullName(work.pod)] == uid {
			delete(p.static, kubepod.FullName(work.pod))
		}
		return true
	case work.state == terminating:
		logger.V(2).Info("Pod terminated, nothing of it runs", "pod", name)
		status.terminatedAt = p.clock.Now()
		p.closeAll(status)
		again()
	case terminal && status.state() == syncing:
		logger.V(2).Info("Pod ran to its end", "pod", name)
		status.terminatingAt = p.clock.Now()
		again()
	default:
		p.queue.Enqueue(uid, resyncInterval)
	}
	return false
}

func (p *podWorkers) closeAll(status *podSyncStatus) {
	for _, ch := range status.completed {
		close(ch)
	}
	status.completed = nil
}

// errorDelay is when to try again: at the time the error names, else sooner first.
func errorDelay(err error, failures int, now time.Time) time.Duration {
	var syncError *kubecontainer.SyncError
	if errors.As(err, &syncError) && !syncError.RetryAt.IsZero() {
		return max(syncError.RetryAt.Sub(now), 0)
	}
	delay := 500 * time.Millisecond
	for i := 1; i < failures && delay < maxErrorDelay; i++ {
		delay *= 2
	}
	return min(delay, maxErrorDelay)
}

// State is what others may know of a pod's worker.
type workerState struct {
	known, terminating, terminated, finished, deleted, evicted, restartRequested bool
}

func (p *podWorkers) state(uid types.UID) workerState {
	p.mu.Lock()
	defer p.mu.Unlock()
	status := p.pods[uid]
	if status == nil {
		return workerState{}
	}
	return status.snapshot()
}

func (s *podSyncStatus) snapshot() workerState {
	return workerState{true, !s.terminatingAt.IsZero(), !s.terminatedAt.IsZero(), s.finished, s.deleted, s.evicted, s.restartRequested}
}

// SyncKnownPods forgets finished pods that nobody wants, begins the end of running
// ones that nobody wants, and returns what is known of all.
func (p *podWorkers) SyncKnownPods(wanted map[types.UID]bool) map[types.UID]workerState {
	p.mu.Lock()
	var gone []*v1.Pod
	states := map[types.UID]workerState{}
	for uid, status := range p.pods {
		states[uid] = status.snapshot()
		if wanted[uid] {
			if status.finished && status.restartRequested {
				delete(p.pods, uid)
			}
			continue
		}
		switch {
		case status.finished:
			delete(p.pods, uid)
			delete(states, uid)
		case status.state() == syncing && status.pod != nil:
			status.deleted = true
			gone = append(gone, status.pod)
		}
	}
	p.mu.Unlock()
	for _, pod := range gone {
		p.UpdatePod(UpdatePodOptions{UpdateType: SyncPodKill, Pod: pod, Kill: &KillPodOptions{}})
	}
	return states
}

// poke has a pod looked at that is known by its worker alone.
func (p *podWorkers) poke(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	status := p.pods[uid]
	if status == nil || status.finished {
		return
	}
	if status.pending == nil {
		status.pending = &UpdatePodOptions{UpdateType: SyncPodSync, Pod: status.pod, RunningPod: status.running}
	}
	select {
	case status.wake <- struct{}{}:
	default:
	}
}

// stop ends all workers, whatever they are at, and waits for them.
func (p *podWorkers) stop() {
	p.mu.Lock() // no UpdatePod may start a worker between the two
	p.cancel()
	p.mu.Unlock()
	p.group.Wait()
}

// describe is for /debug and for messages on a slow stop.
func (p *podWorkers) describe() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []string
	for uid, status := range p.pods {
		if !status.finished && status.pod != nil {
			list = append(list, fmt.Sprintf("%s/%s (%s): %s", status.pod.Namespace, status.pod.Name, uid, status.state()))
		}
	}
	return list
}
