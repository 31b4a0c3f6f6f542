package integration

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletportforward "k8s.io/cri-streaming/pkg/streaming/portforward"
	kubeletstreaming "k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"hyperkube/apiserver"
)

// echo is a container that runs `cat` whatever it is told, and answers on every port with its number.
type echo struct{}

func (echo) ExecInContainer(_ context.Context, _, _, _ string, cmd []string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan kubeletstreaming.TerminalSize, _ time.Duration) error {
	fmt.Fprintf(out, "%s:", strings.Join(cmd, " "))
	if in != nil {
		_, _ = io.Copy(out, in)
	}
	return nil
}

func (echo) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	buffer := make([]byte, 1024)
	_, _ = stream.Read(buffer)
	_, err := fmt.Fprintf(stream, "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\n%d", port)
	return err
}

func startKubelet(t *testing.T) (server *httptest.Server, caFile string) {
	mux := http.NewServeMux()
	mux.HandleFunc("/containerLogs/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "log of %s?%s\n", r.URL.Path, r.URL.RawQuery)
	})
	mux.HandleFunc("/exec/", func(w http.ResponseWriter, r *http.Request) {
		opts, err := kubeletstreaming.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		kubeletstreaming.ServeExec(w, r, echo{}, "", "", "", r.Form["command"], opts, time.Minute, 10*time.Second, kubeletstreaming.SupportedStreamingProtocols)
	})
	mux.HandleFunc("/portForward/", func(w http.ResponseWriter, r *http.Request) {
		opts, _ := kubeletportforward.NewV4Options(r)
		kubeletportforward.ServePortForward(w, r, echo{}, "", "", opts, time.Minute, 10*time.Second, kubeletportforward.SupportedProtocols)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "kubelet at %s", r.URL) })
	server = httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	caFile = filepath.Join(t.TempDir(), "kubelet-ca.crt")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return server, caFile
}

// R40, R41: kubectl logs, exec and port-forward, by WebSocket and by SPDY, through a whole apiserver.
func TestKubectlConnects(t *testing.T) {
	kubelet, caFile := startKubelet(t)
	c := Start(t, func(config *apiserver.Config) { config.KubeletCAFile = caFile })
	ctx := t.Context()
	host, portText, _ := net.SplitHostPort(kubelet.Listener.Addr().String())
	port, _ := strconv.Atoi(portText)
	node := must(t)(c.Client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})).(*corev1.Node)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: host}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(port)
	must(t)(c.Client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}))
	must(t)(c.Client.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}))
	pod := must(t)(c.Client.CoreV1().Pods("default").Create(ctx, podOf("web", "", "n1"), metav1.CreateOptions{})).(*corev1.Pod)
	pod.Status.Phase = corev1.PodRunning
	must(t)(c.Client.CoreV1().Pods("default").UpdateStatus(ctx, pod, metav1.UpdateOptions{}))
	kubeconfig := c.Kubeconfig()

	if got := kubectl(t, kubeconfig, "", "logs", "web", "--tail=3", "--timestamps"); got != "log of /containerLogs/default/web/c?tailLines=3&timestamps=true\n" {
		t.Errorf("logs: %s", got)
	}
	if got := kubectl(t, kubeconfig, "", "get", "--raw", "/api/v1/nodes/n1/proxy/healthz"); got != "kubelet at /healthz" {
		t.Errorf("proxy: %s", got)
	}
	for _, websockets := range []string{"true", "false"} {
		t.Setenv("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
		t.Setenv("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
		if got := kubectl(t, kubeconfig, "to stdin", "exec", "-i", "web", "--", "sh", "-c", "a b"); got != "sh -c a b:to stdin" {
			t.Errorf("exec, WebSockets %s: %s", websockets, got)
		}
		if got := forwardOnce(t, kubeconfig); got != "8080" {
			t.Errorf("port-forward, WebSockets %s: %s", websockets, got)
		}
	}
}

// forwardOnce runs kubectl port-forward for one request.
func forwardOnce(t *testing.T, kubeconfig string) string {
	path, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("no kubectl on this machine")
	}
	command := exec.CommandContext(t.Context(), path, "--kubeconfig", kubeconfig, "port-forward", "pod/web", ":8080")
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}()
	line := make([]byte, 256)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	// "Forwarding from 127.0.0.1:40123 -> 8080"
	words := strings.Fields(string(line[:n]))
	if len(words) < 3 {
		t.Fatalf("port-forward says %q", line[:n])
	}
	resp, err := http.Get("http://" + words[2])
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}
