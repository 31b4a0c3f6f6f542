package kuberuntime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	kubecontainer "hyperkube/kubelet/container"
)

// createPodSandbox makes the pod's home: its namespaces, its address, its cgroup.
func (m *kubeGenericRuntimeManager) createPodSandbox(ctx context.Context, pod *v1.Pod, attempt uint32) (id, message string, err error) {
	config, err := m.generatePodSandboxConfig(pod, attempt)
	if err != nil {
		return "", fmt.Sprintf("Failed to generate sandbox config for pod %q: %v", pod.Name, err), err
	}
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		return "", fmt.Sprintf("Failed to create log directory for pod %q: %v", pod.Name, err), err
	}
	handler := ""
	if pod.Spec.RuntimeClassName != nil {
		handler = *pod.Spec.RuntimeClassName
	}
	response, err := m.Runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
	if err != nil {
		return "", fmt.Sprintf("Failed to create sandbox for pod %q: %v", pod.Name, err), err
	}
	return response.PodSandboxId, "", nil
}

// maxHostname is what Linux's kernel takes.
const maxHostname = 64

// generatePodSandboxConfig says what the sandbox is to be. It gives the same
// answer each time for the same pod and attempt, since CreateContainer repeats it.
func (m *kubeGenericRuntimeManager) generatePodSandboxConfig(pod *v1.Pod, attempt uint32) (*runtimeapi.PodSandboxConfig, error) {
	dns, err := m.Helper.GetPodDNS(pod)
	if err != nil {
		return nil, err
	}
	linux, err := m.generatePodSandboxLinuxConfig(pod)
	if err != nil {
		return nil, err
	}
	config := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: attempt},
		Labels:       newPodLabels(pod),
		Annotations:  pod.Annotations,
		DnsConfig:    dns,
		LogDirectory: m.Helper.PodLogsDir(pod),
		Linux:        linux,
	}
	if !pod.Spec.HostNetwork {
		config.Hostname, _ = m.Helper.GeneratePodHostNameAndDomain(pod)
		if n := len(config.Hostname); n > maxHostname {
			return nil, fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)", config.Hostname, maxHostname, n)
		}
	}
	for i := range pod.Spec.Containers {
		config.PortMappings = append(config.PortMappings, portMappings(&pod.Spec.Containers[i])...)
	}
	for i := range pod.Spec.InitContainers {
		if kubecontainer.IsRestartableInitContainer(&pod.Spec.InitContainers[i]) {
			config.PortMappings = append(config.PortMappings, portMappings(&pod.Spec.InitContainers[i])...)
		}
	}
	return config, nil
}

func portMappings(container *v1.Container) []*runtimeapi.PortMapping {
	var mappings []*runtimeapi.PortMapping
	for _, port := range container.Ports {
		if port.HostPort == 0 && port.ContainerPort == 0 {
			continue
		}
		mapping := &runtimeapi.PortMapping{HostIp: port.HostIP, HostPort: port.HostPort, ContainerPort: port.ContainerPort}
		switch port.Protocol {
		case v1.ProtocolUDP:
			mapping.Protocol = runtimeapi.Protocol_UDP
		case v1.ProtocolSCTP:
			mapping.Protocol = runtimeapi.Protocol_SCTP
		}
		mappings = append(mappings, mapping)
	}
	return mappings
}

