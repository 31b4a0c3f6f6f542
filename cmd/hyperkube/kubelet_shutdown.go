package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"hyperkube/kubelet/nodeshutdown"
)

// shutdownOptions are the kubelet's flags about the machine's shutdown, named like the fields of KubeletConfiguration.
type shutdownOptions struct {
	total, critical time.Duration
	byPriority      map[string]string
}

func (o *shutdownOptions) AddFlags(flags *pflag.FlagSet) {
	flags.DurationVar(&o.total, "shutdown-grace-period", 0, "how long the machine's shutdown waits for pods to end, by systemd-logind; 0: not at all")
	flags.DurationVar(&o.critical, "shutdown-grace-period-critical-pods", 0, "how much of that, at its end, is for critical pods only")
	flags.StringToStringVar(&o.byPriority, "shutdown-grace-period-by-pod-priority", nil, "instead of these two, for pods from a priority on: 0=20s,10000=60s,2000000000=10s")
}

// gracePeriods is what the flags mean.
func (o *shutdownOptions) gracePeriods() (periods []nodeshutdown.GracePeriod, err error) {
	if len(o.byPriority) == 0 {
		if periods, err = nodeshutdown.GracePeriods(o.total, o.critical); err != nil {
			err = fmt.Errorf("--shutdown-grace-period, --shutdown-grace-period-critical-pods: %w", err)
		}
		return periods, err
	}
	if o.total != 0 || o.critical != 0 {
		return nil, errors.New("--shutdown-grace-period-by-pod-priority takes the place of --shutdown-grace-period and --shutdown-grace-period-critical-pods: give it alone")
	}
	for priority, text := range o.byPriority {
		number, err := strconv.ParseInt(priority, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("--shutdown-grace-period-by-pod-priority: %q is no priority", priority)
		}
		period, err := time.ParseDuration(text)
		if err != nil || period < 0 {
			return nil, fmt.Errorf("--shutdown-grace-period-by-pod-priority: %q is no time such as 30s", text)
		}
		periods = append(periods, nodeshutdown.GracePeriod{Priority: int32(number), Period: period})
	}
	return periods, nil
}
