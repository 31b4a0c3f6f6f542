package main

import (
	"context"
	"net/http"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"hyperkube/component"
	"hyperkube/scheduler"
	"hyperkube/scheduler/config"
)

// schedulerOptions is the command line of `hyperkube scheduler`.
type schedulerOptions struct {
	apiClient
	leaderElection
	PercentageOfNodesToScore int32
	// ConfigFile is a KubeSchedulerConfiguration; what it says goes before the flags.
	ConfigFile string
}

func newSchedulerOptions() component.Options {
	return &schedulerOptions{apiClient: newAPIClient("scheduler", "system:kube-scheduler"), leaderElection: newLeaderElection()}
}

func (o *schedulerOptions) AddFlags(flags *pflag.FlagSet) {
	o.apiClient.AddFlags(flags)
	o.leaderElection.AddFlags(flags)
	flags.Int32Var(&o.PercentageOfNodesToScore, "percentage-of-nodes-to-score", 0, "share of the nodes that is looked at for a pod; 0: falls with their number")
	flags.StringVar(&o.ConfigFile, "config", "", "a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): profiles, plugins and their args")
}

// config is what the flags and the file say.
func (o *schedulerOptions) config(log klog.Logger) (scheduler.Config, error) {
	cfg := scheduler.Config{
		LeaderElect: o.LeaderElect, Identity: o.identity(), PercentageOfNodesToScore: o.PercentageOfNodesToScore,
		LeaseDuration: o.LeaseDuration, RenewDeadline: o.RenewDeadline, RetryPeriod: o.RetryPeriod,
	}
	if o.ConfigFile == "" {
		return cfg, nil
	}
	file, err := config.Load(o.ConfigFile)
	if err != nil {
		return cfg, err
	}
	for _, field := range file.Ignored() {
		log.Info("Ignored in the scheduler's configuration", "file", o.ConfigFile, "field", field)
	}
	cfg.Extenders, cfg.Profiles = file.Extenders, file.Profiles
	cfg.PodInitialBackoff, cfg.PodMaxBackoff = file.PodInitialBackoff(), file.PodMaxBackoff()
	if file.PercentageOfNodesToScore != nil {
		cfg.PercentageOfNodesToScore = *file.PercentageOfNodesToScore
	}
	if elect := file.LeaderElection.LeaderElect; elect != nil {
		cfg.LeaderElect = *elect
	}
	cfg.LeaseNamespace, cfg.LeaseName = file.LeaderElection.ResourceNamespace, file.LeaderElection.ResourceName
	for _, d := range []struct{ to, from *time.Duration }{
		{&cfg.LeaseDuration, &file.LeaderElection.LeaseDuration.Duration}, {&cfg.RenewDeadline, &file.LeaderElection.RenewDeadline.Duration},
		{&cfg.RetryPeriod, &file.LeaderElection.RetryPeriod.Duration},
	} {
		if *d.from > 0 {
			*d.to = *d.from
		}
	}
	return cfg, nil
}

// Run waits for the apiserver, then schedules.
func (o *schedulerOptions) Run(ctx context.Context, env *component.Env) error {
	cfg, err := o.config(klog.FromContext(ctx)) // before the wait: a file that is wrong is known at once
	if err != nil {
		return err
	}
	if err := scheduler.CheckProfiles(ctx, cfg); err != nil {
		return err
	}
	_, set, err := o.connect(ctx)
	if err != nil {
		return nil // stopped while waiting
	}
	cfg.Client, cfg.Metrics, cfg.Health = set, env.Metrics, env.Health
	sched, err := scheduler.New(cfg)
	if err != nil {
		return err
	}
	env.Handlers = map[string]http.Handler{explainPath: sched.ExplainHandler()}
	return o.serveAndRun(ctx, env, "", sched.Run)
}
