package pod

import (
	"regexp"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// SetDefaultsPod fills what the writer of a pod left out. What it does beyond
// SetDefaultsPodSpec happens to pods only: a template keeps the words of its
// author, so that a change of a default does not look like a change of the template.
func SetDefaultsPod(pod *v1.Pod) {
	SetDefaultsPodSpec(&pod.Spec)
	DropInitContainerAnnotations(pod.Annotations)
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil && *s < 0 {
		pod.Spec.TerminationGracePeriodSeconds = ptr.To(int64(1))
	}
	for i := range pod.Spec.Containers {
		requestLimits(&pod.Spec.Containers[i].Resources)
	}
	for i := range pod.Spec.InitContainers {
		requestLimits(&pod.Spec.InitContainers[i].Resources)
	}
	if pod.Spec.EnableServiceLinks == nil {
		pod.Spec.EnableServiceLinks = ptr.To(v1.DefaultEnableServiceLinks)
	}
	if pod.Spec.HostNetwork {
		defaultHostNetworkPorts(pod.Spec.Containers)
		defaultHostNetworkPorts(pod.Spec.InitContainers)
	}
	setDefaultsStatus(&pod.Status)
}

// SetDefaultsPodTemplate fills the template of a workload.
func SetDefaultsPodTemplate(template *v1.PodTemplateSpec) {
	SetDefaultsPodSpec(&template.Spec)
	DropInitContainerAnnotations(template.Annotations)
}

// SetDefaultsPodSpec fills the fields that pods and templates share, and takes out those that nobody can have yet.
func SetDefaultsPodSpec(spec *v1.PodSpec) {
	dropDisabledFields(spec)
	setDefault(&spec.DNSPolicy, v1.DNSClusterFirst)
	setDefault(&spec.RestartPolicy, v1.RestartPolicyAlways)
	setDefault(&spec.SchedulerName, v1.DefaultSchedulerName)
	if spec.SecurityContext == nil {
		spec.SecurityContext = &v1.PodSecurityContext{}
	}
	if spec.TerminationGracePeriodSeconds == nil {
		spec.TerminationGracePeriodSeconds = ptr.To(int64(v1.DefaultTerminationGracePeriodSeconds))
	}
	// Two names of one field: serviceAccount is the old one.
	setDefault(&spec.ServiceAccountName, spec.DeprecatedServiceAccount)
	spec.DeprecatedServiceAccount = spec.ServiceAccountName
	// A false hostUsers, hostPID … is kept as written; an absent one is false.
	for i := range spec.Volumes {
		setDefaultsVolume(&spec.Volumes[i])
	}
	VisitContainers(spec, AllContainers, func(c *v1.Container, kind ContainerType) bool {
		setDefaultsContainer(c)
		return true
	})
	setDefaultsResourceList(spec.Overhead)
	setDefaultsResources(spec.Resources)
}

func setDefaultsContainer(c *v1.Container) {
	setDefault(&c.ImagePullPolicy, defaultPullPolicy(c.Image))
	setDefault(&c.TerminationMessagePath, v1.TerminationMessagePathDefault)
	setDefault(&c.TerminationMessagePolicy, v1.TerminationMessageReadFile)
	for i := range c.Ports {
		setDefault(&c.Ports[i].Protocol, v1.ProtocolTCP)
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil {
			setDefaultsFieldRef(from.FieldRef)
			if from.FileKeyRef != nil && from.FileKeyRef.Optional == nil {
				from.FileKeyRef.Optional = ptr.To(false)
			}
		}
	}
	setDefaultsResourceList(c.Resources.Limits)
	setDefaultsResourceList(c.Resources.Requests)
	for _, probe := range []*v1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		setDefaultsProbe(probe)
	}
	if c.Lifecycle != nil {
		for _, handler := range []*v1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if handler != nil {
				setDefaultsHTTPGet(handler.HTTPGet)
			}
		}
	}
}

