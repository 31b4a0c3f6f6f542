package kuberuntime

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/kubelet/cm"
	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/envvars"
	"hyperkube/kubelet/images"
)

// containerInput is what differs from one start of a container to the next.
type containerInput struct {
	image        images.Image
	imageVolumes map[string]*runtimeapi.ImageSpec // by the name of the volume
	restartCount int
	target       string // ephemeral containers: whose process namespace to join
}

// generateContainerConfig translates a container of a pod into CRI words.
func (m *kubeGenericRuntimeManager) generateContainerConfig(ctx context.Context, s *containerStarter, container *v1.Container, in containerInput) (*runtimeapi.ContainerConfig, error) {
	options, err := m.Helper.GenerateRunContainerOptions(ctx, s.pod, container, kubecontainer.RunContainerInput{PodIPs: s.podIPs, ImageVolumes: in.imageVolumes})
	if err != nil {
		return nil, err
	}
	if err := verifyRunAsNonRoot(s.pod, container, in.image); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(s.sandboxConfig.LogDirectory, container.Name), 0o755); err != nil {
		return nil, fmt.Errorf("creating the log directory of container %s: %w", container.Name, err)
	}
	command, args := envvars.ExpandCommand(container, options.Envs)
	securityContext, err := m.securityContext(s, container, in)
	if err != nil {
		return nil, err
	}
	config := &runtimeapi.ContainerConfig{
		Metadata:    &runtimeapi.ContainerMetadata{Name: container.Name, Attempt: uint32(in.restartCount)},
		Image:       &runtimeapi.ImageSpec{Image: in.image.Ref, UserSpecifiedImage: container.Image},
		Command:     command,
		Args:        args,
		WorkingDir:  container.WorkingDir,
		Envs:        options.Envs,
		Mounts:      options.Mounts,
		Devices:     options.Devices,
		Labels:      newContainerLabels(container, s.pod),
		Annotations: newContainerAnnotations(container, s.pod, in.restartCount),
		LogPath:     containerLogFile(container, in.restartCount),
		Stdin:       container.Stdin,
		StdinOnce:   container.StdinOnce,
		Tty:         container.TTY,
		Linux:       &runtimeapi.LinuxContainerConfig{Resources: containerResources(s.pod, container), SecurityContext: securityContext},
	}
	mapMounts(config)
	config.Linux.Resources.HugepageLimits = hugepageLimits(s.pod, container, m.HugePageSizes)
	config.Linux.Resources.OomScoreAdj = m.Helper.GetOOMScoreAdjust(s.pod, container)
	config.Linux.Resources.Unified = maps.Clone(m.ContainerCgroup)
	if container.Lifecycle != nil && container.Lifecycle.StopSignal != nil {
		config.StopSignal = runtimeapi.Signal(runtimeapi.Signal_value["SIGNAL_"+string(*container.Lifecycle.StopSignal)])
	}
	return config, nil
}

// mapMounts shows the owners of all files that are mounted as the pod's users: on
// disk they are those that a pod without a user namespace of its own would have.
func mapMounts(config *runtimeapi.ContainerConfig) {
	users := config.Linux.SecurityContext.NamespaceOptions.GetUsernsOptions()
	for _, mount := range config.Mounts {
		mount.UidMappings, mount.GidMappings = users.GetUids(), users.GetGids()
	}
}

// Weights and quotas of the kernel's CPU scheduler.
const (
	minShares     = 2
	maxShares     = 262144
	sharesPerCPU  = 1024
	milliCPUToCPU = 1000
	quotaPeriod   = 100000 // microseconds
	minQuota      = 1000   // microseconds
)

// containerResources are a container's. Where it names no limit of its own, the
// pod's as a whole is its limit too (KEP-2837).
func containerResources(pod *v1.Pod, container *v1.Container) *runtimeapi.LinuxContainerResources {
	limits := container.Resources.Limits
	if pod.Spec.Resources != nil {
		limits = limits.DeepCopy()
		for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
			whole, limited := pod.Spec.Resources.Limits[name]
			if own := limits[name]; limited && own.IsZero() {
				if limits == nil {
					limits = v1.ResourceList{}
				}
				limits[name] = whole
			}
		}
	}
	resources := linuxResources(container.Resources.Requests, limits)
	if container.Resources.Limits.Cpu().IsZero() && container.Resources.Requests.Cpu().IsZero() {
		resources.CpuShares = minShares // its weight is not the whole pod's
	}
	return resources
}

