package why

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	resourcehelper "k8s.io/component-helpers/resource"

	corepod "hyperkube/api/core/pod"
)

// obstacle keeps one pod from one node, and is named after the scheduler's plugin that finds it.
type obstacle struct {
	plugin, reason string
	// change is what would have to change; "" when nothing here helps.
	change string
}

// obstacles finds what keeps a pod from a node, given the pods that are placed on it. It knows the
// rules that concern one node alone; those over several nodes (inter-pod affinity, topology
// spread) and of volumes only the scheduler tells.
func obstacles(pod *corev1.Pod, node *corev1.Node, placed []*corev1.Pod) []obstacle {
	return slices.Concat(cordoned(pod, node), taints(pod, node), affinity(pod, node), ports(pod, placed), resources(pod, node, placed))
}

func cordoned(pod *corev1.Pod, node *corev1.Node) []obstacle {
	taint := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if !node.Spec.Unschedulable || tolerates(pod, &taint) {
		return nil
	}
	return []obstacle{{"NodeUnschedulable", "it is cordoned", "kubectl uncordon " + node.Name}}
}

func tolerates(pod *corev1.Pod, taint *corev1.Taint) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool { return t.ToleratesTaint(klog.Background(), taint, true) })
}

func taints(pod *corev1.Pod, node *corev1.Node) (found []obstacle) {
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule || tolerates(pod, taint) {
			continue
		}
		o := obstacle{plugin: "TaintToleration", reason: "untolerated taint " + taint.ToString()}
		switch taint.Key {
		case corev1.TaintNodeUnschedulable:
			if node.Spec.Unschedulable {
				continue // NodeUnschedulable says so
			}
			o.change = "kubectl uncordon " + node.Name
		case corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable:
			o.change = "the node must become Ready: hyperkube why node/" + node.Name
		case corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure, corev1.TaintNodePIDPressure, corev1.TaintNodeNetworkUnavailable:
			o.change = "the node's condition must end: hyperkube why node/" + node.Name
		default:
			value := ""
			if taint.Value != "" {
				value = "=" + taint.Value
			}
			o.change = fmt.Sprintf("add a toleration for %s%s:%s to the pod, or: kubectl taint node %s %s:%s-", taint.Key, value, taint.Effect, node.Name, taint.Key, taint.Effect)
		}
		found = append(found, o)
	}
	return found
}

// affinity compares the pod's nodeSelector and required node affinity with the node.
func affinity(pod *corev1.Pod, node *corev1.Node) []obstacle {
	if matches, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err == nil && matches {
		return nil
	}
	var missing []string // as key=value, for kubectl label
	var reasons []string
	for _, name := range sortedKeys(pod.Spec.NodeSelector) {
		want := pod.Spec.NodeSelector[name]
		if has, ok := node.Labels[name]; !ok {
			reasons, missing = append(reasons, fmt.Sprintf("has no label %s (wanted: %s)", name, want)), append(missing, name+"="+want)
		} else if has != want {
			reasons, missing = append(reasons, fmt.Sprintf("label %s is %s, not %s", name, has, want)), append(missing, name+"="+want)
		}
	}
	o := obstacle{plugin: "NodeAffinity", reason: strings.Join(reasons, "; ")}
	if len(missing) > 0 {
		o.change = fmt.Sprintf("label it: kubectl label node %s --overwrite %s; or change the pod's nodeSelector", node.Name, strings.Join(missing, " "))
	} else {
		o.reason, o.change = affinityMismatch(pod, node)
	}
	return []obstacle{o}
}

// affinityMismatch tells of the required term that comes nearest which expressions fail.
func affinityMismatch(pod *corev1.Pod, node *corev1.Node) (reason, change string) {
	var best []string
	found := false
	for _, term := range pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		var failing []string
		for _, e := range term.MatchExpressions {
			one := corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{e}}}}
			if matches, err := corev1helpers.MatchNodeSelectorTerms(node, &one); err != nil || !matches {
				has, ok := node.Labels[e.Key]
				if !ok {
					has = "(no such label)"
				}
				failing = append(failing, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Key, e.Operator, strings.Join(e.Values, ",")))+", but it is "+has)
			}
		}
		for _, e := range term.MatchFields {
			if !slices.Contains(e.Values, node.Name) {
				failing = append(failing, fmt.Sprintf("%s %s %s", e.Key, e.Operator, strings.Join(e.Values, ",")))
			}
		}
		if !found || len(failing) < len(best) {
			best, found = failing, true
		}
	}
	return "required node affinity: " + strings.Join(best, "; "), "label the node so, or change the pod's nodeAffinity"
}

