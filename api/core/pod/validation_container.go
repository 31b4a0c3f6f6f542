package pod

import (
	"fmt"
	"reflect"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// containerRules checks the containers of one pod spec. names grows as the lists
// are gone through: a name is unique in the pod, not in its list.
type containerRules struct {
	spec    *v1.PodSpec
	inPod   bool // not in a template
	volumes map[string]v1.VolumeSource
	claims  sets.Set[string]
	names   sets.Set[string]
}

func (r *containerRules) validateContainers(path *field.Path) field.ErrorList {
	if len(r.spec.Containers) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	for i := range r.spec.Containers {
		c, at := &r.spec.Containers[i], path.Index(i)
		errs = append(errs, r.validateCommon(c, at)...)
		errs = append(errs, r.claimName(c.Name, at)...)
		errs = append(errs, r.validateRunning(c, at)...)
		errs = append(errs, validateRestart(c, at)...)
	}
	return append(errs, uniqueHostPorts(r.spec.Containers, path)...)
}

// validateInitContainers: an init container ends before the next one starts, so
// what watches or stops a running container has no place in it; a sidecar
// (restartPolicy Always) may have all of it.
func (r *containerRules) validateInitContainers(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range r.spec.InitContainers {
		c, at := &r.spec.InitContainers[i], path.Index(i)
		errs = append(errs, r.validateCommon(c, at)...)
		if c.RestartPolicy != nil {
			errs = append(errs, validateRestart(c, at)...)
		} else if len(c.RestartPolicyRules) > 0 {
			errs = append(errs, field.Required(at.Child("restartPolicy"), "must specify restartPolicy when restart rules are used"))
		}
		errs = append(errs, r.claimName(c.Name, at)...)
		// Init containers run one after the other: ports need to be unique within one only.
		errs = append(errs, uniqueHostPorts(r.spec.InitContainers[i:i+1], path)...)
		if IsRestartableInitContainer(c) {
			errs = append(errs, r.validateRunning(c, at)...)
		} else {
			const message = "may not be set for init containers without restartPolicy=Always"
			errs = append(errs, forbidden(c.Lifecycle != nil, at.Child("lifecycle"), message)...)
			errs = append(errs, forbidden(c.LivenessProbe != nil, at.Child("livenessProbe"), message)...)
			errs = append(errs, forbidden(c.ReadinessProbe != nil, at.Child("readinessProbe"), message)...)
			errs = append(errs, forbidden(c.StartupProbe != nil, at.Child("startupProbe"), message)...)
			errs = append(errs, validateInitResizePolicy(c.ResizePolicy, at.Child("resizePolicy"))...)
		}
	}
	return errs
}

// validateInitResizePolicy: an init container that ends by itself is not started anew to be resized.
func validateInitResizePolicy(policies []v1.ContainerResizePolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, policy := range policies {
		if policy.RestartPolicy == v1.RestartContainer {
			errs = append(errs, field.Invalid(path.Index(i).Child("restartPolicy"), policy.RestartPolicy, "must not be set to 'RestartContainer' for non-sidecar initContainers"))
		}
	}
	return errs
}

// ephemeralAllowed are the fields an ephemeral container may have: it is added to a
// running pod, so nothing in it may need resources, ports or a restart.
var ephemeralAllowed = sets.New("Name", "Image", "Command", "Args", "WorkingDir", "EnvFrom", "Env",
	"VolumeMounts", "VolumeDevices", "TerminationMessagePath", "TerminationMessagePolicy",
	"ImagePullPolicy", "SecurityContext", "Stdin", "StdinOnce", "TTY")

func (r *containerRules) validateEphemeralContainers(path *field.Path) field.ErrorList {
	const message = "cannot be set for an Ephemeral Container"
	var errs field.ErrorList
	for i := range r.spec.EphemeralContainers {
		ec, at := &r.spec.EphemeralContainers[i], path.Index(i)
		c := (*v1.Container)(&ec.EphemeralContainerCommon)
		errs = append(errs, r.validateCommon(c, at)...)
		errs = append(errs, validateTrimmedImage(c, at)...)
		errs = append(errs, r.claimName(ec.Name, at)...)
		if target := ec.TargetContainerName; target != "" && !r.hasTarget(target) {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), target))
		}
		common := reflect.ValueOf(ec.EphemeralContainerCommon)
		for f := range common.NumField() {
			if name := common.Type().Field(f).Name; !ephemeralAllowed.Has(name) && !common.Field(f).IsZero() {
				errs = append(errs, field.Forbidden(at.Child(strings.ToLower(name[:1])+name[1:]), message))
			}
		}
		for j, mount := range ec.VolumeMounts {
			errs = append(errs, forbidden(mount.SubPath != "", at.Child("volumeMounts").Index(j).Child("subPath"), message)...)
			errs = append(errs, forbidden(mount.SubPathExpr != "", at.Child("volumeMounts").Index(j).Child("subPathExpr"), message)...)
		}
	}
	return errs
}

