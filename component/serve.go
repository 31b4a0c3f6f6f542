package component

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Registration is DIR/run/<component>.json: how `hyperkube status` finds a
// component that runs, whether inside `all` or alone.
type Registration struct {
	Component string    `json:"component"`
	PID       int       `json:"pid"`
	Args      []string  `json:"args"`
	Since     time.Time `json:"since"`
	// Socket serves health, metrics, pprof and log levels to the owner of the data directory.
	Socket string `json:"socket"`
	// Address is what the component itself serves, if anything: "https://127.0.0.1:6443".
	Address string `json:"address,omitempty"`
	// Parts are the components that `all` was told to run; nil for a component.
	Parts []string `json:"parts,omitempty"`
}

// Register writes r under dataDir until the returned function is called.
func (r Registration) Register(dataDir string) (remove func(), err error) {
	file := filepath.Join(RunDir(dataDir), r.Component+".json")
	return func() { os.Remove(file) }, writeJSON(file, r)
}

// RunDir is where components of a data directory register.
func RunDir(dataDir string) string { return filepath.Join(dataDir, "run") }

// Serve makes the component visible until ctx ends: it registers it under
// dataDir and serves /healthz, /livez, /readyz, /metrics, /debug/pprof and
// /loglevel on DIR/run/<component>.sock. A unix socket of mode 0600 needs no
// port and no password: who may read the data directory may look inside.
//
// The returned function ends it, and is to be deferred.
func (e *Env) Serve(dataDir, address string) (stop func(), err error) {
	dir := RunDir(dataDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, e.Name+".sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("serving health on %s: %w (a unix socket's path may have 107 bytes: use a shorter --data-dir)", socket, err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		listener.Close()
		return nil, err
	}
	server := &http.Server{Handler: e.Handler()}
	go server.Serve(listener)

	registration := Registration{Component: e.Name, PID: os.Getpid(), Args: e.Args, Since: e.Started, Socket: socket, Address: address}
	remove, err := registration.Register(dataDir)
	if err != nil {
		server.Close()
		return nil, err
	}
	e.Health.Add("started", func(context.Context) error { return nil })
	return func() {
		server.Close()
		remove()
		os.Remove(socket)
	}, nil
}

// Handler serves what Serve offers.
func (e *Env) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		mux.Handle(path, e.Health)
	}
	mux.Handle("/metrics", promhttp.HandlerFor(e.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("/loglevel", serveLogLevel)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	for path, handler := range e.Handlers {
		mux.Handle(path, handler)
	}
	return mux
}

// serveLogLevel changes the levels of the process: PUT /loglevel with a body as --log-level takes it.
func serveLogLevel(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut {
		http.Error(w, "use PUT with a level such as: 2,scheduler=5,etcd=warn", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 4096))
	if err == nil {
		err = SetLogLevels(strings.TrimSpace(string(body)))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// Registrations reads who has registered under dataDir. Files of processes that
// are gone are left out.
func Registrations(dataDir string) ([]Registration, error) {
	files, err := filepath.Glob(filepath.Join(RunDir(dataDir), "*.json"))
	if err != nil {
		return nil, err
	}
	var found []Registration
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // ended between the two calls
		}
		if err != nil {
			return nil, err
		}
		var r Registration
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if processExists(r.PID) {
			found = append(found, r)
		}
	}
	return found, nil
}

// Probe asks a registered component how it is: nil, or what its checks say.
func (r Registration) Probe(ctx context.Context) error {
	client := UnixClient(r.Socket)
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Component+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return err
	}
	if response.StatusCode == http.StatusOK {
		return nil
	}
	var failed []string
	for _, line := range strings.Split(string(body), "\n") {
		if cause, ok := strings.CutPrefix(line, "[-]"); ok {
			failed = append(failed, cause)
		}
	}
	return errors.New(strings.Join(failed, "; "))
}

// UnixClient is an HTTP client for a unix socket; the URL's host is ignored.
func UnixClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
}

// writeJSON puts a file in place whole. The name that it has before is this writer's own: two processes of one component may start at
// the same moment, of which one will stand by.
func writeJSON(file string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	temporary := fmt.Sprintf("%s.%d.new", file, os.Getpid())
	if err := os.WriteFile(temporary, append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, file)
}