func (m *kubeGenericRuntimeManager) generatePodSandboxLinuxConfig(pod *v1.Pod) (*runtimeapi.LinuxPodSandboxConfig, error) {
	namespaces, err := m.namespacesForPod(pod)
	if err != nil {
		return nil, err
	}
	config := &runtimeapi.LinuxPodSandboxConfig{
		CgroupParent: m.Helper.GetPodCgroupParent(pod),
		Sysctls:      map[string]string{},
		SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
			Privileged:       podIsPrivileged(pod),
			NamespaceOptions: namespaces,
			// The sandbox runs nothing of the pod's, so it always gets the default filter.
			Seccomp: &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
		},
		Resources: podResources(pod),
	}
	if sc := pod.Spec.SecurityContext; sc != nil {
		for _, sysctl := range sc.Sysctls {
			config.Sysctls[strings.ReplaceAll(sysctl.Name, "/", ".")] = sysctl.Value
		}
		if sc.RunAsUser != nil {
			config.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: *sc.RunAsUser}
		}
		if sc.RunAsGroup != nil {
			config.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: *sc.RunAsGroup}
		}
		if sc.FSGroup != nil {
			config.SecurityContext.SupplementalGroups = append(config.SecurityContext.SupplementalGroups, *sc.FSGroup)
		}
		config.SecurityContext.SupplementalGroups = append(config.SecurityContext.SupplementalGroups, sc.SupplementalGroups...)
		config.SecurityContext.SupplementalGroupsPolicy = supplementalGroupsPolicy(sc)
		if sc.SELinuxOptions != nil {
			config.SecurityContext.SelinuxOptions = seLinuxOptions(sc.SELinuxOptions)
		}
	}
	return config, nil
}

// podResources are the sums for the pod's cgroup.
func podResources(pod *v1.Pod) *runtimeapi.LinuxContainerResources {
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	limits := resource.PodLimits(pod, resource.PodResourcesOptions{})
	return linuxResources(requests, limits)
}

func podIsPrivileged(pod *v1.Pod) bool {
	privileged := func(containers []v1.Container) bool {
		for _, c := range containers {
			if c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged {
				return true
			}
		}
		return false
	}
	return privileged(pod.Spec.Containers) || privileged(pod.Spec.InitContainers)
}

// namespacesForPod says which namespaces the pod shares with the node, and which
// its containers share among themselves.
func (m *kubeGenericRuntimeManager) namespacesForPod(pod *v1.Pod) (*runtimeapi.NamespaceOption, error) {
	users, err := m.Helper.GetOrCreateUserNamespaceMappings(pod)
	if err != nil {
		return nil, err
	}
	options := &runtimeapi.NamespaceOption{
		Network: networkNamespaceForPod(pod),
		Ipc:     runtimeapi.NamespaceMode_POD,
		Pid:     runtimeapi.NamespaceMode_CONTAINER,

		UsernsOptions: users,
	}
	if pod.Spec.HostIPC {
		options.Ipc = runtimeapi.NamespaceMode_NODE
	}
	switch {
	case pod.Spec.HostPID:
		options.Pid = runtimeapi.NamespaceMode_NODE
	case pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace:
		options.Pid = runtimeapi.NamespaceMode_POD
	}
	return options, nil
}

func networkNamespaceForPod(pod *v1.Pod) runtimeapi.NamespaceMode {
	if pod.Spec.HostNetwork {
		return runtimeapi.NamespaceMode_NODE
	}
	return runtimeapi.NamespaceMode_POD
}

// KillPod ends all containers gracefully and then the sandboxes. gracePeriod
// overrides, in seconds, what the pod says.
func (m *kubeGenericRuntimeManager) KillPod(ctx context.Context, pod *v1.Pod, running *kubecontainer.Pod, gracePeriod *int64) error {
	err := m.killContainers(ctx, pod, running, gracePeriod)
	// Even if a container is stuck: stopping the sandbox releases the network, and tries once more.
	errs := []error{err}
	for _, sandbox := range running.Sandboxes {
		if _, err := m.Runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox.ID.ID}); err != nil && !isNotFound(err) {
			errs = append(errs, fmt.Errorf("stopping sandbox %s of pod %s/%s: %w", sandbox.ID.ID, running.Namespace, running.Name, err))
		}
	}
	m.Changed()
	return errors.Join(errs...)
}

// containerLogFile is a log relative to its pod's directory: one file a start.
func containerLogFile(container *v1.Container, restartCount int) string {
	return filepath.Join(container.Name, strconv.Itoa(restartCount)+".log")
}
