package endpoints

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"hyperkube/apiserver/request"
	"hyperkube/apiserver/storage"
	"hyperkube/flow"
)

// While a gate of package flow is closed, its client stands at one revision: it is told
// of no change after it, and whatever it lists, or begins to watch, is the state at it.
//
//	GET of an object   the state of now: shown by the gate, not held
//	LIST               the state at the revision where the client stands, from etcd's history
//	WATCH, anew        the same as ADDED events, then what the gate lets through
//	WATCH, from N      what the gate lets through
//
// Otherwise a client that lists anew (a restart, a 410) would learn of everything past
// the gate. etcd and the caches keep history back to that revision (Gates.Oldest).

// gateClient is who asks, as gates tell clients apart.
func gateClient(r *http.Request) flow.Client {
	client := flow.Client{UserAgent: r.UserAgent()}
	if info := request.InfoFrom(r.Context()); info != nil {
		client.Resource = info.Resource
	}
	if user := request.UserFrom(r.Context()); user != nil {
		client.User = user.Name
	}
	return client
}

// heldTimePause is how long a watch whose time is over goes on before it asks again
// whether it is held.
const heldTimePause = 30 * time.Second

// withWatchTime is a context that ends after d, but not while a gate holds the client:
// a watch that ended would be followed by a list, and the client would have to be
// stepped through all of it again. Its Deadline is known, for the bookmark before it.
func (s *Scope) withWatchTime(r *http.Request, d time.Duration) (context.Context, context.CancelFunc) {
	if s.Gates == nil {
		return context.WithTimeout(r.Context(), d)
	}
	ctx, cancel := context.WithCancel(r.Context())
	client := gateClient(r)
	var over func()
	over = func() {
		switch {
		case ctx.Err() != nil:
		case s.Gates.Held(client):
			time.AfterFunc(heldTimePause, over)
		default:
			cancel()
		}
	}
	timer := time.AfterFunc(d, over)
	return watchTimeContext{ctx, time.Now().Add(d)}, func() { timer.Stop(); cancel() }
}

type watchTimeContext struct {
	context.Context
	deadline time.Time
}

// Deadline implements context.Context.
func (c watchTimeContext) Deadline() (time.Time, bool) { return c.deadline, true }

// list lists for a client: the state of now, or, while it is held, where it stands.
func (s *Scope) list(r *http.Request, namespace string, opts storage.ListOptions) (*storage.List, error) {
	if s.Gates.AllOpen() || opts.Continue != "" {
		return s.Store.List(r.Context(), namespace, opts)
	}
	client := gateClient(r)
	line, held := s.Gates.Line(client)
	if !held {
		return s.Store.List(r.Context(), namespace, opts)
	}
	at, err := standingAt(line, opts)
	if err != nil {
		return nil, storage.StatusError(err, s.Resource.GroupResource(), "")
	}
	list, err := s.Store.List(r.Context(), namespace, at)
	if !apierrors.IsResourceExpired(err) || at.ResourceVersion != strconv.FormatInt(line, 10) {
		return list, err
	}
	// Somebody else (an apiserver without gates) has compacted etcd: the client cannot
	// stand there any longer. It goes on from now.
	if list, err = s.Store.List(r.Context(), namespace, opts); err == nil {
		s.Gates.Lost(client, list.ResourceVersion)
	}
	return list, err
}

// standingAt makes of a list one of the state at the revision line, as if the store had
// got no further. What Store.List would refuse is left for it to refuse.
func standingAt(line int64, opts storage.ListOptions) (storage.ListOptions, error) {
	asked := int64(0)
	if opts.ResourceVersion != "" {
		var err error
		if asked, err = strconv.ParseInt(opts.ResourceVersion, 10, 64); err != nil {
			return opts, nil
		}
	}
	isExact := opts.ResourceVersionMatch == metav1.ResourceVersionMatchExact || opts.ResourceVersionMatch == "" && opts.Limit > 0 && asked > 0
	isUnset := opts.ResourceVersionMatch == metav1.ResourceVersionMatchNotOlderThan && opts.ResourceVersion == ""
	switch {
	case asked > line:
		return opts, &storage.FutureRevisionError{Requested: asked, Current: line}
	case isExact || isUnset:
		return opts, nil
	}
	opts.ResourceVersion, opts.ResourceVersionMatch = strconv.FormatInt(line, 10), metav1.ResourceVersionMatchExact
	return opts, nil
}

