package connect

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	clientspdy "k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
	kubeletportforward "k8s.io/cri-streaming/pkg/streaming/portforward"
	kubeletstreaming "k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
)

// fakeKubelet serves what a kubelet does, with the same streaming library, and notes what it was asked.
type fakeKubelet struct {
	*httptest.Server
	asked chan *http.Request
}

// next is the request that the kubelet got next.
func (k *fakeKubelet) next(t *testing.T) *http.Request {
	t.Helper()
	select {
	case r := <-k.asked:
		return r
	default:
		t.Fatal("the kubelet was not asked")
		return nil
	}
}

func newFakeKubelet(t *testing.T) *fakeKubelet {
	k := &fakeKubelet{asked: make(chan *http.Request, 10)}
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/", func(w http.ResponseWriter, r *http.Request) {
		k.asked <- r
		opts, err := kubeletstreaming.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		kubeletstreaming.ServeExec(w, r, executor{}, "", "", "", r.Form["command"], opts, time.Minute, 10*time.Second, kubeletstreaming.SupportedStreamingProtocols)
	})
	mux.HandleFunc("/portForward/", func(w http.ResponseWriter, r *http.Request) {
		k.asked <- r
		opts, err := kubeletportforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		kubeletportforward.ServePortForward(w, r, forwarder{}, "", "", opts, time.Minute, 10*time.Second, kubeletportforward.SupportedProtocols)
	})
	mux.HandleFunc("/containerLogs/", func(w http.ResponseWriter, r *http.Request) {
		k.asked <- r
		if strings.HasSuffix(r.URL.Path, "/broken") {
			http.Error(w, `container "broken" in pod "two" is waiting to start`, http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, "line of the log")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		k.asked <- r
		fmt.Fprintf(w, "kubelet at %s", r.URL.Path)
	})
	k.Server = httptest.NewUnstartedServer(mux)
	k.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	k.StartTLS()
	t.Cleanup(k.Close)
	return k
}

// executor plays the programs "cat" (stdin to stdout until it ends), "fail" (exit code 3) and "size" (the
// first size of the terminal).
type executor struct{}

func (executor) ExecInContainer(_ context.Context, _, _, _ string, cmd []string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan kubeletstreaming.TerminalSize, _ time.Duration) error {
	switch cmd[0] {
	case "cat":
		_, err := io.Copy(out, in)
		return err
	case "size":
		size := <-resize
		_, err := fmt.Fprintf(out, "%dx%d", size.Width, size.Height)
		return err
	}
	fmt.Fprint(errOut, "failed")
	return utilexec.CodeExitError{Err: errors.New("exit 3"), Code: 3}
}

type forwarder struct{}

func (forwarder) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	line := make([]byte, 4)
	if _, err := io.ReadFull(stream, line); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stream, "port %d: %s", port, line)
	return err
}

// front is the part of the apiserver before the connector: path, options, user.
func front(t *testing.T, kubelet *fakeKubelet, may func(a request.Attributes) bool) *rest.Config {
	c := newTestConnector(t, kubelet, may)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := request.NewInfo(r)
		r = r.WithContext(request.WithUser(request.WithInfo(r.Context(), info), &request.User{Name: "jane"}))
		with := func(options runtime.Object) *http.Request {
			return r.WithContext(registry.WithConnectOptions(r.Context(), options))
		}
		var err error
		switch info.Subresource {
		case "exec":
			q := r.URL.Query()
			is := func(key string) bool { return q.Get(key) == "true" }
			opts := &corev1.PodExecOptions{Command: q["command"], Stdin: is("stdin"), Stdout: is("stdout"), Stderr: is("stderr"), TTY: is("tty")}
			err = c.exec(info.Namespace, info.Name, "", w, with(opts))
		case "attach":
			err = c.attach(info.Namespace, info.Name, "", w, with(&corev1.PodAttachOptions{Stdout: true}))
		case "portforward":
			opts := &corev1.PodPortForwardOptions{}
			err = c.portForward(info.Namespace, info.Name, "", w, with(opts))
		case "log":
			err = c.log(info.Namespace, info.Name, "", w, with(logOptions(r.URL.Query())))
		case "proxy":
			err = c.proxyNode("", info.Name, "/metrics", w, r)
		}
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			http.Error(w, status.Status().Message, int(status.Status().Code))
		} else if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	t.Cleanup(server.Close)
	return &rest.Config{Host: server.URL}
}

