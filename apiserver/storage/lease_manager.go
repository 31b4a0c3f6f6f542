package storage

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/utils/clock"
)

// leaseManager grants etcd leases. Objects that expire within a short time of
// each other share one: a lease an event would cost etcd more than the event.
type leaseManager struct {
	etcd  func() *clientv3.Client
	clock clock.PassiveClock

	mu     sync.Mutex
	leases map[int64]*sharedLease // by TTL in seconds
}

type sharedLease struct {
	id       clientv3.LeaseID
	reusable time.Time // until then
	objects  int
}

const (
	// An object may live longer than asked by leaseReuse, or by a twentieth of
	// its TTL if that is less.
	leaseReuse      = time.Minute
	maxLeaseObjects = 1000
)

// lease returns a lease with at least ttl seconds to live.
func (m *leaseManager) lease(ctx context.Context, ttl int64) (clientv3.LeaseID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	if l := m.leases[ttl]; l != nil && now.Before(l.reusable) && l.objects < maxLeaseObjects {
		l.objects++
		return l.id, nil
	}
	reuse := min(leaseReuse, time.Duration(ttl)*time.Second/20)
	extra := int64((reuse + time.Second - 1) / time.Second)
	granted, err := m.etcd().Grant(ctx, ttl+extra)
	if err != nil {
		return 0, err
	}
	for other, l := range m.leases {
		if !now.Before(l.reusable) {
			delete(m.leases, other)
		}
	}
	if m.leases == nil {
		m.leases = map[int64]*sharedLease{}
	}
	m.leases[ttl] = &sharedLease{id: granted.ID, reusable: now.Add(reuse), objects: 1}
	return granted.ID, nil
}
