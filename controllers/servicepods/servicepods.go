// Package servicepods answers what endpointslice and endpoints both ask: which
// Services a pod's event concerns, and what of a pod a Service shows.
//
// # In Kubernetes
//
// staging/src/k8s.io/endpointslice/util/controller_utils.go
// (GetPodUpdateProjectionKey, ShouldPodBeInEndpoints, ShouldSetHostname) and
// FindPort in pkg/api/v1/pod/util.go.
package servicepods

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	corelisters "k8s.io/client-go/listers/core/v1"

	podutil "hyperkube/api/core/pod"
	"hyperkube/reconcile"
)

// Keys names the Services whose selectors match the pod, or matched it before.
// A change that no Service shows names none: a status write every ten seconds of a
// thousand pods is the common case.
func Keys(services corelisters.ServiceLister) reconcile.Keys {
	return func(e reconcile.Event) []string {
		var sets []labels.Set
		for _, object := range []metav1.Object{e.Old, e.New} {
			if pod, ok := object.(*corev1.Pod); ok && pod != nil {
				sets = append(sets, pod.Labels)
			}
		}
		if len(sets) == 2 {
			if !podEndpointsChanged(e.Old.(*corev1.Pod), e.New.(*corev1.Pod)) {
				return nil
			}
			if labels.Equals(sets[0], sets[1]) {
				sets = sets[:1]
			}
		}
		all, err := services.Services(e.Object().GetNamespace()).List(labels.Everything())
		if err != nil {
			return nil
		}
		var keys []string
		for _, service := range all {
			if len(service.Spec.Selector) == 0 {
				continue // its endpoints are made by hand
			}
			selector := labels.SelectorFromValidatedSet(service.Spec.Selector)
			if slices.ContainsFunc(sets, func(set labels.Set) bool { return selector.Matches(set) }) {
				keys = append(keys, reconcile.KeyOf(service))
			}
		}
		return keys
	}
}

// podEndpointsChanged compares what Services show of a pod.
func podEndpointsChanged(a, b *corev1.Pod) bool {
	return (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) ||
		a.UID != b.UID ||
		podutil.IsPodReady(a) != podutil.IsPodReady(b) ||
		podutil.IsPodTerminal(a) != podutil.IsPodTerminal(b) ||
		a.Status.PodIP != b.Status.PodIP || !slices.Equal(a.Status.PodIPs, b.Status.PodIPs) ||
		a.Spec.NodeName != b.Spec.NodeName || a.Spec.Hostname != b.Spec.Hostname || a.Spec.Subdomain != b.Spec.Subdomain ||
		!labels.Equals(a.Labels, b.Labels)
}

// ShouldPodBeInEndpoints: a pod that has ended, or has no address, is shown by no
// Service; one that is going only where includeTerminating.
func ShouldPodBeInEndpoints(pod *corev1.Pod, includeTerminating bool) bool {
	if podutil.IsPodTerminal(pod) || pod.Status.PodIP == "" && len(pod.Status.PodIPs) == 0 {
		return false
	}
	return includeTerminating || pod.DeletionTimestamp == nil
}

// ShouldSetHostname: the pod has a name of its own under this headless Service.
func ShouldSetHostname(pod *corev1.Pod, service *corev1.Service) bool {
	return pod.Spec.Hostname != "" && pod.Spec.Subdomain == service.Name && service.Namespace == pod.Namespace
}

// FindPort is the number of the pod's port that the Service's port leads to. A
// named target is looked up in the pod's containers, so that it may differ from
// pod to pod.
func FindPort(pod *corev1.Pod, port *corev1.ServicePort) (int32, error) {
	if port.TargetPort.Type == intstr.Int {
		return port.TargetPort.IntVal, nil
	}
	for _, container := range pod.Spec.Containers {
		if number, ok := containerPort(container, port); ok {
			return number, nil
		}
	}
	// A sidecar runs as long as the containers do, and may serve too.
	for _, container := range pod.Spec.InitContainers {
		if container.RestartPolicy == nil || *container.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		if number, ok := containerPort(container, port); ok {
			return number, nil
		}
	}
	return 0, fmt.Errorf("no port named %q in pod %s/%s", port.TargetPort.StrVal, pod.Namespace, pod.Name)
}

func containerPort(container corev1.Container, port *corev1.ServicePort) (int32, bool) {
	for _, p := range container.Ports {
		if p.Name == port.TargetPort.StrVal && p.Protocol == port.Protocol {
			return p.ContainerPort, true
		}
	}
	return 0, false
}

// IsHeadless: a Service without an address of its own; DNS answers with its pods.
func IsHeadless(service *corev1.Service) bool {
	return service.Spec.ClusterIP == corev1.ClusterIPNone || service.Spec.ClusterIP == ""
}
