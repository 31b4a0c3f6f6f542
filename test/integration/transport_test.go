package integration

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Issue 4, the rest of the surface: TLS 1.2 and later, HTTP/2 where the client can, requests that end in time, CORS off.
func TestTransport(t *testing.T) {
	cluster := Start(t)
	for version, good := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", cluster.Server.Address(), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"}})
		if (err == nil) != good {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			if proto := conn.ConnectionState().NegotiatedProtocol; proto != "h2" {
				t.Errorf("%s speaks %q", tls.VersionName(version), proto)
			}
			conn.Close()
		} else if !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("%s is refused otherwise: %v", tls.VersionName(version), err)
		}
	}

	two, err := rest.HTTPClientFor(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(cluster.Config)
	config.NextProtos = []string{"http/1.1"}
	one, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		client      *http.Client
		proto, path string
		code        int
		message     string
	}{
		{two, "HTTP/2.0", "/api/v1/namespaces", 200, ""},
		{one, "HTTP/1.1", "/api/v1/namespaces", 200, ""},
		{two, "HTTP/2.0", "/api/v1/namespaces?timeout=0s", 200, ""},
		{two, "HTTP/2.0", "/api/v1/namespaces?timeout=1ns", 504, "Timeout: request did not complete within the allotted timeout"},
		{one, "HTTP/1.1", "/api/v1/namespaces?timeout=1ns", 504, "Timeout: request did not complete within the allotted timeout"},
		{two, "HTTP/2.0", "/api/v1/namespaces?timeout=soon", 400, `invalid timeout specified in the request URL - time: invalid duration "soon"`},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, cluster.Config.Host+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Origin", "https://elsewhere.example.com")
		answer, err := test.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		var status metav1.Status
		if err := json.NewDecoder(answer.Body).Decode(&status); err != nil {
			t.Error(err)
		}
		answer.Body.Close()
		if answer.Proto != test.proto || answer.StatusCode != test.code || status.Message != test.message {
			t.Errorf("%s by %s: %d by %s, %q", test.path, test.proto, answer.StatusCode, answer.Proto, status.Message)
		}
		if allowed := answer.Header.Get("Access-Control-Allow-Origin"); allowed != "" {
			t.Errorf("%s allows scripts of %s", test.path, allowed)
		}
	}
}
