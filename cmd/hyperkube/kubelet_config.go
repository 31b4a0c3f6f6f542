package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"hyperkube/kubelet"
	"hyperkube/kubelet/images"
	"hyperkube/kubelet/kubeletconfig"
	"hyperkube/kubelet/server"
)

// fileOptions are the kubelet's configuration files. What they say becomes the values of flags that are not given.
type fileOptions struct {
	path, dir string
	flags     *pflag.FlagSet
	file      *kubeletconfig.File
}

func (o *fileOptions) AddFlags(flags *pflag.FlagSet) {
	o.flags = flags
	flags.StringVar(&o.path, "config", "", "a KubeletConfiguration (kubelet.config.k8s.io/v1beta1); flags go before it")
	flags.StringVar(&o.dir, "config-dir", "", "directory of further ones, *.conf, which are merged into it in the order of their names")
}

// apply gives the flags their values.
func (o *fileOptions) apply() error {
	if o.path == "" && o.dir == "" {
		return nil
	}
	var err error
	if o.file, err = kubeletconfig.Load(o.path, o.dir); err != nil {
		return err
	}
	for _, s := range o.file.Settings {
		flag := o.flags.Lookup(s.Flag)
		if flag == nil {
			panic("kubeletconfig: no flag " + s.Flag)
		}
		if flag.Changed {
			continue // the command line has said it
		}
		if err := o.flags.Set(s.Flag, s.Value); err != nil {
			return fmt.Errorf("the kubelet's configuration %s: %s: %w", o.path, s.Field, err)
		}
	}
	return nil
}

// tell logs what of the files does nothing: when they are read, the log is not there yet.
func (o *fileOptions) tell(log klog.Logger) {
	if o.file == nil {
		return
	}
	for _, warning := range o.file.Warnings {
		log.Info("In the kubelet's configuration is what it does not know; that is left out", "file", o.path, "dir", o.dir, "err", warning.Error())
	}
	for _, field := range o.file.Ignored {
		log.Info("Ignored in the kubelet's configuration", "file", o.path, "dir", o.dir, "field", field)
	}
}

// tuningOptions are flags that few need; most are better said in a file. Where upstream has no flag they are named like the field.
type tuningOptions struct {
	address, clientCA, tlsCert, tlsKey string
	minVersion                         string
	ciphers                            []string
	anonymous, tokens                  bool
	mode                               string
	tokenTTL, allowedTTL, deniedTTL    time.Duration
	clusterDNS                         []string
	clusterDomain, podCIDR             string
	qps, burst, parallel               int
	serialize                          bool
	eventQPS, eventBurst               int
	seccompDefault, failSwapOn         bool
	singleOOMKill                      bool
	reportFrequency, restartPeriod     time.Duration
	fileFrequency                      time.Duration
	leaseSeconds                       int32
	userIDs                            uint32
}

