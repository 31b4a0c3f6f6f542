// Package queue decides which pod is tried next, and when a pod that could not be
// placed is tried again.
//
//	         Add                      Pop
//	 pod ----------> activeQ ------------------> scheduling cycle --> placed: Done
//	                  ^   ^ \                          |
//	backoff is over   |   |  '-- PreEnqueue says no    | no node fits
//	                  |   |           |                v
//	             backoffQ |           |       AddUnschedulableIfNotPresent
//	                  ^   |           |                |
//	                  |   | event     v                v
//	                  '---+------- unschedulablePods <-'
//
// A pod that no node can take waits in unschedulablePods until something happens
// that may help it. Which events may help is known by the plugins that refused it:
// their queueing hints are asked about each event. A hit moves the pod to backoffQ
// (1 s after the first refusal, then doubling up to 10 s), from there to activeQ.
// In case a hint is wrong, a pod waits there five minutes at most.
//
// # Events that come during an attempt
//
// The tempting version looks at unschedulablePods only. It loses a wakeup:
//
//	scheduling cycle              informer
//	snapshot taken
//	                              node added; pod is not in unschedulablePods
//	no node fits
//	pod -> unschedulablePods      (nobody will ever look at the event again)
//
// So the queue keeps a list in which each popped pod stands at the place where it
// was popped, followed by the events since. When the pod comes back unplaced, the
// events after its own place are put to the hints. Events older than the oldest
// pod in flight are dropped.
//
// # Invariants
//
//   - A pod is in one of: activeQ, backoffQ, unschedulablePods, in flight, nowhere.
//   - Each Pop is followed by exactly one Done, or the list of events grows without
//     bound.
//   - A gated pod never enters activeQ or backoffQ.
//   - An idle scheduler does not wait: when activeQ is empty, Pop takes the pod
//     nearest to the end of its backoff, unless it failed by an error (an overloaded
//     apiserver must not be hammered).
//
// This package knows nothing of nodes, the cache, or the API.
//
// Read first: PriorityQueue, Pop, MoveAllToActiveOrBackoffQueue in scheduling_queue.go.
//
// # In Kubernetes
//
// pkg/scheduler/backend/queue (PriorityQueue, activeQueue, backoffQueue,
// nominator). Left out: pod groups, and the separate locks of the parts: one lock holds here, since a turn of it takes
// about a microsecond.
package queue
