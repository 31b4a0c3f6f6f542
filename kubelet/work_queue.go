package kubelet

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// workQueue remembers when each pod is to be looked at again. A pod is in it
// once, and taking it out forgets it.
type workQueue struct {
	clock clock.Clock

	mu  sync.Mutex
	due map[types.UID]time.Time
}

func newWorkQueue(c clock.Clock) *workQueue {
	return &workQueue{clock: c, due: map[types.UID]time.Time{}}
}

// Enqueue has the pod looked at in delay at the latest. The earliest wish counts:
// otherwise the usual minute would push away a deadline that comes sooner.
func (q *workQueue) Enqueue(uid types.UID, delay time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := q.clock.Now().Add(delay)
	if before, known := q.due[uid]; !known || at.Before(before) {
		q.due[uid] = at
	}
}

// GetWork takes out all pods that are due.
func (q *workQueue) GetWork() []types.UID {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.Now()
	var list []types.UID
	for uid, at := range q.due {
		if !at.After(now) {
			list = append(list, uid)
			delete(q.due, uid)
		}
	}
	return list
}
