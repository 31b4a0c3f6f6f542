package storage

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// newClient makes an etcd client that reconnects for as long as it lives, and tells how it speaks TLS.
func newClient(cfg Config) (*clientv3.Client, *tls.Config, error) {
	config := clientv3.Config{
		Endpoints:            cfg.Endpoints,
		DialKeepAliveTime:    30 * time.Second, // finds a peer that vanished without closing
		DialKeepAliveTimeout: 10 * time.Second,
		// Its failures are those of the calls, which report them.
		Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			// etcd is a neighbour that starts in tenths of a second: no use in
			// waiting gRPC's usual second and more before the next attempt.
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 3 * time.Second,
		})},
	}
	if cfg.CAFile != "" || cfg.CertFile != "" {
		config.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, nil, err
		}
		config.TLS.RootCAs = x509.NewCertPool()
		if !config.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("%s: no certificate in it", cfg.CAFile)
		}
	}
	if cfg.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, nil, err
		}
		config.TLS.Certificates = []tls.Certificate{pair}
	}
	client, err := clientv3.New(config)
	return client, config.TLS, err
}
