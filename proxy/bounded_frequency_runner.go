package proxy

import (
	"context"
	"time"

	"k8s.io/utils/clock"
)

// boundedFrequencyRunner runs a function soon after it is asked to, but on average not
// more often than every minInterval, and at least every maxInterval. A burst of changes,
// such as a rollout makes, becomes a few runs. Two runs may follow each other at once: what
// comes right after a quiet time, as the cluster's DNS after the start, need not wait.
type boundedFrequencyRunner struct {
	clock                    clock.Clock
	minInterval, maxInterval time.Duration
	// retryInterval is the wait after a failure.
	retryInterval time.Duration
	// requests holds at most one: more would only ask for the same.
	requests chan struct{}
}

func newBoundedFrequencyRunner(clk clock.Clock, minInterval, maxInterval, retryInterval time.Duration) *boundedFrequencyRunner {
	return &boundedFrequencyRunner{clk, minInterval, maxInterval, retryInterval, make(chan struct{}, 1)}
}

// Run asks for a run. It does not block.
func (r *boundedFrequencyRunner) Run() {
	select {
	case r.requests <- struct{}{}:
	default:
	}
}

// Loop runs fn as asked until ctx is done.
func (r *boundedFrequencyRunner) Loop(ctx context.Context, fn func() error) {
	wait := r.maxInterval
	var last time.Time
	for {
		timer := r.clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		case <-r.requests:
			timer.Stop()
		}
		before := last
		last = r.clock.Now()
		wait = r.maxInterval
		if err := fn(); err != nil {
			wait = r.retryInterval
		}
		// Requests that come now wait in the channel.
		if !r.pause(ctx, before.Add(2*r.minInterval)) {
			return
		}
	}
}

// pause waits until then; false: ctx has ended.
func (r *boundedFrequencyRunner) pause(ctx context.Context, then time.Time) bool {
	left := then.Sub(r.clock.Now())
	if left <= 0 {
		return ctx.Err() == nil
	}
	timer := r.clock.NewTimer(left)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}
