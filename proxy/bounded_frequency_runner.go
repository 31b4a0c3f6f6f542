package proxy

import (
	"context"
	"time"

	"k8s.io/utils/clock"
)

// boundedFrequencyRunner runs a function soon after it is asked to, but not more
// often than every minInterval, and at least every maxInterval. A burst of changes,
// such as a rollout makes, becomes a few runs.
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
		wait = r.maxInterval
		if err := fn(); err != nil {
			wait = r.retryInterval
		}
		// Requests that come now wait in the channel.
		pause := r.clock.NewTimer(r.minInterval)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C():
		}
	}
}
