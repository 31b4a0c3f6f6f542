package kubeletconfig

import (
	"errors"
	"fmt"
	"maps"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	configv1beta1 "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"

	"hyperkube/kubelet/eviction"
)

// setDefaults are upstream's, where those of the flags are others.
func setDefaults(c *configv1beta1.KubeletConfiguration) {
	if c.NodeStatusReportFrequency.Duration == 0 {
		c.NodeStatusReportFrequency = c.NodeStatusUpdateFrequency // zero still means: of its own, five minutes
	}
	if c.ImageGCHighThresholdPercent == nil {
		c.ImageGCHighThresholdPercent = ptr.To[int32](85)
	}
	if c.SerializeImagePulls == nil {
		c.SerializeImagePulls = ptr.To(c.MaxParallelImagePulls == nil || *c.MaxParallelImagePulls < 2)
	}
	if c.RegistryPullQPS == nil {
		c.RegistryPullQPS = ptr.To[int32](5)
	}
	if c.RegistryBurst == 0 {
		c.RegistryBurst = 10
	}
	if c.EventRecordQPS == nil {
		c.EventRecordQPS = ptr.To[int32](50)
	}
	if c.EventBurst == 0 {
		c.EventBurst = 100
	}
	for _, d := range []struct {
		field *metav1.Duration
		value time.Duration
	}{
		{&c.FileCheckFrequency, 20 * time.Second}, {&c.Authentication.Webhook.CacheTTL, 2 * time.Minute},
		{&c.Authorization.Webhook.CacheAuthorizedTTL, 5 * time.Minute}, {&c.Authorization.Webhook.CacheUnauthorizedTTL, 30 * time.Second},
	} {
		if d.field.Duration == 0 {
			d.field.Duration = d.value
		}
	}
	if c.MergeDefaultEvictionSettings != nil && *c.MergeDefaultEvictionSettings {
		hard := eviction.DefaultHard()
		maps.Copy(hard, c.EvictionHard)
		c.EvictionHard = hard
	}
}

// validate refuses what upstream refuses, of the fields that act here and are not checked as flags.
func validate(c *configv1beta1.KubeletConfiguration) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("invalid configuration: "+format, args...))
		}
	}
	percent := func(p *int32) bool { return p == nil || *p >= 0 && *p <= 100 }
	low := ptr.Deref(c.ImageGCLowThresholdPercent, 80)
	check(c.NodeLeaseDurationSeconds >= 0, "nodeLeaseDurationSeconds must be greater than 0")
	check(c.EventBurst >= 0, "eventBurst (--event-burst) %v must not be a negative number", c.EventBurst)
	check(*c.EventRecordQPS >= 0, "eventRecordQPS (--event-qps) %v must not be a negative number", *c.EventRecordQPS)
	check(percent(c.ImageGCHighThresholdPercent), "imageGCHighThresholdPercent (--image-gc-high-threshold) %v must be between 0 and 100, inclusive", *c.ImageGCHighThresholdPercent)
	check(percent(&low), "imageGCLowThresholdPercent (--image-gc-low-threshold) %v must be between 0 and 100, inclusive", low)
	check(low < *c.ImageGCHighThresholdPercent, "imageGCLowThresholdPercent (--image-gc-low-threshold) %v must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) %v", low, *c.ImageGCHighThresholdPercent)
	check(c.ImageMinimumGCAge.Duration >= 0, "imageMinimumGCAge %v must not be negative", c.ImageMinimumGCAge.Duration)
	check(c.ImageMaximumGCAge.Duration >= 0, "imageMaximumGCAge %v must not be negative", c.ImageMaximumGCAge.Duration)
	check(c.MaxPods >= 0, "maxPods (--max-pods) %v must not be a negative number", c.MaxPods)
	check(c.Port >= 0 && c.Port < 1<<16, "port (--port) %v must be between 1 and 65535, inclusive", c.Port)
	check(c.ReadOnlyPort >= 0 && c.ReadOnlyPort < 1<<16, "readOnlyPort (--read-only-port) %v must be between 0 and 65535, inclusive", c.ReadOnlyPort)
	check(c.RegistryBurst >= 0, "registryBurst (--registry-burst) %v must not be a negative number", c.RegistryBurst)
	check(*c.RegistryPullQPS >= 0, "registryPullQPS (--registry-qps) %v must not be a negative number", *c.RegistryPullQPS)
	if n := c.MaxParallelImagePulls; n != nil {
		check(*n >= 1, "maxParallelImagePulls %v must be a positive number", *n)
		check(*n <= 1 || !*c.SerializeImagePulls, "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set to false")
	}
	check(len(c.ShutdownGracePeriodByPodPriority) == 0 || c.ShutdownGracePeriod.Duration == 0 && c.ShutdownGracePeriodCriticalPods.Duration == 0,
		"Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time")
	check(c.ShutdownGracePeriodCriticalPods.Duration <= c.ShutdownGracePeriod.Duration, "shutdownGracePeriodCriticalPods %v must be <= shutdownGracePeriod %v", c.ShutdownGracePeriodCriticalPods, c.ShutdownGracePeriod)
	if p := c.CrashLoopBackOff.MaxContainerRestartPeriod; p != nil {
		check(p.Duration >= time.Second && p.Duration <= 5*time.Minute, "CrashLoopBackOff.MaxContainerRestartPeriod (got: %v seconds) must be set between 1s and 300s", p.Seconds())
	}
	check(c.ContainerLogMaxFiles == nil || *c.ContainerLogMaxFiles > 1, "containerLogMaxFiles must be greater than 1")
	if users := c.UserNamespaces; users != nil && users.IDsPerPod != nil {
		check(*users.IDsPerPod > 0 && *users.IDsPerPod%65536 == 0, "userNamespaces.idsPerPod must be a multiple of 65536, got: %v", *users.IDsPerPod)
	}
	return errors.Join(errs...)
}
