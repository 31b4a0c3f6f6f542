package endpointslice

import (
	"strconv"
	"sync"

	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"hyperkube/reconcile"
)

// gone marks a slice that we deleted.
const gone = ^uint64(0)

// tracker knows which version of each slice our own writes led to, so that a turn
// can tell a cache that has not seen them yet.
type tracker struct {
	mu       sync.Mutex
	services map[string]map[types.UID]uint64
}

func newTracker() *tracker {
	return &tracker{services: map[string]map[types.UID]uint64{}}
}

// keysOf names the key of a slice of the manager's, whoever changed it; a deletion is noted.
func (t *tracker) keysOf(manager string) reconcile.Keys {
	return func(e reconcile.Event) []string {
		slice := e.Object().(*discovery.EndpointSlice)
		service, ok := slice.Labels[discovery.LabelServiceName]
		if !ok || slice.Labels[discovery.LabelManagedBy] != manager {
			return nil
		}
		key := cache.NewObjectName(slice.Namespace, service).String()
		if e.Deleted() {
			t.deleted(key, slice.UID)
		}
		return []string{key}
	}
}

// wrote notes a slice as the API returned it.
func (t *tracker) wrote(service string, slice *discovery.EndpointSlice) {
	t.set(service, slice.UID, version(slice))
}

// removed notes that the slice was deleted by us.
func (t *tracker) removed(service string, uid types.UID) { t.set(service, uid, gone) }

func (t *tracker) set(service string, uid types.UID, to uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.services[service] == nil {
		t.services[service] = map[types.UID]uint64{}
	}
	t.services[service][uid] = to
}

// deleted is called when the informer saw the slice go.
func (t *tracker) deleted(service string, uid types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.services[service], uid)
}

func (t *tracker) forget(service string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.services, service)
}

// stale reports whether the cache's slices are older than our last writes.
func (t *tracker) stale(service string, cached []*discovery.EndpointSlice) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.services[service]
	seen := 0
	for _, slice := range cached {
		expected, ok := known[slice.UID]
		if !ok {
			continue
		}
		if version(slice) < expected {
			return true // an older version, or one that we deleted since
		}
		seen++
	}
	for uid, expected := range known {
		if expected == gone {
			delete(known, uid) // it is not in the cache, or the loop above had found it
		}
	}
	return seen < len(known)
}

// version is the resource version as a number; within one resource they are
// ordered (KEP-5504).
func version(slice *discovery.EndpointSlice) uint64 {
	v, err := strconv.ParseUint(slice.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return v
}
