package noderestriction

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	kubeletapis "k8s.io/kubelet/pkg/apis"

	"hyperkube/apiserver/request"
)

// admitNode: a kubelet writes its own Node only, and neither its taints nor the labels by which pods
// are steered away from it.
func admitNode(nodeName string, a *request.AdmissionAttributes) error {
	name := a.Name
	node, ok := a.Object.(*corev1.Node)
	if a.Operation == request.Create && ok {
		name = node.Name
	}
	if name != nodeName {
		return fmt.Errorf("node %q is not allowed to modify node %q", nodeName, name)
	}
	switch a.Operation {
	case request.Create:
		if !ok {
			return unexpected(a)
		}
		if node.Spec.ConfigSource != nil {
			return fmt.Errorf("node %q is not allowed to create pods with a non-nil configSource", nodeName)
		}
		if refused := forbiddenLabels(node.Labels, nil); len(refused) > 0 {
			return fmt.Errorf("node %q is not allowed to set the following labels: %s", nodeName, strings.Join(refused, ", "))
		}
	case request.Update:
		old, oldOK := a.OldObject.(*corev1.Node)
		if !ok || !oldOK {
			return unexpected(a)
		}
		if node.Spec.ConfigSource != nil && !apiequality.Semantic.DeepEqual(node.Spec.ConfigSource, old.Spec.ConfigSource) {
			return fmt.Errorf("node %q is not allowed to update configSource to a new non-nil configSource", nodeName)
		}
		if !apiequality.Semantic.DeepEqual(node.Spec.Taints, old.Spec.Taints) {
			return fmt.Errorf("node %q is not allowed to modify taints", nodeName)
		}
		if !apiequality.Semantic.DeepEqual(node.OwnerReferences, old.OwnerReferences) {
			return fmt.Errorf("node %q is not allowed to modify ownerReferences", nodeName)
		}
		if refused := forbiddenLabels(node.Labels, old.Labels); len(refused) > 0 {
			return fmt.Errorf("is not allowed to modify labels: %s", strings.Join(refused, ", "))
		}
	}
	return nil
}

// forbiddenLabels returns the keys that differ and that a kubelet may not set.
func forbiddenLabels(labels, old map[string]string) []string {
	var refused []string
	check := func(key string) {
		namespace, _, found := strings.Cut(key, "/")
		if !found {
			return
		}
		if within(namespace, corev1.LabelNamespaceNodeRestriction) ||
			(within(namespace, "kubernetes.io") || within(namespace, "k8s.io")) && !kubeletapis.IsKubeletLabel(key) {
			refused = append(refused, key)
		}
	}
	for key, value := range labels {
		if before, had := old[key]; !had || before != value {
			check(key)
		}
	}
	for key := range old {
		if _, has := labels[key]; !has {
			check(key)
		}
	}
	slices.Sort(refused)
	return refused
}

func within(namespace, domain string) bool {
	return namespace == domain || strings.HasSuffix(namespace, "."+domain)
}