func (r *containerRules) hasTarget(name string) bool {
	return !VisitContainers(r.spec, Containers|InitContainers, func(c *v1.Container, _ ContainerType) bool { return c.Name != name })
}

// claimName takes a name for this container.
func (r *containerRules) claimName(name string, path *field.Path) field.ErrorList {
	if r.names == nil {
		r.names = sets.New[string]()
	}
	if r.names.Has(name) {
		return field.ErrorList{field.Duplicate(path.Child("name"), name)}
	}
	r.names.Insert(name)
	return nil
}

// validateCommon is what holds for the containers of all three lists.
func (r *containerRules) validateCommon(c *v1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else {
		errs = append(errs, rule.DNSLabel(c.Name, path.Child("name"))...)
	}
	errs = append(errs, rule.NonEmpty(c.Image, path.Child("image"))...)
	errs = append(errs, rule.RequiredListed(c.TerminationMessagePolicy, path.Child("terminationMessagePolicy"),
		v1.TerminationMessageReadFile, v1.TerminationMessageFallbackToLogsOnError)...)
	errs = append(errs, validateContainerPorts(c.Ports, path.Child("ports"))...)
	errs = append(errs, ValidateEnv(c.Env, path.Child("env"))...)
	errs = append(errs, ValidateEnvFrom(c.EnvFrom, path.Child("envFrom"))...)
	errs = append(errs, r.validateVolumeMounts(c, path.Child("volumeMounts"))...)
	errs = append(errs, r.validateVolumeDevices(c, path.Child("volumeDevices"))...)
	errs = append(errs, validatePullPolicy(c.ImagePullPolicy, path.Child("imagePullPolicy"))...)
	errs = append(errs, validateContainerResources(&c.Resources, r.claims, path.Child("resources"))...)
	errs = append(errs, validateResizePolicy(c.ResizePolicy, r.spec.RestartPolicy, path.Child("resizePolicy"))...)
	return append(errs, validateSecurityContext(c.SecurityContext, r.spec.HostUsers, path.Child("securityContext"))...)
}

// validateRunning is what holds for containers that run while the pod does.
func (r *containerRules) validateRunning(c *v1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	grace := r.spec.TerminationGracePeriodSeconds
	if c.Lifecycle != nil {
		errs = append(errs, validateLifecycle(c.Lifecycle, grace, path.Child("lifecycle"))...)
	}
	errs = append(errs, validateLivenessProbe(c.LivenessProbe, path.Child("livenessProbe"))...)
	errs = append(errs, validateReadinessProbe(c.ReadinessProbe, path.Child("readinessProbe"))...)
	return append(errs, validateLivenessProbe(c.StartupProbe, path.Child("startupProbe"))...)
}

func validatePullPolicy(policy v1.PullPolicy, path *field.Path) field.ErrorList {
	return rule.Supported(policy, path, v1.PullAlways, v1.PullIfNotPresent, v1.PullNever)
}

