package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"hyperkube/apiserver/request"
)

// maxKept bounds what is kept of one body: the largest that may be written, and some lists of it.
const maxKept = 16 << 20

// kept is a body as it passes by.
type kept struct {
	bytes.Buffer
	contentType string
	truncated   bool
}

func (k *kept) keep(p []byte) {
	if k.Len()+len(p) > maxKept {
		k.truncated = true
		return
	}
	k.Write(p)
}

// record makes the request and the writer between which next runs.
func (t *trail) record(w http.ResponseWriter, r *http.Request) *http.Request {
	ctx, annotations := request.WithAnnotations(r.Context())
	r = r.WithContext(ctx)
	t.annotations = annotations
	t.answer = &answerWriter{ResponseWriter: w, trail: t}
	if t.verdict.level.atLeast(LevelRequest) && r.Body != nil && t.event.ObjectRef != nil {
		t.body = &kept{contentType: r.Header.Get("Content-Type")}
		r.Body = &tee{r.Body, t.body}
	}
	if t.verdict.level.atLeast(LevelRequestResponse) {
		// The answer must be readable here: what was asked for packed is sent plain.
		r.Header.Del("Accept-Encoding")
	}
	return r
}

// tee keeps what is read.
type tee struct {
	io.ReadCloser
	kept *kept
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	t.kept.keep(p[:n])
	return n, err
}

// answerWriter keeps the code of an answer and, where that is wanted, its body. Statuses of errors are always kept: they say why.
type answerWriter struct {
	http.ResponseWriter
	trail *trail
	code  int
	body  kept
}

func (a *answerWriter) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
		a.body.contentType = a.Header().Get("Content-Type")
		a.ResponseWriter.WriteHeader(code)
		a.trail.event.ResponseStatus = &metav1.Status{Code: int32(code)}
		a.trail.started()
		return
	}
	a.ResponseWriter.WriteHeader(code)
}

func (a *answerWriter) Write(p []byte) (int, error) {
	if a.code == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if a.code >= http.StatusBadRequest || a.trail.event.ObjectRef != nil && a.trail.event.Verb != "watch" && a.trail.verdict.level.atLeast(LevelRequestResponse) {
		a.body.keep(p)
	}
	return a.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (a *answerWriter) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush implements http.Flusher.
func (a *answerWriter) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// Hijack implements http.Hijacker.
func (a *answerWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	hijacker, ok := a.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("this connection cannot be taken over: it is HTTP/2")
	}
	a.code = http.StatusSwitchingProtocols
	a.trail.event.ResponseStatus = &metav1.Status{Code: http.StatusSwitchingProtocols}
	a.trail.started()
	return hijacker.Hijack()
}

// complete puts what was kept into the event.
func (t *trail) complete() {
	answer := t.answer
	if t.event.ResponseStatus == nil {
		t.event.ResponseStatus = &metav1.Status{Code: http.StatusOK}
	}
	if answer.code >= http.StatusBadRequest {
		status := &metav1.Status{}
		if data := asJSON(&answer.body); data != nil && json.Unmarshal(data, status) == nil && status.Code != 0 {
			status.TypeMeta = metav1.TypeMeta{}
			t.event.ResponseStatus = status
		}
	}
	if t.body != nil && t.body.Len() > 0 {
		t.event.RequestObject = t.clean(asJSON(t.body))
	}
	if t.verdict.level.atLeast(LevelRequestResponse) && answer.body.Len() > 0 && t.event.ObjectRef != nil {
		t.event.ResponseObject = t.clean(asJSON(&answer.body))
	}
	t.refer()
}

// refer fills the reference from the answer: a created object has its name only there.
func (t *trail) refer() {
	var object metav1.PartialObjectMetadata
	if t.event.ResponseObject == nil || json.Unmarshal(t.event.ResponseObject, &object) != nil || object.Kind == "Status" {
		return
	}
	if t.event.ObjectRef.Name == "" {
		t.event.ObjectRef.Name = object.Name
	}
	t.event.ObjectRef.UID, t.event.ObjectRef.ResourceVersion = string(object.UID), object.ResourceVersion
}

// asJSON turns a body into JSON; nil for one that is none of ours.
func asJSON(k *kept) json.RawMessage {
	data := k.Bytes()
	switch {
	case k.truncated:
		return nil
	case strings.Contains(k.contentType, "protobuf"):
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(data, nil, nil)
		if err != nil {
			return nil
		}
		data, err = json.Marshal(object)
		if err != nil {
			return nil
		}
	case strings.Contains(k.contentType, "yaml"):
		converted, err := yaml.YAMLToJSON(data)
		if err != nil {
			return nil
		}
		data = converted
	}
	if !json.Valid(data) {
		return nil
	}
	var line bytes.Buffer
	if err := json.Compact(&line, data); err != nil { // an event is one line
		return nil
	}
	return line.Bytes()
}

// clean takes managed fields out where the policy wants that.
func (t *trail) clean(data json.RawMessage) json.RawMessage {
	if !t.verdict.omitManagedFields || data == nil {
		return data
	}
	var object map[string]any
	if json.Unmarshal(data, &object) != nil {
		return data // a patch in JSON's own form is a list
	}
	strip(object)
	if items, ok := object["items"].([]any); ok {
		for _, item := range items {
			strip(item)
		}
	}
	cleaned, err := json.Marshal(object)
	if err != nil {
		return data
	}
	return cleaned
}

func strip(object any) {
	fields, _ := object.(map[string]any)
	if metadata, ok := fields["metadata"].(map[string]any); ok {
		delete(metadata, "managedFields")
	}
}
