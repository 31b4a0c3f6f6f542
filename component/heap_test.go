package component

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		room, base uint64
		want       int
	}{
		{room: 48 * mib, base: 12 * mib, want: 400},
		{room: 48 * mib, base: 48 * mib, want: 100},
		{room: 48 * mib, base: 500 * mib, want: 100}, // as by default
		{room: 48 * mib, base: 0, want: 4800},        // nothing has been collected yet
	} {
		if got := percentFor(test.room, test.base); got != test.want {
			t.Errorf("percentFor(%d, %d) = %d, want %d", test.room, test.base, got, test.want)
		}
	}
}

// TestHeadroomFollowsTheHeap: the room stays about the same when what is alive grows.
func TestHeadroomFollowsTheHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(defaultPercent))
	const room = 256 << 20
	KeepHeadroom(room)
	var kept [][]byte
	for range 4 {
		kept = append(kept, make([]byte, 16<<20))
		roomIs := func() uint64 {
			runtime.GC()
			s := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}, {Name: "/gc/heap/live:bytes"}}
			metrics.Read(s)
			return s[0].Value.Uint64() - s[1].Value.Uint64()
		}
		deadline := time.Now().Add(time.Minute)
		for got := roomIs(); got < room*8/10 || got > room*12/10; got = roomIs() {
			if time.Now().After(deadline) {
				t.Fatalf("with %d MiB alive the room is %d MiB, want about %d", len(kept)*16, got>>20, uint64(room)>>20)
			}
			runtime.Gosched()
		}
	}
	runtime.KeepAlive(kept)
}
