package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"

	"github.com/spf13/pflag"

	"hyperkube/component"
	"hyperkube/etcd"
	"hyperkube/pki"
)

// etcdOptions is the command line of `hyperkube etcd`.
type etcdOptions struct {
	shared
	ListenAddress string
	QuotaBytes    int64
	cert          pki.Pair
}

func newEtcdOptions() component.Options { return &etcdOptions{shared: newShared()} }

func (o *etcdOptions) AddFlags(flags *pflag.FlagSet) {
	o.shared.AddFlags(flags)
	flags.StringVar(&o.ListenAddress, "listen-client-address", o.ListenAddress, "host:port for clients (default 127.0.0.1 and the port of cluster.yaml)")
	flags.Int64Var(&o.QuotaBytes, "quota-backend-bytes", o.QuotaBytes, "size at which the store refuses writes (default 8 GiB)")
}

func (o *etcdOptions) Complete(ctx context.Context) error {
	if err := o.shared.Complete(ctx); err != nil {
		return err
	}
	if o.ListenAddress == "" {
		o.ListenAddress = net.JoinHostPort("127.0.0.1", strconv.Itoa(o.dir.Cluster.EtcdPort))
	}
	var err error
	o.cert, err = o.dir.ServingCert("etcd-server", "localhost", "127.0.0.1", "::1")
	return err
}

func (o *etcdOptions) Validate() error {
	if _, _, err := net.SplitHostPort(o.ListenAddress); err != nil {
		return fmt.Errorf("--listen-client-address=%s: must be host:port", o.ListenAddress)
	}
	return nil
}

// Run starts etcd, and records its port once it has one, so that the apiserver finds it.
func (o *etcdOptions) Run(ctx context.Context, env *component.Env) error {
	server, err := etcd.New(etcd.Config{
		DataDir: filepath.Join(o.dir.Path(), "etcd"), ListenAddress: o.ListenAddress, QuotaBytes: o.QuotaBytes,
		CAFile: o.dir.CAFile(), CertFile: o.cert.CertFile, KeyFile: o.cert.KeyFile,
		Metrics: env.Metrics, Health: env.Health,
	})
	if err != nil {
		return err
	}
	return runThen(ctx, server.Run, func(ctx context.Context) (stop func(), err error) {
		if err := server.Ready(ctx); err != nil {
			return nil, err
		}
		if err := o.recordPort(server.Endpoint()); err != nil {
			return nil, err
		}
		return env.Serve(o.dir.Path(), server.Endpoint())
	})
}

func (o *etcdOptions) recordPort(endpoint string) error {
	parsed, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(parsed.Port())
	if err != nil {
		return err
	}
	return o.dir.Update(func(c *pki.Cluster) { c.EtcdPort = port })
}

// runThen runs a component, and once meanwhile something that needs it running:
// recording its port, registering it. stop is called when the component has ended.
func runThen(ctx context.Context, run func(context.Context) error, then func(context.Context) (stop func(), err error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() {
		err := run(ctx)
		cancel(err) // then must not wait for what has ended
		done <- err
	}()
	stop, err := then(ctx)
	if err != nil {
		cancel(err)
		if runErr := <-done; runErr != nil {
			return runErr // the cause; err is only that it did not get ready
		}
		if ctx.Err() != nil && context.Cause(ctx) != err {
			return nil
		}
		return err
	}
	defer stop()
	return <-done
}
