package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"hyperkube/component"
	"hyperkube/controllers"
	"hyperkube/controllers/podautoscaler"
)

// controllerManagerOptions is the command line of `hyperkube controller-manager`.
type controllerManagerOptions struct {
	apiClient
	leaderElection
	Controllers []string
	// ClusterSigningCertFile and ClusterSigningKeyFile are the CA that signs certificate requests; "": the data directory's.
	ClusterSigningCertFile, ClusterSigningKeyFile string
	ClusterSigningDuration                        time.Duration
	// ServiceAccountPrivateKeyFile signs the tokens of Secrets; "": the data directory's.
	ServiceAccountPrivateKeyFile string
	// Autoscaler has the timers of the HorizontalPodAutoscaler.
	Autoscaler podautoscaler.Config
	// What follows is controllers.Config's.
	NodeMonitorPeriod, NodeMonitorGracePeriod, NodeStartupGracePeriod time.Duration
	NodeCIDRMaskSize                                                  int
}

func newControllerManagerOptions() component.Options {
	return &controllerManagerOptions{
		apiClient:      newAPIClient("controller-manager", "system:kube-controller-manager"),
		leaderElection: newLeaderElection(), Controllers: []string{"*"}, ClusterSigningDuration: 365 * 24 * time.Hour,
		NodeMonitorPeriod: 5 * time.Second, NodeMonitorGracePeriod: 50 * time.Second, NodeStartupGracePeriod: time.Minute, NodeCIDRMaskSize: 24,
	}
}

func (o *controllerManagerOptions) AddFlags(flags *pflag.FlagSet) {
	o.apiClient.AddFlags(flags)
	o.leaderElection.AddFlags(flags)
	flags.StringSliceVar(&o.Controllers, "controllers", o.Controllers, "which to run: * for all, NAME for one, -NAME for all but one. There are: "+strings.Join(controllers.Names(), ", "))
	flags.StringVar(&o.ClusterSigningCertFile, "cluster-signing-cert-file", "", "the CA certificate that signs certificate requests (default: the data directory's)")
	flags.StringVar(&o.ClusterSigningKeyFile, "cluster-signing-key-file", "", "its key")
	flags.StringVar(&o.ServiceAccountPrivateKeyFile, "service-account-private-key-file", "", "the key that signs the tokens of Secrets (default: the data directory's)")
	flags.DurationVar(&o.ClusterSigningDuration, "cluster-signing-duration", o.ClusterSigningDuration, "how long a signed certificate is good for at most")
	hpa := "horizontal-pod-autoscaler-"
	flags.DurationVar(&o.Autoscaler.SyncPeriod, hpa+"sync-period", 15*time.Second, "how often each autoscaler is looked at")
	flags.DurationVar(&o.Autoscaler.DownscaleStabilization, hpa+"downscale-stabilization", 5*time.Minute, "how far back recommendations count against going down, where an autoscaler does not say")
	flags.Float64Var(&o.Autoscaler.Tolerance, hpa+"tolerance", 0.1, "how far usage may be from its target without a step")
	flags.DurationVar(&o.Autoscaler.CPUInitializationPeriod, hpa+"cpu-initialization-period", 5*time.Minute, "how long after a pod's start its CPU counts only while it is ready")
	flags.DurationVar(&o.Autoscaler.InitialReadinessDelay, hpa+"initial-readiness-delay", 30*time.Second, "how long after a pod's start becoming unready still means that it has never been ready")
	flags.DurationVar(&o.NodeMonitorPeriod, "node-monitor-period", o.NodeMonitorPeriod, "the longest time between two looks at a node")
	flags.DurationVar(&o.NodeMonitorGracePeriod, "node-monitor-grace-period", o.NodeMonitorGracePeriod, "how long a node may be silent before it is not Ready; its kubelet speaks every 10 s")
	flags.DurationVar(&o.NodeStartupGracePeriod, "node-startup-grace-period", o.NodeStartupGracePeriod, "the same for a node that has never spoken")
	flags.IntVar(&o.NodeCIDRMaskSize, "node-cidr-mask-size", o.NodeCIDRMaskSize, "prefix length of a node's share of the pods' addresses")
}

// Run waits for the apiserver, then runs the controllers.
func (o *controllerManagerOptions) Run(ctx context.Context, env *component.Env) error {
	config, set, err := o.connect(ctx)
	if err != nil {
		return nil // stopped while waiting
	}
	ca, err := os.ReadFile(o.dir.CAFile())
	if err != nil {
		return err
	}
	if o.ServiceAccountPrivateKeyFile == "" {
		o.ServiceAccountPrivateKeyFile = o.dir.ServiceAccountKeyFile()
	}
	serviceAccountKey, err := os.ReadFile(o.ServiceAccountPrivateKeyFile)
	if err != nil {
		return err
	}
	signingCert, signingKey, err := o.signingCA()
	if err != nil {
		return err
	}
	manager, err := controllers.New(controllers.Config{
		SigningCert: signingCert, SigningKey: signingKey, SigningDuration: o.ClusterSigningDuration,
		ServiceAccountKey: serviceAccountKey,
		Client:            set, RESTConfig: config, Controllers: o.Controllers, RootCA: ca,
		ClusterCIDR: o.dir.Cluster.PodCIDRs(), ServiceCIDR: o.dir.Cluster.ServiceCIDRs(),
		NodeMonitorPeriod: o.NodeMonitorPeriod, NodeMonitorGracePeriod: o.NodeMonitorGracePeriod, NodeStartupGracePeriod: o.NodeStartupGracePeriod, NodeCIDRMaskSize: o.NodeCIDRMaskSize,
		LeaderElect: o.LeaderElect, Identity: o.identity(), LeaseDuration: o.LeaseDuration, RenewDeadline: o.RenewDeadline, RetryPeriod: o.RetryPeriod,
		Autoscaler: o.Autoscaler, Gate: o.gate(), Metrics: env.Metrics, Health: env.Health,
	})
	if err != nil {
		return err
	}
	env.Handlers = map[string]http.Handler{controllersPath: manager.StatusHandler()}
	return o.serveAndRun(ctx, env, "", manager.Run)
}

// signingCA reads the CA that signs certificate requests.
func (o *controllerManagerOptions) signingCA() (cert, key []byte, err error) {
	if (o.ClusterSigningCertFile == "") != (o.ClusterSigningKeyFile == "") {
		return nil, nil, errors.New("--cluster-signing-cert-file and --cluster-signing-key-file belong together: give both, or none for the data directory's CA")
	}
	certFile, keyFile := o.dir.CAFile(), o.dir.CAKeyFile()
	if o.ClusterSigningCertFile != "" {
		certFile, keyFile = o.ClusterSigningCertFile, o.ClusterSigningKeyFile
	}
	if cert, err = os.ReadFile(certFile); err != nil {
		return nil, nil, err
	}
	key, err = os.ReadFile(keyFile)
	return cert, key, err
}
