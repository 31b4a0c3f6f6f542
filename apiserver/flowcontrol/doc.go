// Package flowcontrol lets requests in as fast as they can be served, and shares that between those who ask: priority
// and fairness. A flood from one user waits in its own queues; the components are served meanwhile.
//
//	request ──► FlowSchema           the first, by precedence, whose rules match who asks for what
//	              │ names a
//	              ▼
//	            PriorityLevel        Exempt: at once.  Limited: a share of all seats, and what others lend it (borrowing.go)
//	              │
//	              ▼ the flow (schema and user, or namespace) is dealt a hand of queues, and takes the shortest
//	            queue queue queue …  the queue that was served least goes next, when its seats are free
//	              │
//	              ▼
//	            handler              seats until it answers: a watch until it has started, a write until its watchers are told
//
// How many seats a request takes is estimated from what it is for: a list by the objects there are, a write by its watchers (work.go).
//
// The hand is what makes a flood harmless: two flows share all their queues only by a rare accident, so that the queues a
// flood fills are not all that another flow has (shuffle sharding).
//
// Invariants: never more seats of a level are taken than it has, but by one request that is wider than the level; a waiting request is refused, not forgotten (429 with
// Retry-After, when its queue is full or its time is over); the mandatory levels exempt and catch-all are always there.
//
// Read first: Controller.Handler, queueSet.wait, queueSet.dispatch.
//
// # In Kubernetes
//
// k8s.io/apiserver/pkg/util/flowcontrol (apf_controller.go, request, fairqueuing/queueset, shufflesharding) and
// server/filters/priority-and-fairness.go; KEP-1040. There a virtual clock measures service; here each queue knows how many
// seat-seconds it was served, and one that was away begins with the least of those that were not. There a list costs by the size of its
// objects since v1.34; here by their number, as before: what is sent is encoded already. Of the watchers of a write those by an
// indexed field are not counted. Left out: the histograms of utilization and the gauges of the virtual clock.
package flowcontrol
