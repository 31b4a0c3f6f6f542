package client

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// A kubeconfig that is missing or broken is told with its name and the remedy (R13).
func TestBadKubeconfigs(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("rubbish: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"": "--data-dir or --kubeconfig", "/nowhere": "/nowhere does not exist", broken: "mend it"} {
		if _, err := Load(file, "test", ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", file, err, want)
		}
	}
}

// Every request names its component, and clients do not limit themselves.
func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	config := `{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1"}}],
		"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],"users":[{"name":"u","user":{"token":"t"}}]}`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(file, "scheduler", ContentTypeProtobuf)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(loaded.UserAgent, "scheduler/hyperkube ") || loaded.QPS >= 0 || !strings.HasPrefix(loaded.AcceptContentTypes, ContentTypeProtobuf) {
		t.Errorf("agent %q, qps %v, accepts %q", loaded.UserAgent, loaded.QPS, loaded.AcceptContentTypes)
	}
}

// A component that starts before the apiserver waits for it, and gets the
// configuration of the moment when it answered (R17).
func TestWaitForAPI(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked < 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	tries := 0
	config, err := WaitForAPI(t.Context(), func() (*rest.Config, error) {
		if tries++; tries == 1 {
			return nil, errors.New("no port yet")
		}
		return &rest.Config{Host: server.URL, QPS: -1}, nil
	})
	if err != nil || config.Host != server.URL || tries < 3 {
		t.Errorf("%v, %v after %d tries", config, err, tries)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = WaitForAPI(ctx, func() (*rest.Config, error) { return nil, errors.New("no port yet") })
	if err == nil || err.Error() != "no port yet" {
		t.Errorf("a wait that was given up: %v", err)
	}
}
