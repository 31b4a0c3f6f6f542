package envvars

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Node is what a pod may learn of its node by the downward API.
type Node struct {
	Name        string
	HostIPs     []string
	Allocatable v1.ResourceList
}

// FieldValue is the value of a fieldRef.
func FieldValue(pod *v1.Pod, path string, node Node, podIPs []string) (string, error) {
	if name, subscript, ok := splitSubscript(path); ok {
		switch name {
		case "metadata.annotations":
			return pod.Annotations[subscript], nil
		case "metadata.labels":
			return pod.Labels[subscript], nil
		}
		return "", fmt.Errorf("fieldPath %q does not support subscript", path)
	}
	switch path {
	case "metadata.annotations":
		return FormatMap(pod.Annotations), nil
	case "metadata.labels":
		return FormatMap(pod.Labels), nil
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(node.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(node.HostIPs, ","), nil
	case "status.podIP":
		return first(podIPs), nil
	case "status.podIPs":
		return strings.Join(podIPs, ","), nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %v", path)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// splitSubscript splits metadata.labels['key'].
func splitSubscript(path string) (name, subscript string, ok bool) {
	name, rest, found := strings.Cut(path, "['")
	if !found || !strings.HasSuffix(rest, "']") {
		return path, "", false
	}
	return name, strings.TrimSuffix(rest, "']"), true
}

// FormatMap writes a map as the downward API does: key="value", a line each, sorted.
func FormatMap(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	lines := make([]string, len(keys))
	for i, key := range keys {
		lines[i] = fmt.Sprintf("%v=%q", key, m[key])
	}
	return strings.Join(lines, "\n")
}

// ResourceValue is the value of a resourceFieldRef. A limit that is not set is
// what the node has: more than that the container cannot get.
func ResourceValue(ref *v1.ResourceFieldSelector, container *v1.Container, node Node) (string, error) {
	kind, name, found := strings.Cut(ref.Resource, ".")
	list := container.Resources.Limits
	if kind == "requests" {
		list = container.Resources.Requests
	}
	if !found || kind != "limits" && kind != "requests" {
		return "", fmt.Errorf("unsupported container resource : %v", ref.Resource)
	}
	quantity, set := list[v1.ResourceName(name)]
	if kind == "limits" && (!set || quantity.IsZero()) {
		quantity = node.Allocatable[v1.ResourceName(name)]
	}
	return divide(v1.ResourceName(name), quantity, ref.Divisor), nil
}

// divide rounds up: a program told of less than it has is safer than the reverse.
func divide(name v1.ResourceName, quantity, divisor resource.Quantity) string {
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == v1.ResourceCPU {
		return strconv.FormatInt(int64(math.Ceil(float64(quantity.MilliValue())/float64(divisor.MilliValue()))), 10)
	}
	return strconv.FormatInt(int64(math.Ceil(float64(quantity.Value())/float64(divisor.Value()))), 10)
}
