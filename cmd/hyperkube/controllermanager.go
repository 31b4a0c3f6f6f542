package main

import (
	"context"
	"os"

	"github.com/spf13/pflag"

	"hyperkube/component"
	"hyperkube/controllers"
)

// controllerManagerOptions is the command line of `hyperkube controller-manager`.
type controllerManagerOptions struct {
	apiClient
	leaderElection
	Controllers []string
}

func newControllerManagerOptions() component.Options {
	return &controllerManagerOptions{
		apiClient:      newAPIClient("controller-manager", "system:kube-controller-manager"),
		leaderElection: newLeaderElection(), Controllers: []string{"*"},
	}
}

func (o *controllerManagerOptions) AddFlags(flags *pflag.FlagSet) {
	o.apiClient.AddFlags(flags)
	o.leaderElection.AddFlags(flags)
	flags.StringSliceVar(&o.Controllers, "controllers", o.Controllers, "which to run: * for all, NAME for one, -NAME for all but one")
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
	manager, err := controllers.New(controllers.Config{
		Client: set, RESTConfig: config, Controllers: o.Controllers, RootCA: ca,
		ClusterCIDR: o.dir.Cluster.PodCIDR, ServiceCIDR: o.dir.Cluster.ServiceCIDR,
		LeaderElect: o.LeaderElect, Identity: o.identity(), LeaseDuration: o.LeaseDuration, RenewDeadline: o.RenewDeadline, RetryPeriod: o.RetryPeriod,
		Metrics: env.Metrics, Health: env.Health,
	})
	if err != nil {
		return err
	}
	return o.serveAndRun(ctx, env, "", manager.Run)
}
