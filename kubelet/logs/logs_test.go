package logs

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

const sample = "2026-01-01T00:00:01Z stdout F one\n" +
	"2026-01-01T00:00:02Z stderr F two\n" +
	"2026-01-01T00:00:03Z stdout P thr\n" +
	"2026-01-01T00:00:03Z stdout F ee\n" +
	"2026-01-01T00:00:04Z stdout F \n" +
	"2026-01-01T00:00:05Z stdout F five 5\n"

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Options of `kubectl logs`, each against the same log.
func TestReadLogs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	write(t, path, sample)
	all := Options{Tail: -1, Bytes: -1}
	with := func(change func(*Options)) Options { o := all; change(&o); return o }
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"all", all, "one\ntwo\nthree\n\nfive 5\n"},
		{"tail 1", with(func(o *Options) { o.Tail = 1 }), "five 5\n"},
		{"tail 0", with(func(o *Options) { o.Tail = 0 }), ""},
		{"tail beyond the start", with(func(o *Options) { o.Tail = 100 }), "one\ntwo\nthree\n\nfive 5\n"},
		{"since", with(func(o *Options) { o.Since = time.Date(2026, 1, 1, 0, 0, 4, 0, time.UTC) }), "\nfive 5\n"},
		{"bytes", with(func(o *Options) { o.Bytes = 5 }), "one\nt"},
		{"stderr", with(func(o *Options) { o.Stream = "Stderr" }), "two\n"},
		{"times, once for a line in parts", with(func(o *Options) {
			o.Timestamps = true
			o.Since = time.Date(2026, 1, 1, 0, 0, 3, 0, time.UTC)
			o.Bytes = 28
		}), "2026-01-01T00:00:03Z three\n2"},
	} {
		var out bytes.Buffer
		if err := ReadLogs(context.Background(), path, c.o, func() bool { return false }, Streams{&out, &out}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if out.String() != c.want {
			t.Errorf("%s: %q, want %q", c.name, out.String(), c.want)
		}
	}
}

// Following goes on in the file that takes the log's name, and ends with the container.
func TestFollowThroughRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	write(t, path, "2026-01-01T00:00:01Z stdout F before\n")
	var calls atomic.Int32
	running := func() bool {
		switch calls.Add(1) {
		case 1:
			if err := os.Rename(path, path+".1"); err != nil {
				t.Error(err)
			}
			write(t, path, "2026-01-01T00:00:02Z stdout F after\n")
			return true
		case 2:
			return true
		}
		return false
	}
	var out bytes.Buffer
	if err := ReadLogs(context.Background(), path, Options{Tail: -1, Bytes: -1, Follow: true}, running, Streams{&out, &out}); err != nil {
		t.Fatal(err)
	}
	if out.String() != "before\nafter\n" {
		t.Errorf("followed %q", out.String())
	}
}
