// Package etcdtest gives a test an etcd of its own.
package etcdtest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"hyperkube/etcd"
)

// Server is an etcd that can be stopped and started again on the same store.
type Server struct {
	// Endpoint for storage.Config.Endpoints.
	Endpoint string

	t       testing.TB
	dataDir string
	stop    func()
}

// Start runs an etcd on a unix socket in a temporary directory until the test
// ends. It takes less than 0.1 s.
func Start(t testing.TB) *Server {
	t.Helper()
	// Not t.TempDir(): its name holds that of the test, and the path of a unix
	// socket must be short.
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Endpoint: "unix://" + filepath.Join(dir, "s"), t: t, dataDir: filepath.Join(dir, "data")}
	s.Start()
	t.Cleanup(func() {
		s.Stop()
		os.RemoveAll(dir)
	})
	return s
}

// Start starts it again after Stop.
func (s *Server) Start() { s.t.Helper(); s.StartAt(s.Endpoint) }

// StartAt is Start at another endpoint, "unix:///path", where those who knew the
// first will not find it.
func (s *Server) StartAt(endpoint string) {
	s.t.Helper()
	e, err := etcd.New(etcd.Config{DataDir: s.dataDir, ListenAddress: endpoint, Heartbeat: 10 * time.Millisecond})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() { failed <- e.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-failed; err != nil {
			s.t.Errorf("etcd: %v", err)
		}
	})
	ready, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	go func() {
		select {
		case err := <-failed:
			failed <- err
			done() // no use in waiting on
		case <-ready.Done():
		}
	}()
	if err := e.Ready(ready); err != nil {
		s.stop()
		s.t.Fatal(err)
	}
}

// Stop stops it; what is stored stays.
func (s *Server) Stop() { s.stop() }

// Wipe forgets what is stored; call it between Stop and Start.
func (s *Server) Wipe() {
	if err := os.RemoveAll(s.dataDir); err != nil {
		s.t.Fatal(err)
	}
}
