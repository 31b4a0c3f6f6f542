package main

import (
	"context"
	"net/http"

	"github.com/spf13/pflag"

	"hyperkube/component"
	"hyperkube/scheduler"
)

// schedulerOptions is the command line of `hyperkube scheduler`.
type schedulerOptions struct {
	apiClient
	leaderElection
	PercentageOfNodesToScore int32
}

func newSchedulerOptions() component.Options {
	return &schedulerOptions{apiClient: newAPIClient("scheduler", "system:kube-scheduler"), leaderElection: newLeaderElection()}
}

func (o *schedulerOptions) AddFlags(flags *pflag.FlagSet) {
	o.apiClient.AddFlags(flags)
	o.leaderElection.AddFlags(flags)
	flags.Int32Var(&o.PercentageOfNodesToScore, "percentage-of-nodes-to-score", 0, "share of the nodes that is looked at for a pod; 0: falls with their number")
}

// Run waits for the apiserver, then schedules.
func (o *schedulerOptions) Run(ctx context.Context, env *component.Env) error {
	_, set, err := o.connect(ctx)
	if err != nil {
		return nil // stopped while waiting
	}
	sched, err := scheduler.New(scheduler.Config{
		Client: set, LeaderElect: o.LeaderElect, Identity: o.identity(), PercentageOfNodesToScore: o.PercentageOfNodesToScore,
		LeaseDuration: o.LeaseDuration, RenewDeadline: o.RenewDeadline, RetryPeriod: o.RetryPeriod,
		Metrics: env.Metrics, Health: env.Health,
	})
	if err != nil {
		return err
	}
	env.Handlers = map[string]http.Handler{explainPath: sched.ExplainHandler()}
	return o.serveAndRun(ctx, env, "", sched.Run)
}
