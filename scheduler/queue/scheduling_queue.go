package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"hyperkube/reconcile"
	"hyperkube/scheduler/framework"
)

const (
	// DefaultPodInitialBackoffDuration is the wait after the first refusal.
	DefaultPodInitialBackoffDuration = time.Second
	// DefaultPodMaxBackoffDuration is the longest wait.
	DefaultPodMaxBackoffDuration = 10 * time.Second
	// DefaultPodMaxInUnschedulablePodsDuration is how long a pod waits for an event at most.
	DefaultPodMaxInUnschedulablePodsDuration = 5 * time.Minute

	flushBackoffPeriod       = time.Second
	flushUnschedulablePeriod = 30 * time.Second
)

// Labels of what brought a pod into a part of the queue, besides ClusterEvent.Label.
const (
	podAdd            = "PodAdd"
	backoffComplete   = "BackoffComplete"
	popFromBackoff    = "PopFromBackoffQ"
	scheduleAttempt   = "ScheduleAttemptFailure"
	forceActivate     = "ForceActivate"
	activeQueue       = "active"
	backoffQueue      = "backoff"
	unschedulableArea = "unschedulable"
	gatedArea         = "gated"
)

// Options are what the queue gets from the framework.
type Options struct {
	Less       framework.LessFunc
	PreEnqueue func(ctx context.Context, pod *v1.Pod) *framework.Status
	// Hints are the events each plugin registered, in the profile of a pod; a rejected pod
	// is moved by those of the plugins that rejected it.
	Hints func(pod *v1.Pod) map[string][]framework.ClusterEventWithHint
	// InitialBackoff and MaxBackoff bound the wait after a refusal. Default 1 s and 10 s.
	InitialBackoff, MaxBackoff time.Duration
	// Nominator is told of the pods that are here; default one of its own.
	Nominator *Nominator
	Clock     clock.WithTicker
	// Incoming is told which event brought a pod into which part; may be nil.
	Incoming func(queue, event string)
}

// PriorityQueue is the scheduling queue. Safe for concurrent use.
type PriorityQueue struct {
	opts   Options
	logger klog.Logger

	mu   sync.Mutex
	cond *sync.Cond
	// activeQ is ordered by the QueueSort plugin.
	activeQ *podHeap
	// backoffQ and errorBackoffQ are ordered by the end of the backoff.
	backoffQ, errorBackoffQ *podHeap
	unschedulablePods       map[types.UID]*framework.QueuedPodInfo
	inFlight                *inFlight
}

// NewPriorityQueue returns an empty queue.
func NewPriorityQueue(logger klog.Logger, opts Options) *PriorityQueue {
	if opts.Nominator == nil {
		opts.Nominator = &Nominator{}
	}
	if opts.InitialBackoff == 0 {
		opts.InitialBackoff = DefaultPodInitialBackoffDuration
	}
	if opts.MaxBackoff == 0 {
		opts.MaxBackoff = max(DefaultPodMaxBackoffDuration, opts.InitialBackoff)
	}
	byExpiration := func(a, b *framework.QueuedPodInfo) bool {
		if a.BackoffExpiration.Equal(b.BackoffExpiration) {
			return opts.Less(a, b)
		}
		return a.BackoffExpiration.Before(b.BackoffExpiration)
	}
	p := &PriorityQueue{
		opts: opts, logger: logger, activeQ: newPodHeap(opts.Less),
		backoffQ: newPodHeap(byExpiration), errorBackoffQ: newPodHeap(byExpiration),
		unschedulablePods: map[types.UID]*framework.QueuedPodInfo{}, inFlight: newInFlight(),
	}
	p.cond = sync.NewCond(&p.mu)
	return p
}

// Run ends backoffs and long waits until ctx is done.
func (p *PriorityQueue) Run(ctx context.Context) {
	backoff := p.opts.Clock.NewTicker(flushBackoffPeriod)
	defer backoff.Stop()
	unschedulable := p.opts.Clock.NewTicker(flushUnschedulablePeriod)
	defer unschedulable.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-backoff.C():
			p.flushBackoffQCompleted()
		case <-unschedulable.C():
			p.flushUnschedulablePodsLeftover()
		}
	}
}

