package reconcile

import (
	"context"
	"fmt"
	"runtime"
	"testing"
)

// turnstileLoop is a loop at a turnstile; each key's sync is told on runs.
func turnstileLoop(t *testing.T, workers int) (*Loop, *Turnstile, chan string) {
	t.Helper()
	turnstile, runs := NewTurnstile(), make(chan string, 10)
	l := New("test", func(_ context.Context, key string) (Result, error) { runs <- key; return Done, nil }, Options{Gate: turnstile, Workers: workers})
	start(t, l)
	return l, turnstile, runs
}

// waitHeld waits until n keys are at the turnstile.
func waitHeld(t *testing.T, turnstile *Turnstile, n int) (controllers []string, held []HeldKey) {
	t.Helper()
	for {
		if controllers, held = turnstile.Look(); len(held) == n {
			return controllers, held
		}
		select {
		case <-turnstile.Changed():
		case <-t.Context().Done():
			t.Fatalf("%d keys are held, want %d", len(held), n)
		}
	}
}

// Keys wait at the turnstile while their controller is held, show why they would run,
// and pass by their number, once.
func TestTurnstile(t *testing.T) {
	l, turnstile, runs := turnstileLoop(t, 1)
	turnstile.Set([]string{"test"}, nil)
	l.Notify(Event{New: configMap("a", "7")}, "ns/a")
	l.Enqueue("ns/b")
	l.Enqueue("ns/c")
	controllers, held := waitHeld(t, turnstile, 1)
	if fmt.Sprint(controllers) != "[test]" || held[0].Key != "ns/a" || held[0].Causes.String() != "ADDED ConfigMap ns/a@7" {
		t.Fatalf("%v hold %+v", controllers, held)
	}
	if n := queued(turnstile); n != 2 { // all three had been enqueued before Look was asked now
		t.Errorf("%d keys are queued behind it, want 2", n)
	}
	turnstile.Set([]string{"test"}, []int64{held[0].ID})
	if got := <-runs; got != "ns/a" {
		t.Fatalf("ran %s", got)
	}
	// The same number again lets nothing else through.
	_, next := waitHeld(t, turnstile, 1)
	turnstile.Set([]string{"test"}, []int64{held[0].ID})
	if _, still := waitHeld(t, turnstile, 1); still[0].ID != next[0].ID || still[0].Key != "ns/b" || len(runs) != 0 {
		t.Fatalf("%+v is held, %d ran", still, len(runs))
	}
	// Another controller's gate holds nobody here.
	turnstile.Set([]string{"other"}, nil)
	if a, b := <-runs, <-runs; a != "ns/b" || b != "ns/c" {
		t.Errorf("ran %s and %s", a, b)
	}
}

func queued(turnstile *Turnstile) int {
	_, held := turnstile.Look()
	return held[0].Queued
}

// A process that starts under a closed gate does not run past it before it has heard of it.
func TestTurnstileWaitsForTheFirstWish(t *testing.T) {
	l, turnstile, runs := turnstileLoop(t, 1)
	l.Enqueue("ns/a")
	for l.Status().Held == nil {
		runtime.Gosched()
	}
	turnstile.Set([]string{"test"}, nil)
	if _, held := waitHeld(t, turnstile, 1); held[0].Key != "ns/a" || len(runs) != 0 {
		t.Errorf("%v is held, %d ran", held, len(runs))
	}
}

// A loop that stops takes its keys from the turnstile, and is no longer one of those that run.
func TestTurnstileLetsGoAtTheStop(t *testing.T) {
	turnstile := NewTurnstile()
	turnstile.Set([]string{"test"}, nil)
	l := New("test", func(context.Context, string) (Result, error) { t.Error("it ran"); return Done, nil }, Options{Gate: turnstile, Workers: 2})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	l.Enqueue("ns/a")
	l.Enqueue("ns/b")
	waitHeld(t, turnstile, 2)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if controllers, held := turnstile.Look(); len(controllers)+len(held) != 0 {
		t.Errorf("%v hold %v after the stop", controllers, held)
	}
}
