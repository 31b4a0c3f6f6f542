package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"hyperkube/reconcile"
)

// Effect is something a component did that is no write to the API: a container made,
// rules added, a node chosen. Components post it to the apiserver.
type Effect struct {
	Time time.Time     `json:"time"`
	Took time.Duration `json:"took,omitempty"`
	// Component is filled in by the poster and, from the user, checked by the apiserver.
	Component string `json:"component"`
	// What was done ("CRI CreateContainer", "schedule"), and more about it in a few words.
	// Neither ever holds an environment, a command or a token.
	What   string `json:"what"`
	Detail string `json:"detail,omitempty"`
	Error  string `json:"error,omitempty"`
	// Lines are what was added ("+ …") or removed ("- …"), as rules; at most 20 are kept.
	Lines []string `json:"lines,omitempty"`
	// Data is more about it for programs (of What Scheduled: the whole attempt); at most 16 KiB.
	Data json.RawMessage `json:"data,omitempty"`
	// Kind, Namespace and Name: the object it was done for; may be empty.
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Cause, Source and TraceParent as in the headers of a request.
	Cause       string `json:"cause,omitempty"`
	Source      string `json:"source,omitempty"`
	TraceParent string `json:"traceparent,omitempty"`
	// Depth is how many functions around the call of Report are left out of Source: 1 for
	// one that only reports.
	Depth int `json:"-"`
}

// Sink takes effects. It must not block.
type Sink interface{ Post(Effect) }

type sinkKey struct{}

// WithSink returns a context in which Report posts to sink.
func WithSink(ctx context.Context, sink Sink) context.Context {
	return context.WithValue(ctx, sinkKey{}, sink)
}

// SinkFrom returns the sink of ctx, or nil. Who has something costly to say asks first.
func SinkFrom(ctx context.Context) Sink {
	sink, _ := ctx.Value(sinkKey{}).(Sink)
	return sink
}

// Report posts an effect, done because of what ctx says (reconcile.WithCauses), by
// whoever calls. Without a sink it does nothing.
func Report(ctx context.Context, e Effect) {
	sink := SinkFrom(ctx)
	if sink == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now().Add(-e.Took) // like a request's, it is that of the beginning
	}
	causes := reconcile.CausesFrom(ctx)
	if e.Cause == "" {
		e.Cause = formatCauses(causes)
	}
	if e.Kind == "" && len(causes.List) > 0 {
		c := causes.List[len(causes.List)-1]
		e.Kind, e.Namespace, e.Name = c.Kind, c.Namespace, c.Name
	}
	if e.Source == "" {
		e.Source = formatSource(sourceFrom(ctx, e.Depth), reconcile.RunFrom(ctx))
	}
	e.TraceParent = string(reconcile.TraceFrom(ctx))
	sink.Post(e)
}

type sourceKey struct{}

// WithSource returns a context whose requests and effects were begun by source
// ("FILE:LINE FUNCTION", as Caller has it), on another goroutine. "" changes nothing.
func WithSource(ctx context.Context, source string) context.Context {
	if source == "" {
		return ctx
	}
	return context.WithValue(ctx, sourceKey{}, source)
}

// sourceFrom is the line that ctx carries, else that of whoever calls; skip as for Caller.
func sourceFrom(ctx context.Context, skip int) string {
	if source, ok := ctx.Value(sourceKey{}).(string); ok {
		return source
	}
	return Caller(skip)
}

// Headers are the values of Flow-Cause and Flow-Source for a request made in ctx by
// whoever calls. An empty one is not sent.
func Headers(ctx context.Context) (cause, source string) {
	return formatCauses(reconcile.CausesFrom(ctx)), formatSource(sourceFrom(ctx, 0), reconcile.RunFrom(ctx))
}

// maxDetail bounds each text of an effect that somebody posts.
const maxDetail = 4096

const maxLines = 20

const maxData = 16 << 10

// Effect puts a posted effect into the record.
func (r *Record) Effect(e Effect) {
	if r == nil {
		return
	}
	for _, text := range []*string{&e.What, &e.Detail, &e.Error, &e.Cause, &e.Source, &e.Component} {
		if len(*text) > maxDetail {
			*text = (*text)[:maxDetail]
		}
	}
	if more := len(e.Lines) - maxLines; more > 0 {
		e.Lines = append(e.Lines[:maxLines:maxLines], fmt.Sprintf("and %d more", more))
	}
	for i, line := range e.Lines {
		e.Lines[i] = line[:min(len(line), maxDetail)]
	}
	e.TraceParent = traceParent(e.TraceParent)
	if len(e.Data) > maxData {
		e.Data = nil // half of it could not be read
	}
	r.add(&e)
}

func (e *Effect) size() int {
	n := 400 + len(e.Data)
	for _, line := range e.Lines {
		n += len(line) + 16
	}
	return n + len(e.What) + len(e.Detail) + len(e.Error) + len(e.Kind) + len(e.Namespace) + len(e.Name) + len(e.Cause) + len(e.Source) + len(e.TraceParent)
}

func (e *Effect) when() time.Time { return e.Time }
