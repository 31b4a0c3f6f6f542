package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"hyperkube/kubelet/logs"
)

// host is a kubelet with one pod, and a runtime whose stream is at streamURL.
type host struct {
	streamURL string
	exec      *runtimeapi.ExecRequest
	log       *v1.PodLogOptions
	logError  error
}

func (h *host) GetPods() []*v1.Pod {
	return []*v1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "u"}}}
}
func (h *host) GetRunningPods(context.Context) ([]*v1.Pod, error) { return h.GetPods(), nil }
func (h *host) GetPodByName(namespace, name string) (*v1.Pod, bool) {
	pod := h.GetPods()[0]
	return pod, pod.Namespace == namespace && pod.Name == name
}
func (h *host) GetKubeletContainerLogs(_ context.Context, _ *v1.Pod, _ string, o *v1.PodLogOptions, to logs.Streams) error {
	h.log = o
	if h.logError == nil {
		fmt.Fprintln(to.Stdout, "a line")
	}
	return h.logError
}
func (h *host) RunInContainer(_ context.Context, _ *v1.Pod, _ string, command []string) ([]byte, error) {
	return []byte(fmt.Sprint(command)), nil
}
func (h *host) GetExec(_ context.Context, _ *v1.Pod, _ string, r *runtimeapi.ExecRequest) (string, error) {
	h.exec = r
	return h.streamURL, nil
}
func (h *host) GetAttach(context.Context, *v1.Pod, string, *runtimeapi.AttachRequest) (string, error) {
	return h.streamURL, nil
}
func (h *host) GetPortForward(context.Context, *v1.Pod, []int32) (string, error) {
	return h.streamURL, nil
}
func (h *host) Summary(context.Context) (*statsapi.Summary, error) { return &statsapi.Summary{}, nil }
func (h *host) Configz() any                                       { return map[string]int{"maxPods": 110} }
func (*host) ResourceMetrics() http.Handler                        { return http.NotFoundHandler() }
func (*host) CadvisorMetrics() http.Handler                        { return http.NotFoundHandler() }
func (*host) ProbeMetrics() http.Handler                           { return http.NotFoundHandler() }
func (h *host) Metrics() http.Handler                              { return http.NotFoundHandler() }
func (h *host) SyncLoopHealthy() error                             { return nil }

// start serves with reviews that know the tokens "admin" and "guest"; only admin is allowed.
func start(t *testing.T, h *host, access ...Access) string {
	t.Helper()
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		review.Status.Authenticated = review.Spec.Token == "admin" || review.Spec.Token == "guest"
		review.Status.User.Username = review.Spec.Token
		return true, review, nil
	})
	client.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
		review.Status.Allowed = review.Spec.User == "admin" && review.Spec.ResourceAttributes.Resource == "nodes"
		return true, review, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	config := Config{Address: "127.0.0.1", Host: h, Client: client, NodeName: "n1", LogsDir: t.TempDir()}
	for _, config.Access = range access {
	}
	s, err := New(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return fmt.Sprintf("https://127.0.0.1:%d", s.Port())
}

func get(t *testing.T, method, url, token string, headers ...string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

// Nobody who is not known and allowed gets past the door.
func TestWhoMayCall(t *testing.T) {
	base := start(t, &host{})
	for _, c := range []struct {
		token, path string
		want        int
	}{
		{"", "/healthz", 200}, {"", "/pods", 401}, {"stranger", "/pods", 401}, {"guest", "/pods", 403}, {"admin", "/pods", 200}, {"admin", "/pods/", 200},
		{"guest", "/exec/default/web/main", 403}, {"admin", "/configz", 200}, {"admin", "/stats/summary", 200}, {"admin", "/containerLogs/default/none/main", 404},
	} {
		if code, body := get(t, "GET", base+c.path, c.token); code != c.want {
			t.Errorf("%q on %s: %d %s, want %d", c.token, c.path, code, body, c.want)
		}
	}
}

// tlsMinVersion.
func TestTLSVersion(t *testing.T) {
	for least, spoken := range map[uint16]bool{0: true, tls.VersionTLS13: false} {
		config, err := (&Server{Config: Config{MinVersion: least}}).tlsConfig()
		if err != nil {
			t.Fatal(err)
		}
		client, server := net.Pipe()
		go tls.Server(server, config).Handshake()
		err = tls.Client(client, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}).Handshake() //nolint:gosec
		if (err == nil) != spoken {
			t.Errorf("at least %#x: a client of TLS 1.2 gets %v", least, err)
		}
		client.Close()
	}
}

// KubeletConfiguration's authentication and authorization.
func TestAccess(t *testing.T) {
	for _, c := range []struct {
		access                         Access
		nobody, stranger, guest, admin int
	}{
		{Access{}, 401, 401, 403, 200},
		{Access{Anonymous: true}, 403, 401, 403, 200},
		{Access{Anonymous: true, AlwaysAllow: true}, 200, 401, 200, 200},
		{Access{AlwaysAllow: true}, 401, 401, 200, 200},
		{Access{NoTokens: true}, 401, 401, 401, 401},
	} {
		base := start(t, &host{}, c.access)
		for token, want := range map[string]int{"": c.nobody, "stranger": c.stranger, "guest": c.guest, "admin": c.admin} {
			if code, _ := get(t, "GET", base+"/pods", token); code != want {
				t.Errorf("%+v: %q gets %d, want %d", c.access, token, code, want)
			}
		}
	}
}

func TestContainerLogs(t *testing.T) {
	h := &host{}
	base := start(t, h)
	code, body := get(t, "GET", base+"/containerLogs/default/web/main?tailLines=3&previous=true&sinceTime=2026-01-01T00:00:00Z", "admin")
	if code != 200 || body != "a line\n" || *h.log.TailLines != 3 || !h.log.Previous || h.log.SinceTime.Year() != 2026 {
		t.Errorf("%d %q, options %+v", code, body, h.log)
	}
	if code, _ := get(t, "GET", base+"/containerLogs/default/web/main?tailLines=-1", "admin"); code != 400 {
		t.Errorf("a negative number of lines: %d", code)
	}
	h.logError = errors.New("waiting to start")
	if code, body := get(t, "GET", base+"/containerLogs/default/web/main", "admin"); code != 400 || body != "waiting to start\n" {
		t.Errorf("no log yet: %d %q", code, body)
	}
}

// exec asks the runtime for a URL, and passes the upgraded connection on to it.
func TestExecIsPassedToTheRuntime(t *testing.T) {
	stream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" || r.Header.Get("Upgrade") != "SPDY/3.1" {
			t.Errorf("the runtime got %s %v", r.URL, r.Header)
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n")
	}))
	defer stream.Close()
	h := &host{streamURL: stream.URL + "/token"}
	base := start(t, h)
	query := url.Values{"command": {"sh", "-c"}, "input": {"1"}, "output": {"1"}, "error": {"1"}, "tty": {"1"}}
	code, body := get(t, "POST", base+"/exec/default/web/main?"+query.Encode(), "admin", "Connection", "Upgrade", "Upgrade", "SPDY/3.1")
	if code != http.StatusSwitchingProtocols {
		t.Fatalf("%d %s", code, body)
	}
	if e := h.exec; len(e.Cmd) != 2 || !e.Stdin || !e.Stdout || e.Stderr || !e.Tty {
		t.Errorf("the runtime was asked for %+v (with a terminal there is no stderr)", e)
	}
}
