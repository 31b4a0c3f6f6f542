package endpoints

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"hyperkube/apiserver/request"
	"hyperkube/apiserver/storage"
	"hyperkube/flow"
)

// isWatch says whether a GET asks to stay open.
func isWatch(r *http.Request) bool {
	return queryBool(r.URL.Query(), "watch")
}

func queryBool(query url.Values, key string) bool {
	values, ok := query[key]
	return ok && len(values) > 0 && values[0] != "0" && !strings.EqualFold(values[0], "false")
}

// WatchResource answers a GET of a /watch/ path: the list without that word in its path, with ?watch=1.
func WatchResource(s *Scope, w http.ResponseWriter, r *http.Request) error {
	plain, at := *r, *r.URL
	at.RawQuery = strings.TrimSuffix("watch=1&"+at.RawQuery, "&") // first, as the first of a parameter counts
	plain.URL = &at
	return ListResource(s, w, &plain)
}

// watchResource streams events until the client goes, the time is over, the store
// cuts the watch, or the server stops (its context).
func watchResource(s *Scope, w http.ResponseWriter, r *http.Request, options *metav1.ListOptions, predicate storage.Predicate) error {
	f, err := negotiate(r, "Table", "PartialObjectMetadata")
	if err != nil {
		return err
	}
	if f.as == "Table" {
		if err := checkIncludeObject(f.includeObject); err != nil {
			return err
		}
	}
	if f.media == mediaYAML {
		return onlyAccepted(strings.Join(streamMedia, ", ")) // a stream has no frame for it
	}
	began, info := time.Now(), request.InfoFrom(r.Context())
	ctx, cancel := s.withWatchTime(r, s.watchTime(options))
	defer cancel()
	initial, watcher, err := s.startWatch(ctx, r, storage.WatchOptions{
		ResourceVersion: options.ResourceVersion, ResourceVersionMatch: options.ResourceVersionMatch,
		Predicate: predicate, AllowWatchBookmarks: options.AllowWatchBookmarks, SendInitialEvents: options.SendInitialEvents,
		Started: info.Started,
	})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	stream := &eventStream{scope: s, form: f, w: w, flusher: http.NewResponseController(w), first: true, seen: info.Watch, figures: info.Figures, began: began,
		client: gateClient(r), initial: initial == nil && options.AllowWatchBookmarks && options.SendInitialEvents != nil && *options.SendInitialEvents}
	serve := func() {
		if stream.sendAll(initial) {
			stream.copy(ctx, watcher)
			s.noteLost(r, options, stream)
		}
	}
	if wsstream.IsWebSocketRequest(r) {
		stream.serveSocket(r, cancel, serve)
		return nil
	}
	stream.start()
	serve()
	return nil
}

// watchTime is how long a watch may last.
func (s *Scope) watchTime(options *metav1.ListOptions) time.Duration {
	if options.TimeoutSeconds != nil && *options.TimeoutSeconds > 0 {
		return time.Duration(*options.TimeoutSeconds) * time.Second
	}
	least := s.MinWatchTimeout
	if least == 0 {
		least = 30 * time.Minute
	}
	return time.Duration(float64(least) * (1 + rand.Float64()))
}

// eventStream writes watch events in one form.
type eventStream struct {
	scope   *Scope
	form    form
	w       http.ResponseWriter
	flusher *http.ResponseController
	first   bool        // the next Table is the first: it carries the columns
	frames  []byte      // gathered, not yet written
	object  []byte      // scratch of appendFrame
	seen    *flow.Watch // records what was sent; may be nil
	figures *request.WatchFigures
	began   time.Time
	socket  *websocket.Conn // takes a message an event; nil: w takes frames

	client  flow.Client // as gates know it
	initial bool        // the end of the initial events is still to come: until then no gate holds them
	expired bool        // it has been ended with 410
}

// start answers at once, so that the client knows the watch is open before anything happens.
func (e *eventStream) start() {
	e.w.Header().Set("Content-Type", e.contentType())
	e.w.WriteHeader(http.StatusOK)
	e.flusher.Flush()
}

func (e *eventStream) contentType() string {
	switch e.form.media {
	case mediaProtobuf:
		return e.form.contentType() + ";stream=watch"
	case mediaCBOR:
		return mediaCBORSequence
	}
	return e.form.contentType()
}

// copy moves events from the store to the client. Events that are ready together are
// written and flushed together: a flush is a system call and a TLS record, and each
// write before it a turn through the goroutines of the HTTP/2 connection.
func (e *eventStream) copy(ctx context.Context, watcher storage.Watcher) {
	events := watcher.Events()
	for {
		select {
		case <-ctx.Done():
			return
		case event, open := <-events:
			if held := e.held(); held != nil {
				if !e.copyHeld(ctx, held, watcher, event, open) {
					return
				}
				continue
			}
			for more := true; more; {
				if !open || !e.send(event) {
					_ = e.flush()
					return
				}
				if event.Object != nil {
					e.seen.Sent(event.Object.ResourceVersion)
				}
				if len(e.frames) == 0 || event.InitialEventsEnd {
					break // much has been written, or a gate may hold from here on: look anew
				}
				select {
				case event, open = <-events:
				default:
					more = false
				}
			}
			if e.flush() != nil {
				return
			}
			e.seen.Flushed()
		}
	}
}

