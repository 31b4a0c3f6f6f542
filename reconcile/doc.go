// Package reconcile is the one loop that every controller and addon runs: it
// turns "something changed" into "make this object right".
//
//	 informer ──event──► Keys ──key──► queue ──► gate ──► sync(ctx, key) ──writes──► API
//	(list+watch)            │            ▲                      │
//	                        └─ causes ───┼──────────── ctx ─────┘
//	                                     └── again: error · Retry · After
//
// In steps:
//
//  1. An informer says that an object appeared, changed or went. The handler
//     given to Watch maps it to keys ("namespace/name"), and does nothing else.
//  2. The queue holds each key once, however often it was added, and never gives
//     a key out to two workers.
//  3. A gate, if there is one, holds the key until it is let through. Turnstile is one
//     that `hyperkube step` works.
//  4. The controller's Func looks at the caches, compares what is with what
//     should be, and writes the difference.
//  5. Its Result decides: done, again after a time, or again with backoff. An
//     error is reported here, once, and tried again, for ever, more slowly.
//
// Nouns: a key names the object to look at. A cause is an object at a resource
// version that made a key run; at most eight travel in ctx, the others are
// counted. A Status is the row that `hyperkube controller-manager` prints.
//
// Invariants: a sync never runs before all its informers have delivered their
// first list. One key is never synced twice at the same time. An event is never
// lost: a key that is added while it is being synced runs again afterwards. A
// panic in a sync is that key's error. When Run has returned, no sync runs and
// no handler is left on an informer. This package knows no kind of object and no
// controller.
//
// A controller of a hundred lines, whole, is `reconcile/example_test.go:Example`.
//
// Read first: `reconcile/reconcile.go:Loop.Run`,
// `reconcile/reconcile.go:Loop.processNextWorkItem`,
// `reconcile/reconcile.go:Loop.handleResult`.
//
// # In Kubernetes
//
// Each controller under pkg/controller writes this loop anew: AddEventHandler,
// worker, processNextWorkItem, handleErr, around client-go's workqueue;
// staging/src/k8s.io/sample-controller is the form to learn from, and
// sigs.k8s.io/controller-runtime is what most authors use instead. Here it stands
// once. Left out: upstream gives a key up after 15 failures in most controllers
// (maxRetries), so that it stays wrong until the next event or the resync of
// twelve hours; here it is tried again every minute, and there is no resync.
// Causes and the gate have no counterpart. Without waiting for the first lists a
// restarted controller manager would create every pod a second time; without the
// queue's "one worker a key" two workers would both find one replica missing.
package reconcile
