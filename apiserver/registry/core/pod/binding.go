package pod

import (
	"context"
	"fmt"
	"net/http"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	podutil "hyperkube/api/core/pod"
	"hyperkube/api/rule"
	"hyperkube/apiserver/registry"
)

var pods = schema.GroupResource{Resource: "pods"}

// BindingResource is the line of bindings: what a scheduler may POST beside pods/binding.
func BindingResource(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "bindings", Singular: "binding", Kind: v1.SchemeGroupVersion.WithKind("Binding"),
		New: func() runtime.Object { return &v1.Binding{} },
		Answer: func(ctx context.Context, namespace string, obj runtime.Object, opts *metav1.CreateOptions) (runtime.Object, error) {
			binding := obj.(*v1.Binding)
			if binding.Name == "" {
				return nil, errors.NewBadRequest("Name parameter required.")
			}
			binding.UID = "" // as of all that is created: it names no incarnation of the pod
			return binder{env}.bind(ctx, namespace, binding.Name, binding, opts)
		},
	}
}

func bindingSubresource(env *registry.Env) registry.Subresource {
	return registry.Subresource{
		Kind: v1.SchemeGroupVersion.WithKind("Binding"),
		New:  func() runtime.Object { return &v1.Binding{} },
		Create: func(ctx context.Context, namespace, name string, obj runtime.Object, opts *metav1.CreateOptions) (runtime.Object, error) {
			binding := obj.(*v1.Binding)
			if binding.Name != name {
				return nil, errors.NewBadRequest("name in URL does not match name in Binding object")
			}
			return binder{env}.bind(ctx, namespace, name, binding, opts)
		},
	}
}

// binder assigns pods to nodes: it is all that a scheduler does to a pod.
type binder struct{ env *registry.Env }

func (b binder) bind(ctx context.Context, namespace, name string, binding *v1.Binding, opts *metav1.CreateOptions) (runtime.Object, error) {
	if errs := validateBinding(binding); len(errs) > 0 {
		return nil, unclassified(errs.ToAggregate().Error())
	}
	_, err := b.env.Store(pods).GuaranteedUpdate(ctx, namespace, name, len(opts.DryRun) > 0, func(current runtime.Object) (runtime.Object, error) {
		pod := current.(*v1.Pod)
		if failed := failedPrecondition(pod, binding); failed != "" {
			return nil, errors.NewConflict(pods, name, fmt.Errorf("StorageError: invalid object, Code: 4, Key: /pods/%s/%s, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: %s", namespace, name, failed))
		}
		if err := assignPod(pod, binding); err != nil {
			return nil, errors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, name, err)
		}
		return pod, nil
	})
	if err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess, Code: 201}, nil
}

// unclassified is a mistake of the client of which upstream does not say the kind, and answers 500.
func unclassified(message string) error {
	return &errors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: message}}
}

// failedPrecondition tells in what the pod is not the one that the binding's metadata names, in the words of upstream's store.
func failedPrecondition(pod *v1.Pod, binding *v1.Binding) string {
	if uid := binding.UID; uid != "" && uid != pod.UID {
		return fmt.Sprintf("UID in precondition: %v, UID in object meta: %v", uid, pod.UID)
	}
	if version := binding.ResourceVersion; version != "" && version != pod.ResourceVersion {
		return fmt.Sprintf("ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", version, pod.ResourceVersion)
	}
	return ""
}

func validateBinding(binding *v1.Binding) field.ErrorList {
	path := field.NewPath("target")
	var errs field.ErrorList
	if kind := binding.Target.Kind; kind != "" && kind != "Node" {
		errs = append(errs, field.NotSupported(path.Child("kind"), kind, []string{"Node", "<empty>"}))
	}
	if binding.Target.Name == "" {
		return append(errs, field.Required(path.Child("name"), ""))
	}
	return append(errs, rule.DNSSubdomain(binding.Target.Name, path.Child("name"))...)
}

func assignPod(pod *v1.Pod, binding *v1.Binding) error {
	switch {
	case pod.DeletionTimestamp != nil:
		return fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", pod.Name)
	case pod.Spec.NodeName != "":
		return fmt.Errorf("pod %v is already assigned to node %q", pod.Name, pod.Spec.NodeName)
	case len(pod.Spec.SchedulingGates) > 0:
		return fmt.Errorf("pod %v has non-empty .spec.schedulingGates", pod.Name)
	}
	// The generation stays: a scheduled pod is still at 1 (conformance test "pod generation should start at 1").
	pod.Spec.NodeName = binding.Target.Name
	pod.Annotations = merge(pod.Annotations, binding.Annotations)
	podutil.DropInitContainerAnnotations(pod.Annotations)
	pod.Labels = merge(pod.Labels, binding.Labels)
	pod.Status.NominatedNodeName = ""
	podutil.UpdatePodCondition(&pod.Status, &v1.PodCondition{Type: v1.PodScheduled, Status: v1.ConditionTrue})
	return nil
}

func merge(into, from map[string]string) map[string]string {
	if into == nil && len(from) > 0 {
		into = map[string]string{}
	}
	for key, value := range from {
		into[key] = value
	}
	return into
}
