package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// startHooks are upstream's names of what a server does before it is ready, and the step of the bootstrap that does it here. Scripts
// wait for some of them by name.
var startHooks = []struct {
	name string
	step int32
}{
	{"poststarthook/start-system-namespaces-controller", 2},
	{"poststarthook/rbac/bootstrap-roles", 3},
	{"poststarthook/scheduling/bootstrap-system-priority-classes", 4},
	{"poststarthook/priority-and-fairness-config-producer", 4},
	{"poststarthook/start-kubernetes-service-cidr-controller", 5},
	{"poststarthook/bootstrap-controller", 5},
}

// addHealthChecks adds what must be well. The hooks of the start count everywhere, as upstream's do; "informer-sync", "bootstrap" and
// "shutdown" make a server that lives not ready: they count for /readyz only.
func (s *Server) addHealthChecks() {
	health := s.config.Health
	health.Add("ping", func(context.Context) error { return nil })
	health.Add("etcd", s.hub.Check)
	reached := func(step int32) func(context.Context) error {
		return func(context.Context) error {
			if s.reached.Load() < step {
				return errors.New("not finished")
			}
			return nil
		}
	}
	for _, hook := range startHooks {
		health.Add(hook.name, reached(hook.step))
	}
	health.Add("informer-sync", reached(1))
	health.Add("bootstrap", func(context.Context) error {
		select {
		case <-s.ready:
			return nil
		default:
			return errors.New("not finished")
		}
	})
	health.Add("shutdown", func(context.Context) error {
		select {
		case <-s.stopping:
			return errors.New("process is shutting down")
		default:
			return nil
		}
	})
}

var readinessOnly = []string{"informer-sync", "bootstrap", "shutdown"}

// without are the checks that a path does not ask for.
func without(path string) []string {
	if strings.HasPrefix(path, "/readyz") {
		return nil
	}
	return readinessOnly
}

// serveHealth answers /healthz, /livez and /readyz: "ok", or the list of checks. What failed, it says; why, the log says: everybody may
// ask here.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	kind := strings.Trim(r.URL.Path, "/")
	unmatched := map[string]bool{}
	for _, name := range r.URL.Query()["exclude"] {
		unmatched[name] = true
	}
	excluded := func(name string) bool {
		was := unmatched[name]
		delete(unmatched, name)
		return was
	}
	var lines strings.Builder
	failed := false
	for _, result := range s.config.Health.Check(r.Context(), append(slices.Clone(without(r.URL.Path)), r.URL.Query()["exclude"]...)...) {
		s.metrics.judges.checked(result.Name, kind, result.Err)
		if result.Err != nil {
			failed = true
			fmt.Fprintf(&lines, "[-]%s failed: reason withheld\n", result.Name)
		} else {
			fmt.Fprintf(&lines, "[+]%s ok\n", result.Name)
		}
	}
	for _, name := range s.config.Health.Names() {
		if !slices.Contains(without(r.URL.Path), name) && excluded(name) {
			fmt.Fprintf(&lines, "[+]%s excluded: ok\n", name)
		}
	}
	warnUnmatched(&lines, unmatched)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, verbose := r.URL.Query()["verbose"]
	switch {
	case failed:
		http.Error(w, fmt.Sprintf("%s%s check failed", lines.String(), kind), http.StatusInternalServerError)
	case verbose:
		fmt.Fprintf(w, "%s%s check passed\n", lines.String(), kind)
	default:
		fmt.Fprint(w, "ok")
	}
}

// warnUnmatched tells of names to exclude that are no check's.
func warnUnmatched(lines *strings.Builder, names map[string]bool) {
	var quoted []string
	for name := range names {
		quoted = append(quoted, strconv.Quote(name))
	}
	if len(quoted) > 0 {
		slices.Sort(quoted)
		fmt.Fprintf(lines, "warn: some health checks cannot be excluded: no matches for %s\n", strings.Join(quoted, ","))
	}
}

// serveHealthCheck answers /readyz/etcd: one check alone.
func (s *Server) serveHealthCheck(w http.ResponseWriter, r *http.Request) {
	kind, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	for _, result := range s.config.Health.Check(r.Context(), without(r.URL.Path)...) {
		if result.Name != name {
			continue
		}
		s.metrics.judges.checked(result.Name, kind, result.Err)
		if result.Err != nil {
			http.Error(w, fmt.Sprintf("internal server error: %v", result.Err), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, "ok")
		return
	}
	http.Error(w, "404 page not found", http.StatusNotFound)
}

// jwksHost is where others may read the public keys of tokens.
func (s *Server) jwksHost() string {
	host, port, _ := net.SplitHostPort(s.config.BindAddress)
	if s.config.AdvertiseAddress != "" {
		host = s.config.AdvertiseAddress
	}
	return net.JoinHostPort(host, port)
}
