package fakenodes

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

const nothingRuns = "this pod is on a fake node, where nothing runs: there is no log, and nothing to connect to"

// serve answers for all nodes' kubelets. There is nothing to protect: it gives nobody anything.
func (n *Nodes) serve() (stop func(), err error) {
	cert, err := tls.LoadX509KeyPair(n.CertFile, n.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("the server's certificate: %w", err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(n.Address, "0"))
	if err != nil {
		return nil, err
	}
	n.port = listener.Addr().(*net.TCPAddr).Port
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, nothingRuns, http.StatusNotImplemented) })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}}
	go server.ServeTLS(listener, "", "")
	return func() { server.Close() }, nil
}