// startWatch opens a watch. For a client that is held and begins anew, the state where it
// stands comes back as initial events, and the watch begins after them.
func (s *Scope) startWatch(ctx context.Context, r *http.Request, opts storage.WatchOptions) (initial []storage.Event, w storage.Watcher, err error) {
	namespace, _ := s.target(r)
	isNew := opts.ResourceVersion == "" || opts.ResourceVersion == "0" || opts.SendInitialEvents != nil && *opts.SendInitialEvents
	if s.Gates.AllOpen() || !isNew || !s.Gates.Held(gateClient(r)) {
		w, err = s.Store.Watch(ctx, namespace, opts)
		return nil, w, err
	}
	list, err := s.list(r, namespace, storage.ListOptions{ResourceVersion: opts.ResourceVersion, Predicate: opts.Predicate})
	if err != nil {
		return nil, nil, err
	}
	initial = []storage.Event{}
	if opts.SendInitialEvents == nil || *opts.SendInitialEvents {
		for _, o := range list.Items {
			initial = append(initial, storage.Event{Type: watch.Added, Object: o, ResourceVersion: o.ResourceVersion})
		}
	}
	if opts.AllowWatchBookmarks && opts.SendInitialEvents != nil && *opts.SendInitialEvents {
		initial = append(initial, storage.Event{Type: watch.Bookmark, ResourceVersion: list.ResourceVersion, InitialEventsEnd: true})
	}
	opts.ResourceVersion, opts.ResourceVersionMatch, opts.SendInitialEvents = strconv.FormatInt(list.ResourceVersion, 10), "", nil
	w, err = s.Store.Watch(ctx, namespace, opts)
	return initial, w, err
}

// sendAll sends events at once; false ends the watch.
func (e *eventStream) sendAll(events []storage.Event) bool {
	if len(events) == 0 {
		return true
	}
	for _, event := range events {
		if !e.send(event) {
			_ = e.flush()
			return false
		}
		if event.Object != nil {
			e.seen.Sent(event.Object.ResourceVersion)
		}
	}
	if e.flush() != nil {
		return false
	}
	e.seen.Flushed()
	return true
}

// held is the watch's side of the gate that holds it, or nil.
func (e *eventStream) held() *flow.HeldWatch {
	if e.initial || e.scope.Gates.AllOpen() {
		return nil
	}
	return e.scope.Gates.Hold(e.client)
}

// copyHeld is copy while a gate is closed: events go to the gate, and what it lets
// through to the client. It keeps taking from the store, so that the store need not cut
// the watch as too slow. False ends the watch; true: the gate is open again.
func (e *eventStream) copyHeld(ctx context.Context, held *flow.HeldWatch, watcher storage.Watcher, event storage.Event, open bool) bool {
	defer held.Leave()
	events := watcher.Events()
	for arrived := true; ; {
		switch {
		case arrived && !open:
			return false
		case arrived && event.Type == watch.Error:
			return e.sendAll([]storage.Event{event}) // the watch is over, and with it what waits: the client lists anew, where it stands
		case arrived && held.Add(e.gateEvent(event), event.Type == watch.Bookmark, event):
			watcher.Stop() // the gate is full
			events = nil
		}
		payloads, opened, expired := held.Take()
		passing := make([]storage.Event, len(payloads))
		for i, payload := range payloads {
			passing[i] = payload.(storage.Event)
		}
		if expired {
			status := apierrors.NewResourceExpired("more events waited at the gate than it holds").Status()
			passing = append(passing, storage.Event{Type: watch.Error, Status: &status})
		}
		switch {
		case !e.sendAll(passing):
			return false
		case opened:
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-held.Wake():
			arrived = false
		case event, open = <-events:
			arrived = true
		}
	}
}

// gateEvent is an event as a gate shows it.
func (e *eventStream) gateEvent(event storage.Event) flow.GateEvent {
	shown := flow.GateEvent{Type: string(event.Type), Revision: event.ResourceVersion}
	if event.Object != nil {
		shown.Kind, shown.Name = e.scope.Resource.Kind.Kind, event.Object.Key
		if namespace, name, namespaced := strings.Cut(event.Object.Key, "/"); namespaced {
			shown.Namespace, shown.Name = namespace, name
		}
	}
	return shown
}

// noteLost is called at the end of a watch. One that began where its client stands, and
// found that no longer known (the caches have been filled anew), would do so for ever:
// the client must stand somewhere else.
func (s *Scope) noteLost(r *http.Request, options *metav1.ListOptions, stream *eventStream) {
	line, held := s.Gates.Line(stream.client)
	if !held || !stream.expired {
		return
	}
	if from, err := strconv.ParseInt(options.ResourceVersion, 10, 64); err != nil || from < line {
		return
	}
	list, err := s.Store.List(r.Context(), "", storage.ListOptions{Limit: 1})
	if err == nil {
		s.Gates.Lost(stream.client, list.ResourceVersion)
	}
}

// noteRead tells the gate that holds a client of a read that it does not hold.
func (s *Scope) noteRead(r *http.Request) {
	if !s.Gates.AllOpen() {
		namespace, name := s.target(r)
		s.Gates.Read(gateClient(r), namespace, name)
	}
}
