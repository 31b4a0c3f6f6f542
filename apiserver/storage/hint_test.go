package storage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What an etcd with TLS wants of us is said, and not only that it did not answer.
func TestWithHint(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	good := server.TLS.Certificates
	for name, test := range map[string]struct {
		config *tls.Config
		want   string
	}{
		"no client certificate": {&tls.Config{RootCAs: trusted}, "--etcd-certfile"},
		"another CA":            {&tls.Config{RootCAs: x509.NewCertPool()}, "--etcd-cafile"},
		"all is well":           {&tls.Config{RootCAs: trusted, Certificates: good}, ""},
	} {
		h := &Hub{config: Config{Endpoints: []string{server.URL}}, tls: test.config}
		err := h.withHint(context.DeadlineExceeded)
		if hint := strings.TrimPrefix(err.Error(), context.DeadlineExceeded.Error()); !strings.Contains(hint, test.want) || test.want == "" && hint != "" {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
