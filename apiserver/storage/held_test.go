package storage

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testingclock "k8s.io/utils/clock/testing"
)

// Where a client is held (flow.Gates), a watch can begin and a list can be read however
// much time goes by, and etcd's history is kept, but no longer than that.
func TestHistoryIsKeptForThoseWhoAreHeld(t *testing.T) {
	clock := testingclock.NewFakeClock(time.Now())
	held := int64(0)
	f := newFixture(t, func(c *Config) { c.Clock, c.Oldest = clock, func() int64 { return held } })
	compactor := compactor{etcd: f.hub.etcd, oldest: f.hub.config.Oldest}
	turn := func() int64 {
		compacted, err := compactor.turn(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return compacted
	}
	before := f.create("a/x", "0")
	held = before.ResourceVersion
	age := func() {
		for i := range 2 * minHistory {
			f.relabel("a/x", fmt.Sprint(i+1))
		}
		f.list("", ListOptions{}) // the cache has them all
		clock.Step(historyTime + time.Second)
		f.relabel("a/x", "last")
		f.list("", ListOptions{})
	}
	age()
	turn()
	if compacted := turn(); compacted > held {
		t.Errorf("compacted up to %d, while somebody is held at %d", compacted, held)
	}
	f.expect(f.watch("", WatchOptions{ResourceVersion: rv(before)}), "MODIFIED a/x app=1", "MODIFIED a/x app=2")
	list := f.list("", ListOptions{ResourceVersion: rv(before), ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	if len(list.Items) != 1 || list.Items[0].Labels()["app"] != "0" {
		t.Errorf("the state where it is held: %v", list.Items)
	}

	held = 0
	age()
	if compacted := turn(); compacted <= before.ResourceVersion {
		t.Errorf("compacted up to %d only: nobody is held any more", compacted)
	}
	f.expect(f.watch("", WatchOptions{ResourceVersion: rv(before)}), "ERROR 410 Expired")
}
