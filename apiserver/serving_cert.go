package apiserver

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// certCheckInterval is how often a new connection looks whether the serving certificate has changed.
const certCheckInterval = 10 * time.Second

// servingCert is the server's certificate, read again when its file has changed: it is renewed without a restart. It looks on
// use rather than by a watcher, and so has no goroutine to stop.
//
// In Kubernetes: k8s.io/apiserver/pkg/server/dynamiccertificates.
type servingCert struct {
	certFile, keyFile string

	mu                sync.Mutex
	current           *tls.Certificate
	modified, checked time.Time
}

func newServingCert(certFile, keyFile string) (*servingCert, error) {
	c := &servingCert{certFile: certFile, keyFile: keyFile}
	if err := c.reload(); err != nil {
		return nil, fmt.Errorf("apiserver: serving certificate: %w", err)
	}
	return c, nil
}

// get is for tls.Config.GetCertificate. A file that is gone, half written, or not yet of its key leaves the certificate as
// it was: the next look will find both.
func (c *servingCert) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= certCheckInterval {
		c.checked = now
		if info, err := os.Stat(c.certFile); err == nil && !info.ModTime().Equal(c.modified) {
			_ = c.reload()
		}
	}
	return c.current, nil
}

func (c *servingCert) reload() error {
	info, err := os.Stat(c.certFile)
	if err != nil {
		return err
	}
	certificate, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.current, c.modified = &certificate, info.ModTime()
	return nil
}
