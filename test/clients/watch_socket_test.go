package clients

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"hyperkube/test/integration"
)

// dial opens a WebSocket as a browser does.
func dial(t *testing.T, config *rest.Config, path, accept string) *websocket.Conn {
	t.Helper()
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		t.Fatal(err)
	}
	dialer := websocket.Dialer{TLSClientConfig: withHTTP1(tlsConfig), Subprotocols: []string{"base64.binary.k8s.io", "other"}}
	header := http.Header{"Origin": {"https://example.com"}}
	if accept != "" {
		header.Set("Accept", accept)
	}
	socket, answer, err := dialer.DialContext(t.Context(), "wss"+strings.TrimPrefix(config.Host, "https")+path, header)
	if err != nil {
		t.Fatalf("%s: %v %+v", path, err, answer)
	}
	if got := answer.Header.Get("Sec-WebSocket-Protocol"); got != "base64.binary.k8s.io" {
		t.Errorf("the subprotocol is %q", got)
	}
	t.Cleanup(func() { socket.Close() })
	return socket
}

func withHTTP1(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.NextProtos = []string{"http/1.1"}
	return config
}

// A browser watches over a WebSocket: an event a message, text for JSON, binary for protobuf.
func TestWatchOverWebSocket(t *testing.T) {
	cluster := integration.Start(t)
	makeConfigMaps(t, cluster, "a", 2)
	const path = "/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=0"
	text := dial(t, cluster.Config, path, "")
	binary := dial(t, cluster.Config, path, runtime.ContentTypeProtobuf)
	table := dial(t, cluster.Config, path, "application/json;as=Table;v=v1;g=meta.k8s.io")
	makeConfigMaps(t, cluster, "b", 1)
	for _, name := range []string{"a0000", "a0001", "b0000"} {
		kind, data := receive(t, text)
		event := struct {
			Type   string
			Object corev1.ConfigMap
		}{}
		if err := json.Unmarshal(data, &event); err != nil || kind != websocket.TextMessage || event.Type != "ADDED" || event.Object.Name != name || event.Object.Kind != "ConfigMap" {
			t.Errorf("message of kind %d: %v %s", kind, err, data)
		}
		kind, data = receive(t, binary)
		frame := metav1.WatchEvent{}
		if err := frame.Unmarshal(data); err != nil || kind != websocket.BinaryMessage || frame.Type != "ADDED" || !strings.Contains(string(frame.Object.Raw), name) {
			t.Errorf("message of kind %d: %v %q", kind, err, data)
		}
		if _, data = receive(t, table); !strings.Contains(string(data), `"kind":"Table"`) || !strings.Contains(string(data), name) {
			t.Errorf("%s", data)
		}
	}
	// A watch that has its time is closed, and one that cannot be is refused before it is opened.
	brief := dial(t, cluster.Config, path+"&timeoutSeconds=1", "")
	for range 3 {
		receive(t, brief)
	}
	if _, _, err := brief.ReadMessage(); err == nil {
		t.Error("more came")
	}
	tlsConfig, err := rest.TLSConfigFor(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	dialer := websocket.Dialer{TLSClientConfig: withHTTP1(tlsConfig)}
	if _, answer, err := dialer.DialContext(t.Context(), "wss"+strings.TrimPrefix(cluster.Config.Host, "https")+path+"&fieldSelector=no=x", nil); err == nil || answer.StatusCode != 400 {
		t.Errorf("%v %+v", err, answer)
	}
}

func receive(t *testing.T, socket *websocket.Conn) (int, []byte) {
	t.Helper()
	socket.SetReadDeadline(time.Now().Add(time.Minute))
	kind, data, err := socket.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	return kind, data
}
