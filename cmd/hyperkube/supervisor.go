package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"hyperkube/component"
)

// part is one component inside `all`. Its fields below mu are those of its
// present life, or of the last one.
type part struct {
	command *command
	args    []string
	// line is the command line that does the same alone.
	line string

	mu     sync.Mutex
	env    *component.Env
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when Run has returned; nil before the first start
	err    error         // what Run returned; valid once done is closed
}

// supervisor runs the parts of `all`, in the order of the table of commands.
//
// Invariant: at most one life of a part at a time; start waits for nothing,
// stop waits for the part's Run to return.
type supervisor struct {
	parts []*part
	// suffix ends the names of all parts: "-node-2" on a further node.
	suffix string
	failed chan error // the first failure; capacity 1
	mu     sync.Mutex
	first  error
}

func newSupervisor(parts []*part) *supervisor {
	return &supervisor{parts: parts, failed: make(chan error, 1)}
}

func (s *supervisor) startAll() {
	for _, p := range s.parts {
		s.start(p)
	}
}

// start begins a life of p. A life that ends with an error ends the cluster:
// half a cluster that looks whole teaches the wrong thing (R03).
func (s *supervisor) start(p *part) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.runningLocked() {
		return fmt.Errorf("%s is running already", p.command.name)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	p.env = component.NewEnv(p.command.name, p.args)
	p.cancel, p.done, p.err = cancel, make(chan struct{}), nil
	go func(env *component.Env, done chan struct{}) {
		err := component.Execute(ctx, env, p.command.options())
		if err == nil && ctx.Err() == nil {
			err = errors.New("ended by itself; its log says why")
		}
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil
		}
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			s.fail(named(env.Name, err))
		}
		cancel(nil)
		close(done)
	}(p.env, p.done)
	return nil
}

// named puts a component's name before its error, unless the component has done so.
func named(name string, err error) error {
	if strings.HasPrefix(err.Error(), name+": ") {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// stop ends p's life with the given cause (nil: it is stopped alone) and waits.
func (s *supervisor) stop(p *part, cause error) error {
	p.mu.Lock()
	if !p.runningLocked() {
		p.mu.Unlock()
		return fmt.Errorf("%s is not running", p.command.name)
	}
	cancel, done := p.cancel, p.done
	p.mu.Unlock()
	cancel(cause)
	<-done
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// stopOrder is the order of the end: the kubelet takes the pods down while all it
// needs still runs; then what writes rules; then the loops; the store last.
var stopOrder = []string{"fakenodes", "kubelet", "cri", "dns", "proxy", "nodenet", "storage", "scheduler", "controller-manager", "page", "apiserver", "etcd"}

// stopAll ends every part, further nodes first and the others in stopOrder, for the given cause (nil: what is on the
// host stays), and calls stopped after each.
func (s *supervisor) stopAll(cause error, stopped func(name string, took time.Duration)) error {
	var mu sync.Mutex
	var errs []error
	end := func(p *part) {
		if p == nil || !p.running() {
			return
		}
		began := time.Now()
		err := s.stop(p, cause)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			errs = append(errs, fmt.Errorf("stopping %s: %w", p.command.name, err))
		}
		stopped(p.command.name, time.Since(began))
	}
	var nodes sync.WaitGroup
	for _, p := range s.parts {
		if !slices.Contains(stopOrder, strings.TrimSuffix(p.command.name, s.suffix)) {
			nodes.Go(func() { end(p) })
		}
	}
	nodes.Wait()
	for _, name := range stopOrder {
		end(s.find(name + s.suffix))
	}
	return errors.Join(errs...)
}

// wait blocks until ctx ends (nil) or a part fails (its error).
func (s *supervisor) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

func (s *supervisor) fail(err error) {
	s.mu.Lock()
	if s.first == nil {
		s.first = err
	}
	s.mu.Unlock()
	select {
	case s.failed <- err:
	default: // the first one ends the cluster; this one is a consequence
	}
}

// failure returns the first failure, if any.
func (s *supervisor) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

func (s *supervisor) find(name string) *part {
	for _, p := range s.parts {
		if p.command.name == name {
			return p
		}
	}
	return nil
}

func (s *supervisor) names() []string {
	var names []string
	for _, p := range s.parts {
		names = append(names, p.command.name)
	}
	return names
}

func (p *part) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runningLocked()
}

func (p *part) runningLocked() bool {
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// health is nil when the part runs and all its checks pass.
func (p *part) health(ctx context.Context) error {
	p.mu.Lock()
	env, running, err := p.env, p.runningLocked(), p.err
	p.mu.Unlock()
	switch {
	case running:
		return env.Health.Err(ctx)
	case err != nil:
		return err
	}
	return errors.New("stopped")
}
