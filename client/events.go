package client

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/reference"
	"k8s.io/klog/v2"

	"hyperkube/flow"
	"hyperkube/reconcile"
)

// An Event is written by a goroutine of its broadcaster, which knows neither who
// recorded it nor why. The broadcasters below keep the line with the Event from the one
// goroutine to the other; the reason is the object it is about, at the version it names.

// EventBroadcaster is record.NewBroadcaster's, with Events that say who recorded them.
type EventBroadcaster struct {
	record.EventBroadcaster
	lines *eventLines
}

// NewEventBroadcaster makes a broadcaster of core/v1 Events.
func NewEventBroadcaster(options ...record.BroadcasterOption) *EventBroadcaster {
	return &EventBroadcaster{EventBroadcaster: record.NewBroadcaster(options...), lines: newEventLines()}
}

// StartRecording writes the Events through set.
func (b *EventBroadcaster) StartRecording(set kubernetes.Interface) watch.Interface {
	return b.StartRecordingToSink(&eventSink{api: set.CoreV1(), lines: b.lines})
}

// NewRecorder implements record.EventBroadcaster.
func (b *EventBroadcaster) NewRecorder(scheme *runtime.Scheme, source corev1.EventSource) record.EventRecorderLogger {
	return &eventRecorder{EventRecorderLogger: b.EventBroadcaster.NewRecorder(scheme, source), scheme: scheme, lines: b.lines}
}

type eventRecorder struct {
	record.EventRecorderLogger
	scheme *runtime.Scheme
	lines  *eventLines
}

// Event, Eventf and AnnotatedEventf implement record.EventRecorder.
func (r *eventRecorder) Event(object runtime.Object, eventtype, reason, message string) {
	r.lines.note(r.scheme, object, reason)
	r.EventRecorderLogger.Event(object, eventtype, reason, message)
}

func (r *eventRecorder) Eventf(object runtime.Object, eventtype, reason, format string, args ...any) {
	r.lines.note(r.scheme, object, reason)
	r.EventRecorderLogger.Eventf(object, eventtype, reason, format, args...)
}

func (r *eventRecorder) AnnotatedEventf(object runtime.Object, annotations map[string]string, eventtype, reason, format string, args ...any) {
	r.lines.note(r.scheme, object, reason)
	r.EventRecorderLogger.AnnotatedEventf(object, annotations, eventtype, reason, format, args...)
}

// WithLogger implements record.EventRecorderLogger.
func (r *eventRecorder) WithLogger(logger klog.Logger) record.EventRecorderLogger {
	return &eventRecorder{EventRecorderLogger: r.EventRecorderLogger.WithLogger(logger), scheme: r.scheme, lines: r.lines}
}

// eventSink writes core/v1 Events, each with its line.
type eventSink struct {
	api   typedcorev1.EventsGetter
	lines *eventLines
}

func (s *eventSink) context(event *corev1.Event) context.Context {
	return s.lines.context(context.Background(), event.InvolvedObject, event.Reason)
}

// Create, Update and Patch implement record.EventSink.
func (s *eventSink) Create(event *corev1.Event) (*corev1.Event, error) {
	return s.api.Events("").CreateWithEventNamespaceWithContext(s.context(event), event)
}

func (s *eventSink) Update(event *corev1.Event) (*corev1.Event, error) {
	return s.api.Events("").UpdateWithEventNamespaceWithContext(s.context(event), event)
}

func (s *eventSink) Patch(event *corev1.Event, data []byte) (*corev1.Event, error) {
	return s.api.Events("").PatchWithEventNamespaceWithContext(s.context(event), event, data)
}

// NewEventsBroadcaster is events.NewBroadcaster's, for events.k8s.io/v1, with the same.
func NewEventsBroadcaster(set kubernetes.Interface) *EventsBroadcaster {
	lines := newEventLines()
	sink := &eventsSink{EventSinkImpl: events.EventSinkImpl{Interface: set.EventsV1()}, lines: lines, turns: make(chan struct{}, maxEventWrites)}
	return &EventsBroadcaster{EventBroadcaster: events.NewBroadcaster(sink), lines: lines}
}

// EventsBroadcaster is a broadcaster of events.k8s.io/v1 Events.
type EventsBroadcaster struct {
	events.EventBroadcaster
	lines *eventLines
}

