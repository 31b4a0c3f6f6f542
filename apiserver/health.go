package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// addHealthChecks adds what must be well. "bootstrap" and "shutdown" make a server that lives not ready: they
// count for /readyz only.
func (s *Server) addHealthChecks() {
	health := s.config.Health
	health.Add("ping", func(context.Context) error { return nil })
	health.Add("etcd", s.hub.Check)
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

var readinessOnly = []string{"bootstrap", "shutdown"}

func isReadiness(path string) bool { return strings.HasPrefix(path, "/readyz") }

// serveHealth answers /healthz, /livez and /readyz: "ok", or the list of checks.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	if isReadiness(r.URL.Path) {
		s.config.Health.Serve(w, r)
	} else {
		s.config.Health.Serve(w, r, readinessOnly...)
	}
}

// serveHealthCheck answers /readyz/etcd: one check alone.
func (s *Server) serveHealthCheck(w http.ResponseWriter, r *http.Request) {
	_, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	for _, result := range s.config.Health.Check(r.Context()) {
		if result.Name != name {
			continue
		}
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
