package config

import (
	"fmt"
	"slices"
	"time"

	configv1 "k8s.io/kube-scheduler/config/v1"

	"hyperkube/scheduler/framework/runtime"
)

// removed are plugins that kube-scheduler once had. A file that enables one is refused, though unknown names are not looked at
// there before the plugins are made: who wrote it shall learn that CSI took over.
var removed = []string{"AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits"}

func (f *File) validate() error {
	if p := f.PercentageOfNodesToScore; p != nil && (*p < 0 || *p > 100) {
		return fmt.Errorf("percentageOfNodesToScore: Invalid value: %d: not in valid range [0-100]", *p)
	}
	if s := f.PodInitialBackoffSeconds; s != nil && *s <= 0 {
		return fmt.Errorf("podInitialBackoffSeconds: Invalid value: %d: must be greater than 0", *s)
	}
	if s := f.PodMaxBackoffSeconds; s != nil && *s < int64(f.PodInitialBackoff()/time.Second) {
		return fmt.Errorf("podMaxBackoffSeconds: Invalid value: %d: must be greater than or equal to PodInitialBackoffSeconds", *s)
	}
	if n := f.Parallelism; n != nil && *n <= 0 {
		return fmt.Errorf("parallelism: Invalid value: %d: should be an integer value greater than zero", *n)
	}
	if n := f.ClientConnection.Burst; n < 0 {
		return fmt.Errorf("clientConnection.burst: Invalid value: %d: must be non-negative", n)
	}
	return f.validateLeaderElection()
}

// validateLeaderElection looks at what is set; the rest has defaults. Without an election nothing is looked at.
func (f *File) validateLeaderElection() error {
	l := f.LeaderElection
	if l.LeaderElect != nil && !*l.LeaderElect {
		return nil
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"leaseDuration", l.LeaseDuration.Duration}, {"renewDeadline", l.RenewDeadline.Duration}, {"retryPeriod", l.RetryPeriod.Duration}} {
		if d.value < 0 {
			return fmt.Errorf("leaderElection.%s: Invalid value: %q: must be greater than zero", d.field, d.value)
		}
	}
	lease, renew := l.LeaseDuration.Duration, l.RenewDeadline.Duration
	if lease == 0 {
		lease = 15 * time.Second
	}
	if renew == 0 {
		renew = 10 * time.Second
	}
	if lease <= renew {
		return fmt.Errorf("leaderElection.leaseDuration: Invalid value: %q: must be greater than `RenewDeadline`", renew)
	}
	if l.ResourceLock != "" && l.ResourceLock != "leases" {
		return fmt.Errorf("leaderElection.resourceLock: Invalid value: %q: resourceLock value must be \"leases\"", l.ResourceLock)
	}
	return nil
}

// checkRemoved refuses the plugins that are no more.
func checkRemoved(p configv1.KubeSchedulerProfile) error {
	const text = "Invalid value: %q: was invalid in version \"v1\" (KubeSchedulerConfiguration is version %q)"
	if p.Plugins != nil {
		points := runtime.PointsOf(p.Plugins)
		for point, set := range points {
			for i, e := range set.Enabled {
				if slices.Contains(removed, e.Name) {
					return fmt.Errorf("plugins.%s.enabled[%d]: "+text, point, i, e.Name, configv1.SchemeGroupVersion)
				}
			}
		}
	}
	for i, c := range p.PluginConfig {
		if slices.Contains(removed, c.Name) {
			return fmt.Errorf("pluginConfig[%d]: "+text, i, c.Name, configv1.SchemeGroupVersion)
		}
	}
	return nil
}
