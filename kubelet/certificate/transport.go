package certificate

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

// Transport returns a copy of config whose connections show the current pair. The
// one of client-go reads a client certificate's file every five minutes, in a goroutine that never ends.
func (r *Rotation) Transport(config *rest.Config) (*rest.Config, error) {
	config = rest.CopyConfig(config)
	// The transport below does what these asked for; beside it client-go refuses them.
	shown := rest.CopyConfig(config)
	shown.CertFile, shown.KeyFile, shown.CertData, shown.KeyData = "", "", nil, nil
	tlsConfig, err := rest.TLSConfigFor(shown)
	if err != nil {
		return nil, fmt.Errorf("the kubelet's connection to the apiserver: %w", err)
	}
	if tlsConfig == nil {
		tlsConfig = &tls.Config{}
	}
	tlsConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := r.Current()
		if err != nil {
			return &tls.Certificate{}, nil // the apiserver says that nobody is who asks
		}
		return pair, nil
	}
	config.Transport = utilnet.SetTransportDefaults(&http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, TLSClientConfig: tlsConfig,
		MaxIdleConnsPerHost: 25, DialContext: r.dialer.DialContext,
	})
	config.TLSClientConfig = rest.TLSClientConfig{}
	return config, nil
}

// GetCertificate is for a server's tls.Config: each handshake hands out the current pair.
func (r *Rotation) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.Current() }
