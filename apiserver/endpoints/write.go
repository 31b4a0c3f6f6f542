package endpoints

import (
	"context"
	"encoding/json"
	stderrors "errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/emicklei/go-restful/v3"
	"github.com/klauspost/compress/gzip"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/request"
	"hyperkube/apiserver/storage"
)

// writeStored answers with one object of the store.
func (s *Scope) writeStored(w http.ResponseWriter, r *http.Request, f form, code int, o *storage.Object) error {
	data, err := s.appendStored(nil, o, f, true)
	if err != nil {
		return err
	}
	return writeBytes(w, r, f, code, data)
}

// writeAny answers with an object that did not come from the store.
func writeAny(w http.ResponseWriter, r *http.Request, f form, code int, obj runtime.Object) error {
	f.as = ""
	data, err := appendAny(nil, obj, obj.GetObjectKind().GroupVersionKind(), f)
	if err != nil {
		return err
	}
	return writeBytes(w, r, f, code, data)
}

// ofKind names the kind of an object that is this request's own.
func ofKind(obj runtime.Object, kind schema.GroupVersionKind) runtime.Object {
	obj.GetObjectKind().SetGroupVersionKind(kind)
	return obj
}

func writeBytes(w http.ResponseWriter, r *http.Request, f form, code int, data []byte) error {
	data, err := f.finish(data)
	if err != nil {
		return err
	}
	body := newBody(w, r, f.contentType(), code)
	if len(data) < gzipThreshold {
		body.held = data // all there is, and nobody changes it: no copy
	} else if _, err := body.Write(data); err != nil {
		return nil // the client has gone: there is nobody to tell
	}
	body.Close()
	return nil
}

// WriteObject answers with obj, of kind, in the form the request asks for. It serves the handlers outside this package
// (discovery documents, /version).
func WriteObject(w http.ResponseWriter, r *http.Request, code int, obj runtime.Object, kind schema.GroupVersionKind) {
	f, err := negotiate(r)
	if err == nil {
		err = writeAny(w, r, f, code, ofKind(obj, kind))
	}
	if err != nil {
		WriteError(w, r, err)
	}
}

// WriteBody answers 200 with bytes that are ready, compressed where that pays.
func WriteBody(w http.ResponseWriter, r *http.Request, contentType string, data []byte) {
	body := newBody(w, r, contentType, http.StatusOK)
	if _, err := body.Write(data); err == nil {
		body.Close()
	}
}

// WriteError answers with a Status that says what is wrong.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if info := request.InfoFrom(r.Context()); info != nil && status.Reason == metav1.StatusReasonTimeout && stderrors.Is(r.Context().Err(), context.DeadlineExceeded) {
		info.Terminated = true
	}
	request.FlowFrom(r.Context()).Refused(reasonOf(status))
	f, negotiationErr := negotiate(r) // of an error there is no table
	if details := status.Details; details != nil && details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(details.RetryAfterSeconds)))
	}
	kind := schema.GroupVersionKind{Version: "v1", Kind: "Status"}
	if negotiationErr != nil {
		writeAnyhow(w, int(status.Code), ofKind(status, kind))
		return
	}
	data, err := appendAny(nil, status, kind, f)
	if err == nil {
		err = writeBytes(w, r, f, int(status.Code), data)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// writeAnyhow answers who takes no form that we have, as upstream does: in JSON for people.
func writeAnyhow(w http.ResponseWriter, code int, obj runtime.Object) {
	data, err := json.MarshalIndent(obj, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", mediaJSON)
	w.WriteHeader(code)
	_, _ = w.Write(data)
}

// reasonOf is the message of a refusal; of an eviction also which budget is in the way, which only a cause says.
func reasonOf(status *metav1.Status) string {
	if status.Reason == metav1.StatusReasonTooManyRequests && status.Details != nil {
		for _, cause := range status.Details.Causes {
			return status.Message + " " + cause.Message
		}
	}
	return status.Message
}

// statusOf is the Status of an error: its own, or an internal error's.
func statusOf(err error) *metav1.Status {
	if api, ok := err.(errors.APIStatus); ok {
		status := api.Status()
		if status.Status == "" {
			status.Status = metav1.StatusFailure
		}
		if status.Code == 0 {
			status.Code = http.StatusInternalServerError
		}
		status.TypeMeta = metav1.TypeMeta{}
		return &status
	}
	if stderrors.Is(err, context.DeadlineExceeded) {
		return statusOf(errors.NewTimeoutError("request did not complete within the allotted timeout", 0))
	}
	return &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
		Reason: metav1.StatusReasonInternalError, Message: "Internal error occurred: " + err.Error(),
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Message: err.Error()}}},
	}
}

// gzipThreshold: smaller answers cost more to compress than they save on the wire.
const gzipThreshold = 128 << 10

// body is an answer's body: it holds the first bytes back until it is plain whether
// the answer is large enough to be compressed for a client that asked.
type body struct {
	w     http.ResponseWriter
	code  int
	gzips bool

	held    []byte
	started bool
	out     io.Writer
	packer  *gzip.Writer
}

var gzipPool = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, 1)
	return w
}}

func newBody(w http.ResponseWriter, r *http.Request, contentType string, code int) *body {
	w.Header().Set("Content-Type", contentType)
	return &body{w: w, code: code, gzips: strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")}
}

func (b *body) Write(p []byte) (int, error) {
	if b.started {
		return b.out.Write(p)
	}
	if len(b.held)+len(p) < gzipThreshold {
		b.held = append(b.held, p...)
		return len(p), nil
	}
	if err := b.start(b.gzips); err != nil {
		return 0, err
	}
	return b.out.Write(p)
}

func (b *body) start(compress bool) error {
	b.started = true
	b.out = b.w
	if compress {
		b.packer = gzipPool.Get().(*gzip.Writer)
		b.packer.Reset(b.w)
		b.out = b.packer
		b.w.Header().Set("Content-Encoding", "gzip")
		b.w.Header().Add("Vary", "Accept-Encoding")
	}
	b.w.WriteHeader(b.code)
	if len(b.held) == 0 {
		return nil
	}
	_, err := b.out.Write(b.held)
	b.held = nil
	return err
}

// Close writes what is held back. The error of a client that has gone is nobody's.
func (b *body) Close() {
	if !b.started {
		b.w.Header().Set("Content-Length", strconv.Itoa(len(b.held)))
		b.start(false)
	}
	if b.packer != nil {
		b.packer.Close()
		gzipPool.Put(b.packer)
	}
}

// NotFound answers a path that is none.
func NotFound(w http.ResponseWriter, r *http.Request) {
	WriteError(w, r, errors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", "", 0, false))
}

func methodNotAllowed() error {
	return errors.NewGenericServerResponse(http.StatusMethodNotAllowed, "", schema.GroupResource{}, "", "", 0, false)
}

// ServiceError answers what go-restful found no route for.
func ServiceError(err restful.ServiceError, w http.ResponseWriter, r *http.Request) {
	WriteError(w, r, errors.NewGenericServerResponse(err.Code, "", schema.GroupResource{}, "", err.Message, 0, false))
}
