package runtime

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/clock"

	"hyperkube/scheduler/framework"
)

// maxTimeout bounds how long a Permit plugin may hold a pod back.
const maxTimeout = 15 * time.Minute

// waitingPodsMap holds the pods between Permit and the end of their wait.
type waitingPodsMap struct {
	mu   sync.RWMutex
	pods map[types.UID]*waitingPod
}

func (m *waitingPodsMap) add(wp *waitingPod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pods[wp.pod.UID] = wp
}

func (m *waitingPodsMap) remove(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pods, uid)
}

func (m *waitingPodsMap) get(uid types.UID) *waitingPod {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.pods[uid]
}

// waitingPod is one pod held back by some plugins, each with its own time limit.
// done receives exactly one verdict.
type waitingPod struct {
	pod  *v1.Pod
	done chan *framework.Status

	mu      sync.Mutex
	pending map[string]clock.Timer
}

func newWaitingPod(pod *v1.Pod, timeouts map[string]time.Duration, clk clock.WithTicker) *waitingPod {
	wp := &waitingPod{pod: pod, done: make(chan *framework.Status, 1), pending: map[string]clock.Timer{}}
	wp.mu.Lock()
	defer wp.mu.Unlock()
	for plugin, timeout := range timeouts {
		timer := clk.NewTimer(timeout)
		wp.pending[plugin] = timer
		go wp.expire(plugin, timeout, timer)
	}
	return wp
}

// expire rejects the pod when the plugin's time is over. The goroutine ends with
// the timer: one no longer needed is fired at once by Reset(0), after its plugin
// has left pending.
func (wp *waitingPod) expire(plugin string, timeout time.Duration, timer clock.Timer) {
	<-timer.C()
	wp.mu.Lock()
	_, pending := wp.pending[plugin]
	wp.mu.Unlock()
	if pending {
		wp.Reject(plugin, fmt.Sprintf("rejected due to timeout after waiting %v at plugin %v", timeout, plugin))
	}
}

// GetPod returns the pod.
func (wp *waitingPod) GetPod() *v1.Pod { return wp.pod }

// GetPendingPlugins names the plugins that still object.
func (wp *waitingPod) GetPendingPlugins() []string {
	wp.mu.Lock()
	defer wp.mu.Unlock()
	return sets.List(sets.KeySet(wp.pending))
}

// Allow takes back a plugin's objection; the last one ends the wait.
func (wp *waitingPod) Allow(plugin string) {
	wp.mu.Lock()
	defer wp.mu.Unlock()
	if timer, ok := wp.pending[plugin]; ok {
		delete(wp.pending, plugin)
		timer.Reset(0)
	}
	if len(wp.pending) == 0 {
		wp.decide(nil)
	}
}

// Reject ends the wait with a rejection.
func (wp *waitingPod) Reject(plugin, msg string) {
	wp.mu.Lock()
	defer wp.mu.Unlock()
	for name, timer := range wp.pending {
		delete(wp.pending, name)
		timer.Reset(0)
	}
	wp.decide(framework.NewStatus(framework.Unschedulable, msg).WithPlugin(plugin))
}

// decide delivers the first verdict; later ones are too late.
func (wp *waitingPod) decide(status *framework.Status) {
	select {
	case wp.done <- status:
	default:
	}
}

// RunPermitPlugins asks all plugins. With any Wait the pod becomes a waiting pod,
// and the answer is Wait.
func (f *Framework) RunPermitPlugins(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) (status *framework.Status) {
	defer f.observe("Permit", time.Now(), &status)()
	timeouts := map[string]time.Duration{}
	for _, p := range f.permit {
		s, timeout := p.Permit(ctx, state, pod, node)
		switch {
		case s.IsSuccess():
		case s.IsWait():
			timeouts[p.Name()] = min(timeout, maxTimeout)
		case s.IsRejected():
			return s.WithPlugin(p.Name())
		default:
			return asStatus("Permit", p.Name(), s)
		}
	}
	if len(timeouts) == 0 {
		return nil
	}
	f.waiting.add(newWaitingPod(pod, timeouts, f.Clock))
	return framework.NewStatus(framework.Wait, "one or more plugins asked to wait and no plugin rejected the pod")
}

// WaitOnPermit blocks while the pod is a waiting pod, or until ctx is done.
func (f *Framework) WaitOnPermit(ctx context.Context, pod *v1.Pod) *framework.Status {
	wp := f.waiting.get(pod.UID)
	if wp == nil {
		return nil
	}
	defer f.waiting.remove(pod.UID)
	select {
	case status := <-wp.done:
		return status
	case <-ctx.Done():
		wp.Reject("", "the scheduler stops")
		return framework.AsStatus(ctx.Err())
	}
}

// IterateOverWaitingPods visits all waiting pods.
func (f *Framework) IterateOverWaitingPods(visit func(framework.WaitingPod)) {
	f.waiting.mu.RLock()
	defer f.waiting.mu.RUnlock()
	for _, wp := range f.waiting.pods {
		visit(wp)
	}
}

// GetWaitingPod returns the waiting pod, or nil.
func (f *Framework) GetWaitingPod(uid types.UID) framework.WaitingPod {
	if wp := f.waiting.get(uid); wp != nil {
		return wp
	}
	return nil
}

// RejectWaitingPod ends a wait, such as when the pod is deleted.
func (f *Framework) RejectWaitingPod(uid types.UID) bool {
	if wp := f.waiting.get(uid); wp != nil {
		wp.Reject("", "removed")
		return true
	}
	return false
}
