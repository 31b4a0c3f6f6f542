// Package pleg notices what containers do on their own. The pod lifecycle event
// generator lists what runs, compares it with the list before, and sends one
// event a difference:
//
//	every second ───────────┐
//	after our own calls ────┼─► Relist: ListPodSandbox, ListContainers ─► diff ─► Channel
//	the runtime's events ───┘
//
// With a runtime that streams its events the ticker only catches what was lost,
// and runs ten times as rarely.
//
// Invariant: an event says that something changed, never what the state is; who
// gets one asks the runtime. A lost event costs a second, a stale one nothing.
//
// In Kubernetes: pkg/kubelet/pleg, generic.go and evented.go in one: events poke
// the relist instead of being trusted in its place.
package pleg

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	kubecontainer "hyperkube/kubelet/container"
)

// PodLifeCycleEventType is what happened to a container or sandbox.
type PodLifeCycleEventType string

const (
	ContainerStarted PodLifeCycleEventType = "ContainerStarted"
	ContainerDied    PodLifeCycleEventType = "ContainerDied"
	ContainerRemoved PodLifeCycleEventType = "ContainerRemoved"
	ContainerChanged PodLifeCycleEventType = "ContainerChanged"
)

// PodLifecycleEvent is one change of one pod.
type PodLifecycleEvent struct {
	ID   types.UID
	Type PodLifeCycleEventType
	// ContainerID is of a container or of a sandbox.
	ContainerID string
}

const (
	relistPeriod = time.Second
	// relistPeriodWithEvents is for runtimes that tell.
	relistPeriodWithEvents = 10 * time.Second
	// RelistThreshold is the age of the last good relist from which on the node is not ready.
	RelistThreshold = 3 * time.Minute
	channelCapacity = 1000
)

// Lister lists all pods of the runtime, dead ones too.
type Lister interface {
	GetPods(ctx context.Context, all bool) ([]*kubecontainer.Pod, error)
}

// EventSource streams the runtime's own events; optional.
type EventSource func(ctx context.Context) (interface {
	Recv() (*runtimeapi.ContainerEventResponse, error)
}, error)

// GenericPLEG is the generator.
type GenericPLEG struct {
	lister Lister
	events EventSource
	clock  clock.WithTicker

	channel chan PodLifecycleEvent
	poke    chan struct{}

	mu         sync.Mutex
	states     map[string]record // by container or sandbox ID
	lastRelist time.Time
	lastError  error
	evented    bool
}

type record struct {
	pod   types.UID
	state kubecontainer.State
}

// NewGenericPLEG makes a generator; events may be nil.
func NewGenericPLEG(lister Lister, events EventSource, c clock.WithTicker) *GenericPLEG {
	return &GenericPLEG{lister: lister, events: events, clock: c, lastRelist: c.Now(),
		channel: make(chan PodLifecycleEvent, channelCapacity), poke: make(chan struct{}, 1), states: map[string]record{}}
}

// Watch is where events come out.
func (g *GenericPLEG) Watch() <-chan PodLifecycleEvent { return g.channel }

// Poke asks for a relist now. It never blocks; pokes during a relist become one.
func (g *GenericPLEG) Poke() {
	select {
	case g.poke <- struct{}{}:
	default:
	}
}

// Run relists until ctx ends.
func (g *GenericPLEG) Run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	if g.events != nil {
		group.Go(func() { g.followEvents(ctx) })
	}
	ticker := g.clock.NewTicker(relistPeriod)
	defer ticker.Stop()
	for {
		g.Relist(ctx)
		select {
		case <-ctx.Done():
			return
		case <-g.poke:
		case <-ticker.C():
			for g.isEvented() && g.clock.Since(g.last()) < relistPeriodWithEvents {
				select {
				case <-ctx.Done():
					return
				case <-g.poke:
				case <-ticker.C():
					continue
				}
				break
			}
		}
	}
}

// Relist is one turn: list, compare, tell.
func (g *GenericPLEG) Relist(ctx context.Context) {
	pods, err := g.lister.GetPods(ctx, true)
	if err != nil {
		if ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "PLEG cannot list pods")
		}
		g.mu.Lock()
		g.lastError = err
		g.mu.Unlock()
		return
	}
	next := map[string]record{}
	for _, pod := range pods {
		for _, c := range append(append([]*kubecontainer.Container{}, pod.Containers...), pod.Sandboxes...) {
			next[c.ID.ID] = record{pod.ID, c.State}
		}
	}
	g.mu.Lock()
	events := computeEvents(g.states, next)
	g.states, g.lastRelist, g.lastError = next, g.clock.Now(), nil
	g.mu.Unlock()
	for _, event := range events {
		select {
		case g.channel <- event:
		case <-ctx.Done():
			return
		}
	}
}

// computeEvents compares two lists. It is pure.
func computeEvents(old, next map[string]record) []PodLifecycleEvent {
	var events []PodLifecycleEvent
	for id, now := range next {
		before, known := old[id]
		if known && before.state == now.state {
			continue
		}
		kind := ContainerChanged
		switch now.state {
		case kubecontainer.StateRunning:
			kind = ContainerStarted
		case kubecontainer.StateExited:
			kind = ContainerDied
		}
		events = append(events, PodLifecycleEvent{now.pod, kind, id})
	}
	for id, before := range old {
		if _, still := next[id]; !still {
			events = append(events, PodLifecycleEvent{before.pod, ContainerRemoved, id})
		}
	}
	return events
}

// followEvents pokes the relist whenever the runtime says that something happened.
func (g *GenericPLEG) followEvents(ctx context.Context) {
	logger := klog.FromContext(ctx)
	for ctx.Err() == nil {
		stream, err := g.events(ctx)
		for err == nil {
			if _, err = stream.Recv(); err == nil {
				g.setEvented(true)
				g.Poke()
			}
		}
		g.setEvented(false)
		logger.V(4).Info("The runtime sends no events, relisting every second", "err", err)
		if status.Code(err) == codes.Unimplemented {
			return // it never will: containerd before 1.7
		}
		select {
		case <-ctx.Done():
		case <-g.clock.After(5 * time.Second):
		}
	}
}

func (g *GenericPLEG) setEvented(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.evented = on
}

func (g *GenericPLEG) isEvented() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.evented
}

func (g *GenericPLEG) last() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lastRelist
}

// Healthy returns why the node should not be trusted with pods, or nil.
func (g *GenericPLEG) Healthy() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if age := g.clock.Since(g.lastRelist); age > RelistThreshold {
		return fmt.Errorf("pleg was last seen active %v ago; threshold is %v: %v", age.Round(time.Second), RelistThreshold, g.lastError)
	}
	return nil
}
