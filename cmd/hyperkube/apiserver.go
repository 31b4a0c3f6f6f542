package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"hyperkube/apiserver"
	"hyperkube/component"
	"hyperkube/etcd"
	"hyperkube/pki"
)

// apiserverOptions is the command line of `hyperkube apiserver`.
type apiserverOptions struct {
	shared
	BindAddress      string
	SecurePort       int
	AdvertiseAddress string
	EtcdServers      []string
	EtcdCAFile       string
	EtcdCertFile     string
	EtcdKeyFile      string
	NodePortRange    string
	ServiceRange     string
	StorageMediaType string
	FlowBuffer       string
	TokenAuthFile    string
	BootstrapTokens  bool
	AuditPolicyFile  string
	AuditLogPath     string
	MaxInflight      int
	TracingEndpoint  string

	cert, kubelet pki.Pair
	// ownEtcd: the etcd of this data directory, whose port is known only once it runs.
	ownEtcd bool
}

func newAPIServerOptions() component.Options {
	return &apiserverOptions{shared: newShared(), BindAddress: "0.0.0.0", SecurePort: -1, NodePortRange: "30000-32767", StorageMediaType: "application/json", FlowBuffer: defaultFlowBuffer}
}

// defaultFlowBuffer is enough for some hundred thousand writes of small objects.
const defaultFlowBuffer = "64Mi"

// flowBytes reads --flow-buffer; 0 turns the record off, which apiserver.Config calls -1.
func flowBytes(text string) (int, error) {
	quantity, err := resource.ParseQuantity(text)
	switch {
	case err != nil || quantity.Sign() < 0:
		return 0, fmt.Errorf("--flow-buffer=%s: must be an amount of memory, as 64Mi, or 0", text)
	case quantity.IsZero():
		return -1, nil
	}
	return int(quantity.Value()), nil
}

const tracingEndpointUsage = "HOST:PORT of an OpenTelemetry collector to which the record goes as spans, by OTLP over gRPC, not encrypted (default: nowhere)"

// validateFlow checks the flags of the record.
func validateFlow(buffer, endpoint string) error {
	bytes, err := flowBytes(buffer)
	if err != nil || endpoint == "" {
		return err
	}
	if _, _, err := net.SplitHostPort(endpoint); err != nil {
		return fmt.Errorf("--tracing-endpoint=%s: must be HOST:PORT, as localhost:4317", endpoint)
	}
	if bytes < 0 {
		return errors.New("--tracing-endpoint sends what is recorded: it needs --flow-buffer, which is 0")
	}
	return nil
}

func (o *apiserverOptions) AddFlags(flags *pflag.FlagSet) {
	o.shared.AddFlags(flags)
	flags.StringVar(&o.BindAddress, "bind-address", o.BindAddress, "address to listen on")
	flags.IntVar(&o.SecurePort, "secure-port", o.SecurePort, "port to listen on; 0: a free one (default: the port of cluster.yaml)")
	flags.StringVar(&o.AdvertiseAddress, "advertise-address", o.AdvertiseAddress, "address at which pods reach it, behind the kubernetes Service (default: found on the host)")
	flags.StringSliceVar(&o.EtcdServers, "etcd-servers", o.EtcdServers, "URLs of an etcd of your own (default: the etcd of --data-dir)")
	flags.StringVar(&o.EtcdCAFile, "etcd-cafile", o.EtcdCAFile, "CA of --etcd-servers")
	flags.StringVar(&o.EtcdCertFile, "etcd-certfile", o.EtcdCertFile, "client certificate for --etcd-servers")
	flags.StringVar(&o.EtcdKeyFile, "etcd-keyfile", o.EtcdKeyFile, "its key")
	flags.StringVar(&o.ServiceRange, "service-cluster-ip-range", o.ServiceRange, "range of the Services' addresses, or two, of IPv4 and IPv6, with a comma between (default: the range of cluster.yaml)")
	flags.StringVar(&o.NodePortRange, "service-node-port-range", o.NodePortRange, "ports for Services of type NodePort")
	flags.StringVar(&o.StorageMediaType, "storage-media-type", o.StorageMediaType, "how objects are written to etcd: application/json, which can be read, or application/vnd.kubernetes.protobuf")
	flags.StringVar(&o.TokenAuthFile, "token-auth-file", o.TokenAuthFile, "CSV file of static tokens: token, user, uid and, optionally, \"group1,group2\"")
	flags.BoolVar(&o.BootstrapTokens, "enable-bootstrap-token-auth", o.BootstrapTokens, "let in who bears a token of a Secret of type bootstrap.kubernetes.io/token")
	flags.StringVar(&o.AuditPolicyFile, "audit-policy-file", o.AuditPolicyFile, "policy (audit.k8s.io/v1) of what is written to --audit-log-path")
	flags.StringVar(&o.AuditLogPath, "audit-log-path", o.AuditLogPath, "file to which audit events are appended, a JSON line each; -: standard output")
	flags.IntVar(&o.MaxInflight, "max-requests-inflight", o.MaxInflight, "requests that run at once, shared by priority and fairness (default 600)")
	flags.StringVar(&o.FlowBuffer, "flow-buffer", o.FlowBuffer, "memory for the record that hyperkube trace reads, at the most; 0: none")
	flags.StringVar(&o.TracingEndpoint, "tracing-endpoint", o.TracingEndpoint, tracingEndpointUsage)
}

