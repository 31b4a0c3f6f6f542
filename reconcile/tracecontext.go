package reconcile

import (
	"context"
	"fmt"
	"math/rand/v2"

	"k8s.io/klog/v2"
)

// Trace is the W3C trace context of one run of a loop, in the form of its header:
// "00-TRACEID-SPANID-01". A run is a trace of its own, as KEP-5915 has it: it does not
// belong to the request that changed the object, which has long been answered, and may
// be the consequence of many. What links them are the run's causes.
type Trace string

type traceKey struct{}

// newTrace makes up a trace context. Its bytes must differ, not be secret.
func newTrace() Trace {
	return Trace(fmt.Sprintf("00-%016x%016x-%016x-01", rand.Uint64(), rand.Uint64()|1, rand.Uint64()|1))
}

// ID is the trace's id, 32 hexadecimal digits: what log lines show as traceID, and what
// `hyperkube trace --id` takes. "" outside of a run.
func (t Trace) ID() string {
	if len(t) < 35 {
		return ""
	}
	return string(t[3:35])
}

// TraceFrom returns the trace context of the run that ctx belongs to, or "". The transport in
// client/ sends it as traceparent.
func TraceFrom(ctx context.Context) Trace {
	t, _ := ctx.Value(traceKey{}).(Trace)
	return t
}

// withTrace begins a trace in a context that has none, and lets its logger show it.
func withTrace(ctx context.Context) context.Context {
	if TraceFrom(ctx) != "" {
		return ctx // a part of the run
	}
	t := newTrace()
	ctx = klog.NewContext(ctx, klog.LoggerWithValues(klog.FromContext(ctx), "traceID", t.ID()))
	return context.WithValue(ctx, traceKey{}, t)
}
