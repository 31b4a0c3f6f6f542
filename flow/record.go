package flow

import (
	"sync"
	"time"
	"unsafe"
)

// DefaultBuffer is how much memory a Record may hold, in bytes.
const DefaultBuffer = 64 << 20

// entry is what the ring holds: a *Request or an *Effect.
type entry interface {
	// size is what the entry keeps in memory, in bytes, roughly.
	size() int
	when() time.Time
}

// Record is what the apiserver remembers of what went through it: the newest
// entries that fit, the newest deliveries, and the watches. A nil Record records
// nothing, and every method may be called on it.
//
// Invariants:
//   - entries are never changed once they are in the ring.
//   - bytes is the sum of the sizes of what is in the ring, and at most limit.
//   - Nobody waits for a reader: reading copies references, and everything
//     expensive (decoding, comparing) is done on the copy.
type Record struct {
	mu      sync.Mutex
	ring    []entry // a circle: count entries from first on
	first   int
	count   int
	bytes   int
	limit   int
	dropped int64
	since   time.Time
	tap     func(Entry) // set before the first entry
	open    map[*Request]bool

	watches watches
	gates   Gates
	changed bell // for those who follow
}

// NewRecord makes a record of at most buffer bytes; 0 means DefaultBuffer, less
// than 0 none at all.
func NewRecord(buffer int) *Record {
	switch {
	case buffer < 0:
		return nil
	case buffer == 0:
		buffer = DefaultBuffer
	}
	r := &Record{since: time.Now(), ring: make([]entry, 256)}
	r.watches.limit = max(deliveryChunk, buffer/8/int(unsafe.Sizeof(delivery{})))
	r.limit = buffer - buffer/8
	r.gates.record = r
	return r
}

// add puts e into the ring and drops the oldest ones that no longer fit.
func (r *Record) add(e entry) {
	if r.tap != nil {
		r.tap(Entry{e})
	}
	size := e.size()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.count > 0 && r.bytes+size > r.limit {
		r.bytes -= r.ring[r.first].size()
		r.ring[r.first] = nil
		r.first = (r.first + 1) % len(r.ring)
		r.count--
		r.dropped++
	}
	if size > r.limit {
		r.dropped++
		return
	}
	if r.count == len(r.ring) {
		larger := make([]entry, 2*len(r.ring))
		n := copy(larger, r.ring[r.first:])
		copy(larger[n:], r.ring[:r.first])
		r.ring, r.first = larger, 0
	}
	r.ring[(r.first+r.count)%len(r.ring)] = e
	r.count++
	r.bytes += size
	r.changed.ring()
}

// snapshot returns the entries, oldest first.
func (r *Record) snapshot() []entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	entries := make([]entry, 0, r.count)
	for i := range r.count {
		entries = append(entries, r.ring[(r.first+i)%len(r.ring)])
	}
	return entries
}

// Status says how full a record is.
type Status struct {
	// Since is when recording began; Oldest is the time of the oldest entry kept.
	Since  time.Time `json:"since"`
	Oldest time.Time `json:"oldest,omitzero"`
	// Entries and Bytes are in the ring now, of Limit bytes; Dropped have left it.
	Entries int   `json:"entries"`
	Bytes   int   `json:"bytes"`
	Limit   int   `json:"limit"`
	Dropped int64 `json:"dropped"`
	// Deliveries of watch events kept, and how many have been dropped.
	Deliveries        int   `json:"deliveries"`
	DroppedDeliveries int64 `json:"droppedDeliveries"`
	// OpenWatches is how many clients are listening.
	OpenWatches int `json:"openWatches"`
}

// Status returns how full the record is now.
func (r *Record) Status() Status {
	if r == nil {
		return Status{}
	}
	r.mu.Lock()
	s := Status{Since: r.since, Entries: r.count, Bytes: r.bytes, Limit: r.limit, Dropped: r.dropped}
	if r.count > 0 {
		s.Oldest = r.ring[r.first].when()
	}
	r.mu.Unlock()
	s.Deliveries, s.DroppedDeliveries, s.OpenWatches = r.watches.counts()
	return s
}