// ports finds host ports that are taken.
func ports(pod *corev1.Pod, placed []*corev1.Pod) (found []obstacle) {
	for _, want := range hostPorts(pod) {
		for _, other := range placed {
			for _, has := range hostPorts(other) {
				sameIP := want.HostIP == has.HostIP || anyIP(want.HostIP) || anyIP(has.HostIP)
				if sameIP && want.HostPort == has.HostPort && want.Protocol == has.Protocol {
					found = append(found, obstacle{"NodePorts", fmt.Sprintf("host port %d/%s is taken by pod %s", want.HostPort, want.Protocol, key(other.Namespace, other.Name)),
						"free the port, or ask for another hostPort"})
				}
			}
		}
	}
	return found
}

func anyIP(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }

func hostPorts(pod *corev1.Pod) (found []corev1.ContainerPort) {
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				if p.Protocol == "" {
					p.Protocol = corev1.ProtocolTCP
				}
				found = append(found, p)
			}
		}
	}
	return found
}

// resources compares what the pod requests with what is left of the node's allocatable.
func resources(pod *corev1.Pod, node *corev1.Node, placed []*corev1.Pod) (found []obstacle) {
	if places, ok := node.Status.Allocatable[corev1.ResourcePods]; ok && int64(len(placed)) >= places.Value() {
		found = append(found, obstacle{"NodeResourcesFit", fmt.Sprintf("Too many pods: %d of %s", len(placed), places.String()), "delete a pod of " + node.Name + ", or add a node"})
	}
	want := requestsOf(pod)
	used := requested(placed)
	for _, name := range sortedKeys(want) {
		if want.Name(name, resource.DecimalSI).IsZero() {
			continue
		}
		need, allocatable, taken := want[name], node.Status.Allocatable[name], used[name]
		free := allocatable.DeepCopy()
		free.Sub(taken)
		if need.Cmp(free) <= 0 {
			continue
		}
		o := obstacle{plugin: "NodeResourcesFit", reason: fmt.Sprintf("Insufficient %s: it wants %s, %s of %s are requested", name, need.String(), taken.String(), allocatable.String())}
		switch {
		case allocatable.IsZero():
			o.change = fmt.Sprintf("a node that has %s", name)
		case need.Cmp(allocatable) > 0:
			o.change = fmt.Sprintf("ask for at most %s of %s, or add a larger node: not even an empty %s has room", allocatable.String(), name, node.Name)
		default:
			short := need.DeepCopy()
			short.Sub(free)
			o.change = fmt.Sprintf("free %s of %s on %s (requested %s of %s%s)", short.String(), name, node.Name, taken.String(), allocatable.String(), biggest(placed, name, 3))
		}
		found = append(found, o)
	}
	return found
}

func requestsOf(pod *corev1.Pod) corev1.ResourceList {
	return resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{UseStatusResources: true})
}

func requested(pods []*corev1.Pod) corev1.ResourceList {
	sum := corev1.ResourceList{}
	for _, pod := range pods {
		for name, quantity := range requestsOf(pod) {
			total := sum[name]
			total.Add(quantity)
			sum[name] = total
		}
	}
	return sum
}

// biggest names the pods that request most of a resource: "; most by web-1 500m, web-2 300m".
func biggest(pods []*corev1.Pod, name corev1.ResourceName, limit int) string {
	sorted := slices.Clone(pods)
	amount := func(p *corev1.Pod) resource.Quantity { return requestsOf(p)[name] }
	slices.SortStableFunc(sorted, func(a, b *corev1.Pod) int {
		x, y := amount(a), amount(b)
		return y.Cmp(x)
	})
	var words []string
	for _, pod := range sorted[:min(limit, len(sorted))] {
		if q := amount(pod); !q.IsZero() {
			words = append(words, pod.Name+" "+q.String())
		}
	}
	if len(words) == 0 {
		return ""
	}
	return "; most by " + strings.Join(words, ", ")
}

// placedOn are the pods that take room on a node.
func placedOn(node string, pods []corev1.Pod) (placed []*corev1.Pod) {
	for i := range pods {
		if pods[i].Spec.NodeName == node && !corepod.IsPodTerminal(&pods[i]) {
			placed = append(placed, &pods[i])
		}
	}
	return placed
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