func (o *tuningOptions) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.address, "address", "", "address that the kubelet's server listens on (default: all)")
	flags.StringVar(&o.tlsCert, "tls-cert-file", "", "certificate of the kubelet's server (default: one of the cluster's)")
	flags.StringVar(&o.tlsKey, "tls-private-key-file", "", "its key")
	flags.StringVar(&o.minVersion, "tls-min-version", "VersionTLS12", "the oldest TLS that the server speaks: VersionTLS12, VersionTLS13")
	flags.StringSliceVar(&o.ciphers, "tls-cipher-suites", nil, "its cipher suites of TLS 1.2 (default: Go's choice)")
	flags.StringVar(&o.clientCA, "client-ca-file", "", "authorities whose client certificates the server believes (default: the cluster's)")
	flags.BoolVar(&o.anonymous, "anonymous-auth", false, "let in who shows neither certificate nor token, as system:anonymous")
	flags.BoolVar(&o.tokens, "authentication-token-webhook", true, "let the apiserver review tokens")
	flags.StringVar(&o.mode, "authorization-mode", "Webhook", "Webhook: the apiserver says who may do what; AlwaysAllow")
	flags.DurationVar(&o.tokenTTL, "authentication-token-webhook-cache-ttl", time.Minute, "how long it is believed whose a token is")
	flags.DurationVar(&o.allowedTTL, "authorization-webhook-cache-authorized-ttl", time.Minute, "how long it is believed that somebody may do something")
	flags.DurationVar(&o.deniedTTL, "authorization-webhook-cache-unauthorized-ttl", 10*time.Second, "how long it is believed that somebody may not")
	flags.StringSliceVar(&o.clusterDNS, "cluster-dns", nil, "DNS servers of pods (default: the cluster's)")
	flags.StringVar(&o.clusterDomain, "cluster-domain", "", "domain of the cluster (default: as it was made)")
	flags.StringVar(&o.podCIDR, "pod-cidr", "", "addresses of pods of the simulated runtime, if the node has none of its own")
	flags.IntVar(&o.qps, "registry-qps", 0, "pulls that may begin in a second; 0: any number (with a --config that does not say: 5)")
	flags.IntVar(&o.burst, "registry-burst", 10, "pulls that may begin at once after a pause")
	flags.BoolVar(&o.serialize, "serialize-image-pulls", false, "one pull at a time (with a --config that does not say: true)")
	flags.IntVar(&o.parallel, "max-parallel-image-pulls", 0, "pulls at a time; 0: any number")
	flags.IntVar(&o.eventQPS, "event-qps", 0, "events written in a second; 0: any number (with a --config that does not say: 50)")
	flags.IntVar(&o.eventBurst, "event-burst", 100, "events written at once after a pause")
	flags.BoolVar(&o.seccompDefault, "seccomp-default", false, "RuntimeDefault is the seccomp profile of containers whose pod names none")
	flags.BoolVar(&o.failSwapOn, "fail-swap-on", false, "do not start on a machine that swaps")
	flags.BoolVar(&o.singleOOMKill, "single-process-oom-kill", false, "with cgroup v2, out of memory ends one process of a container instead of all (with v1 it always does)")
	flags.DurationVar(&o.reportFrequency, "node-status-report-frequency", 5*time.Minute, "how often the node's state is reported although unchanged")
	flags.Int32Var(&o.leaseSeconds, "node-lease-duration-seconds", 40, "after what silence the node counts as gone")
	flags.DurationVar(&o.restartPeriod, "max-container-restart-period", 5*time.Minute, "the longest wait between restarts of a container that crashes")
	flags.DurationVar(&o.fileFrequency, "file-check-frequency", time.Second, "how often static pods are looked for")
	flags.Uint32Var(&o.userIDs, "user-namespaces-ids-per-pod", 65536, "user numbers of a pod with hostUsers: false, a multiple of 65536")
}

func (o *tuningOptions) validate() error {
	if _, err := tlsVersion(o.minVersion); err != nil {
		return err
	}
	if _, err := tlsCiphers(o.ciphers); err != nil {
		return err
	}
	switch {
	case o.address != "" && net.ParseIP(o.address) == nil:
		return fmt.Errorf("--address=%s: must be an IP address", o.address)
	case o.mode != "Webhook" && o.mode != "AlwaysAllow":
		return fmt.Errorf("--authorization-mode=%s: must be Webhook or AlwaysAllow", o.mode)
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return errors.New("--tls-cert-file, --tls-private-key-file: give both or none")
	case o.qps < 0 || o.burst < 0 || o.parallel < 0 || o.eventQPS < 0 || o.eventBurst < 0:
		return errors.New("--registry-qps, --registry-burst, --max-parallel-image-pulls, --event-qps, --event-burst: must not be negative")
	case o.serialize && o.parallel > 1:
		return fmt.Errorf("--max-parallel-image-pulls=%d: cannot be larger than 1 unless --serialize-image-pulls is false", o.parallel)
	case o.restartPeriod < time.Second || o.restartPeriod > 5*time.Minute:
		return fmt.Errorf("--max-container-restart-period=%v: must be between 1s and 300s", o.restartPeriod)
	}
	for _, address := range o.clusterDNS {
		if net.ParseIP(address) == nil {
			return fmt.Errorf("--cluster-dns=%s: must be IP addresses", address)
		}
	}
	return o.checkSwap("/proc/swaps")
}

