package dns

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"k8s.io/klog/v2"
)

// systemdResolvConf is the list behind systemd-resolved's stub on 127.0.0.53.
const systemdResolvConf = "/run/systemd/resolve/resolv.conf"

// forwardTimeout bounds one question to one resolver.
const forwardTimeout = 2 * time.Second

// forwarder asks the host's resolvers what is not a name of the cluster.
type forwarder struct {
	resolvers []string // host:port, in the order of resolv.conf
	probe     string   // a name nobody has, by which a loop is noticed
	looping   atomic.Bool
}

// newForwarder reads the host's resolvers; own are our own addresses, which are left out.
func newForwarder(resolvConf string, own []string) (*forwarder, error) {
	f := &forwarder{probe: fmt.Sprintf("%016x.loop-check.invalid.", rand.Uint64())}
	if resolvConf == "" {
		resolvConf = "/etc/resolv.conf"
		if data, err := os.ReadFile(resolvConf); err == nil && strings.Contains(string(data), "127.0.0.53") {
			if _, err := os.Stat(systemdResolvConf); err == nil {
				resolvConf = systemdResolvConf
			}
		}
	}
	config, err := dns.ClientConfigFromFile(resolvConf)
	if os.IsNotExist(err) {
		return f, nil // a host without resolvers has no names but the cluster's
	}
	if err != nil {
		return nil, fmt.Errorf("reading resolvers from %s: %w; name another file with --resolv-conf", resolvConf, err)
	}
	for _, server := range config.Servers {
		if !slices.Contains(own, server) {
			f.resolvers = append(f.resolvers, net.JoinHostPort(server, config.Port))
		}
	}
	return f, nil
}

func (f *forwarder) servers() []string { return f.resolvers }

// forward asks the resolvers in turn and returns the first reply; SERVFAIL when none answers.
func (f *forwarder) forward(query *dns.Msg, network string) *dns.Msg {
	if !f.looping.Load() {
		for _, resolver := range f.resolvers {
			client := &dns.Client{Net: network, Timeout: forwardTimeout, UDPSize: dns.DefaultMsgSize}
			reply, _, err := client.Exchange(query.Copy(), resolver)
			if err == nil && reply != nil {
				reply.Id = query.Id
				return reply
			}
		}
	}
	return new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
}

// isProbe reports whether the question is our own probe come back, and then
// stops forwarding: every further question would come back too.
func (f *forwarder) isProbe(name string) bool {
	if !strings.EqualFold(name, f.probe) {
		return false
	}
	f.looping.Store(true)
	return true
}

// probeLoop asks the resolvers for a name that nobody has. If the question
// arrives here, one of them leads back to us (R57).
func (f *forwarder) probeLoop(ctx context.Context) {
	for _, resolver := range f.resolvers {
		client := &dns.Client{Timeout: forwardTimeout}
		// Whether and what it answers does not matter: what matters is who gets to see the question.
		client.ExchangeContext(ctx, new(dns.Msg).SetQuestion(f.probe, dns.TypeHINFO), resolver)
		if f.looping.Load() {
			klog.FromContext(ctx).Error(nil, "A resolver of this host leads back to the cluster's own DNS: names outside the cluster are not resolved; name a file with other resolvers with --resolv-conf", "resolver", resolver)
			return
		}
	}
}