// Complete finds etcd and the host's address, and signs the certificates.
func (o *apiserverOptions) Complete(ctx context.Context) error {
	if err := o.shared.Complete(ctx); err != nil {
		return err
	}
	if o.SecurePort < 0 {
		o.SecurePort = o.dir.Cluster.APIServerPort
	}
	if o.ServiceRange == "" {
		o.ServiceRange = o.dir.Cluster.ServiceCIDRs()
	}
	var err error
	if o.AdvertiseAddress == "" {
		if o.AdvertiseAddress, err = nodeAddress(ctx, o.dir.Cluster.ServiceCIDR); err != nil {
			return err
		}
	}
	if err := o.completeEtcd(); err != nil {
		return err
	}
	services, err := o.dir.Cluster.KubernetesServiceAddresses()
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc." + o.dir.Cluster.ClusterDomain, host, "127.0.0.1", "::1", o.AdvertiseAddress, nodeNetwork(o.dir).Gateway().String()}
	o.cert, err = o.dir.ServingCert("apiserver", append(names, services...)...)
	if err != nil {
		return err
	}
	o.kubelet, err = o.dir.ClientCert("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
	return err
}

func (o *apiserverOptions) completeEtcd() error {
	if len(o.EtcdServers) > 0 {
		return nil
	}
	o.ownEtcd = true
	pair, err := o.dir.ClientCert("etcd-client", "etcd-client")
	o.EtcdCAFile, o.EtcdCertFile, o.EtcdKeyFile = o.dir.CAFile(), pair.CertFile, pair.KeyFile
	return err
}

func (o *apiserverOptions) Validate() error {
	if net.ParseIP(o.BindAddress) == nil {
		return fmt.Errorf("--bind-address=%s: must be an IP address", o.BindAddress)
	}
	// The kubernetes Service and DNS are where cluster.yaml says, for all components: a second family is all that can be added.
	if first, _, _ := strings.Cut(o.ServiceRange, ","); first != o.dir.Cluster.ServiceCIDR {
		return fmt.Errorf("--service-cluster-ip-range=%s: must begin with the range of cluster.yaml, %s", o.ServiceRange, o.dir.Cluster.ServiceCIDR)
	}
	if net.ParseIP(o.AdvertiseAddress) == nil {
		return fmt.Errorf("--advertise-address=%s: must be an IP address", o.AdvertiseAddress)
	}
	if err := validateFlow(o.FlowBuffer, o.TracingEndpoint); err != nil {
		return err
	}
	if (o.EtcdCertFile == "") != (o.EtcdKeyFile == "") {
		return errors.New("--etcd-certfile and --etcd-keyfile go together")
	}
	return nil
}

// Run serves, and once it has a port records it and writes the kubeconfig for people.
func (o *apiserverOptions) Run(ctx context.Context, env *component.Env) error {
	if o.ownEtcd {
		if err := o.waitForEtcdPort(ctx); err != nil {
			return nil // stopped while waiting
		}
	}
	cluster := o.dir.Cluster
	buffer, err := flowBytes(o.FlowBuffer)
	if err != nil {
		return err
	}
	server, err := apiserver.New(apiserver.Config{
		BindAddress: net.JoinHostPort(o.BindAddress, strconv.Itoa(o.SecurePort)), AdvertiseAddress: o.AdvertiseAddress,
		CertFile: o.cert.CertFile, KeyFile: o.cert.KeyFile, ClientCAFile: o.dir.CAFile(),
		ServiceAccountKeyFile: o.dir.ServiceAccountKeyFile(), ServiceAccountIssuer: "https://kubernetes.default.svc." + cluster.ClusterDomain,
		ServiceCIDR: o.ServiceRange, NodePortRange: o.NodePortRange, ClusterDNSAddress: cluster.DNSAddress,
		ReservedNodePorts: []int{o.SecurePort, cluster.EtcdPort, kubeletPort},
		EtcdServers:       o.EtcdServers, EtcdCAFile: o.EtcdCAFile, EtcdCertFile: o.EtcdCertFile, EtcdKeyFile: o.EtcdKeyFile, LocalEtcd: etcd.Local,
		KubeletClientCertFile: o.kubelet.CertFile, KubeletClientKeyFile: o.kubelet.KeyFile, KubeletCAFile: o.dir.CAFile(),
		StorageMediaType: o.StorageMediaType, FlowBuffer: buffer, TokenAuthFile: o.TokenAuthFile,
		EnableBootstrapTokenAuth: o.BootstrapTokens, AuditPolicyFile: o.AuditPolicyFile, AuditLogPath: o.AuditLogPath, MaxRequestsInflight: o.MaxInflight, TracingEndpoint: o.TracingEndpoint, Metrics: env.Metrics, Health: env.Health,
	})
	if err != nil {
		return err
	}
	return runThen(ctx, server.Run, func(ctx context.Context) (stop func(), err error) {
		err = component.Wait(ctx, func(error) {}, func(context.Context) error {
			if server.Address() == "" {
				return errors.New("no port is bound yet")
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if err := o.record(server.Address()); err != nil {
			return nil, err
		}
		return env.Serve(o.dir.Path(), o.dir.Cluster.APIServerURL())
	})
}

// waitForEtcdPort reads cluster.yaml until etcd has recorded its port; that is at
// once but with --ports=auto.
func (o *apiserverOptions) waitForEtcdPort(ctx context.Context) error {
	return component.Wait(ctx, func(cause error) { component.Logger("apiserver").Info("Waiting", "cause", cause) }, func(context.Context) error {
		if err := o.dir.Reload(); err != nil {
			return err
		}
		if o.dir.Cluster.EtcdPort == 0 {
			return errors.New("etcd has not recorded its port yet")
		}
		o.EtcdServers = []string{o.dir.Cluster.EtcdURL()}
		return nil
	})
}

// record writes the port into cluster.yaml, from where the other components read it.
func (o *apiserverOptions) record(address string) error {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	if err := o.dir.Update(func(c *pki.Cluster) { c.APIServerPort = port }); err != nil {
		return err
	}
	_, err = o.dir.WriteAdminKubeconfig()
	return err
}
