package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
)

// maxCauses bounds what one run remembers; the rest is counted. A Deployment of a
// thousand pods hears a thousand events before its next run.
const maxCauses = 8

// Cause is one reason why a key was synced: an object at a resource version.
type Cause struct {
	// Kind is the object's kind; Verb is ADDED, MODIFIED or DELETED.
	Kind, Verb string
	// Namespace (may be empty), Name and ResourceVersion name the object's version.
	Namespace, Name, ResourceVersion string
}

func (c Cause) String() string {
	name := c.Name
	if c.Namespace != "" {
		name = c.Namespace + "/" + c.Name
	}
	return fmt.Sprintf("%s %s %s@%s", c.Verb, c.Kind, name, c.ResourceVersion)
}

// Causes are the reasons of one run, oldest first. None: a timer, or a retry
// that the controller itself asked for.
type Causes struct {
	List []Cause
	// More counts those that did not fit.
	More int
}

func (c Causes) String() string {
	parts := make([]string, 0, len(c.List)+1)
	for _, cause := range c.List {
		parts = append(parts, cause.String())
	}
	if c.More > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", c.More))
	}
	return strings.Join(parts, ", ")
}

// add appends cause; of one object only the newest version is kept, because that
// is the one the run will see.
func (c *Causes) add(cause Cause) {
	for i, known := range c.List {
		if known.Kind == cause.Kind && known.Namespace == cause.Namespace && known.Name == cause.Name {
			c.List[i] = cause
			return
		}
	}
	if len(c.List) >= maxCauses {
		c.More++
		return
	}
	c.List = append(c.List, cause)
}

type causesKey struct{}

// WithCauses returns a context whose requests are made because of c, in a trace of their
// own if ctx has none yet (TraceFrom); its logger shows the trace's id. Loops that are none
// of this package's (the scheduler's, the kubelet's) say so where they take work from their
// queues.
func WithCauses(ctx context.Context, c Causes) context.Context {
	return context.WithValue(withTrace(ctx), causesKey{}, c)
}

// Because returns a context whose requests are made because of one object's version.
func Because(ctx context.Context, verb string, object metav1.Object) context.Context {
	return WithCauses(ctx, Causes{List: []Cause{{Kind: kindOf(object), Verb: verb, Namespace: object.GetNamespace(), Name: object.GetName(),
		ResourceVersion: object.GetResourceVersion()}}})
}

// BecauseOf returns a context whose requests are made because of events, the oldest first.
func BecauseOf(ctx context.Context, events ...Event) context.Context {
	var causes Causes
	for _, e := range events {
		if object := e.Object(); object != nil {
			causes.add(causeOf(e))
		}
	}
	return WithCauses(ctx, causes)
}

// AlsoBecause adds an object's version to what ctx names: a timer's run knows no event, but
// the object that it was set for.
func AlsoBecause(ctx context.Context, verb string, object metav1.Object) context.Context {
	causes := CausesFrom(ctx)
	causes.List = append([]Cause(nil), causes.List...)
	causes.add(CausesFrom(Because(ctx, verb, object)).List[0])
	return WithCauses(ctx, causes)
}

// Run is one run of a loop: which, and on which key.
type Run struct{ Loop, Key string }

type runKey struct{}

// WithRun returns a context of a run.
func WithRun(ctx context.Context, r Run) context.Context { return context.WithValue(ctx, runKey{}, r) }

// RunFrom returns the run that ctx belongs to; the zero Run outside of one.
func RunFrom(ctx context.Context) Run {
	r, _ := ctx.Value(runKey{}).(Run)
	return r
}

// CausesFrom returns the causes of the run that ctx belongs to. The transport in
// client/ sends them along with each request.
func CausesFrom(ctx context.Context) Causes {
	c, _ := ctx.Value(causesKey{}).(Causes)
	return c
}

// Gatherer collects the causes of a loop that does all its work in one run, as the
// proxy does. The zero value is ready, and safe for concurrent use.
type Gatherer struct{ causes causes }

// Add notes an event; Take returns the causes since the last Take; Back returns those of a
// run that failed.
func (g *Gatherer) Add(e Event)   { g.causes.add("", e) }
func (g *Gatherer) Take() Causes  { return g.causes.take("") }
func (g *Gatherer) Back(c Causes) { g.causes.putBack("", c) }

// causes collects, for each key that waits, why it does. An entry lives from
// the event to the start of the key's next run.
type causes struct {
	mu      sync.Mutex
	waiting map[string]Causes
	// recent are those of the latest runs, by key, the oldest key first in order; see takeForRun.
	recent map[string]Causes
	order  []string
}

// maxRecent bounds recent: a run that inherits follows soon upon the one it inherits from.
const maxRecent = 64

func (c *causes) add(key string, e Event) {
	cause := causeOf(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = map[string]Causes{}
	}
	all := c.waiting[key]
	all.add(cause)
	c.waiting[key] = all
}

func (c *causes) take(key string) Causes {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.waiting[key]
	delete(c.waiting, key)
	return all
}

// takeForRun is take for a loop. An event's cause is noted before its key is queued, and so can be taken by a run
// that was queued before; the run that the event queued then finds none, and is still because of it: it inherits.
func (c *causes) takeForRun(key string) Causes {
	all := c.take(key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(all.List) == 0 {
		return c.recent[key]
	}
	if c.recent == nil {
		c.recent = map[string]Causes{}
	}
	if _, known := c.recent[key]; !known {
		c.order = append(c.order, key)
	}
	c.recent[key] = all
	if len(c.order) > maxRecent {
		delete(c.recent, c.order[0])
		c.order = c.order[1:]
	}
	return all
}

// forget lets the next run of key inherit nothing: it is a clock that asks for it.
func (c *causes) forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.recent[key]; known {
		delete(c.recent, key)
		c.order = slices.DeleteFunc(c.order, func(other string) bool { return other == key })
	}
}

// peek is take without taking.
func (c *causes) peek(key string) Causes {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.waiting[key]
	all.List = slices.Clone(all.List)
	return all
}

// putBack returns the causes of a run that failed, before what came since.
func (c *causes) putBack(key string, old Causes) {
	if len(old.List) == 0 && old.More == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = map[string]Causes{}
	}
	newer := c.waiting[key]
	all := Causes{List: append([]Cause(nil), old.List...), More: old.More + newer.More}
	for _, cause := range newer.List {
		all.add(cause)
	}
	c.waiting[key] = all
}

func causeOf(e Event) Cause {
	object := e.Object()
	verb := "MODIFIED"
	switch {
	case e.Deleted():
		verb = "DELETED"
	case e.Added():
		verb = "ADDED"
	}
	return Cause{Kind: kindOf(object), Verb: verb, Namespace: object.GetNamespace(), Name: object.GetName(),
		ResourceVersion: object.GetResourceVersion()}
}

// kindOf asks the scheme, because objects of typed informers do not carry their
// kind.
func kindOf(object metav1.Object) string {
	o, ok := object.(runtime.Object)
	if !ok {
		return ""
	}
	if kind := o.GetObjectKind().GroupVersionKind().Kind; kind != "" {
		return kind
	}
	if kinds, _, err := scheme.Scheme.ObjectKinds(o); err == nil && len(kinds) > 0 {
		return kinds[0].Kind
	}
	return ""
}
