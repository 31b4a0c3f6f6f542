package client

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"hyperkube/flow"
	"hyperkube/reconcile"
)

// TellCauses makes every request of a configuration say why it is made (Flow-Cause),
// which line makes it (Flow-Source) and in which trace (traceparent): causes and trace come
// from the context, the line from the stack, and no caller has to do anything. Load does it.
func TellCauses(config *rest.Config) {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &flowTransport{next} })
}

type flowTransport struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper. client-go calls it on the goroutine of
// whoever asked for the request: the caller is on the stack.
func (t *flowTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	cause, source := flow.Headers(r.Context())
	trace := reconcile.TraceFrom(r.Context())
	if cause == "" && source == "" && trace == "" {
		return t.next.RoundTrip(r)
	}
	r = utilnet.CloneRequest(r)
	if cause != "" {
		r.Header.Set(flow.CauseHeader, cause)
	}
	if source != "" {
		r.Header.Set(flow.SourceHeader, source)
	}
	if trace != "" {
		r.Header.Set(flow.TraceParentHeader, string(trace))
	}
	return t.next.RoundTrip(r)
}

// WrappedRoundTripper lets client-go find the transport below.
func (t *flowTransport) WrappedRoundTripper() http.RoundTripper { return t.next }

// EffectsPath is where the apiserver takes effects.
const EffectsPath = "/debug/flow/effects"

const (
	// effectsPause is how long effects gather before they are sent together.
	effectsPause = 50 * time.Millisecond
	// maxEffects wait at most; what comes when there are so many is dropped.
	maxEffects = 2048
)

// Effects sends what a component did besides writing to the API (flow.Report) to the
// apiserver. An apiserver that has no place for it (404: upstream's) or does not want it
// is asked once.
type Effects struct {
	component string
	client    rest.Interface

	mu      sync.Mutex
	waiting []flow.Effect
	off     bool
	wake    chan struct{}
}

// NewEffects makes the sink of a component's effects; nothing is sent before Run.
func NewEffects(component string, client rest.Interface) *Effects {
	return &Effects{component: component, client: client, wake: make(chan struct{}, 1)}
}

// Post implements flow.Sink: it never waits.
func (e *Effects) Post(effect flow.Effect) {
	effect.Component = e.component
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.off || len(e.waiting) >= maxEffects {
		return
	}
	e.waiting = append(e.waiting, effect)
	if len(e.waiting) == 1 {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

// Run sends until ctx ends.
func (e *Effects) Run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
		}
		pause.Reset(effectsPause)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		if !e.send(ctx) {
			return
		}
	}
}

// send posts what waits; false: nobody wants it, now or later. What cannot be
// delivered for another reason is lost: a trace with a gap is better than a component
// that remembers without end.
func (e *Effects) send(ctx context.Context) bool {
	e.mu.Lock()
	effects := e.waiting
	e.waiting = nil
	e.mu.Unlock()
	body, err := json.Marshal(effects)
	if err != nil {
		return true
	}
	var code int
	err = e.client.Post().AbsPath(EffectsPath).SetHeader("Content-Type", "application/json").Body(bytes.NewReader(body)).
		Timeout(10 * time.Second).Do(ctx).StatusCode(&code).Error()
	if code == http.StatusNotFound || code == http.StatusForbidden || code == http.StatusMethodNotAllowed {
		e.mu.Lock()
		e.off, e.waiting = true, nil
		e.mu.Unlock()
		klog.FromContext(ctx).V(2).Info("The apiserver takes no effects: traces will show API writes only", "code", code)
		return false
	}
	if err != nil {
		klog.FromContext(ctx).V(3).Info("Effects are lost", "count", len(effects), "err", err)
	}
	return true
}
