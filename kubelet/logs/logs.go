// Package logs reads the log files that the runtime writes in CRI's format, one
// line an entry:
//
//	2026-01-02T03:04:05.678901234Z stdout F the text
//
// F ends a line, P says that the next entry continues it. ReadLogs serves
// `kubectl logs`: the last lines, since a time, with times, at most so many
// bytes, and following the file through its rotation.
//
// In Kubernetes: k8s.io/cri-client/pkg/logs. Docker's JSON format is left out, and
// inotify: a file that is followed is looked at every 100 ms.
package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
)

// followInterval is how often a followed file is looked at for more.
const followInterval = 100 * time.Millisecond

// Options is v1.PodLogOptions, checked and with its times resolved.
type Options struct {
	Tail       int64 // lines; negative means all
	Bytes      int64 // negative means no limit
	Since      time.Time
	Timestamps bool
	Follow     bool
	// Stream is "Stdout", "Stderr", or "" for both.
	Stream string
}

// NewOptions resolves api as of now.
func NewOptions(api *v1.PodLogOptions, now time.Time) Options {
	o := Options{Tail: -1, Bytes: -1, Timestamps: api.Timestamps, Follow: api.Follow}
	if api.TailLines != nil {
		o.Tail = *api.TailLines
	}
	if api.LimitBytes != nil {
		o.Bytes = *api.LimitBytes
	}
	if api.SinceSeconds != nil {
		o.Since = now.Add(-time.Duration(*api.SinceSeconds) * time.Second)
	}
	if api.SinceTime != nil && api.SinceTime.After(o.Since) {
		o.Since = api.SinceTime.Time
	}
	if api.Stream != nil && *api.Stream != v1.LogStreamAll {
		o.Stream = *api.Stream
	}
	return o
}

// Streams are where a container's two outputs go.
type Streams struct{ Stdout, Stderr io.Writer }

// errMaximumWrite ends reading when LimitBytes is reached.
var errMaximumWrite = errors.New("maximum write")

// entry is one line of a log file.
type entry struct {
	time    time.Time
	stream  string
	partial bool
	text    []byte // with its newline, unless partial
}

// parse reads one entry; line has no newline.
func parse(line []byte) (entry, error) {
	fields := bytes.SplitN(line, []byte{' '}, 4)
	if len(fields) < 3 {
		return entry{}, fmt.Errorf("unexpected log line %q", line)
	}
	when, err := time.Parse(time.RFC3339Nano, string(fields[0]))
	if err != nil {
		return entry{}, fmt.Errorf("unexpected time in log line %q: %w", line, err)
	}
	e := entry{time: when, stream: string(fields[1])}
	tag, _, _ := bytes.Cut(fields[2], []byte{':'})
	e.partial = string(tag) == "P"
	if len(fields) == 4 {
		e.text = append(e.text, fields[3]...)
	}
	if !e.partial {
		e.text = append(e.text, '\n')
	}
	return e, nil
}

// ReadLogs copies the log at path to the streams as o asks. When it
// follows, running says whether the container may still write.
func ReadLogs(ctx context.Context, path string, o Options, running func() bool, to Streams) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("failed to try resolving symlinks in path %q: %w", path, err)
	}
	defer func() { file.Close() }()
	if o.Tail >= 0 {
		start, err := findTail(file, o.Tail)
		if err != nil {
			return err
		}
		if _, err := file.Seek(start, io.SeekStart); err != nil {
			return err
		}
	}
	out := &writer{o: o, to: to, left: o.Bytes}
	reader := bufio.NewReaderSize(file, 32<<10)
	var pending []byte // an entry whose end is not written yet
	for {
		chunk, err := reader.ReadBytes('\n')
		pending = append(pending, chunk...)
		switch {
		case err == nil:
			if err := out.write(bytes.TrimSuffix(pending, []byte{'\n'})); err != nil {
				return ignoreLimit(err)
			}
			pending = pending[:0]
			continue
		case err != io.EOF:
			return err
		case !o.Follow:
			return nil
		}
		ended := !running() // asked before looking again: what was written before the end is then seen
		next, err := waitForMore(ctx, file, path, ended)
		if err != nil || next == nil {
			return err
		}
		if next != file {
			file.Close()
			file, pending = next, pending[:0]
			reader.Reset(file)
		}
	}
}

func ignoreLimit(err error) error {
	if errors.Is(err, errMaximumWrite) {
		return nil
	}
	return err
}

// waitForMore returns the file to go on reading: the same, the one that took its
// name by rotation, or nil when there will be no more.
func waitForMore(ctx context.Context, file *os.File, path string, ended bool) (*os.File, error) {
	for {
		position, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		if info.Size() > position {
			return file, nil
		}
		if named, err := os.Stat(path); err == nil && !os.SameFile(info, named) {
			return os.Open(path)
		}
		if ended {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(followInterval):
			return file, nil // ask running again
		}
	}
}

// writer filters and formats entries.
type writer struct {
	o         Options
	to        Streams
	left      int64 // bytes; negative means no limit
	continued bool  // the last entry was partial: no second time stamp
}

func (w *writer) write(line []byte) error {
	if len(line) == 0 {
		return nil
	}
	e, err := parse(line)
	if err != nil {
		return nil // a damaged line must not hide the ones behind it
	}
	if e.time.Before(w.o.Since) || w.o.Stream != "" && !strings.EqualFold(e.stream, w.o.Stream) {
		return nil
	}
	text := e.text
	if w.o.Timestamps && !w.continued {
		text = append([]byte(e.time.Format(time.RFC3339Nano)+" "), text...)
	}
	w.continued = e.partial
	limited := w.left >= 0 && int64(len(text)) >= w.left
	if limited {
		text = text[:w.left]
	}
	target := w.to.Stdout
	if e.stream == "stderr" {
		target = w.to.Stderr
	}
	n, err := target.Write(text)
	if err != nil {
		return err
	}
	if w.left >= 0 {
		w.left -= int64(n)
	}
	if limited {
		return errMaximumWrite
	}
	return nil
}

// findTail returns where the last n lines of the file begin, reading backwards.
func findTail(file io.ReadSeeker, n int64) (int64, error) {
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return end, err
	}
	const block = 4096
	buffer := make([]byte, block)
	var lines int64
	for right := end; right > 0; {
		left := max(right-block, 0)
		if _, err := file.Seek(left, io.SeekStart); err != nil {
			return 0, err
		}
		part := buffer[:right-left]
		if _, err := io.ReadFull(file, part); err != nil {
			return 0, err
		}
		for i := len(part) - 1; i >= 0; i-- {
			// The newline that ends the file ends the last line; it begins none.
			if part[i] != '\n' || left+int64(i) == end-1 {
				continue
			}
			if lines++; lines == n {
				return left + int64(i) + 1, nil
			}
		}
		right = left
	}
	return 0, nil
}

// Tail returns the text of the last entries of a log, at most lines and at most limit bytes.
func Tail(path string, lines, limit int64) (string, error) {
	var out bytes.Buffer
	err := ReadLogs(context.Background(), path, Options{Tail: lines, Bytes: -1}, func() bool { return false }, Streams{&out, &out})
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	text := out.Bytes()
	if int64(len(text)) > limit {
		text = text[int64(len(text))-limit:]
	}
	return string(text), err
}