// Pop takes the next pod, waiting for one; nil when ctx is done. The pod is in
// flight until Done.
func (p *PriorityQueue) Pop(ctx context.Context) *framework.QueuedPodInfo {
	// A condition variable knows no context: wake all waiters when ctx ends.
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.cond.Broadcast()
	})
	defer stop()

	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if ctx.Err() != nil {
			return nil
		}
		if p.activeQ.len() == 0 {
			p.popFromBackoffQ()
		}
		if p.activeQ.len() > 0 {
			break
		}
		p.cond.Wait()
	}
	pInfo := p.activeQ.pop()
	pInfo.Attempts++
	if pInfo.InitialAttemptTimestamp == nil {
		now := p.opts.Clock.Now()
		pInfo.InitialAttemptTimestamp = &now
	}
	pInfo.UnschedulablePlugins, pInfo.PendingPlugins = nil, nil
	p.inFlight.add(pInfo.Pod.UID)
	return pInfo
}

// popFromBackoffQ lets the pod nearest to the end of its backoff go early: the
// scheduler has nothing else to do.
func (p *PriorityQueue) popFromBackoffQ() {
	if pInfo := p.backoffQ.peek(); pInfo != nil {
		p.backoffQ.pop()
		p.moveToActiveQ(pInfo, popFromBackoff)
	}
}

// Done ends the flight of a pod that was popped: it is placed, gone, or back in
// the queue.
func (p *PriorityQueue) Done(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight.done(uid)
}

// Add enters a new pod.
func (p *PriorityQueue) Add(pod *v1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(pod)
}

func (p *PriorityQueue) add(pod *v1.Pod) {
	p.remove(pod.UID) // an informer may repeat itself after a relist
	pInfo := &framework.QueuedPodInfo{PodInfo: framework.NewPodInfo(pod), Timestamp: p.opts.Clock.Now()}
	p.opts.Nominator.AddNominatedPod(pInfo.PodInfo, nil)
	p.moveToActiveQ(pInfo, podAdd)
}

// Update takes a new version of a pod that has no node yet. It may be what the
// pod's rejectors wait for.
func (p *PriorityQueue) Update(oldPod, newPod *v1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var events []framework.ClusterEvent
	if oldPod != nil {
		events = framework.PodSchedulingPropertiesChange(newPod, oldPod)
	}
	if p.inFlight.has(newPod.UID) {
		for _, event := range events {
			p.inFlight.addEvent(event, oldPod, newPod)
		}
		return
	}
	for _, h := range []*podHeap{p.activeQ, p.backoffQ, p.errorBackoffQ} {
		if pInfo := h.get(newPod.UID); pInfo != nil {
			pInfo.PodInfo = framework.NewPodInfo(newPod)
			p.opts.Nominator.UpdateNominatedPod(oldPod, pInfo.PodInfo)
			h.addOrUpdate(pInfo)
			return
		}
	}
	pInfo, ok := p.unschedulablePods[newPod.UID]
	if !ok {
		p.add(newPod)
		return
	}
	pInfo.PodInfo = framework.NewPodInfo(newPod)
	p.opts.Nominator.UpdateNominatedPod(oldPod, pInfo.PodInfo)
	for _, event := range events {
		if strategy := p.isPodWorthRequeuing(pInfo, event, oldPod, newPod); strategy != queueSkip {
			delete(p.unschedulablePods, newPod.UID)
			pInfo.MovedBy = eventOf(oldPod, newPod)
			p.requeue(pInfo, strategy, event.Label)
			return
		}
	}
}

// Delete forgets a pod.
func (p *PriorityQueue) Delete(pod *v1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opts.Nominator.DeleteNominatedPodIfExists(pod.UID)
	p.remove(pod.UID)
}

func (p *PriorityQueue) remove(uid types.UID) {
	p.activeQ.delete(uid)
	p.backoffQ.delete(uid)
	p.errorBackoffQ.delete(uid)
	delete(p.unschedulablePods, uid)
}

// AddUnschedulableIfNotPresent takes back a pod that was popped and not placed. It
// goes to unschedulablePods, unless an event came during its attempt that may have
// helped, or it failed by an error: then it goes to backoffQ.
func (p *PriorityQueue) AddUnschedulableIfNotPresent(pInfo *framework.QueuedPodInfo) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	uid := pInfo.Pod.UID
	if p.find(uid) != nil {
		return fmt.Errorf("pod %v is already present in the scheduling queue", klog.KObj(pInfo.Pod))
	}
	pInfo.Timestamp, pInfo.MovedBy = p.opts.Clock.Now(), reconcile.Event{}
	if len(pInfo.RejectorPlugins()) == 0 {
		pInfo.ConsecutiveErrorsCount++
	} else {
		pInfo.UnschedulableCount++
		pInfo.ConsecutiveErrorsCount = 0
	}
	p.requeue(pInfo, p.strategyForInFlightPod(pInfo), scheduleAttempt)
	return nil
}