// hugepageLimits are a container's, none where it names none and its pod neither: pages that nobody asked for are others'.
func hugepageLimits(pod *v1.Pod, container *v1.Container, sizes []int64) []*runtimeapi.HugepageLimit {
	var list []*runtimeapi.HugepageLimit
	for _, size := range sizes {
		limit, own := container.Resources.Limits[cm.HugePageResource(size)]
		if !own && pod.Spec.Resources != nil {
			limit = pod.Spec.Resources.Limits[cm.HugePageResource(size)]
		}
		list = append(list, &runtimeapi.HugepageLimit{PageSize: cm.HugePageUnit(size), Limit: uint64(limit.Value())})
	}
	return list
}

// linuxResources turns requests and limits into what the kernel knows: the CPU
// request is a weight, the CPU limit a quota per 100 ms, the memory limit a limit.
// A memory request has no counterpart; only the scheduler uses it.
func linuxResources(requests, limits v1.ResourceList) *runtimeapi.LinuxContainerResources {
	resources := &runtimeapi.LinuxContainerResources{}
	cpuRequest, cpuLimit := requests.Cpu().MilliValue(), limits.Cpu().MilliValue()
	if _, requested := requests[v1.ResourceCPU]; !requested && cpuLimit != 0 {
		cpuRequest = cpuLimit
	}
	resources.CpuShares = MilliCPUToShares(cpuRequest)
	resources.CpuPeriod = quotaPeriod
	if cpuLimit != 0 {
		resources.CpuQuota = max(cpuLimit*quotaPeriod/milliCPUToCPU, minQuota)
	}
	resources.MemoryLimitInBytes = limits.Memory().Value()
	return resources
}

// MilliCPUToShares converts thousandths of a CPU to cgroup shares.
func MilliCPUToShares(milliCPU int64) int64 {
	return min(max(milliCPU*sharesPerCPU/milliCPUToCPU, minShares), maxShares)
}

// securityContext is the pod's and the container's together; the container's word counts.
func (m *kubeGenericRuntimeManager) securityContext(s *containerStarter, container *v1.Container, in containerInput) (*runtimeapi.LinuxContainerSecurityContext, error) {
	pod := s.pod
	namespaces, err := m.namespacesForPod(pod)
	if err != nil {
		return nil, err
	}
	result := &runtimeapi.LinuxContainerSecurityContext{
		NamespaceOptions: namespaces,
		MaskedPaths:      defaultMaskedPaths(),
		ReadonlyPaths:    defaultReadonlyPaths(),
	}
	if result.Seccomp, err = m.seccompProfile(pod, container); err != nil {
		return nil, err
	}
	result.Apparmor = appArmorProfile(pod, container)
	applyPodSecurityContext(pod.Spec.SecurityContext, result)
	applyContainerSecurityContext(container.SecurityContext, result)
	if result.RunAsUser == nil && result.RunAsUsername == "" {
		// The image's own user; the runtime would do the same, but says so in the status this way.
		if in.image.UID != nil {
			result.RunAsUser = &runtimeapi.Int64Value{Value: *in.image.UID}
		} else {
			result.RunAsUsername = in.image.Username
		}
	}
	if in.target != "" {
		if target := s.podStatus.FindContainerStatusByName(in.target); target != nil {
			result.NamespaceOptions.Pid = runtimeapi.NamespaceMode_TARGET
			result.NamespaceOptions.TargetId = target.ID.ID
		}
	}
	return result, nil
}

func applyPodSecurityContext(sc *v1.PodSecurityContext, result *runtimeapi.LinuxContainerSecurityContext) {
	if sc == nil {
		return
	}
	if sc.RunAsUser != nil {
		result.RunAsUser = &runtimeapi.Int64Value{Value: *sc.RunAsUser}
	}
	if sc.RunAsGroup != nil {
		result.RunAsGroup = &runtimeapi.Int64Value{Value: *sc.RunAsGroup}
	}
	if sc.FSGroup != nil {
		result.SupplementalGroups = append(result.SupplementalGroups, *sc.FSGroup)
	}
	result.SupplementalGroups = append(result.SupplementalGroups, sc.SupplementalGroups...)
	result.SupplementalGroupsPolicy = supplementalGroupsPolicy(sc)
	if sc.SELinuxOptions != nil {
		result.SelinuxOptions = seLinuxOptions(sc.SELinuxOptions)
	}
}

