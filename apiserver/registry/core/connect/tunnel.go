package connect

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	gwebsocket "github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	constants "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// tunnel answers WebSocket "SPDY/3.1+portforward.k8s.io": its messages are the bytes of a SPDY connection, which
// is handed to the kubelet as it is. The kubelet is asked first, so that its refusal can still be
// an HTTP status.
func (c *connector) tunnel(location *url.URL, w http.ResponseWriter, r *http.Request) error {
	backend, err := c.dialUpgrade(location, r)
	if err != nil {
		return err
	}
	defer backend.Close()
	upgrader := gwebsocket.Upgrader{
		// Whoever may reach the API has been authenticated by more than a cookie: origins prove nothing.
		CheckOrigin:  func(*http.Request) bool { return true },
		Subprotocols: []string{constants.WebsocketsSPDYTunnelingPortForwardV1},
	}
	conn, err := upgrader.Upgrade(unwrap(w), r, nil)
	if err != nil {
		klog.FromContext(r.Context()).Info("WebSocket could not be opened", "path", r.URL.Path, "err", err)
		return nil // Upgrade has answered
	}
	client := portforward.NewTunnelingConnectionWithLogger(klog.FromContext(r.Context()), conn)
	defer client.Close()
	done := make(chan struct{}, 2)
	go func() {
		_, _ = io.Copy(backend, client)
		done <- struct{}{}
	}()
	go func() {
		_, _ = io.Copy(client, backend)
		done <- struct{}{}
	}()
	<-done // one direction has ended; closing both ends the other
	return nil
}

// dialUpgrade opens a SPDY connection to the kubelet.
func (c *connector) dialUpgrade(location *url.URL, r *http.Request) (net.Conn, error) {
	config, err := c.kubelet.tlsConfig(false)
	if err != nil {
		return nil, err
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: config}
	conn, err := dialer.DialContext(r.Context(), "tcp", location.Host)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("error dialing backend: %w", err))
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, location.String(), nil)
	if err != nil {
		conn.Close()
		return nil, apierrors.NewInternalError(err)
	}
	req.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	req.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	req.Header.Set(httpstream.HeaderProtocolVersion, constants.PortForwardV1Name)
	if err := req.Write(conn); err != nil {
		conn.Close()
		return nil, apierrors.NewInternalError(fmt.Errorf("error sending request: %w", err))
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, req)
	if err != nil {
		conn.Close()
		return nil, apierrors.NewInternalError(fmt.Errorf("error reading response: %w", err))
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer conn.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
		return nil, apierrors.NewInternalError(fmt.Errorf("unable to upgrade connection: %s: %s", resp.Status, strings.TrimSpace(string(text))))
	}
	return &bufferedConn{Conn: conn, reader: reader}, nil
}

// bufferedConn reads first what came along with the response.
type bufferedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (b *bufferedConn) Read(p []byte) (int, error) { return b.reader.Read(p) }