func logOptions(q url.Values) *corev1.PodLogOptions {
	number := func(key string) *int64 {
		n, err := strconv.ParseInt(q.Get(key), 10, 64)
		if err != nil {
			return nil
		}
		return &n
	}
	opts := &corev1.PodLogOptions{
		Container: q.Get("container"), Follow: q.Get("follow") == "true", Previous: q.Get("previous") == "true", Timestamps: q.Get("timestamps") == "true",
		SinceSeconds: number("sinceSeconds"), TailLines: number("tailLines"), LimitBytes: number("limitBytes"),
	}
	if at, err := time.Parse(time.RFC3339, q.Get("sinceTime")); err == nil {
		opts.SinceTime = &metav1.Time{Time: at}
	}
	return opts
}

type authorizerFunc func(a request.Attributes) bool

func (f authorizerFunc) Authorize(_ context.Context, a request.Attributes) (request.Decision, string, error) {
	if f == nil || f(a) {
		return request.Allow, "", nil
	}
	return request.NoOpinion, "", nil
}

func newTestConnector(t *testing.T, kubelet *fakeKubelet, may func(a request.Attributes) bool) *connector {
	dir := t.TempDir()
	env := &registry.Env{Authorizer: authorizerFunc(may), KubeletCAFile: filepath.Join(dir, "ca.crt")}
	write(t, env.KubeletCAFile, &pem.Block{Type: "CERTIFICATE", Bytes: kubelet.Certificate().Raw})
	env.KubeletClientCertFile, env.KubeletClientKeyFile = clientCertificate(t, dir)
	host, portText, _ := net.SplitHostPort(kubelet.Listener.Addr().String())
	port, _ := strconv.Atoi(portText)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "does-not-resolve.invalid"}, {Type: corev1.NodeInternalIP, Address: host}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(port)}},
	}}
	pods := []*corev1.Pod{
		newPod("one", "n1", "app"), newPod("two", "n1", "app", "broken"), newPod("unplaced", "", "app"),
	}
	return &connector{
		env:     env,
		pods:    lister.Slice(schema.GroupResource{Resource: "pods"}, pods...),
		nodes:   lister.Slice(schema.GroupResource{Resource: "nodes"}, node),
		kubelet: &kubeletClient{env: env},
	}
}

func newPod(name, node string, containers ...string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
	for _, c := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: c})
	}
	return pod
}