func applyContainerSecurityContext(sc *v1.SecurityContext, result *runtimeapi.LinuxContainerSecurityContext) {
	if sc == nil {
		return
	}
	if sc.RunAsUser != nil {
		result.RunAsUser = &runtimeapi.Int64Value{Value: *sc.RunAsUser}
	}
	if sc.RunAsGroup != nil {
		result.RunAsGroup = &runtimeapi.Int64Value{Value: *sc.RunAsGroup}
	}
	if sc.Privileged != nil && *sc.Privileged {
		result.Privileged = true
	}
	if sc.ReadOnlyRootFilesystem != nil {
		result.ReadonlyRootfs = *sc.ReadOnlyRootFilesystem
	}
	result.NoNewPrivs = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
	if result.Privileged || sc.ProcMount != nil && *sc.ProcMount == v1.UnmaskedProcMount {
		result.MaskedPaths, result.ReadonlyPaths = nil, nil
	}
	if sc.SELinuxOptions != nil {
		result.SelinuxOptions = seLinuxOptions(sc.SELinuxOptions)
	}
	if sc.Capabilities != nil {
		result.Capabilities = &runtimeapi.Capability{}
		for _, c := range sc.Capabilities.Add {
			result.Capabilities.AddCapabilities = append(result.Capabilities.AddCapabilities, string(c))
		}
		for _, c := range sc.Capabilities.Drop {
			result.Capabilities.DropCapabilities = append(result.Capabilities.DropCapabilities, string(c))
		}
	}
}

// verifyRunAsNonRoot refuses a container that promised not to be root and would be.
func verifyRunAsNonRoot(pod *v1.Pod, container *v1.Container, image images.Image) error {
	var nonRoot *bool
	var user *int64
	if sc := pod.Spec.SecurityContext; sc != nil {
		nonRoot, user = sc.RunAsNonRoot, sc.RunAsUser
	}
	if sc := container.SecurityContext; sc != nil {
		if sc.RunAsNonRoot != nil {
			nonRoot = sc.RunAsNonRoot
		}
		if sc.RunAsUser != nil {
			user = sc.RunAsUser
		}
	}
	where := fmt.Sprintf("(pod: %q, container: %s)", podFullName(pod), container.Name)
	switch {
	case nonRoot == nil || !*nonRoot:
		return nil
	case user != nil && *user == 0:
		return fmt.Errorf("container's runAsUser breaks non-root policy %s", where)
	case user != nil:
		return nil
	case image.UID != nil && *image.UID == 0:
		return fmt.Errorf("container has runAsNonRoot and image will run as root %s", where)
	case image.UID == nil && image.Username != "":
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", image.Username, where)
	}
	return nil
}

// seccompProfile is the container's, else the pod's, else the node's default: no filter, or with SeccompDefault the runtime's.
func (m *kubeGenericRuntimeManager) seccompProfile(pod *v1.Pod, container *v1.Container) (*runtimeapi.SecurityProfile, error) {
	var profile *v1.SeccompProfile
	if pod.Spec.SecurityContext != nil {
		profile = pod.Spec.SecurityContext.SeccompProfile
	}
	if container.SecurityContext != nil && container.SecurityContext.SeccompProfile != nil {
		profile = container.SecurityContext.SeccompProfile
	}
	switch {
	case profile == nil && m.SeccompDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, nil
	case profile == nil || profile.Type == v1.SeccompProfileTypeUnconfined:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, nil
	case profile.Type == v1.SeccompProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, nil
	case profile.LocalhostProfile == nil || *profile.LocalhostProfile == "":
		return nil, fmt.Errorf("localhostProfile must be set if seccompProfile type is Localhost.")
	}
	return &runtimeapi.SecurityProfile{
		ProfileType:  runtimeapi.SecurityProfile_Localhost,
		LocalhostRef: filepath.Join(m.Helper.SeccompProfileRoot(), filepath.Clean("/"+*profile.LocalhostProfile)),
	}, nil
}

func appArmorProfile(pod *v1.Pod, container *v1.Container) *runtimeapi.SecurityProfile {
	var profile *v1.AppArmorProfile
	if pod.Spec.SecurityContext != nil {
		profile = pod.Spec.SecurityContext.AppArmorProfile
	}
	if container.SecurityContext != nil && container.SecurityContext.AppArmorProfile != nil {
		profile = container.SecurityContext.AppArmorProfile
	}
	switch {
	case profile == nil:
		return nil
	case profile.Type == v1.AppArmorProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	case profile.Type == v1.AppArmorProfileTypeLocalhost && profile.LocalhostProfile != nil:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: strings.TrimSpace(*profile.LocalhostProfile)}
	}
	return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
}

func seLinuxOptions(o *v1.SELinuxOptions) *runtimeapi.SELinuxOption {
	return &runtimeapi.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}

func supplementalGroupsPolicy(sc *v1.PodSecurityContext) runtimeapi.SupplementalGroupsPolicy {
	if sc.SupplementalGroupsPolicy != nil && *sc.SupplementalGroupsPolicy == v1.SupplementalGroupsPolicyStrict {
		return runtimeapi.SupplementalGroupsPolicy_Strict
	}
	return runtimeapi.SupplementalGroupsPolicy_Merge
}

// Paths of /proc and /sys that tell about the node or change it.
func defaultMaskedPaths() []string {
	return []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}
}

func defaultReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}
