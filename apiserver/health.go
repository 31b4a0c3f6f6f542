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

	"hyperkube/component"
)

// check is one line of /healthz, /livez and /readyz?verbose.
type check struct {
	name string
	// step of the bootstrap that does it; 0: it has a function of its own.
	step int32
	// readiness: a server that lives may fail it, so it counts for /readyz only.
	readiness bool
}

// checks are upstream's names, in its order: scripts wait for some of them. Those of what is not built here (custom resources,
// aggregation, other apiservers' addresses, the client to itself) are left out: nothing would be behind them.
var checks = []check{
	{name: "ping"},
	{name: "log"},
	{name: "etcd"},
	{name: "etcd-readiness", readiness: true},
	{name: "informer-sync", step: 1, readiness: true},
	{name: "poststarthook/start-apiserver-admission-initializer", step: 1},
	{name: "poststarthook/generic-apiserver-start-informers", step: 1},
	{name: "poststarthook/priority-and-fairness-config-consumer", step: 4},
	{name: "poststarthook/priority-and-fairness-filter", step: 4},
	{name: "poststarthook/storage-object-count-tracker-hook", step: 1},
	{name: "poststarthook/start-system-namespaces-controller", step: 2},
	{name: "poststarthook/start-cluster-authentication-info-controller", step: 6},
	{name: "poststarthook/start-kube-apiserver-identity-lease-controller", step: 6},
	{name: "poststarthook/start-kube-apiserver-identity-lease-garbage-collector", step: 6},
	{name: "poststarthook/storage-readiness", step: 1},
	{name: "poststarthook/start-legacy-token-tracking-controller", step: 6},
	{name: "poststarthook/start-service-ip-repair-controllers", step: 5},
	{name: "poststarthook/rbac/bootstrap-roles", step: 3},
	{name: "poststarthook/scheduling/bootstrap-system-priority-classes", step: 4},
	{name: "poststarthook/priority-and-fairness-config-producer", step: 4},
	{name: "poststarthook/bootstrap-controller", step: 5},
	{name: "poststarthook/start-kubernetes-service-cidr-controller", step: 5},
	{name: "shutdown", readiness: true},
}

// bootstrapSteps is the number of the last step.
const bootstrapSteps = 6

// addHealthChecks adds what must be well.
func (s *Server) addHealthChecks() {
	health := s.config.Health
	well := func(context.Context) error { return nil }
	own := map[string]func(context.Context) error{
		"ping": well, "log": well, // the log is written line by line: it has no buffer that could be stuck
		"etcd": s.hub.Check, "etcd-readiness": s.hub.Check,
		"shutdown": func(context.Context) error {
			select {
			case <-s.stopping:
				return errors.New("process is shutting down")
			default:
				return nil
			}
		},
	}
	for _, c := range checks {
		if c.step == 0 {
			health.Add(c.name, own[c.name])
			continue
		}
		health.Add(c.name, func(context.Context) error {
			if s.reached.Load() < c.step {
				return errors.New("not finished")
			}
			return nil
		})
	}
}

// counts says whether a path asks for the check.
func (c check) counts(path string) bool { return !c.readiness || strings.HasPrefix(path, "/readyz") }

// notFor are the checks that a path does not ask for.
func notFor(path string) []string {
	var names []string
	for _, c := range checks {
		if !c.counts(path) {
			names = append(names, c.name)
		}
	}
	return names
}

// serveHealth answers /healthz, /livez and /readyz: "ok", or the list of checks. What failed, it says; why, the log says: everybody may
// ask here.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	kind := strings.Trim(r.URL.Path, "/")
	query := r.URL.Query()
	results := map[string]component.Result{}
	for _, result := range s.config.Health.Check(r.Context(), append(notFor(r.URL.Path), query["exclude"]...)...) {
		results[result.Name] = result
	}
	unmatched := map[string]bool{}
	for _, name := range query["exclude"] {
		unmatched[name] = true
	}
	var lines strings.Builder
	failed := false
	for _, c := range checks {
		result, asked := results[c.name]
		if !c.counts(r.URL.Path) {
			continue
		}
		switch {
		case !asked:
			delete(unmatched, c.name)
			fmt.Fprintf(&lines, "[+]%s excluded: ok\n", c.name)
			continue
		case result.Err != nil:
			failed = true
			fmt.Fprintf(&lines, "[-]%s failed: reason withheld\n", c.name)
		default:
			fmt.Fprintf(&lines, "[+]%s ok\n", c.name)
		}
		s.metrics.judges.checked(c.name, kind, result.Err)
	}
	warnUnmatched(&lines, unmatched)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, verbose := query["verbose"]
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
	if !slices.ContainsFunc(checks, func(c check) bool { return c.name == name && c.counts(r.URL.Path) }) {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	for _, result := range s.config.Health.Check(r.Context(), notFor(r.URL.Path)...) {
		if result.Name != name {
			continue
		}
		s.metrics.judges.checked(result.Name, kind, result.Err)
		if result.Err != nil {
			http.Error(w, fmt.Sprintf("internal server error: %v", result.Err), http.StatusInternalServerError)
			return
		}
	}
	fmt.Fprint(w, "ok")
}

// jwksHost is where others may read the public keys of tokens.
func (s *Server) jwksHost() string {
	host, port, _ := net.SplitHostPort(s.config.BindAddress)
	if s.config.AdvertiseAddress != "" {
		host = s.config.AdvertiseAddress
	}
	return net.JoinHostPort(host, port)
}