// maxBatch is how many bytes of frames are gathered before they are written, and kept for the next.
const maxBatch = 64 << 10

// flush puts what has been gathered on its way.
func (e *eventStream) flush() error {
	if e.socket != nil {
		return nil // each message has gone already
	}
	if err := e.write(); err != nil {
		return err
	}
	return e.flusher.Flush()
}

func (e *eventStream) write() error {
	_, err := e.w.Write(e.frames)
	if e.frames = e.frames[:0]; cap(e.frames) > maxBatch {
		e.frames = nil // a rush is over: a silent watch should hold no memory
	}
	return err
}

// send gathers one event, and writes when enough have come together; false ends the watch.
func (e *eventStream) send(event storage.Event) bool {
	before := len(e.frames)
	if err := e.appendFrame(event); err != nil {
		event = storage.Event{Type: watch.Error, Status: statusOf(err)}
		if e.appendFrame(event) != nil {
			return false
		}
	}
	e.figures.Sent(len(e.frames) - before)
	if event.InitialEventsEnd {
		e.figures.Listed(e.began)
	}
	if e.socket != nil {
		return e.sendMessage() == nil && event.Type != watch.Error
	}
	if len(e.frames) >= maxBatch && e.write() != nil {
		return false
	}
	return event.Type != watch.Error
}

// appendFrame adds the frame of an event to those gathered, or nothing if it cannot be encoded.
func (e *eventStream) appendFrame(event storage.Event) (err error) {
	if e.form.media == mediaProtobuf {
		// The object's length stands before it.
		if e.object, err = e.appendObject(e.object[:0], event); err == nil {
			e.frames = appendWatchFrame(e.frames, event.Type, e.object)
		}
		return err
	}
	if e.form.media == mediaCBOR {
		if e.object, err = e.appendObject(e.object[:0], event); err == nil {
			e.frames, err = appendCBORFrame(e.frames, event.Type, e.object)
		}
		return err
	}
	frames := append(e.frames, `{"type":"`...)
	frames = append(frames, event.Type...)
	frames = append(frames, `","object":`...)
	if frames, err = e.appendObject(frames, event); err == nil {
		e.frames = append(frames, "}\n"...)
	}
	return err
}

// appendObject appends the object of an event.
func (e *eventStream) appendObject(dst []byte, event storage.Event) ([]byte, error) {
	s := e.scope
	switch {
	case event.Type == watch.Error:
		e.expired = event.Status != nil && event.Status.Code == http.StatusGone
		return appendAny(dst, event.Status, schema.GroupVersionKind{Version: "v1", Kind: "Status"}, e.form)
	case event.Type == watch.Bookmark:
		e.initial = e.initial && !event.InitialEventsEnd
		return e.bookmark(dst, event)
	case e.form.as == "Table":
		table, err := s.table([]*storage.Object{event.Object}, e.form, e.first)
		if err != nil {
			return nil, err
		}
		e.first = false
		table.ResourceVersion = strconv.FormatInt(event.Object.ResourceVersion, 10)
		return appendAny(dst, table, e.form.metaKind("Table"), e.form)
	}
	return s.appendStored(dst, event.Object, e.form, true)
}

// bookmark is an object of the watched kind that has nothing but a resourceVersion.
func (e *eventStream) bookmark(dst []byte, event storage.Event) ([]byte, error) {
	mark := &metav1.PartialObjectMetadata{}
	mark.ResourceVersion = strconv.FormatInt(event.ResourceVersion, 10)
	if event.InitialEventsEnd {
		mark.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
	}
	switch e.form.as {
	case "Table":
		mark.SetGroupVersionKind(e.form.metaKind("PartialObjectMetadata"))
		table := &metav1.Table{Rows: []metav1.TableRow{{Cells: []any{}, Object: runtime.RawExtension{Object: mark}}}}
		table.ResourceVersion = mark.ResourceVersion
		return appendAny(dst, table, e.form.metaKind("Table"), e.form)
	case "":
		// Every kind of the API has its ObjectMeta as field 1 and as "metadata": these bytes are a valid one of each.
		return appendAny(dst, mark, e.scope.Resource.Kind, e.form)
	}
	return appendAny(dst, mark, e.form.metaKind("PartialObjectMetadata"), e.form)
}

// appendWatchFrame appends a metav1.WatchEvent message behind its length, as clients of protobuf streams expect it:
//
//	uint32 length | 1: type | 2: RawExtension{1: the object in its envelope}
func appendWatchFrame(dst []byte, kind watch.EventType, object []byte) []byte {
	raw := fieldSize(len(object))
	size := fieldSize(len(kind)) + fieldSize(raw)
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	dst = appendField(dst, 1, []byte(kind))
	dst = appendUvarint(append(dst, 2<<3|2), raw)
	return appendField(dst, 1, object)
}
