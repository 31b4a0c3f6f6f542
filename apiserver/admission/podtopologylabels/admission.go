// Package podtopologylabels copies the zone and the region of a node to the pods that are bound to it, so that a
// program can learn them through the downward API.
//
// In Kubernetes: plugin/pkg/admission/podtopologylabels.
package podtopologylabels

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

var topologyLabels = []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion}

type topology struct {
	nodes lister.Lister[*corev1.Node]
}

// New makes the plugin.
func New(nodes lister.Lister[*corev1.Node]) plugin.Plugin {
	t := &topology{nodes}
	return plugin.Plugin{
		Name:       "PodTopologyLabels",
		Operations: []request.Operation{request.Create},
		Admit:      t.admit,
		Sets:       map[schema.GroupResource][]string{plugin.Pods: {"metadata.labels"}},
		Given:      "spec.nodeName",
	}
}

// admit adds the labels to a Binding, which hands them to its pod, and to a pod that is created bound.
func (t *topology) admit(_ context.Context, a *request.AdmissionAttributes) error {
	if a.Resource.GroupResource() != (schema.GroupResource{Resource: "pods"}) {
		return nil
	}
	switch obj := a.Object.(type) {
	case *corev1.Binding:
		if a.Subresource != "binding" || obj.Target.Kind != "" && obj.Target.Kind != "Node" {
			return nil
		}
		return t.label(&obj.Labels, obj.Target.Name)
	case *corev1.Pod:
		if a.Subresource != "" || obj.Spec.NodeName == "" {
			return nil
		}
		return t.label(&obj.Labels, obj.Spec.NodeName)
	}
	return nil
}

// label adds what the node has and the object lacks. A node that is not there (yet) has none.
func (t *topology) label(labels *map[string]string, nodeName string) error {
	node, err := t.nodes.Get("", nodeName)
	if apierrors.IsNotFound(err) || apierrors.IsBadRequest(err) { // a name that no node can have: of that validation tells
		return nil
	}
	if err != nil {
		return err
	}
	for _, key := range topologyLabels {
		value, known := node.Labels[key]
		if _, has := (*labels)[key]; has || !known {
			continue
		}
		if *labels == nil {
			*labels = map[string]string{}
		}
		(*labels)[key] = value
	}
	return nil
}
