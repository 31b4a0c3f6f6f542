package pod

import (
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	"k8s.io/utils/ptr"
)

// SetDefaultsPod fills what the writer of a pod left out. What it does beyond
// SetDefaultsPodSpec happens to pods only: a template keeps the words of its
// author, so that a change of a default does not look like a change of the template.
func SetDefaultsPod(pod *v1.Pod) {
	SetDefaultsPodSpec(&pod.Spec)
	for i := range pod.Spec.Containers {
		requestLimits(&pod.Spec.Containers[i].Resources)
	}
	for i := range pod.Spec.InitContainers {
		requestLimits(&pod.Spec.InitContainers[i].Resources)
	}
	defaultPodRequests(pod)
	if pod.Spec.EnableServiceLinks == nil {
		pod.Spec.EnableServiceLinks = ptr.To(v1.DefaultEnableServiceLinks)
	}
	if pod.Spec.HostNetwork {
		defaultHostNetworkPorts(pod.Spec.Containers)
		defaultHostNetworkPorts(pod.Spec.InitContainers)
	}
	if pod.Status.Phase == "" {
		pod.Status.Phase = v1.PodPending
	}
	setDefaultsStatus(&pod.Status)
}

// SetDefaultsPodTemplate fills the template of a workload.
func SetDefaultsPodTemplate(template *v1.PodTemplateSpec) {
	SetDefaultsPodSpec(&template.Spec)
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
	if spec.Resources != nil {
		setDefaultsResourceList(spec.Resources.Limits)
		setDefaultsResourceList(spec.Resources.Requests)
	}
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

// imageTag is the tag of an image reference, "latest" where there is neither a
// tag nor a digest. The colon of a registry's port is no tag.
func imageTag(image string) string {
	name, _, digested := strings.Cut(image, "@")
	last := name[strings.LastIndex(name, "/")+1:]
	if _, tag, ok := strings.Cut(last, ":"); ok {
		return tag
	}
	if digested || image == "" {
		return ""
	}
	return "latest"
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

// defaultPodRequests fills the pod-level requests where pod-level limits are set
// (KEP-2837): what the containers request together, or else the limit.
func defaultPodRequests(pod *v1.Pod) {
	r := pod.Spec.Resources
	if r == nil || len(r.Limits) == 0 {
		return
	}
	requests := r.Requests
	if requests == nil {
		requests = v1.ResourceList{}
	}
	for name, sum := range resource.AggregateContainerRequests(pod, resource.PodResourcesOptions{}) {
		_, set := requests[name]
		if !set && resource.IsSupportedPodLevelResource(name) && !isHugePageResourceName(name) {
			requests[name] = sum.DeepCopy()
		}
	}
	for name, limit := range r.Limits {
		if _, set := requests[name]; !set && resource.IsSupportedPodLevelResource(name) {
			requests[name] = limit.DeepCopy()
		}
	}
	if len(requests) > 0 {
		r.Requests = requests
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

// setDefaultsStatus gives an address list to a status that has only the old
// single address, and the single one to a status that has only the list.
func setDefaultsStatus(status *v1.PodStatus) {
	if status.PodIP != "" && len(status.PodIPs) == 0 {
		status.PodIPs = []v1.PodIP{{IP: status.PodIP}}
	}
	if status.PodIP == "" && len(status.PodIPs) > 0 {
		status.PodIP = status.PodIPs[0].IP
	}
	if status.HostIP != "" && len(status.HostIPs) == 0 {
		status.HostIPs = []v1.HostIP{{IP: status.HostIP}}
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
