package images

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/registry"
)

// use gives a store the registries of a file.
func use(t *testing.T, s *Store, text string, mirrors ...string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "registries.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.UseRegistries(func() (*Registries, error) { return LoadRegistries(path, mirrors) })
}

// A mirror with a CA and a login of its own, under other names: the image keeps
// the name it was asked for by, and the pod's credentials stay with its registry.
func TestMirrorWithRewriteCAAndLogin(t *testing.T) {
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	var leaked atomic.Bool
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		leaked.Store(leaked.Load() || user == "pod")
		if r.Method == http.MethodGet && (user != "mirror" || password != "secret") {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	plain := httptest.NewServer(handler)
	t.Cleanup(plain.Close)
	push(t, strings.TrimPrefix(plain.URL, "http://")+"/hub/app:v1", build(t, runtime.GOARCH, archive(t, file{name: "a", content: "of the mirror"})))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600)
	host := strings.TrimPrefix(server.URL, "https://")
	s := open(t, filepath.Join(t.TempDir(), "images"), Overlay)
	use(t, s, "mirrors:\n  registry.invalid:\n    endpoint: ["+server.URL+"/v2]\n    rewrite: {\"^team/(.*)\": \"hub/$1\"}\n"+
		"configs:\n  \""+host+"\":\n    auth: {username: mirror, password: secret}\n    tls: {ca_file: "+ca+"}\n")
	img, err := s.Pull(context.Background(), "registry.invalid/team/app:v1", authn.AuthConfig{Username: "pod", Password: "own"})
	if err != nil {
		t.Fatal(err)
	}
	if len(img.Tags) != 1 || img.Tags[0] != "registry.invalid/team/app:v1" || !strings.HasPrefix(img.Digests[0], "registry.invalid/team/app@") {
		t.Errorf("names %v %v", img.Tags, img.Digests)
	}
	if leaked.Load() {
		t.Error("the mirror was told the pod's credentials")
	}
}

// --registry-mirror: a mirror that does not have the image is passed over.
func TestMirrorsAreTriedInOrder(t *testing.T) {
	lacks, has := registryServer(t, nil), registryServer(t, nil)
	push(t, has+"/app:v1", build(t, runtime.GOARCH, archive(t, file{name: "a"})))
	s := open(t, filepath.Join(t.TempDir(), "images"), Overlay)
	use(t, s, "", "registry.invalid=http://127.0.0.1:1", "registry.invalid=http://"+lacks, "registry.invalid=http://"+has)
	if _, err := s.Pull(context.Background(), "registry.invalid/app:v1", authn.AuthConfig{}); err != nil {
		t.Error(err)
	}
	use(t, s, "", has+"=http://"+lacks)
	if _, err := s.Pull(context.Background(), has+"/app:v1", authn.AuthConfig{}); err != nil {
		t.Errorf("the registry itself, after its mirror: %v", err)
	}
	use(t, s, "", has+"=http://"+lacks)
	_, err := s.Pull(context.Background(), has+"/none:v1", authn.AuthConfig{})
	if err == nil || !strings.Contains(err.Error(), "not found in its registry") || !strings.Contains(err.Error(), "mirror http://"+lacks) {
		t.Errorf("an image that is nowhere: %v", err)
	}
}

func TestRegistriesFileIsChecked(t *testing.T) {
	for text, want := range map[string]string{
		"mirrors: {a: {endpoint: [\"ftp://x\"]}}":                        "must be http",
		"mirrors: {a: {endpoint: [\"https://x/prefix\"]}}":               "must be http",
		"mirrors: {a: {endpoint: [\"https://x\"], rewrite: {\"(\": x}}}": "rewrite",
		"configs: {a: {tls: {ca_file: /not/there}}}":                     "/not/there",
		"mirors: {}": "mirors",
	} {
		path := filepath.Join(t.TempDir(), "registries.yaml")
		os.WriteFile(path, []byte(text), 0o600)
		if _, err := LoadRegistries(path, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// A connection that breaks is gone on with where it broke, also by a later pull;
// a registry that knows no ranges is asked for all of it.
func TestBrokenDownloadsGoOn(t *testing.T) {
	for name, ranges := range map[string]bool{"with ranges": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			var cut, resumed, down atomic.Bool
			handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
					handler.ServeHTTP(w, r)
					return
				}
				if down.Load() {
					panic(http.ErrAbortHandler)
				}
				resumed.Store(resumed.Load() || r.Header.Get("Range") != "")
				if !ranges {
					r.Header.Del("Range")
				}
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, r)
				body := answer.Body.Bytes()
				for key, values := range answer.Header() {
					w.Header()[key] = values
				}
				w.WriteHeader(answer.Code)
				if len(body) > 1<<20 && !cut.Swap(true) {
					w.Write(body[:1<<19])
					down.Store(true)
					panic(http.ErrAbortHandler)
				}
				w.Write(body)
			}))
			t.Cleanup(server.Close)
			host := strings.TrimPrefix(server.URL, "http://")
			noise := make([]byte, 4<<20)
			random, err := os.Open("/dev/urandom")
			if err != nil {
				t.Fatal(err)
			}
			io.ReadFull(random, noise)
			random.Close()
			push(t, host+"/app:v1", build(t, runtime.GOARCH, archive(t, file{name: "a", content: string(noise)})))
			s := open(t, filepath.Join(t.TempDir(), "images"), Overlay)
			if _, err := s.Pull(context.Background(), host+"/app:v1", authn.AuthConfig{}); err == nil {
				t.Fatal("pulled from a registry that is down")
			}
			down.Store(false)
			if _, err := s.Pull(context.Background(), host+"/app:v1", authn.AuthConfig{}); err != nil {
				t.Fatal(err)
			}
			if !resumed.Load() {
				t.Error("the second pull did not go on where the first broke off")
			}
			if left, _ := os.ReadDir(s.partialDir()); len(left) > 0 {
				t.Errorf("%d parts are left", len(left))
			}
		})
	}
}