// strategyForInFlightPod puts the events since the pod was popped to the hints.
func (p *PriorityQueue) strategyForInFlightPod(pInfo *framework.QueuedPodInfo) queueingStrategy {
	if len(pInfo.RejectorPlugins()) == 0 {
		return queueAfterBackoff
	}
	strategy := queueSkip
	for _, e := range p.inFlight.eventsSince(pInfo.Pod.UID) {
		worth := p.isPodWorthRequeuing(pInfo, e.event, e.oldObj, e.newObj)
		if worth > strategy {
			strategy, pInfo.MovedBy = worth, eventOf(e.oldObj, e.newObj)
		}
		if strategy == queueImmediately {
			break
		}
	}
	return strategy
}

// eventOf is the event as the record of the cluster names causes.
func eventOf(oldObj, newObj any) reconcile.Event {
	var e reconcile.Event
	e.Old, _ = oldObj.(metav1.Object)
	e.New, _ = newObj.(metav1.Object)
	return e
}

// PreEnqueueCheck filters which unschedulable pods an event is put to at all.
type PreEnqueueCheck func(pod *v1.Pod) bool

// MoveAllToActiveOrBackoffQueue puts an event to all unschedulable pods, and keeps
// it for those in flight.
func (p *PriorityQueue) MoveAllToActiveOrBackoffQueue(event framework.ClusterEvent, oldObj, newObj any, preCheck PreEnqueueCheck) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moveAll(event, oldObj, newObj, preCheck)
}

func (p *PriorityQueue) moveAll(event framework.ClusterEvent, oldObj, newObj any, preCheck PreEnqueueCheck) {
	for uid, pInfo := range p.unschedulablePods {
		if preCheck != nil && !preCheck(pInfo.Pod) {
			continue
		}
		if strategy := p.isPodWorthRequeuing(pInfo, event, oldObj, newObj); strategy != queueSkip {
			delete(p.unschedulablePods, uid)
			pInfo.MovedBy = eventOf(oldObj, newObj)
			p.requeue(pInfo, strategy, event.Label)
		}
	}
	p.inFlight.addEvent(event, oldObj, newObj)
}

// Activate moves pods to activeQ at once: a plugin knows that they can go.
func (p *PriorityQueue) Activate(pods ...*v1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pod := range pods {
		if pInfo := p.find(pod.UID); pInfo != nil && p.activeQ.get(pod.UID) == nil {
			p.remove(pod.UID)
			p.moveToActiveQ(pInfo, forceActivate)
		}
	}
}

// queueingStrategy orders the answers to "what shall become of this pod".
type queueingStrategy int

const (
	queueSkip queueingStrategy = iota
	queueAfterBackoff
	queueImmediately
)

// isPodWorthRequeuing asks the hints of the plugins that rejected the pod. Any yes
// is enough; a yes of a plugin the pod is merely pending on is for now.
func (p *PriorityQueue) isPodWorthRequeuing(pInfo *framework.QueuedPodInfo, event framework.ClusterEvent, oldObj, newObj any) queueingStrategy {
	rejectors := pInfo.RejectorPlugins()
	if pInfo.Gated() {
		rejectors.Insert(pInfo.GatingPlugin)
	}
	if len(rejectors) == 0 || event.IsWildCard() {
		return queueAfterBackoff
	}
	strategy := queueSkip
	for plugin := range rejectors {
		for _, registered := range p.opts.Hints(pInfo.Pod)[plugin] {
			if !registered.Event.Match(event) || !p.hintSaysQueue(registered, pInfo, oldObj, newObj) {
				continue
			}
			if pInfo.PendingPlugins.Has(plugin) {
				return queueImmediately
			}
			strategy = queueAfterBackoff
		}
	}
	return strategy
}

func (p *PriorityQueue) hintSaysQueue(registered framework.ClusterEventWithHint, pInfo *framework.QueuedPodInfo, oldObj, newObj any) bool {
	if registered.QueueingHintFn == nil {
		return true
	}
	hint, err := registered.QueueingHintFn(p.logger, pInfo.Pod, oldObj, newObj)
	if err != nil {
		p.logger.Error(err, "Queueing hint failed, the pod is tried again", "pod", klog.KObj(pInfo.Pod))
		return true
	}
	return hint == framework.Queue
}

// requeue puts a pod where the strategy says.
func (p *PriorityQueue) requeue(pInfo *framework.QueuedPodInfo, strategy queueingStrategy, label string) {
	switch {
	case strategy == queueSkip:
		p.unschedulablePods[pInfo.Pod.UID] = pInfo
		p.incoming(unschedulableArea, label)
	case strategy == queueAfterBackoff && !pInfo.Gated() && p.isPodBackingoff(pInfo):
		p.moveToBackoffQ(pInfo, label)
	default:
		p.moveToActiveQ(pInfo, label)
	}
}

