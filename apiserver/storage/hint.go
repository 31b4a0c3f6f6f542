package storage

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"
)

// hintTimeout bounds the look at an etcd that does not answer.
const hintTimeout = 500 * time.Millisecond

// withHint adds to an error of time what a TLS handshake with etcd says: gRPC tries again for as long as it may, and what it was refused
// for, such as a missing client certificate, is lost on the way.
func (h *Hub) withHint(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if hint := handshake(h.config.Endpoints[0], h.tls); hint != nil {
		return errors.Join(err, hint)
	}
	return err
}

// handshake is why the server at an https endpoint wants no connection; nil when it does, or cannot be reached at all.
func handshake(endpoint string, config *tls.Config) error {
	address, isTLS := strings.CutPrefix(endpoint, "https://")
	if !isTLS {
		return nil
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: hintTimeout}, "tcp", address, config)
	if err == nil {
		defer conn.Close()
		// With TLS 1.3 the server judges our certificate after the handshake is over for us: its alert comes with the first byte read.
		_ = conn.SetReadDeadline(time.Now().Add(hintTimeout))
		_, err = conn.Read(make([]byte, 1))
	}
	var alert tls.AlertError
	var unknownCA *tls.CertificateVerificationError
	switch {
	case errors.As(err, &alert) || err != nil && strings.Contains(err.Error(), "remote error: tls"):
		return errors.New("etcd refuses our client certificate, or that there is none (" + err.Error() + "): see --etcd-certfile and --etcd-keyfile")
	case errors.As(err, &unknownCA):
		return errors.New("etcd's certificate is none of those we trust (" + err.Error() + "): see --etcd-cafile")
	}
	return nil
}
