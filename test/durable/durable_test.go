//go:build linux && amd64

package durable

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"

	"hyperkube/etcd"
)

const (
	// writes of size bytes each fill the segments of etcd's log more than once.
	writes, size = 48, 40 << 10
	segment      = 512 << 10
	// cuts is how many ends of a run are tried, of some two hundred.
	cuts = 24
	// childDir makes this program the etcd that is recorded.
	childDir = "HYPERKUBE_DURABLE_DIR"
)

func TestMain(m *testing.M) {
	wal.SegmentSizeBytes = segment
	if dir := os.Getenv(childDir); dir != "" {
		if err := serve(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve runs our etcd until it is asked to stop.
func serve(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	e, err := etcd.New(config(dir))
	if err != nil {
		return err
	}
	return e.Run(ctx)
}

func config(dir string) etcd.Config {
	return etcd.Config{DataDir: filepath.Join(dir, "data"), ListenAddress: "unix://" + filepath.Join(dir, "s"), Heartbeat: 50 * time.Millisecond}
}

// answer is a write that was acknowledged when so many operations had been seen.
type answer struct {
	key, value string
	revision   int64
	seen       int
}

// DESIGN.md section 6: a kill -9 cannot show a missing fsync; a disk that forgets does.
func TestAnsweredWritesOutliveThePower(t *testing.T) {
	root := record(t)
	chosen := chooseCuts(root.ops, root.answers)
	for _, cut := range chosen {
		if err := survives(t, root, root.ops, cut); err != nil {
			t.Errorf("power cut after operation %d of %d (%s %s): %v", cut, len(root.ops), root.ops[cut].kind, root.ops[cut].path, err)
		}
	}
	t.Logf("%d operations, %d answers, %d ends tried", len(root.ops), len(root.answers), len(chosen))

	// A log that is never synced loses what was answered, and this test would see it.
	forgetful := slices.Clone(root.ops)
	for i := range forgetful {
		if o := &forgetful[i]; o.kind == syncFile && strings.HasSuffix(o.path, ".wal") && i > root.answers[0].seen {
			*o = op{kind: create, path: o.path, inode: o.inode} // nothing: it is there already
		}
	}
	if survives(t, root, forgetful, chosen[len(chosen)-1]) == nil {
		t.Error("without the log's syncs nothing was lost: this test cannot fail")
	}
}

// run is what a recorded etcd did, and what it answered.
type run struct {
	dir     string
	ops     []op
	answers []answer
}

// record runs etcd under the recorder while keys are written one after the other.
func record(t *testing.T) *run {
	t.Helper()
	dir, err := os.MkdirTemp("", "durable") // the path of a unix socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan *recorder, 1), make(chan error, 1)
	go func() { // on a thread of its own, which ends with it
		r, err := startRecorder(filepath.Join(dir, "data"), []string{self}, append(os.Environ(), childDir+"="+dir))
		if err != nil {
			ended <- err
			return
		}
		started <- r
		ended <- r.follow()
	}()
	var r *recorder
	select {
	case r = <-started:
	case err := <-ended:
		if errors.Is(err, syscall.EPERM) {
			t.Skip("this host lets no process be traced: ", err)
		}
		t.Fatal(err)
	}
	result := &run{dir: dir, answers: put(t, r, dir)}
	if err := syscall.Kill(r.pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	result.ops = r.ops
	seenAll(t, result)
	return result
}

// put writes the keys, each after the answer to the one before.
func put(t *testing.T, r *recorder, dir string) []answer {
	t.Helper()
	client := connect(t, dir)
	defer client.Close()
	var answers []answer
	for i := range writes {
		a := answer{key: fmt.Sprintf("/registry/configmaps/default/m%02d", i), value: strings.Repeat(string(rune('a'+i%26)), size)}
		response, err := client.Put(t.Context(), a.key, a.value)
		if err != nil {
			t.Fatal(err)
		}
		a.seen, a.revision = r.now(), response.Header.Revision
		answers = append(answers, a)
	}
	return answers
}

func connect(t *testing.T, dir string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + filepath.Join(dir, "s")}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// seenAll fails unless the operations make what the process left behind: else the rest would show nothing.
func seenAll(t *testing.T, r *run) {
	t.Helper()
	p := replay(t, r.ops, len(r.ops)-1)
	if err := p.syncAll(); err != nil {
		t.Fatal(err)
	}
	made := t.TempDir()
	if err := p.restore(filepath.Join(r.dir, "data"), made); err != nil {
		t.Fatal(err)
	}
	different, err := differences(filepath.Join(r.dir, "data"), made)
	if err != nil || len(different) > 0 {
		t.Fatalf("the recorder has missed something: %v %v", err, different)
	}
}

// replay is the platter after the operations up to last.
func replay(t *testing.T, ops []op, last int) *platter {
	t.Helper()
	p := newPlatter(t.TempDir())
	for i := range ops[:last+1] {
		if err := p.apply(&ops[i]); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// chooseCuts takes some of the syncs after the first answer, at random, and of those of directories, which are few: a new
// segment of the log makes them.
func chooseCuts(ops []op, answers []answer) []int {
	var all, rare []int
	for i := answers[0].seen; i < len(ops); i++ {
		switch {
		case ops[i].kind == syncDir:
			rare = append(rare, i)
		case ops[i].isSync():
			all = append(all, i)
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	rand.Shuffle(len(rare), func(i, j int) { rare[i], rare[j] = rare[j], rare[i] })
	chosen := append(rare[:min(len(rare), cuts/3)], all[:min(len(all), cuts*2/3)]...)
	slices.Sort(chosen)
	return chosen
}

// survives starts etcd on what is left when the power goes after operation cut, before the next sync, and asks for all
// that was answered until then.
func survives(t *testing.T, r *run, ops []op, cut int) error {
	t.Helper()
	next := cut + 1
	for next < len(ops) && !ops[next].isSync() {
		next++
	}
	dir, err := os.MkdirTemp("", "durable")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := replay(t, ops, cut).restore(filepath.Join(r.dir, "data"), filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	e, err := etcd.New(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { failed <- e.Run(ctx) }()
	defer func() {
		stop()
		<-failed
	}()
	ready, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	go func() {
		select {
		case err := <-failed:
			failed <- err
			done()
		case <-ready.Done():
		}
	}()
	if err := e.Ready(ready); err != nil {
		return fmt.Errorf("etcd does not start: %w", err)
	}
	client := connect(t, dir)
	defer client.Close()
	for _, a := range r.answers {
		if a.seen > next {
			break
		}
		response, err := client.Get(ready, a.key)
		if err != nil {
			return err
		}
		if len(response.Kvs) != 1 || string(response.Kvs[0].Value) != a.value || response.Kvs[0].ModRevision != a.revision {
			return fmt.Errorf("%s is lost, though it was answered (%d found)", a.key, len(response.Kvs))
		}
	}
	return nil
}
