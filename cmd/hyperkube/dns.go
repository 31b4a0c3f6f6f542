package main

import (
	"context"
	"net"
	"strings"

	"github.com/spf13/pflag"

	"hyperkube/component"
	"hyperkube/dns"
)

// dnsOptions is the command line of `hyperkube dns`.
type dnsOptions struct {
	apiClient
	BindAddress string
	ResolvConf  string
	NodeIP      string
}

func newDNSOptions() component.Options {
	return &dnsOptions{apiClient: newAPIClient("dns", "system:kube-dns")}
}

func (o *dnsOptions) AddFlags(flags *pflag.FlagSet) {
	o.apiClient.AddFlags(flags)
	flags.StringVar(&o.BindAddress, "bind-address", o.BindAddress, "host:port to answer on (default: this node's address and a free port)")
	flags.StringVar(&o.NodeIP, "node-ip", o.NodeIP, "address of this node that pods can reach (default: found on the host)")
	flags.StringVar(&o.ResolvConf, "resolv-conf", o.ResolvConf, "file with the resolvers for names outside the cluster (default: the host's)")
}

func (o *dnsOptions) Complete(ctx context.Context) error {
	if err := o.apiClient.Complete(ctx); err != nil {
		return err
	}
	if o.NodeIP == "" {
		address, err := nodeAddress(ctx, o.dir.Cluster.ServiceCIDR)
		if err != nil {
			return err
		}
		o.NodeIP = address
	}
	if o.BindAddress == "" {
		o.BindAddress = net.JoinHostPort(o.NodeIP, "0")
	}
	return nil
}

// Run waits for the apiserver, then answers.
func (o *dnsOptions) Run(ctx context.Context, env *component.Env) error {
	_, set, err := o.connect(ctx)
	if err != nil {
		return nil // stopped while waiting
	}
	server, err := dns.New(dns.Config{
		Client: set, ListenAddresses: strings.Split(o.BindAddress, ","), AdvertiseAddress: o.NodeIP, ServiceAddress: o.dir.Cluster.DNSAddress,
		ClusterDomain: o.dir.Cluster.ClusterDomain, ResolvConf: o.ResolvConf, Metrics: env.Metrics, Health: env.Health,
	})
	if err != nil {
		return err
	}
	return o.serveAndRun(ctx, env, "dns://"+o.dir.Cluster.DNSAddress, server.Run)
}
