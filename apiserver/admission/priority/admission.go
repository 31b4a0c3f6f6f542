// Package priority turns a pod's priorityClassName into the number the scheduler and the kubelet
// compare, and keeps users from writing the number themselves.
//
// In Kubernetes: plugin/pkg/admission/priority.
package priority

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

// systemClasses exist in every cluster, whether or not PriorityClass objects are served.
var systemClasses = map[string]int32{
	"system-cluster-critical": 2000000000,
	"system-node-critical":    2000001000,
}

type priority struct {
	classes lister.Lister[*schedulingv1.PriorityClass]
}

// New makes the plugin.
func New(classes lister.Lister[*schedulingv1.PriorityClass]) plugin.Plugin {
	p := &priority{classes}
	return plugin.Plugin{
		Name:       "Priority",
		Operations: []request.Operation{request.Create, request.Update},
		Admit:      p.admit,
		Sets:       map[schema.GroupResource][]string{plugin.Pods: {"spec.priorityClassName", "spec.priority", "spec.preemptionPolicy"}},
		Validate:   p.validate,
	}
}

func (p *priority) admit(_ context.Context, a *request.AdmissionAttributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !plugin.Is(a, "", "pods") {
		return nil
	}
	if old, ok := a.OldObject.(*corev1.Pod); ok && a.Operation == request.Update {
		// A PUT by a client that does not know the fields must not drop them.
		if pod.Spec.Priority == nil {
			pod.Spec.Priority = old.Spec.Priority
		}
		if pod.Spec.PreemptionPolicy == nil {
			pod.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
		}
		return nil
	}
	name, value, preemption, err := p.resolve(pod.Spec.PriorityClassName)
	if err != nil {
		return plugin.Forbidden(a, err)
	}
	if pod.Spec.Priority != nil && *pod.Spec.Priority != value {
		return plugin.Forbidden(a, fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *pod.Spec.Priority, value))
	}
	if pod.Spec.PreemptionPolicy != nil && *pod.Spec.PreemptionPolicy != preemption {
		return plugin.Forbidden(a, fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *pod.Spec.PreemptionPolicy, preemption))
	}
	pod.Spec.PriorityClassName, pod.Spec.Priority, pod.Spec.PreemptionPolicy = name, &value, &preemption
	return nil
}

// resolve returns the class (the global default, if there is one, for pods that name none) and what it
// says.
func (p *priority) resolve(name string) (string, int32, corev1.PreemptionPolicy, error) {
	const lower = corev1.PreemptLowerPriority
	if name == "" {
		class, err := p.globalDefault()
		if err != nil || class == nil {
			return "", 0, lower, err
		}
		return class.Name, class.Value, ptr.Deref(class.PreemptionPolicy, lower), nil
	}
	class, err := p.classes.Get("", name)
	if err == nil {
		return name, class.Value, ptr.Deref(class.PreemptionPolicy, lower), nil
	}
	if !apierrors.IsNotFound(err) {
		return "", 0, "", fmt.Errorf("failed to get PriorityClass %s: %w", name, err)
	}
	if value, ok := systemClasses[name]; ok {
		return name, value, lower, nil
	}
	return "", 0, "", fmt.Errorf("no PriorityClass with name %v was found", name)
}

// globalDefault returns the lowest of the classes marked so, since two may have been created at once.
func (p *priority) globalDefault() (*schedulingv1.PriorityClass, error) {
	classes, err := p.classes.List("")
	var lowest *schedulingv1.PriorityClass
	for _, c := range classes {
		if c.GlobalDefault && (lowest == nil || c.Value < lowest.Value) {
			lowest = c
		}
	}
	return lowest, err
}

// validate allows one global default.
func (p *priority) validate(_ context.Context, a *request.AdmissionAttributes) error {
	class, ok := a.Object.(*schedulingv1.PriorityClass)
	if !ok || !class.GlobalDefault || !plugin.Is(a, schedulingv1.GroupName, "priorityclasses") {
		return nil
	}
	present, err := p.globalDefault()
	if err != nil {
		return fmt.Errorf("failed to get default priority class: %w", err)
	}
	if present != nil && (a.Operation == request.Create || present.Name != class.Name) {
		return plugin.Forbidden(a, fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", present.Name))
	}
	return nil
}
