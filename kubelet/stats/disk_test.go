package stats

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	testingclock "k8s.io/utils/clock/testing"
)

// A file with two names counts once, and a measurement is good for a while.
func TestUsage(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, bytes int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, bytes), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clock := testingclock.NewFakeClock(time.Unix(1e9, 0))
	m := NewMeter(clock, time.Minute)
	empty := m.Usage(dir)
	write("a", 1<<20)
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Skipf("no hard links here: %v", err)
	}
	if got := m.Usage(dir); got != empty {
		t.Errorf("measured again at once: %+v", got)
	}
	clock.Step(time.Minute)
	got := m.Usage(dir)
	if grown := got.Bytes - empty.Bytes; grown < 1<<20 || grown > 1<<20+64<<10 || got.Inodes != empty.Inodes+1 {
		t.Errorf("%d bytes more in %d inodes; want 1 MiB in one more than %d", grown, got.Inodes, empty.Inodes)
	}
	if gone := m.Usage(filepath.Join(dir, "none")); gone.Bytes != 0 || gone.Inodes != 0 {
		t.Errorf("what is not there takes %+v", gone)
	}
}
