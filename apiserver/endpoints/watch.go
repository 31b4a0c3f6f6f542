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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

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

// watchResource streams events until the client goes, the time is over, the store
// cuts the watch, or the server stops (its context).
func watchResource(s *Scope, w http.ResponseWriter, r *http.Request, options *metav1.ListOptions, predicate storage.Predicate) error {
	f, err := negotiate(r, "Table", "PartialObjectMetadata")
	if err != nil {
		return err
	}
	if f.media == mediaYAML {
		return notAcceptable() // a stream has no frame for it
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.watchTime(options))
	defer cancel()
	namespace, _ := s.target(r)
	watcher, err := s.Store.Watch(ctx, namespace, storage.WatchOptions{
		ResourceVersion: options.ResourceVersion, ResourceVersionMatch: options.ResourceVersionMatch,
		Predicate: predicate, AllowWatchBookmarks: options.AllowWatchBookmarks, SendInitialEvents: options.SendInitialEvents,
	})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	stream := &eventStream{scope: s, form: f, w: w, flusher: http.NewResponseController(w), first: true, seen: request.InfoFrom(r.Context()).Watch}
	stream.start()
	return stream.copy(ctx, watcher)
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
	first   bool // the next Table is the first: it carries the columns
	object  []byte
	frame   []byte
	seen    *flow.Watch // records what was sent; may be nil
}

// start answers at once, so that the client knows the watch is open before anything happens.
func (e *eventStream) start() {
	contentType := e.form.contentType()
	if e.form.media == mediaProtobuf {
		contentType += ";stream=watch"
	}
	e.w.Header().Set("Content-Type", contentType)
	e.w.WriteHeader(http.StatusOK)
	e.flusher.Flush()
}

// copy moves events from the store to the client. Events that are ready together are
// flushed together: a flush is a system call and a TLS record.
func (e *eventStream) copy(ctx context.Context, watcher storage.Watcher) error {
	events := watcher.Events()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, open := <-events:
			for more := true; more; {
				if !open {
					return nil
				}
				if !e.send(event) {
					return nil
				}
				if event.Object != nil {
					e.seen.Sent(event.Object.ResourceVersion)
				}
				select {
				case event, open = <-events:
				default:
					more = false
				}
			}
			if e.flusher.Flush() != nil {
				return nil
			}
			e.seen.Flushed()
		}
	}
}

// send writes one event; false ends the watch.
func (e *eventStream) send(event storage.Event) bool {
	object, err := e.encode(event)
	if err != nil {
		status := statusOf(err)
		event = storage.Event{Type: watch.Error, Status: status}
		if object, err = e.encode(event); err != nil {
			return false
		}
	}
	e.object = object
	if e.form.media == mediaProtobuf {
		e.frame = appendWatchFrame(e.frame[:0], event.Type, object)
	} else {
		e.frame = append(e.frame[:0], `{"type":"`...)
		e.frame = append(e.frame, event.Type...)
		e.frame = append(e.frame, `","object":`...)
		e.frame = append(e.frame, object...)
		e.frame = append(e.frame, "}\n"...)
	}
	_, err = e.w.Write(e.frame)
	return err == nil && event.Type != watch.Error
}

// encode makes the object of an event in e.object's memory.
func (e *eventStream) encode(event storage.Event) ([]byte, error) {
	s, dst := e.scope, e.object[:0]
	switch {
	case event.Type == watch.Error:
		return appendAny(dst, event.Status, schema.GroupVersionKind{Version: "v1", Kind: "Status"}, e.form)
	case event.Type == watch.Bookmark:
		return e.bookmark(dst, event)
	case e.form.as == "Table":
		table, err := s.table([]*storage.Object{event.Object}, e.form.includeObject, e.first)
		if err != nil {
			return nil, err
		}
		e.first = false
		table.ResourceVersion = strconv.FormatInt(event.Object.ResourceVersion, 10)
		return appendAny(dst, table, metaKind("Table"), e.form)
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
		mark.SetGroupVersionKind(metaKind("PartialObjectMetadata"))
		table := &metav1.Table{Rows: []metav1.TableRow{{Cells: []any{}, Object: runtime.RawExtension{Object: mark}}}}
		table.ResourceVersion = mark.ResourceVersion
		return appendAny(dst, table, metaKind("Table"), e.form)
	case "":
		// Every kind of the API has its ObjectMeta as field 1 and as "metadata": these bytes are a valid one of each.
		return appendAny(dst, mark, e.scope.Resource.Kind, e.form)
	}
	return appendAny(dst, mark, metaKind("PartialObjectMetadata"), e.form)
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
