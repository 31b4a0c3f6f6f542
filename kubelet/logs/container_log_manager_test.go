package logs

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	testingclock "k8s.io/utils/clock/testing"
)

// A log that grew too big is renamed, the runtime opens a new one, older files are
// compressed and the oldest goes.
func TestRotateLogs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	clock := testingclock.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	var refuse error
	m := &ContainerLogManager{RotationConfig{MaxSize: 10, MaxFiles: 3, Period: time.Second, Clock: clock,
		Running: func(context.Context) ([]ContainerLog, error) { return []ContainerLog{{"c1", path}}, nil },
		Reopen: func(context.Context, string) error {
			if refuse != nil {
				return refuse
			}
			return os.WriteFile(path, nil, 0o640)
		}}}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	rotate := func() error {
		clock.Step(time.Minute)
		return m.RotateLogs(t.Context())
	}
	names := func() string {
		entries, _ := os.ReadDir(dir)
		var list []string
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return strings.Join(list, " ")
	}
	write("short")
	if err := rotate(); err != nil || names() != "0.log" {
		t.Fatalf("a short log was rotated: %s (%v)", names(), err)
	}
	for _, step := range []struct{ text, want string }{
		{"the first lines", "0.log 0.log.20260102-030605"},
		{"the second lines", "0.log 0.log.20260102-030605.gz 0.log.20260102-030705"},
		{"the third lines", "0.log 0.log.20260102-030705.gz 0.log.20260102-030805"},
	} {
		write(step.text)
		if err := rotate(); err != nil || names() != step.want {
			t.Errorf("after %q: %s, want %s (%v)", step.text, names(), step.want, err)
		}
	}
	file, err := os.Open(filepath.Join(dir, "0.log.20260102-030705.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(unpacked); string(text) != "the second lines" || err != nil {
		t.Errorf("compressed: %q, %v", text, err)
	}
	// A runtime that cannot: the log keeps its name, and nothing is lost.
	write("the fourth lines")
	refuse = errors.New("busy")
	if err := rotate(); err == nil || !strings.Contains(err.Error(), "c1") || !strings.Contains(err.Error(), "busy") {
		t.Errorf("error %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "the fourth lines" {
		t.Errorf("the log is %q", text)
	}
	// A kubelet killed between rename and reopen: the name comes back.
	refuse = nil
	os.Remove(path)
	if err := rotate(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// What is left of a compression that was cut short, or not cleaned up after, goes.
func TestPlan(t *testing.T) {
	cases := []struct {
		files, remove, compress string
		keep                    int
	}{
		{"", "", "", 3},
		{"a.1", "", "a.1", 3},
		{"a.1.gz a.1 a.2.tmp a.2", "a.1 a.2.tmp", "a.2", 3},
		{"a.3 a.1.gz a.2.gz", "a.1.gz", "a.3", 2},
		{"a.1 a.2", "a.1 a.2", "", 0},
	}
	for _, c := range cases {
		remove, compress := plan(strings.Fields(c.files), c.keep)
		if strings.Join(remove, " ") != c.remove || strings.Join(compress, " ") != c.compress {
			t.Errorf("%q, keeping %d: remove %v, compress %v; want %q and %q", c.files, c.keep, remove, compress, c.remove, c.compress)
		}
	}
}
