package connect

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	apipod "hyperkube/api/core/pod"
)

// validateContainer returns the container that is meant: the named one, which must exist, or the only
// one.
func validateContainer(name string, pod *corev1.Pod) (string, error) {
	if name != "" {
		found := false
		apipod.VisitContainers(&pod.Spec, apipod.AllContainers, func(c *corev1.Container, _ apipod.ContainerType) bool {
			found = c.Name == name
			return !found
		})
		if !found {
			return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
		}
		return name, nil
	}
	switch len(pod.Spec.Containers) {
	case 0:
		return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
	case 1:
		return pod.Spec.Containers[0].Name, nil
	}
	message := fmt.Sprintf("a container name must be specified for pod %s, choose one of: %v", pod.Name, names(pod, apipod.Containers))
	if init := names(pod, apipod.InitContainers); len(init) > 0 {
		message += fmt.Sprintf(" or one of the init containers: %v", init)
	}
	return "", apierrors.NewBadRequest(message)
}

func names(pod *corev1.Pod, which apipod.ContainerType) []string {
	var out []string
	apipod.VisitContainers(&pod.Spec, which, func(c *corev1.Container, _ apipod.ContainerType) bool {
		out = append(out, c.Name)
		return true
	})
	return out
}
