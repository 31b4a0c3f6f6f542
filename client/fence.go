package client

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// A leader whose process was stopped (SIGSTOP, a debugger, a machine without CPU) for longer than its Lease holds goes on in the
// middle of a turn, beside the one who took over: it may make the pods once more that the other has made. Upstream's leader ends
// itself as soon as its elector runs, which is soon, but a turn may run sooner. So the last word is with the transport: a write
// that leadership allows goes out only while the Lease holds by the clock.
//
// What remains is a stop between this look and the request's first byte. Only the apiserver could close that, by refusing writes
// of an older term, and it knows of none.

// LeaseLock is a lock that knows until when its Lease holds.
type LeaseLock struct {
	resourcelock.Interface
	// Duration is how long the Lease holds after its renewal.
	Duration time.Duration
	renewed  atomic.Pointer[time.Time] // nil: never
}

// Create implements resourcelock.Interface.
func (l *LeaseLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.renew(func() error { return l.Interface.Create(ctx, record) })
}

// Update implements resourcelock.Interface.
func (l *LeaseLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.renew(func() error { return l.Interface.Update(ctx, record) })
}

// renew counts from before the request: others count from when they see it, which is later.
func (l *LeaseLock) renew(write func() error) error {
	began := time.Now()
	err := write()
	if err == nil {
		l.renewed.Store(&began)
	}
	return err
}

// Held is nil while the Lease holds.
func (l *LeaseLock) Held() error {
	at := l.renewed.Load()
	if at == nil {
		return fmt.Errorf("the lease %s is not held", l.Describe())
	}
	if since := time.Since(*at); since > l.Duration {
		return fmt.Errorf("the lease %s was renewed %s ago and holds for %s: another may lead", l.Describe(), since.Round(time.Millisecond), l.Duration)
	}
	return nil
}

type fenceKey struct{}

// WithFence lets the writes that are made with the context go out only while held is nil.
func WithFence(ctx context.Context, held func() error) context.Context {
	return context.WithValue(ctx, fenceKey{}, held)
}

// ObeyFences makes the requests of a configuration obey WithFence. Load does it.
func ObeyFences(config *rest.Config) {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &fenceTransport{next} })
}

type fenceTransport struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t *fenceTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	held, fenced := r.Context().Value(fenceKey{}).(func() error)
	if fenced && r.Method != http.MethodGet {
		if err := held(); err != nil {
			return nil, err
		}
	}
	return t.next.RoundTrip(r)
}

// WrappedRoundTripper lets client-go find the transport below.
func (t *fenceTransport) WrappedRoundTripper() http.RoundTripper { return t.next }