// NewRecorder implements events.EventBroadcaster.
func (b *EventsBroadcaster) NewRecorder(scheme *runtime.Scheme, reportingController string) events.EventRecorderLogger {
	return &eventsRecorder{EventRecorderLogger: b.EventBroadcaster.NewRecorder(scheme, reportingController), scheme: scheme, lines: b.lines}
}

type eventsRecorder struct {
	events.EventRecorderLogger
	scheme *runtime.Scheme
	lines  *eventLines
}

// Eventf implements events.EventRecorder.
func (r *eventsRecorder) Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any) {
	r.lines.note(r.scheme, regarding, reason)
	r.EventRecorderLogger.Eventf(regarding, related, eventtype, reason, action, note, args...)
}

// WithLogger implements events.EventRecorderLogger.
func (r *eventsRecorder) WithLogger(logger klog.Logger) events.EventRecorderLogger {
	return &eventsRecorder{EventRecorderLogger: r.EventRecorderLogger.WithLogger(logger), scheme: r.scheme, lines: r.lines}
}

// maxEventWrites is how many Events are on their way to the apiserver at once. The broadcaster begins each in a goroutine of its own:
// five hundred pods bound in a second would be as many requests beside the Bindings, from the same user, and the apiserver's
// fair queues would refuse some of either for a second (429).
const maxEventWrites = 4

// eventsSink writes events.k8s.io Events, each with its line, a few at a time.
type eventsSink struct {
	events.EventSinkImpl
	lines *eventLines
	turns chan struct{}
}

// turn waits until a request may go out, and returns what ends it.
func (s *eventsSink) turn() (done func()) {
	s.turns <- struct{}{}
	return func() { <-s.turns }
}

func (s *eventsSink) context(ctx context.Context, event *eventsv1.Event) context.Context {
	return s.lines.context(ctx, event.Regarding, event.Reason)
}

// Create, Update and Patch implement events.EventSink.
func (s *eventsSink) Create(ctx context.Context, event *eventsv1.Event) (*eventsv1.Event, error) {
	defer s.turn()()
	return s.EventSinkImpl.Create(s.context(ctx, event), event)
}

func (s *eventsSink) Update(ctx context.Context, event *eventsv1.Event) (*eventsv1.Event, error) {
	defer s.turn()()
	return s.EventSinkImpl.Update(s.context(ctx, event), event)
}

func (s *eventsSink) Patch(ctx context.Context, event *eventsv1.Event, data []byte) (*eventsv1.Event, error) {
	defer s.turn()()
	return s.EventSinkImpl.Patch(s.context(ctx, event), event, data)
}

// maxEventLines bounds what waits between recorder and sink. Events that the
// broadcaster drops (too many of one object) leave theirs behind.
const maxEventLines = 1024

// eventLines are the lines that recorded an Event, by what it is about and its reason:
// Events have no other identity on the way, as equal ones become one with a count. All
// that have both in common come from the same few lines.
type eventLines struct {
	mu    sync.Mutex
	lines map[eventKey]string
}

type eventKey struct{ namespace, name, uid, reason string }

func newEventLines() *eventLines { return &eventLines{lines: map[eventKey]string{}} }

// note remembers the line that called a recorder.
func (l *eventLines) note(scheme *runtime.Scheme, object runtime.Object, reason string) {
	about, err := reference.GetReference(scheme, object)
	line := flow.Caller(0)
	if err != nil || line == "" {
		return // the recorder itself reports an object that cannot be named
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) >= maxEventLines {
		clear(l.lines)
	}
	l.lines[eventKey{about.Namespace, about.Name, string(about.UID), reason}] = line
}

// context is that of the request which writes an Event.
func (l *eventLines) context(ctx context.Context, about corev1.ObjectReference, reason string) context.Context {
	l.mu.Lock()
	line := l.lines[eventKey{about.Namespace, about.Name, string(about.UID), reason}]
	l.mu.Unlock()
	ctx = flow.WithSource(ctx, line)
	if about.ResourceVersion == "" {
		return ctx
	}
	return reconcile.WithCauses(ctx, reconcile.Causes{List: []reconcile.Cause{
		{Kind: about.Kind, Verb: "MODIFIED", Namespace: about.Namespace, Name: about.Name, ResourceVersion: about.ResourceVersion}}})
}
