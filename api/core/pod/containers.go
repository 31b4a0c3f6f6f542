package pod

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ContainerType says in which of the three lists of a pod spec a container stands.
type ContainerType int

const (
	Containers ContainerType = 1 << iota
	InitContainers
	EphemeralContainers

	AllContainers = Containers | InitContainers | EphemeralContainers
)

// VisitContainers calls visit for each container of the chosen lists: init
// containers first, then the main ones, then the ephemeral ones. It stops, and
// returns false, when visit returns false. An ephemeral container is shown
// through its common part, so changes to it are seen in the spec.
func VisitContainers(spec *v1.PodSpec, which ContainerType, visit func(c *v1.Container, kind ContainerType) bool) bool {
	return VisitContainersWithPath(spec, nil, which, func(c *v1.Container, kind ContainerType, _ *field.Path) bool {
		return visit(c, kind)
	})
}

// VisitContainersWithPath is VisitContainers with the path of each container below specPath.
func VisitContainersWithPath(spec *v1.PodSpec, specPath *field.Path, which ContainerType, visit func(*v1.Container, ContainerType, *field.Path) bool) bool {
	if which&InitContainers != 0 {
		for i := range spec.InitContainers {
			if !visit(&spec.InitContainers[i], InitContainers, specPath.Child("initContainers").Index(i)) {
				return false
			}
		}
	}
	if which&Containers != 0 {
		for i := range spec.Containers {
			if !visit(&spec.Containers[i], Containers, specPath.Child("containers").Index(i)) {
				return false
			}
		}
	}
	if which&EphemeralContainers != 0 {
		for i := range spec.EphemeralContainers {
			// The common part has the fields of Container, in the same order.
			c := (*v1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon)
			if !visit(c, EphemeralContainers, specPath.Child("ephemeralContainers").Index(i)) {
				return false
			}
		}
	}
	return true
}

// IsRestartableInitContainer reports whether an init container is a sidecar: one
// that is started in its turn but runs beside the main containers (KEP-753).
func IsRestartableInitContainer(c *v1.Container) bool {
	return c != nil && c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways
}

// GetContainerStatus finds a container's status by name.
func GetContainerStatus(statuses []v1.ContainerStatus, name string) (v1.ContainerStatus, bool) {
	for i := range statuses {
		if statuses[i].Name == name {
			return statuses[i], true
		}
	}
	return v1.ContainerStatus{}, false
}

// FindPort gives the number of the container port a service port of the pod leads to:
// by number, or by name among the ports of main containers and sidecars.
func FindPort(pod *v1.Pod, port *v1.ServicePort) (int32, bool) {
	if port.TargetPort.StrVal == "" {
		return port.TargetPort.IntVal, true
	}
	var number int32
	match := func(c *v1.Container) bool {
		for _, p := range c.Ports {
			if p.Name == port.TargetPort.StrVal && p.Protocol == port.Protocol {
				number = p.ContainerPort
				return true
			}
		}
		return false
	}
	for i := range pod.Spec.Containers {
		if match(&pod.Spec.Containers[i]) {
			return number, true
		}
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; IsRestartableInitContainer(c) && match(c) {
			return number, true
		}
	}
	return 0, false
}
