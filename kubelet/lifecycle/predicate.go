package lifecycle

import (
	"fmt"
	"sort"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	corev1 "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// Rejection is why a pod may not run on this node. Reason and Message go to its status.
type Rejection struct {
	Reason  string
	Message string
}

// Admit decides whether pod may run on node beside others. The scheduler asked
// the same before; static pods, bindings made by hand, and races between two
// schedulers are why the kubelet asks again.
func Admit(logger klog.Logger, pod *v1.Pod, node *v1.Node, others []*v1.Pod) *Rejection {
	if os := pod.Spec.OS; os != nil && os.Name != v1.Linux {
		return &Rejection{"PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"}
	}
	if node == nil {
		return nil // standalone: there is nothing to compare with
	}
	if match, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !match {
		return &Rejection{"NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"}
	}
	if _, untolerated := corev1.FindMatchingUntoleratedTaint(logger, node.Spec.Taints, pod.Spec.Tolerations, func(t *v1.Taint) bool { return t.Effect == v1.TaintEffectNoExecute }, true); untolerated && !isStatic(pod) {
		return &Rejection{"Taint", "Predicate TaintToleration failed"}
	}
	if port := conflictingPort(pod, others); port != "" {
		return &Rejection{"NodePorts", "Predicate NodePorts failed"}
	}
	return AdmitResources(pod, node, others)
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

// conflictingPort finds a host port that pod and another pod both want.
func conflictingPort(pod *v1.Pod, others []*v1.Pod) string {
	taken := map[string]bool{}
	for _, other := range others {
		for _, port := range hostPorts(other) {
			taken[port] = true
		}
	}
	for _, port := range hostPorts(pod) {
		if taken[port] {
			return port
		}
	}
	return ""
}

func hostPorts(pod *v1.Pod) []string {
	var ports []string
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			hostPort := p.HostPort
			if pod.Spec.HostNetwork && hostPort == 0 {
				hostPort = p.ContainerPort
			}
			if hostPort != 0 {
				ports = append(ports, fmt.Sprintf("%s/%s/%d", p.HostIP, p.Protocol, hostPort))
			}
		}
	}
	return ports
}