// moveToActiveQ is the only way in; here PreEnqueue may refuse.
func (p *PriorityQueue) moveToActiveQ(pInfo *framework.QueuedPodInfo, label string) {
	if status := p.opts.PreEnqueue(context.Background(), pInfo.Pod); !status.IsSuccess() {
		pInfo.GatingPlugin = status.Plugin()
		p.unschedulablePods[pInfo.Pod.UID] = pInfo
		p.incoming(gatedArea, label)
		return
	}
	if pInfo.Gated() {
		// From here on its wait is the scheduler's, not the gate's.
		pInfo.GatingPlugin = ""
		pInfo.Timestamp = p.opts.Clock.Now()
	}
	p.activeQ.addOrUpdate(pInfo)
	p.incoming(activeQueue, label)
	p.cond.Broadcast()
}

func (p *PriorityQueue) moveToBackoffQ(pInfo *framework.QueuedPodInfo, label string) {
	q := p.backoffQ
	if pInfo.ConsecutiveErrorsCount > 0 {
		q = p.errorBackoffQ
	}
	q.addOrUpdate(pInfo)
	p.incoming(backoffQueue, label)
	p.cond.Broadcast()
}

// isPodBackingoff computes the end of the pod's backoff and tells whether it is to come.
func (p *PriorityQueue) isPodBackingoff(pInfo *framework.QueuedPodInfo) bool {
	pInfo.BackoffExpiration = pInfo.Timestamp.Add(p.calculateBackoffDuration(pInfo))
	return pInfo.BackoffExpiration.After(p.opts.Clock.Now())
}

// calculateBackoffDuration doubles with each refusal, and on its own count with
// each error in a row.
func (p *PriorityQueue) calculateBackoffDuration(pInfo *framework.QueuedPodInfo) time.Duration {
	count := pInfo.UnschedulableCount
	if pInfo.ConsecutiveErrorsCount > 0 {
		count = pInfo.ConsecutiveErrorsCount
	}
	if count == 0 {
		return 0
	}
	duration := p.opts.InitialBackoff
	for i := 1; i < count; i++ {
		if duration > p.opts.MaxBackoff/2 {
			return p.opts.MaxBackoff
		}
		duration *= 2
	}
	return duration
}

// flushBackoffQCompleted moves pods whose backoff is over to activeQ.
func (p *PriorityQueue) flushBackoffQCompleted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.opts.Clock.Now()
	for _, q := range []*podHeap{p.backoffQ, p.errorBackoffQ} {
		for pInfo := q.peek(); pInfo != nil && !pInfo.BackoffExpiration.After(now); pInfo = q.peek() {
			p.moveToActiveQ(q.pop(), backoffComplete)
		}
	}
}

// flushUnschedulablePodsLeftover tries again what has waited too long for an event.
func (p *PriorityQueue) flushUnschedulablePodsLeftover() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.opts.Clock.Now()
	for uid, pInfo := range p.unschedulablePods {
		if now.Sub(pInfo.Timestamp) > DefaultPodMaxInUnschedulablePodsDuration && !pInfo.Gated() {
			delete(p.unschedulablePods, uid)
			p.requeue(pInfo, queueAfterBackoff, framework.EventUnschedulableTimeout.Label)
		}
	}
}

// find returns the pod from whichever part of the queue holds it, or nil.
func (p *PriorityQueue) find(uid types.UID) *framework.QueuedPodInfo {
	for _, h := range []*podHeap{p.activeQ, p.backoffQ, p.errorBackoffQ} {
		if pInfo := h.get(uid); pInfo != nil {
			return pInfo
		}
	}
	return p.unschedulablePods[uid]
}

func (p *PriorityQueue) incoming(queue, event string) {
	if p.opts.Incoming != nil {
		p.opts.Incoming(queue, event)
	}
}

// Counts are the numbers of pods in each part of the queue.
type Counts struct {
	Active, Backoff, Unschedulable, Gated, InFlight int
}

// Counts counts.
func (p *PriorityQueue) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := Counts{Active: p.activeQ.len(), Backoff: p.backoffQ.len() + p.errorBackoffQ.len(), InFlight: p.inFlight.len()}
	for _, pInfo := range p.unschedulablePods {
		if pInfo.Gated() {
			c.Gated++
		} else {
			c.Unschedulable++
		}
	}
	return c
}