// validateRestart checks the restart policy of a single container (KEP-5307).
func validateRestart(c *v1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.RestartPolicy != nil {
		errs = append(errs, rule.OneOf(*c.RestartPolicy, path.Child("restartPolicy"),
			v1.ContainerRestartPolicyAlways, v1.ContainerRestartPolicyNever, v1.ContainerRestartPolicyOnFailure)...)
	} else if len(c.RestartPolicyRules) > 0 {
		errs = append(errs, field.Required(path.Child("restartPolicy"), "must specify restartPolicy when restart rules are used"))
	}
	at := path.Child("restartPolicyRules")
	if len(c.RestartPolicyRules) > 20 {
		errs = append(errs, field.TooMany(at, len(c.RestartPolicyRules), 20))
	}
	for i, r := range c.RestartPolicyRules {
		errs = append(errs, rule.OneOf(r.Action, at.Index(i).Child("action"), v1.ContainerRestartRuleActionRestart, v1.ContainerRestartRuleActionRestartAllContainers)...)
		if r.ExitCodes == nil {
			errs = append(errs, field.Required(at.Index(i).Child("exitCodes"), "must be specified"))
			continue
		}
		errs = append(errs, rule.OneOf(r.ExitCodes.Operator, at.Index(i).Child("exitCodes", "operator"),
			v1.ContainerRestartRuleOnExitCodesOpIn, v1.ContainerRestartRuleOnExitCodesOpNotIn)...)
		if len(r.ExitCodes.Values) > 255 {
			errs = append(errs, field.TooMany(at.Index(i).Child("exitCodes", "values"), len(r.ExitCodes.Values), 255))
		}
	}
	return errs
}

func validateContainerPorts(ports []v1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i, port := range ports {
		at := path.Index(i)
		if port.Name != "" {
			if messages := validation.IsValidPortName(port.Name); len(messages) > 0 {
				errs = append(errs, rule.All(messages, at.Child("name"), port.Name)...)
			} else if names.Has(port.Name) {
				errs = append(errs, field.Duplicate(at.Child("name"), port.Name))
			}
			names.Insert(port.Name)
		}
		if port.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, rule.All(validation.IsValidPortNum(int(port.ContainerPort)), at.Child("containerPort"), port.ContainerPort)...)
		}
		if port.HostPort != 0 {
			errs = append(errs, rule.All(validation.IsValidPortNum(int(port.HostPort)), at.Child("hostPort"), port.HostPort)...)
		}
		errs = append(errs, rule.SupportedProtocol(port.Protocol, at.Child("protocol"))...)
	}
	return errs
}

// uniqueHostPorts: two containers that run together cannot take one port of the node.
func uniqueHostPorts(containers []v1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	taken := sets.New[string]()
	for i := range containers {
		for j, port := range containers[i].Ports {
			if port.HostPort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", port.Protocol, port.HostIP, port.HostPort)
			if taken.Has(key) {
				errs = append(errs, field.Duplicate(path.Index(i).Child("ports").Index(j).Child("hostPort"), key))
			}
			taken.Insert(key)
		}
	}
	return errs
}

// validateHostNetworkPorts: in a template an absent host port is filled when the pod is made.
func (r *containerRules) validateHostNetworkPorts(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range r.spec.Containers {
		for j, port := range r.spec.Containers[i].Ports {
			if (r.inPod || port.HostPort != 0) && port.HostPort != port.ContainerPort {
				errs = append(errs, field.Invalid(path.Index(i).Child("ports").Index(j).Child("hostPort"), port.HostPort, "must match `containerPort` when `hostNetwork` is true"))
			}
		}
	}
	return errs
}

func forbidden(set bool, path *field.Path, message string) field.ErrorList {
	if set {
		return field.ErrorList{field.Forbidden(path, message)}
	}
	return nil
}
