package component

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// KeepHeadroom lets this process allocate room bytes between two garbage
// collections, however little it keeps. Go collects when the heap has doubled;
// with the 15 MiB that a small etcd keeps, that is several times a second under
// load, and costs a fifth of its CPU. A process that keeps more than room is
// collected as by default, and so is one whose user has set GOGC.
func KeepHeadroom(room uint64) {
	if os.Getenv("GOGC") == "" {
		(&headroom{room: room, percent: defaultPercent}).adjust()
	}
}

const defaultPercent = 100

// headroom is the collector's setting, adjusted to what was alive at the last collection.
type headroom struct {
	room    uint64
	percent int
}

// adjust sets the percentage of growth that comes to room, and comes back after the next collection.
func (h *headroom) adjust() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(live)
	var base uint64
	for _, sample := range live {
		base += sample.Value.Uint64()
	}
	percent := percentFor(h.room, base)
	// A new setting stops the world for a moment: small steps are not worth it.
	if step := h.percent / 10; percent < h.percent-step || percent > h.percent+step {
		debug.SetGCPercent(percent)
		h.percent = percent
	}
	// Nobody refers to the mark: the next collection finds it.
	mark := new([16]byte)
	runtime.SetFinalizer(mark, func(*[16]byte) { h.adjust() })
}

func percentFor(room, base uint64) int {
	return max(defaultPercent, int(room*100/max(base, 1<<20)))
}
