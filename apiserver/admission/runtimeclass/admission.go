// Package runtimeclass gives a new pod what its RuntimeClass says: the overhead of its sandbox, which counts beside its
// containers, and the nodes that can run it.
//
// In Kubernetes: plugin/pkg/admission/runtimeclass.
package runtimeclass

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

type runtimeClass struct {
	classes lister.Lister[*nodev1.RuntimeClass]
}

// New makes the plugin; classes is a confirmed lister.
func New(classes lister.Lister[*nodev1.RuntimeClass]) plugin.Plugin {
	r := &runtimeClass{classes}
	return plugin.Plugin{
		Name:       "RuntimeClass",
		Operations: []request.Operation{request.Create},
		Admit:      r.admit,
		Sets:       map[schema.GroupResource][]string{plugin.Pods: {"spec.overhead", "spec.nodeSelector", "spec.tolerations"}},
		Given:      "spec.runtimeClassName",
		Validate:   r.validate,
	}
}

func (r *runtimeClass) admit(_ context.Context, a *request.AdmissionAttributes) error {
	pod, class, err := r.prepareObjects(a)
	if err != nil || class == nil {
		return err
	}
	if class.Overhead != nil {
		if pod.Spec.Overhead != nil && !apiequality.Semantic.DeepEqual(class.Overhead.PodFixed, pod.Spec.Overhead) {
			return plugin.Forbidden(a, errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
		}
		pod.Spec.Overhead = class.Overhead.PodFixed.DeepCopy()
	}
	if class.Scheduling != nil {
		return setScheduling(a, pod, class.Scheduling)
	}
	return nil
}

// validate: nobody but this plugin sets an overhead.
func (r *runtimeClass) validate(_ context.Context, a *request.AdmissionAttributes) error {
	pod, class, err := r.prepareObjects(a)
	if err != nil || pod == nil {
		return err
	}
	if class == nil || class.Overhead == nil {
		if pod.Spec.Overhead != nil {
			return plugin.Forbidden(a, errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
		}
		return nil
	}
	if !apiequality.Semantic.DeepEqual(class.Overhead.PodFixed, pod.Spec.Overhead) {
		return plugin.Forbidden(a, errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
	}
	return nil
}

// prepareObjects returns the pod, nil when the request is about something else, and its class, nil when it names none.
func (r *runtimeClass) prepareObjects(a *request.AdmissionAttributes) (*corev1.Pod, *nodev1.RuntimeClass, error) {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !plugin.Is(a, "", "pods") {
		return nil, nil, nil
	}
	if pod.Spec.RuntimeClassName == nil {
		return pod, nil, nil
	}
	class, err := r.classes.Get("", *pod.Spec.RuntimeClassName)
	if apierrors.IsNotFound(err) {
		return nil, nil, plugin.Forbidden(a, fmt.Errorf("pod rejected: RuntimeClass %q not found", *pod.Spec.RuntimeClassName))
	}
	return pod, class, err
}

func setScheduling(a *request.AdmissionAttributes, pod *corev1.Pod, scheduling *nodev1.Scheduling) error {
	for key, value := range scheduling.NodeSelector {
		if own, has := pod.Spec.NodeSelector[key]; has && own != value {
			return plugin.Forbidden(a, fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, own))
		}
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
		pod.Spec.NodeSelector[key] = value
	}
	for _, toleration := range scheduling.Tolerations {
		if !slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool { return apiequality.Semantic.DeepEqual(t, toleration) }) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, toleration)
		}
	}
	return nil
}
