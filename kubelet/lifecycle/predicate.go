package lifecycle

import (
	"fmt"
	"runtime"
	"sort"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	corev1 "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	apipod "hyperkube/api/core/pod"
)

// Rejection is why a pod may not run on this node. Reason and Message go to its status.
type Rejection struct {
	Reason  string
	Message string
}

// Admit decides whether pod may run on node beside others. The scheduler asked
// the same before; static pods, bindings made by hand, and races between two
// schedulers are why the kubelet asks again. unsafeSysctls are those that the node's
// owner allows besides the safe ones.
func Admit(logger klog.Logger, pod *v1.Pod, node *v1.Node, others []*v1.Pod, unsafeSysctls []string) *Rejection {
	if os := pod.Spec.OS; os != nil && os.Name != v1.Linux {
		return &Rejection{"PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"}
	}
	if why := forbiddenSysctl(pod, unsafeSysctls); why != "" {
		return &Rejection{"SysctlForbidden", why}
	}
	if node == nil {
		return nil // standalone: there is nothing to compare with
	}
	if os := pod.Labels[v1.LabelOSStable]; os != "" && os != runtime.GOOS {
		return &Rejection{"PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"}
	}
	if sc := pod.Spec.SecurityContext; sc != nil && sc.SupplementalGroupsPolicy != nil && *sc.SupplementalGroupsPolicy == v1.SupplementalGroupsPolicyStrict && !keepsGroupsStrict(node) {
		return &Rejection{"SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node"}
	}
	if match, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !match {
		return &Rejection{"NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"}
	}
	if _, untolerated := corev1.FindMatchingUntoleratedTaint(logger, node.Spec.Taints, pod.Spec.Tolerations, func(t *v1.Taint) bool { return t.Effect == v1.TaintEffectNoExecute }, true); untolerated && !isStatic(pod) {
		return &Rejection{"TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"}
	}
	if conflictingPort(pod, others) {
		return &Rejection{"NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"}
	}
	return AdmitResources(pod, node, others)
}

func keepsGroupsStrict(node *v1.Node) bool {
	features := node.Status.Features
	return features != nil && features.SupplementalGroupsPolicy != nil && *features.SupplementalGroupsPolicy
}

func isStatic(pod *v1.Pod) bool {
	source, ok := pod.Annotations["kubernetes.io/config.source"]
	return ok && source != "api"
}

// AdmitResources compares requests with what is left of the node.
func AdmitResources(pod *v1.Pod, node *v1.Node, others []*v1.Pod) *Rejection {
	if int64(len(others))+1 > node.Status.Allocatable.Pods().Value() {
		return outOf(v1.ResourcePods, 1, int64(len(others)), node.Status.Allocatable.Pods().Value())
	}
	used := map[v1.ResourceName]int64{}
	for _, other := range others {
		for name, quantity := range resource.PodRequests(other, resource.PodResourcesOptions{}) {
			used[name] += amount(name, quantity.MilliValue(), quantity.Value())
		}
	}
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	names := make([]string, 0, len(requests))
	for name := range requests {
		names = append(names, string(name))
	}
	sort.Strings(names)
	for _, n := range names {
		name := v1.ResourceName(n)
		quantity := requests[name]
		requested := amount(name, quantity.MilliValue(), quantity.Value())
		capacity, known := node.Status.Allocatable[name]
		if !known && strings.Contains(n, "/") {
			continue // an extended resource that left the node: the pod that has it may finish
		}
		allocatable := amount(name, capacity.MilliValue(), capacity.Value())
		if requested > 0 && requested+used[name] > allocatable {
			return outOf(name, requested, used[name], allocatable)
		}
	}
	return nil
}

// amount counts CPU in thousandths, all else in units.
func amount(name v1.ResourceName, milli, units int64) int64 {
	if name == v1.ResourceCPU {
		return milli
	}
	return units
}

func outOf(name v1.ResourceName, requested, used, capacity int64) *Rejection {
	return &Rejection{
		Reason:  "OutOf" + string(name),
		Message: fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, requested, used, capacity),
	}
}

// hostPort is a port of the node that a container wants.
type hostPort struct {
	ip       string // empty: all addresses
	protocol v1.Protocol
	port     int32
}

// conflictingPort tells whether pod and another pod both want a host port: on the
// same address, or one of them on all.
func conflictingPort(pod *v1.Pod, others []*v1.Pod) bool {
	type key struct {
		protocol v1.Protocol
		port     int32
	}
	taken := map[key][]string{}
	for _, other := range others {
		for _, p := range hostPorts(other) {
			taken[key{p.protocol, p.port}] = append(taken[key{p.protocol, p.port}], p.ip)
		}
	}
	for _, p := range hostPorts(pod) {
		for _, ip := range taken[key{p.protocol, p.port}] {
			if ip == "" || p.ip == "" || ip == p.ip {
				return true
			}
		}
	}
	return false
}

// hostPorts are those of containers and of sidecars; other init containers have gone when ports matter.
func hostPorts(pod *v1.Pod) []hostPort {
	var ports []hostPort
	add := func(c *v1.Container) {
		for _, p := range c.Ports {
			want := hostPort{p.HostIP, p.Protocol, p.HostPort}
			if pod.Spec.HostNetwork && want.port == 0 {
				want.port = p.ContainerPort
			}
			if want.ip == "0.0.0.0" {
				want.ip = ""
			}
			if want.port != 0 {
				ports = append(ports, want)
			}
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if apipod.IsRestartableInitContainer(&pod.Spec.InitContainers[i]) {
			add(&pod.Spec.InitContainers[i])
		}
	}
	return ports
}
