package component

import (
	"context"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// checkTimeout bounds one health check, so that a hung dependency is reported
// as a failure instead of hanging the one who asks.
const checkTimeout = 2 * time.Second

// Health is a component's set of named checks, served as /healthz, /livez and
// /readyz in the form upstream's components use ("[+]name ok"). The zero value is
// healthy and ready for use; it may be shared by goroutines.
type Health struct {
	mu     sync.Mutex
	checks map[string]func(context.Context) error
}

// Add registers a check. A nil Health ignores it, so that a component can be
// used without one; a name that is taken is replaced, so that a restarted
// component does not report its former life.
func (h *Health) Add(name string, check func(context.Context) error) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.checks == nil {
		h.checks = map[string]func(context.Context) error{}
	}
	h.checks[name] = check
}

// Result is the outcome of one check; Err is nil when it passed.
type Result struct {
	Name string
	Err  error
}

// Check runs every check that is not excluded, in the order of their names.
func (h *Health) Check(ctx context.Context, exclude ...string) []Result {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	names := make([]string, 0, len(h.checks))
	checks := make(map[string]func(context.Context) error, len(h.checks))
	for name, check := range h.checks {
		names = append(names, name)
		checks[name] = check
	}
	h.mu.Unlock()
	sort.Strings(names)

	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	skip := map[string]bool{}
	for _, name := range exclude {
		skip[name] = true
	}
	var results []Result
	for _, name := range names {
		if !skip[name] {
			results = append(results, Result{Name: name, Err: checks[name](ctx)})
		}
	}
	return results
}

// Err joins the failures of all checks into one line, or returns nil.
func (h *Health) Err(ctx context.Context) error {
	var failed []string
	for _, r := range h.Check(ctx) {
		if r.Err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", r.Name, r.Err))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(failed, "; "))
}

// ServeHTTP answers 200 "ok" when every check passes and 500 otherwise. With
// ?verbose, or on failure, it lists the checks; ?exclude=name leaves one out.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.Serve(w, r) }

// Serve is ServeHTTP without some checks, of which the answer says nothing.
func (h *Health) Serve(w http.ResponseWriter, r *http.Request, without ...string) {
	exclude := r.URL.Query()["exclude"]
	results := h.Check(r.Context(), append(without, exclude...)...)
	var lines strings.Builder
	failed := false
	for _, res := range results {
		if res.Err != nil {
			failed = true
			fmt.Fprintf(&lines, "[-]%s failed: %v\n", res.Name, res.Err)
			continue
		}
		fmt.Fprintf(&lines, "[+]%s ok\n", res.Name)
	}
	h.listExcluded(&lines, exclude)
	name := strings.Trim(r.URL.Path, "/")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, verbose := r.URL.Query()["verbose"]
	switch {
	case failed:
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "%s%s check failed\n", lines.String(), name)
	case verbose:
		fmt.Fprintf(w, "%s%s check passed\n", lines.String(), name)
	default:
		fmt.Fprint(w, "ok")
	}
}

// listExcluded tells which checks were left out, and which names are none of a check.
func (h *Health) listExcluded(lines *strings.Builder, exclude []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var unknown []string
	for _, name := range exclude {
		if _, known := h.checks[name]; known {
			fmt.Fprintf(lines, "[+]%s excluded: ok\n", name)
		} else {
			unknown = append(unknown, strconv.Quote(name))
		}
	}
	if len(unknown) > 0 {
		fmt.Fprintf(lines, "warn: some health checks cannot be excluded: no matches for %s\n", strings.Join(unknown, ","))
	}
}
