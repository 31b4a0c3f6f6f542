package pod

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/nodelabel"
)

// Warnings tell of what a pod may say, and hardly means: kubectl prints them, the pod is taken as it is.
func Warnings(pod *v1.Pod) []string {
	var all []string
	if messages := validation.IsDNS1123Label(pod.Name); len(messages) > 0 {
		all = append(all, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", messages))
	}
	return append(all, warnings(&pod.Spec, &pod.ObjectMeta, nil)...)
}

// WarningsForTemplate are the warnings of the template of a workload.
func WarningsForTemplate(template *v1.PodTemplateSpec, path *field.Path) []string {
	return warnings(&template.Spec, &template.ObjectMeta, path)
}

// warnings of a pod (root is nil) or of a template.
func warnings(spec *v1.PodSpec, meta *metav1.ObjectMeta, root *field.Path) []string {
	path := root.Child("spec")
	all := warnPlacement(spec, path)
	all = append(all, warnAnnotations(meta, root.Child("metadata", "annotations"))...)
	for i := range spec.Volumes {
		all = append(all, warnVolume(&spec.Volumes[i], path.Child("volumes").Index(i))...)
	}
	all = append(all, warnOverlaps(spec.Volumes)...)
	all = append(all, warnNames(spec, path)...)
	all = append(all, warnFraction(spec.Overhead, v1.ResourceMemory, path, "overhead")...)
	all = append(all, warnFraction(spec.Overhead, v1.ResourceEphemeralStorage, path, "overhead")...)
	all = append(all, warnContainers(spec, meta, root)...)
	all = append(all, warnPorts(spec, path)...)
	all = append(all, warnPortNames(spec, path)...)
	if n := spec.TerminationGracePeriodSeconds; n != nil && *n < 0 {
		all = append(all, fmt.Sprintf("%s: must be >= 0; negative values are invalid and will be treated as 1", path.Child("terminationGracePeriodSeconds")))
	}
	all = append(all, warnPodAffinity(spec.Affinity, path.Child("affinity"))...)
	if spec.DNSConfig != nil {
		for i, server := range spec.DNSConfig.Nameservers {
			all = append(all, validation.GetWarningsForIP(path.Child("dnsConfig", "nameservers").Index(i), server)...)
		}
	}
	for i, alias := range spec.HostAliases {
		all = append(all, validation.GetWarningsForIP(path.Child("hostAliases").Index(i).Child("ip"), alias.IP)...)
	}
	return all
}

// warnPlacement tells of node labels with newer names, and of constraints that count no pod.
func warnPlacement(spec *v1.PodSpec, path *field.Path) []string {
	all := nodelabel.WarnMap(spec.NodeSelector, func(key string) *field.Path { return path.Child("nodeSelector").Key(key) })
	if spec.Affinity != nil && spec.Affinity.NodeAffinity != nil {
		a, at := spec.Affinity.NodeAffinity, path.Child("affinity", "nodeAffinity")
		if a.RequiredDuringSchedulingIgnoredDuringExecution != nil {
			terms := a.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
			for i := range terms {
				all = append(all, nodelabel.WarnTerm(&terms[i], false, at.Child("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms").Index(i))...)
			}
		}
		for i := range a.PreferredDuringSchedulingIgnoredDuringExecution {
			term := &a.PreferredDuringSchedulingIgnoredDuringExecution[i].Preference
			all = append(all, nodelabel.WarnTerm(term, true, at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("preference"))...)
		}
	}
	for i, c := range spec.TopologySpreadConstraints {
		at := path.Child("topologySpreadConstraints").Index(i)
		all = append(all, nodelabel.WarnKey(c.TopologyKey, at.Child("topologyKey"))...)
		all = append(all, warnSelector(c.LabelSelector, at.Child("labelSelector"))...)
	}
	return all
}

func warnSelector(selector *metav1.LabelSelector, path *field.Path) []string {
	if selector != nil {
		return nil
	}
	return []string{fmt.Sprintf("%s: a null labelSelector results in matching no pod", path)}
}

func warnPodAffinity(a *v1.Affinity, path *field.Path) []string {
	var all []string
	terms := func(required []v1.PodAffinityTerm, preferred []v1.WeightedPodAffinityTerm, at *field.Path) {
		for i := range required {
			all = append(all, warnSelector(required[i].LabelSelector, at.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i).Child("labelSelector"))...)
		}
		for i := range preferred {
			all = append(all, warnSelector(preferred[i].PodAffinityTerm.LabelSelector, at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("podAffinityTerm", "labelSelector"))...)
		}
	}
	if a != nil && a.PodAffinity != nil {
		terms(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution, path.Child("podAffinity"))
	}
	if a != nil && a.PodAntiAffinity != nil {
		terms(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, path.Child("podAntiAffinity"))
	}
	return all
}