func clientCertificate(t *testing.T, dir string) (certFile, keyFile string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kube-apiserver-kubelet-client"},
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key")
	write(t, certFile, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, keyFile, &pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	return certFile, keyFile
}

func write(t *testing.T, file string, block *pem.Block) {
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
}

func execURL(config *rest.Config, opts *corev1.PodExecOptions) *url.URL {
	u, _ := url.Parse(config.Host + "/api/v1/namespaces/default/pods/one/exec")
	q, err := scheme.ParameterCodec.EncodeParameters(opts, corev1.SchemeGroupVersion)
	if err != nil {
		panic(err)
	}
	u.RawQuery = q.Encode()
	return u
}

// R41: exec over WebSocket v5 (what kubectl prefers) and over SPDY, with the same behaviour.
func TestExec(t *testing.T) {
	kubelet := newFakeKubelet(t)
	config := front(t, kubelet, nil)
	executors := map[string]func(u *url.URL) (remotecommand.Executor, error){
		"websocket": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(config, http.MethodGet, u.String())
		},
		"spdy": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewSPDYExecutor(config, http.MethodPost, u)
		},
	}
	for protocol, newExecutor := range executors {
		t.Run(protocol+"/stdin ends, output comes back", func(t *testing.T) {
			ex, err := newExecutor(execURL(config, &corev1.PodExecOptions{Command: []string{"cat"}, Stdin: true, Stdout: true}))
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := ex.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out}); err != nil {
				t.Fatal(err)
			}
			if out.String() != "hello" {
				t.Errorf("output %q", out.String())
			}
			asked := kubelet.next(t)
			if asked.URL.Path != "/exec/default/one/app" {
				t.Errorf("the kubelet was asked for %s", asked.URL.Path)
			}
			if len(asked.TLS.PeerCertificates) == 0 || asked.TLS.PeerCertificates[0].Subject.CommonName != "kube-apiserver-kubelet-client" {
				t.Error("without our client certificate")
			}
		})
		t.Run(protocol+"/exit code", func(t *testing.T) {
			ex, err := newExecutor(execURL(config, &corev1.PodExecOptions{Command: []string{"fail"}, Stdout: true, Stderr: true}))
			if err != nil {
				t.Fatal(err)
			}
			var out, errOut bytes.Buffer
			err = ex.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut})
			var exit utilexec.ExitError
			if !errors.As(err, &exit) || exit.ExitStatus() != 3 || errOut.String() != "failed" {
				t.Errorf("err %v, stderr %q", err, errOut.String())
			}
			kubelet.next(t)
		})
		t.Run(protocol+"/terminal size", func(t *testing.T) {
			ex, err := newExecutor(execURL(config, &corev1.PodExecOptions{Command: []string{"size"}, Stdin: true, Stdout: true, TTY: true}))
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			stdin, keepOpen := io.Pipe()
			defer keepOpen.Close()
			err = ex.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: stdin, Stdout: &out, Tty: true, TerminalSizeQueue: oneSize()})
			if err != nil || out.String() != "80x24" {
				t.Errorf("err %v, output %q", err, out.String())
			}
			kubelet.next(t)
		})
	}
}

type sizes chan remotecommand.TerminalSize

func oneSize() sizes {
	s := make(sizes, 1)
	s <- remotecommand.TerminalSize{Width: 80, Height: 24}
	close(s)
	return s
}

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

// R41: port-forward over SPDY tunnelled in WebSocket, and over SPDY.
func TestPortForward(t *testing.T) {
	kubelet := newFakeKubelet(t)
	config := front(t, kubelet, nil)
	u, _ := url.Parse(config.Host + "/api/v1/namespaces/default/pods/one/portforward")
	roundTripper, upgrader, err := clientspdy.RoundTripperFor(config)
	if err != nil {
		t.Fatal(err)
	}
	tunnelling, err := portforward.NewSPDYOverWebsocketDialer(u, config)
	if err != nil {
		t.Fatal(err)
	}
	dialers := map[string]httpstream.Dialer{
		"spdy":      clientspdy.NewDialer(upgrader, &http.Client{Transport: roundTripper}, http.MethodPost, u),
		"tunnelled": tunnelling,
	}
	for name, dialer := range dialers {
		t.Run(name, func(t *testing.T) {
			stop, ready := make(chan struct{}), make(chan struct{})
			pf, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{"0:8080"}, stop, ready, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- pf.ForwardPorts() }()
			select {
			case <-ready:
			case err := <-done:
				t.Fatal(err)
			}
			ports, err := pf.GetPorts()
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(conn, "ping")
			answer, err := io.ReadAll(conn)
			if err != nil || string(answer) != "port 8080: ping" {
				t.Errorf("err %v, answer %q", err, answer)
			}
			close(stop)
			<-done
			if asked := kubelet.next(t); asked.URL.Path != "/portForward/default/one" {
				t.Errorf("the kubelet was asked for %s", asked.URL.Path)
			}
		})
	}
}

