package pod

import v1 "k8s.io/api/core/v1"

// dropDisabledFields takes out of a spec what v1.37 knows, but only behind a feature gate that is off unless somebody turns
// it on (alpha). Such a field is not refused: it is as if nobody had written it. Otherwise a pod would be shown with a
// wish that nobody here fulfills.
//
// In Kubernetes: DropDisabledPodFields of pkg/api/pod, which the strategies call, and which spares what an object has
// from a time when the gate was on. Here no gate ever was.
func dropDisabledFields(spec *v1.PodSpec) {
	for i := range spec.Volumes {
		dropDisabledVolumeFields(&spec.Volumes[i].VolumeSource)
	}
	VisitContainers(spec, AllContainers, func(c *v1.Container, _ ContainerType) bool {
		for i := range c.VolumeMounts {
			c.VolumeMounts[i].BindMountOptions = nil // VolumeBindMountOptions
		}
		for _, probe := range []*v1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
			if probe != nil && probe.GRPC != nil {
				probe.GRPC.Mode = nil // GRPCContainerProbeTLS
			}
			if probe != nil {
				dropProtocol(probe.HTTPGet)
			}
		}
		dropDisabledLifecycle(&c.Lifecycle)
		return true
	})
	spec.SchedulingGroup = nil    // GenericWorkload
	spec.EvictionResponders = nil // EvictionRequestAPI
}

func dropProtocol(action *v1.HTTPGetAction) {
	if action != nil {
		action.Protocol = nil // H2CContainerProbe
	}
}

func dropDisabledLifecycle(p **v1.Lifecycle) {
	lifecycle := *p
	if lifecycle == nil {
		return
	}
	for _, handler := range []*v1.LifecycleHandler{lifecycle.PostStart, lifecycle.PreStop} {
		if handler != nil {
			dropProtocol(handler.HTTPGet)
		}
	}
	if lifecycle.StopSignal == nil {
		return
	}
	lifecycle.StopSignal = nil // ContainerStopSignals
	if *lifecycle == (v1.Lifecycle{}) {
		*p = nil
	}
}

// DropDisabledStatusFields is dropDisabledFields of a status.
func DropDisabledStatusFields(status *v1.PodStatus) {
	status.NodeAllocatableResourceClaimStatuses = nil // DRANodeAllocatableResources
	status.VolumeHealth = nil                         // CSIVolumeHealth
	for _, list := range [][]v1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses} {
		for i := range list {
			for j := range list[i].VolumeMounts {
				list[i].VolumeMounts[j].VolumeStatus = nil // ImageVolumeWithDigest
			}
		}
	}
}

// DropInitContainerAnnotations takes out what init containers were before there was a field for them.
func DropInitContainerAnnotations(annotations map[string]string) {
	for _, key := range []string{
		"pod.beta.kubernetes.io/init-containers", "pod.alpha.kubernetes.io/init-containers",
		"pod.beta.kubernetes.io/init-container-statuses", "pod.alpha.kubernetes.io/init-container-statuses",
	} {
		delete(annotations, key)
	}
}

// dropDisabledVolumeFields: the owners of files (AtomicWriteVolumeUserFields), and the mode of an empty directory
// (EmptyDirVolumeMode).
func dropDisabledVolumeFields(s *v1.VolumeSource) {
	if s.EmptyDir != nil {
		s.EmptyDir.Mode = nil
	}
	if s.Secret != nil {
		s.Secret.DefaultUser = nil
		dropKeyUsers(s.Secret.Items)
	}
	if s.ConfigMap != nil {
		s.ConfigMap.DefaultUser = nil
		dropKeyUsers(s.ConfigMap.Items)
	}
	if s.DownwardAPI != nil {
		s.DownwardAPI.DefaultUser = nil
		dropFileUsers(s.DownwardAPI.Items)
	}
	if s.Projected == nil {
		return
	}
	s.Projected.DefaultUser = nil
	for i := range s.Projected.Sources {
		switch from := &s.Projected.Sources[i]; {
		case from.Secret != nil:
			dropKeyUsers(from.Secret.Items)
		case from.ConfigMap != nil:
			dropKeyUsers(from.ConfigMap.Items)
		case from.DownwardAPI != nil:
			dropFileUsers(from.DownwardAPI.Items)
		case from.ServiceAccountToken != nil:
			from.ServiceAccountToken.User = nil
		case from.ClusterTrustBundle != nil:
			from.ClusterTrustBundle.User = nil
		case from.PodCertificate != nil:
			from.PodCertificate.User = nil
		}
	}
}

func dropKeyUsers(items []v1.KeyToPath) {
	for i := range items {
		items[i].User = nil
	}
}

func dropFileUsers(items []v1.DownwardAPIVolumeFile) {
	for i := range items {
		items[i].User = nil
	}
}
