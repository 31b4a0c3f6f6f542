package tools

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// serve is what the demo image runs by default: an HTTP server on port 8080 (or -p,
// or $PORT) which answers with the pod's name, its node, its address and the
// request, so that one sees which pod a Service chose. /healthz answers "ok", /exit?code=N ends the
// process, /env/NAME gives a variable. Each request is a line of log.
func serve(c *call) int {
	flags, _, err := c.options("p:")
	if err != nil {
		return c.fail1(err)
	}
	port := flags['p']
	if port == "" {
		port = os.Getenv("PORT")
	}
	if port == "" {
		port = "8080"
	}
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return c.fail1(err)
	}
	fmt.Fprintf(c.out, "%s listening on port %s\n", podName(), port)
	server := &http.Server{Handler: handler(c), ReadHeaderTimeout: 10 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return c.fail1(err)
	case <-ctx.Done():
	}
	fmt.Fprintln(c.out, "stopping: finishing the requests under way")
	finish, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(finish); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return c.fail1(err)
	}
	return 0
}

func handler(c *call) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/env/{name}", func(w http.ResponseWriter, r *http.Request) {
		value, set := os.LookupEnv(r.PathValue("name"))
		if !set {
			http.Error(w, "not set", http.StatusNotFound)
			return
		}
		fmt.Fprintln(w, value)
	})
	mux.HandleFunc("/exit", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.URL.Query().Get("code"))
		if err != nil {
			http.Error(w, "use /exit?code=N", http.StatusBadRequest)
			return
		}
		os.Exit(code)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(c.out, "%s %s %s from %s\n", time.Now().UTC().Format(time.RFC3339), r.Method, r.URL.Path, r.RemoteAddr)
		fmt.Fprintf(w, "pod: %s\n", podName())
		if node := os.Getenv("NODE_NAME"); node != "" {
			fmt.Fprintf(w, "node: %s\n", node)
		}
		fmt.Fprintf(w, "address: %s\nclient: %s\n\n", localAddress(r), r.RemoteAddr)
		if dump, err := httputil.DumpRequest(r, r.ContentLength < 64<<10); err == nil {
			w.Write(dump)
		}
	})
	return mux
}

// podName is the pod's hostname, which Kubernetes sets to its name.
func podName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// localAddress is the address on which this request arrived: the pod's own.
func localAddress(r *http.Request) string {
	if address, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return address.String()
	}
	return "unknown"
}
