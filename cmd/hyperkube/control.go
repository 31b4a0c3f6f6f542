package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hyperkube/component"
)

// controlSocket is where a running `all`, or a further node, listens for stop and start.
func controlSocket(dataDir, name string) string {
	return filepath.Join(component.RunDir(dataDir), name+".sock")
}

// serveControl answers POST /stop/COMPONENT and /start/COMPONENT, for the owner
// of the data directory only.
func serveControl(dataDir, name string, s *supervisor) (stop func(), err error) {
	socket := controlSocket(dataDir, name)
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w (a unix socket's path may have 107 bytes: use a shorter --data-dir)", socket, err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		listener.Close()
		return nil, err
	}
	registration := component.Registration{Component: name, PID: os.Getpid(), Since: time.Now(), Socket: socket, Parts: s.names()}
	remove, err := registration.Register(dataDir)
	if err != nil {
		listener.Close()
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /stop/{component}", func(w http.ResponseWriter, r *http.Request) {
		s.control(w, r, func(p *part) error { return s.stop(p, nil) })
	})
	mux.HandleFunc("POST /start/{component}", func(w http.ResponseWriter, r *http.Request) {
		s.control(w, r, s.start)
	})
	server := &http.Server{Handler: mux}
	go server.Serve(listener)
	return func() {
		server.Close()
		remove()
		os.Remove(socket)
	}, nil
}

func (s *supervisor) control(w http.ResponseWriter, r *http.Request, do func(*part) error) {
	name := r.PathValue("component")
	if c := find(name); c != nil {
		name = c.name // upstream's name is as good
	}
	p := s.find(name)
	if p == nil {
		http.Error(w, fmt.Sprintf("no component %q in this cluster", name), http.StatusNotFound)
		return
	}
	if err := do(p); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
	}
}

// whoRuns is the process that is to be asked about a part: `all`, or the further node that it is a part of.
func whoRuns(dataDir, part string) string {
	registrations, err := component.Registrations(dataDir)
	if err != nil {
		return "all" // the question to it will fail too, and say why
	}
	for _, r := range registrations {
		if slices.Contains(r.Parts, part) {
			return r.Component
		}
	}
	return "all"
}

func runStop(ctx context.Context, args []string) error  { return runControl(ctx, "stop", args) }
func runStart(ctx context.Context, args []string) error { return runControl(ctx, "start", args) }

// runControl asks the running `all` to stop or start one of its components.
func runControl(ctx context.Context, verb string, args []string) error {
	dataDir, rest, err := dataDirFlag(args)
	if err != nil {
		return err
	}
	if len(rest) != 1 || strings.HasPrefix(rest[0], "-") {
		return &component.UsageError{Err: fmt.Errorf("usage: hyperkube %s COMPONENT [--data-dir DIR]; components are %s; of several nodes: NODE, or COMPONENT-NODE", verb, strings.Join(componentNames(), ", "))}
	}
	client := component.UnixClient(controlSocket(dataDir, whoRuns(dataDir, rest[0])))
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://all/"+verb+"/"+rest[0], nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("no `hyperkube all` runs on %s: start it, or give its --data-dir (%w)", dataDir, err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNotFound {
		if done, err := stopFakeNode(ctx, dataDir, verb, rest[0]); done || err != nil {
			if err == nil {
				fmt.Printf("%s: %s done\n", rest[0], verb)
			}
			return err
		}
	}
	if response.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
		return errors.Join(errors.New(strings.TrimSpace(string(body))), err)
	}
	fmt.Printf("%s: %s done\n", rest[0], verb)
	return nil
}