func setDefaultsProbe(probe *v1.Probe) {
	if probe == nil {
		return
	}
	setDefault(&probe.TimeoutSeconds, 1)
	setDefault(&probe.PeriodSeconds, 10)
	setDefault(&probe.SuccessThreshold, 1)
	setDefault(&probe.FailureThreshold, 3)
	setDefaultsHTTPGet(probe.HTTPGet)
	if probe.GRPC != nil && probe.GRPC.Service == nil {
		probe.GRPC.Service = ptr.To("")
	}
}

func setDefaultsHTTPGet(action *v1.HTTPGetAction) {
	if action != nil {
		setDefault(&action.Path, "/")
		setDefault(&action.Scheme, v1.URISchemeHTTP)
	}
}

// defaultPullPolicy pulls a moving tag (":latest", written or implied) at each
// start, and anything else only when it is absent.
func defaultPullPolicy(image string) v1.PullPolicy {
	if imageTag(image) == "latest" {
		return v1.PullAlways
	}
	return v1.PullIfNotPresent
}

// imageName is what an image may be called: a registry's host, a path, a tag, a digest.
var imageName = regexp.MustCompile(`^(?:(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?/)?` +
	`([a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)(?::([\w][\w.-]{0,127}))?(@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?$`)

const (
	maxImagePath = 255
	imageIDChars = 64 // of a name that is an image's identifier, which nobody can pull
)

// imageTag is the tag of an image reference, "latest" where there is neither a
// tag nor a digest, and none where it is no reference.
func imageTag(image string) string {
	parts := imageName.FindStringSubmatch(image)
	if parts == nil || len(parts[1]) > maxImagePath || isImageID(image) {
		return ""
	}
	if parts[2] == "" && parts[3] == "" {
		return "latest"
	}
	return parts[2]
}

func isImageID(image string) bool {
	return len(image) == imageIDChars && strings.Trim(image, "0123456789abcdef") == ""
}

// requestLimits requests what is limited and not requested.
func requestLimits(r *v1.ResourceRequirements) {
	if r.Limits == nil {
		return
	}
	if r.Requests == nil {
		r.Requests = v1.ResourceList{}
	}
	for name, limit := range r.Limits {
		if _, ok := r.Requests[name]; !ok {
			r.Requests[name] = limit.DeepCopy()
		}
	}
}

// defaultHostNetworkPorts: in the host's network a container port is a host port.
func defaultHostNetworkPorts(containers []v1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			setDefault(&containers[i].Ports[j].HostPort, containers[i].Ports[j].ContainerPort)
		}
	}
}

// setDefaultsStatus gives an address list to a status that has only the single address of old, and the single one to a status
// that has only the list. Where they differ the single one is right: a kubelet of old wrote it.
func setDefaultsStatus(status *v1.PodStatus) {
	switch {
	case status.PodIP != "" && (len(status.PodIPs) == 0 || status.PodIPs[0].IP != status.PodIP):
		status.PodIPs = []v1.PodIP{{IP: status.PodIP}}
	case status.PodIP == "" && len(status.PodIPs) > 0:
		status.PodIP = status.PodIPs[0].IP
	}
	setDefaultsResources(status.Resources)
	setDefaultsResourceList(status.AllocatedResources)
	for _, list := range [][]v1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses} {
		for i := range list {
			setDefaultsResourceList(list[i].AllocatedResources)
			setDefaultsResources(list[i].Resources)
		}
	}
}

func setDefaultsResources(r *v1.ResourceRequirements) {
	if r != nil {
		setDefaultsResourceList(r.Limits)
		setDefaultsResourceList(r.Requests)
	}
}

// milliScale is the finest step of a resource quantity: 0.001.
const milliScale = -3

func setDefaultsResourceList(list v1.ResourceList) {
	for name, quantity := range list {
		if quantity.RoundUp(milliScale) {
			continue
		}
		list[name] = quantity
	}
}

func setDefaultsFieldRef(ref *v1.ObjectFieldSelector) {
	if ref != nil {
		setDefault(&ref.APIVersion, "v1")
	}
}

// setDefault sets a field that has the zero value of its type.
func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}
