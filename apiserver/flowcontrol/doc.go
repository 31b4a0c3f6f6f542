// Package flowcontrol lets requests in as fast as they can be served, and shares that between those who ask: priority
// and fairness. A flood from one user waits in its own queues; the components are served meanwhile.
//
//	request ──► FlowSchema           the first, by precedence, whose rules match who asks for what
//	              │ names a
//	              ▼
//	            PriorityLevel        Exempt: at once.  Limited: a share of all seats
//	              │
//	              ▼ the flow (schema and user, or namespace) is dealt a hand of queues, and takes the shortest
//	            queue queue queue …  the queue that was served least goes next, when a seat is free
//	              │
//	              ▼
//	            handler              a seat until it answers
//
// The hand is what makes a flood harmless: two flows share all their queues only by a rare accident, so that the queues a
// flood fills are not all that another flow has (shuffle sharding).
//
// Invariants: never more requests of a level run than it has seats; a waiting request is refused, not forgotten (429 with
// Retry-After, when its queue is full or its time is over); the mandatory levels exempt and catch-all are always there.
//
// Read first: Controller.Handler, queueSet.wait, queueSet.dispatch.
//
// # In Kubernetes
//
// k8s.io/apiserver/pkg/util/flowcontrol (apf_controller.go, fairqueuing/queueset, shufflesharding) and
// server/filters/priority-and-fairness.go; KEP-1040. There a virtual clock measures service; here each queue knows how much
// time it was served, which comes to the same where all requests take one seat. Left out: seats by the size of a list, borrowing
// between levels, and seats for the start of a watch.
package flowcontrol