// A WebSocket begins with a GET; the right to "get" must not be enough to run a command.
func TestUpgradeNeedsCreate(t *testing.T) {
	config := front(t, newFakeKubelet(t), func(a request.Attributes) bool { return a.Verb == "get" })
	for _, path := range []string{"exec?command=cat&stdout=true", "attach?stdout=true", "portforward"} {
		resp, err := http.Get(config.Host + "/api/v1/namespaces/default/pods/one/" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		subresource, _, _ := strings.Cut(path, "?")
		want := fmt.Sprintf("User \"jane\" cannot create resource \"pods/%s\" in API group \"\" in the namespace \"default\"", subresource)
		if resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

// R40: kubectl logs, its options and its errors.
func TestLog(t *testing.T) {
	kubelet := newFakeKubelet(t)
	config := front(t, kubelet, nil)
	for _, test := range []struct {
		path, kubeletPath, kubeletQuery string
		code                            int
		body                            string
	}{
		{"one/log?follow=true&tailLines=3&timestamps=true", "/containerLogs/default/one/app", "follow=true&tailLines=3&timestamps=true", 200, "line of the log\n"},
		{"one/log?previous=true&sinceSeconds=5&limitBytes=10", "/containerLogs/default/one/app", "limitBytes=10&previous=true&sinceSeconds=5", 200, "line of the log\n"},
		{"two/log?container=app", "/containerLogs/default/two/app", "", 200, "line of the log\n"},
		{"two/log", "", "", 400, "a container name must be specified for pod two, choose one of: [app broken]\n"},
		{"two/log?container=other", "", "", 400, "container other is not valid for pod two\n"},
		{"two/log?container=broken", "/containerLogs/default/two/broken", "", 400, "container \"broken\" in pod \"two\" is waiting to start\n\n"},
		{"unplaced/log", "", "", 200, ""},
		{"none/log", "", "", 404, "pods \"none\" not found\n"},
		{"one/log?tailLines=-1", "", "", 422, "PodLogOptions \"one\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0\n"},
		{"one/log?sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", "", "", 422, "PodLogOptions \"one\" is invalid: <nil>: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified\n"},
	} {
		t.Run(test.path, func(t *testing.T) {
			resp, err := http.Get(config.Host + "/api/v1/namespaces/default/pods/" + test.path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != test.code || string(body) != test.body && !strings.HasPrefix(test.path, "one/log?since") {
				t.Errorf("%d %q, want %d %q", resp.StatusCode, body, test.code, test.body)
			}
			if test.kubeletPath == "" {
				return
			}
			asked := kubelet.next(t)
			if asked.URL.Path != test.kubeletPath || asked.URL.Query().Encode() != test.kubeletQuery {
				t.Errorf("the kubelet was asked for %s", asked.URL)
			}
		})
	}
}

// A log over a WebSocket, as browsers read it: each piece is a binary message (binary.k8s.io) or base64 in a text message.
func TestLogOverWebSocket(t *testing.T) {
	config := front(t, newFakeKubelet(t), nil)
	address := strings.Replace(config.Host, "http://", "ws://", 1) + "/api/v1/namespaces/default/pods/one/log"
	for protocol, want := range map[string]string{
		"binary.k8s.io":        "line of the log\n",
		"base64.binary.k8s.io": base64.StdEncoding.EncodeToString([]byte("line of the log\n")),
	} {
		t.Run(protocol, func(t *testing.T) {
			socket, err := websocket.Dial(address, protocol, config.Host)
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			got := ""
			for err == nil {
				var message []byte
				err = websocket.Message.Receive(socket, &message)
				got += string(message)
			}
			if err != io.EOF || got != want {
				t.Errorf("%q and then %v, want %q", got, err, want)
			}
		})
	}
}

func TestProxyNode(t *testing.T) {
	kubelet := newFakeKubelet(t)
	config := front(t, kubelet, nil)
	resp, err := http.Get(config.Host + "/api/v1/nodes/n1/proxy/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "kubelet at /metrics" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

// The apiserver must not be a way around the firewall to its own host.
func TestIsProxyableIP(t *testing.T) {
	for address, want := range map[string]bool{
		"10.244.0.5": true, "fd00::5": true,
		"127.0.0.1": false, "::1": false, "169.254.169.254": false, "fe80::1": false, "0.0.0.0": false, "": false,
	} {
		if err := isProxyableIP(address); (err == nil) != want {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestServicePortName(t *testing.T) {
	one := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
	two := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "dns", Port: 53}}}}
	for _, test := range []struct {
		service *corev1.Service
		port    string
		want    string
		ok      bool
	}{
		{one, "", "http", true}, {one, "80", "http", true}, {two, "dns", "dns", true}, {two, "53", "dns", true},
		{two, "", "", false}, {one, "81", "", false},
	} {
		got, err := servicePortName(test.service, test.port)
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("port %q: %q %v", test.port, got, err)
		}
	}
}