// tlsVersion takes the names of Go's constants, as upstream does.
func tlsVersion(name string) (uint16, error) {
	version, ok := map[string]uint16{"VersionTLS10": tls.VersionTLS10, "VersionTLS11": tls.VersionTLS11, "VersionTLS12": tls.VersionTLS12, "VersionTLS13": tls.VersionTLS13}[name]
	if !ok {
		return 0, fmt.Errorf("--tls-min-version=%s: must be VersionTLS10, VersionTLS11, VersionTLS12 or VersionTLS13", name)
	}
	return version, nil
}

// tlsCiphers takes the names of the standard, insecure ones too.
func tlsCiphers(names []string) (suites []uint16, err error) {
	known := slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites())
	for _, name := range names {
		i := slices.IndexFunc(known, func(s *tls.CipherSuite) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("--tls-cipher-suites: Cipher suite %s not supported or doesn't exist", name)
		}
		suites = append(suites, known[i].ID)
	}
	return suites, nil
}

// checkSwap refuses a machine that swaps, if that is wished: memory limits mean something else there.
func (o *tuningOptions) checkSwap(path string) error {
	if !o.failSwapOn {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if lines := strings.Split(strings.TrimSpace(string(data)), "\n"); len(lines) > 1 {
		return fmt.Errorf("running with swap on is not supported, please disable swap or set --fail-swap-on flag to false. /proc/swaps contained: %v", lines)
	}
	return nil
}

// tune sets what the flags say.
func (o *tuningOptions) tune(c *kubelet.Config) {
	c.Address, c.ClientCAFile, c.PodCIDR = o.address, cmp.Or(o.clientCA, c.ClientCAFile), cmp.Or(o.podCIDR, c.PodCIDR)
	c.CertFile, c.KeyFile = cmp.Or(o.tlsCert, c.CertFile), cmp.Or(o.tlsKey, c.KeyFile)
	c.Access = server.Access{Anonymous: o.anonymous, NoTokens: !o.tokens, AlwaysAllow: o.mode == "AlwaysAllow", TokenTTL: o.tokenTTL, AllowedTTL: o.allowedTTL, DeniedTTL: o.deniedTTL}
	c.TLSMinVersion, _ = tlsVersion(o.minVersion) // validate has seen both
	c.TLSCipherSuites, _ = tlsCiphers(o.ciphers)
	if len(o.clusterDNS) > 0 {
		c.ClusterDNS = o.clusterDNS
	}
	c.ClusterDomain = cmp.Or(o.clusterDomain, c.ClusterDomain)
	c.Pulls = images.Limits{AtATime: o.parallel, QPS: o.qps, Burst: o.burst}
	if o.serialize {
		c.Pulls.AtATime = 1
	}
	c.EventQPS, c.EventBurst = o.eventQPS, o.eventBurst
	c.SeccompDefault, c.SingleProcessOOMKill, c.MaxContainerRestartPeriod, c.FileCheckFrequency = o.seccompDefault, o.singleOOMKill, o.restartPeriod, o.fileFrequency
	c.NodeStatusReportFrequency, c.NodeLeaseDurationSeconds, c.UserNamespaceIDs = o.reportFrequency, o.leaseSeconds, o.userIDs
}

// limitEvents gives the kubelet's Events a client of their own, with the limit of its flags.
func (o *tuningOptions) limitEvents(node *kubelet.Config, config *rest.Config) (err error) {
	if o.eventQPS == 0 {
		return nil
	}
	limited := rest.CopyConfig(config)
	limited.QPS, limited.Burst, limited.RateLimiter = float32(o.eventQPS), o.eventBurst, nil
	node.EventClient, err = kubernetes.NewForConfig(limited)
	return err
}