func warnAnnotations(meta *metav1.ObjectMeta, path *field.Path) []string {
	var all []string
	for _, old := range []struct{ key, text string }{
		{"scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`},
		{"security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
		{"security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
	} {
		if _, ok := meta.Annotations[old.key]; ok {
			all = append(all, fmt.Sprintf("%s: %s", path.Key(old.key), old.text))
		}
	}
	return all
}

// warnContainers tells, container by container, of profiles that stand in annotations only, of parts of bytes, and of variables
// set twice. A pod's AppArmor annotation is made a field before this; of that the strategy tells.
func warnContainers(spec *v1.PodSpec, meta *metav1.ObjectMeta, root *field.Path) []string {
	var all []string
	warn := func(key, text string) {
		all = append(all, fmt.Sprintf("%s: %s", root.Child("metadata", "annotations").Key(key), text))
	}
	context := spec.SecurityContext
	if _, ok := meta.Annotations[seccompPod]; ok && (context == nil || context.SeccompProfile == nil) {
		warn(seccompPod, seccompGone)
	}
	VisitContainersWithPath(spec, root.Child("spec"), AllContainers, func(c *v1.Container, _ ContainerType, at *field.Path) bool {
		own := c.SecurityContext
		if len(meta.Annotations) > 0 {
			if _, ok := meta.Annotations[seccompContainer+c.Name]; ok && (own == nil || own.SeccompProfile == nil) {
				warn(seccompContainer+c.Name, seccompGone)
			}
			annotation, ok := meta.Annotations[appArmor+c.Name]
			if ok && root != nil && (own == nil || own.AppArmorProfile == nil) &&
				(context == nil || context.AppArmorProfile == nil || !apiequality.Semantic.DeepEqual(context.AppArmorProfile, AppArmorFromAnnotation(annotation))) {
				warn(appArmor+c.Name, AppArmorDeprecated)
			}
		}
		for _, name := range []v1.ResourceName{v1.ResourceMemory, v1.ResourceEphemeralStorage} {
			all = append(all, warnFraction(c.Resources.Limits, name, at, "resources", "limits")...)
			all = append(all, warnFraction(c.Resources.Requests, name, at, "resources", "requests")...)
		}
		all = append(all, warnEnv(c.Env, at)...)
		return true
	})
	return all
}

const (
	seccompGone        = `non-functional in v1.27+; use the "seccompProfile" field instead`
	AppArmorDeprecated = `deprecated since v1.30; use the "appArmorProfile" field instead`
)

// warnNames tells of entries of lists that one name finds twice, of which apply would keep one.
func warnNames(spec *v1.PodSpec, path *field.Path) []string {
	var all []string
	seen := sets.New[string]()
	for i, alias := range spec.HostAliases {
		if seen.Has(alias.IP) {
			all = append(all, fmt.Sprintf("%s: duplicate ip %q", path.Child("hostAliases").Index(i).Child("ip"), alias.IP))
		}
		seen.Insert(alias.IP)
	}
	seen = sets.New[string]()
	for i, secret := range spec.ImagePullSecrets {
		at := path.Child("imagePullSecrets").Index(i).Child("name")
		if seen.Has(secret.Name) {
			all = append(all, fmt.Sprintf("%s: duplicate name %q", at, secret.Name))
		}
		seen.Insert(secret.Name)
		if secret.Name == "" {
			all = append(all, fmt.Sprintf("%s: invalid empty name %q", at, secret.Name))
		}
	}
	return all
}

// warnEnv tells of variables that are set twice, unless the later one builds on the earlier.
func warnEnv(env []v1.EnvVar, container *field.Path) []string {
	if len(env) < 2 {
		return nil
	}
	var all []string
	seen := sets.New[string]()
	for i, e := range env {
		ref := "$(" + e.Name + ")"
		if seen.Has(e.Name) && (e.ValueFrom != nil || e.Value == ref || !strings.Contains(e.Value, ref)) {
			all = append(all, fmt.Sprintf("%s: hides previous definition of %q, which may be dropped when using apply", container.Child("env").Index(i), e.Name))
		}
		seen.Insert(e.Name)
	}
	return all
}

// warnPortNames tells of a port's name that two containers have: whoever asks for it gets the first.
func warnPortNames(spec *v1.PodSpec, path *field.Path) []string {
	var all []string
	first := map[string]*field.Path{}
	VisitContainersWithPath(spec, path, AllContainers, func(c *v1.Container, _ ContainerType, at *field.Path) bool {
		for i, port := range c.Ports {
			here := at.Child("ports").Index(i)
			if other := first[port.Name]; other != nil {
				all = append(all, fmt.Sprintf("%s: duplicate port name %q with %s, services and probes that select ports by name will use %s", here, port.Name, other, other))
			} else if port.Name != "" {
				first[port.Name] = here
			}
		}
		return true
	})
	return all
}

// warnPorts compares the ports of all containers with each other.
func warnPorts(spec *v1.PodSpec, path *field.Path) []string {
	type place struct {
		path *field.Path
		port v1.ContainerPort
	}
	type key struct {
		number   int32
		protocol v1.Protocol
	}
	var all []string
	before := map[key][]place{}
	VisitContainersWithPath(spec, path, AllContainers, func(c *v1.Container, _ ContainerType, at *field.Path) bool {
		for i, port := range c.Ports {
			at := at.Child("ports").Index(i)
			if port.HostIP != "" && port.HostPort == 0 {
				all = append(all, fmt.Sprintf("%s: hostIP set without hostPort: %+v", at, port))
			}
			k := key{port.ContainerPort, port.Protocol}
			for _, other := range before[k] {
				switch {
				case port.HostIP == other.port.HostIP && port.HostPort == other.port.HostPort:
					all = append(all, fmt.Sprintf("%s: duplicate port definition with %s", at, other.path))
				case port.HostPort == 0 || other.port.HostPort == 0:
					all = append(all, fmt.Sprintf("%s: overlapping port definition with %s", at, other.path))
				case port.HostPort == other.port.HostPort && (port.HostIP == "") != (other.port.HostIP == ""):
					all = append(all, fmt.Sprintf("%s: dangerously ambiguous port definition with %s", at, other.path))
				}
			}
			before[k] = append(before[k], place{at, port})
		}
		return true
	})
	return all
}
