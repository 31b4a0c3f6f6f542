package component

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// SignalContext returns a context that ends with the first SIGINT or SIGTERM.
// The second one ends the process at once: whoever presses Ctrl-C twice does not
// want to wait. Every component stops by its context and by nothing else, so
// that there is one stop mechanism to understand (S0-23).
func SignalContext(parent context.Context, onFirst func(os.Signal)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			onFirst(s)
			cancel()
		case <-ctx.Done():
			signal.Stop(signals)
			return
		}
		<-signals
		os.Exit(130)
	}()
	return ctx, cancel
}

// SilentWait is how long a wait may last before it says what it waits for (R04).
const SilentWait = 2 * time.Second

// Wait calls ready until it returns nil or ctx ends: often at first, every half
// second in the end. After SilentWait, and then every 10 s, it calls say with the
// last error, so that no wait is silent.
func Wait(ctx context.Context, say func(cause error), ready func(context.Context) error) error {
	const shortest, longest = 5 * time.Millisecond, 500 * time.Millisecond
	interval := shortest
	next := time.Now().Add(SilentWait)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last error
	for {
		select {
		case <-ctx.Done():
			if last != nil {
				return last
			}
			return ctx.Err()
		case <-timer.C:
		}
		if last = ready(ctx); last == nil {
			return nil
		}
		if now := time.Now(); now.After(next) {
			say(last)
			next = now.Add(10 * time.Second)
		}
		timer.Reset(interval)
		interval = min(interval+interval/8, longest)
	}
}

// processExists reports whether pid is alive; a process of another user counts.
func processExists(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || err == syscall.EPERM
}
