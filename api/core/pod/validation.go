package pod

import (
	"fmt"
	"math"
	"strings"

	v1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// ValidatePod checks a pod that no apiserver has seen: its metadata too.
func ValidatePod(pod *v1.Pod) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(&pod.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	return append(errs, ValidatePodCreate(pod)...)
}

// ValidatePodCreate checks a new pod. Its metadata has been checked by the store.
func ValidatePodCreate(pod *v1.Pod) field.ErrorList {
	errs := validatePodOnly(pod)
	path := field.NewPath("spec")
	if len(pod.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if pod.Spec.NodeName != "" && len(pod.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(path.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return errs
}

// validatePodOnly is what holds of a pod at any time, but not of a template.
func validatePodOnly(pod *v1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := validatePodAnnotations(pod.Annotations, &pod.Spec, field.NewPath("metadata", "annotations"))
	errs = append(errs, ValidatePodSpec(&pod.Spec, path)...)
	VisitContainersWithPath(&pod.Spec, path, AllContainers, func(c *v1.Container, _ ContainerType, at *field.Path) bool {
		if strings.TrimSpace(c.Image) != c.Image {
			errs = append(errs, field.Invalid(at.Child("image"), c.Image, "must not have leading or trailing whitespace"))
		}
		return true
	})
	return errs
}

// ValidatePodTemplateSpec checks the template of a workload.
func ValidatePodTemplateSpec(template *v1.PodTemplateSpec, path *field.Path) field.ErrorList {
	errs := metav1validation.ValidateLabels(template.Labels, path.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(template.Annotations, path.Child("annotations"))...)
	errs = append(errs, validatePodAnnotations(template.Annotations, &template.Spec, path.Child("annotations"))...)
	errs = append(errs, ValidatePodSpec(&template.Spec, path.Child("spec"))...)
	if len(template.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// ValidatePodSpec checks what pods and templates share. It expects defaults to be applied.
func ValidatePodSpec(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	volumes, errs := ValidateVolumes(spec.Volumes, path.Child("volumes"))
	c := &containerRules{spec: spec, volumes: volumes, claims: claimNames(spec.ResourceClaims)}
	errs = append(errs, c.validateContainers(path.Child("containers"))...)
	errs = append(errs, c.validateInitContainers(path.Child("initContainers"))...)
	errs = append(errs, c.validateEphemeralContainers(path.Child("ephemeralContainers"))...)
	errs = append(errs, validateFileKeyRefVolumes(spec, path)...)
	errs = append(errs, validatePodResources(spec, path.Child("resources"))...)
	errs = append(errs, ValidateOverhead(spec.Overhead, path.Child("overhead"))...)
	errs = append(errs, validateLifetime(spec, path)...)
	errs = append(errs, validateIdentity(spec, path)...)
	errs = append(errs, validateDNS(spec, path)...)
	errs = append(errs, validatePlacement(spec, path)...)
	errs = append(errs, validatePodSecurityContext(spec, path.Child("securityContext"))...)
	errs = append(errs, validateResourceClaims(spec.ResourceClaims, path.Child("resourceClaims"))...)
	if spec.HostNetwork {
		errs = append(errs, validateHostNetworkPorts(spec, path)...)
	}
	return append(errs, validateOS(spec, path)...)
}

// validateLifetime checks how long and how often the pod runs.
func validateLifetime(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	errs := rule.Supported(spec.RestartPolicy, path.Child("restartPolicy"),
		v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever)
	if s := spec.ActiveDeadlineSeconds; s != nil && (*s < 1 || *s > math.MaxInt32) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *s, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	if s := spec.TerminationGracePeriodSeconds; s != nil {
		errs = append(errs, rule.NonNegative(*s, path.Child("terminationGracePeriodSeconds"))...)
	}
	return errs
}

// validateIdentity checks under whose names the pod runs.
func validateIdentity(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name := spec.ServiceAccountName; name != "" {
		errs = append(errs, rule.DNSSubdomain(name, path.Child("serviceAccountName"))...)
	}
	if name := spec.Hostname; name != "" {
		errs = append(errs, rule.DNSLabel(name, path.Child("hostname"))...)
	}
	if name := spec.Subdomain; name != "" {
		errs = append(errs, rule.DNSLabel(name, path.Child("subdomain"))...)
	}
	if name := spec.HostnameOverride; name != nil {
		errs = append(errs, validateHostnameOverride(spec, path)...)
	}
	for i, secret := range spec.ImagePullSecrets {
		errs = append(errs, rule.NonEmpty(secret.Name, path.Child("imagePullSecrets").Index(i).Child("name"))...)
	}
	if name := spec.PriorityClassName; name != "" {
		errs = append(errs, rule.DNSSubdomain(name, path.Child("priorityClassName"))...)
	}
	if name := spec.RuntimeClassName; name != nil {
		errs = append(errs, rule.DNSSubdomain(*name, path.Child("runtimeClassName"))...)
	}
	for i, gate := range spec.ReadinessGates {
		errs = append(errs, rule.QualifiedName(string(gate.ConditionType), path.Child("readinessGates").Index(i).Child("conditionType"))...)
	}
	if spec.PreemptionPolicy != nil {
		errs = append(errs, rule.Supported(*spec.PreemptionPolicy, path.Child("preemptionPolicy"), v1.PreemptLowerPriority, v1.PreemptNever)...)
	}
	return errs
}

func validateHostnameOverride(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	at := path.Child("hostnameOverride")
	errs := rule.DNSSubdomain(*spec.HostnameOverride, at)
	if len(*spec.HostnameOverride) > 64 {
		errs = append(errs, field.TooLong(at, *spec.HostnameOverride, 64))
	}
	if spec.HostNetwork {
		errs = append(errs, field.Forbidden(at, "must not be set when `hostNetwork` is true"))
	}
	if spec.SetHostnameAsFQDN != nil && *spec.SetHostnameAsFQDN {
		errs = append(errs, field.Forbidden(at, "must not be set when `setHostnameAsFQDN` is true"))
	}
	return errs
}

// Limits of a resolver's configuration, generous ones of current C libraries.
const (
	maxDNSNameservers     = 3
	maxDNSSearchPaths     = 32
	maxDNSSearchListChars = 2048
)

func validateDNS(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	errs := rule.Supported(spec.DNSPolicy, path.Child("dnsPolicy"),
		v1.DNSClusterFirstWithHostNet, v1.DNSClusterFirst, v1.DNSDefault, v1.DNSNone)
	errs = append(errs, validateDNSConfig(spec, path.Child("dnsConfig"))...)
	for i, alias := range spec.HostAliases {
		at := path.Child("hostAliases").Index(i)
		errs = append(errs, rule.IP(alias.IP, at.Child("ip"))...)
		for j, name := range alias.Hostnames {
			errs = append(errs, rule.DNSSubdomain(name, at.Child("hostnames").Index(j))...)
		}
	}
	return errs
}

func validateDNSConfig(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	config := spec.DNSConfig
	if spec.DNSPolicy == v1.DNSNone {
		if config == nil {
			return field.ErrorList{field.Required(path, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", v1.DNSNone))}
		}
		if len(config.Nameservers) == 0 {
			errs = append(errs, field.Required(path.Child("nameservers"), fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", v1.DNSNone)))
		}
	}
	if config == nil {
		return errs
	}
	if len(config.Nameservers) > maxDNSNameservers {
		errs = append(errs, field.Invalid(path.Child("nameservers"), config.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxDNSNameservers)))
	}
	for i, server := range config.Nameservers {
		errs = append(errs, rule.IP(server, path.Child("nameservers").Index(i))...)
	}
	at := path.Child("searches")
	if len(config.Searches) > maxDNSSearchPaths {
		errs = append(errs, field.Invalid(at, config.Searches, fmt.Sprintf("must not have more than %v search paths", maxDNSSearchPaths)))
	}
	if len(strings.Join(config.Searches, " ")) > maxDNSSearchListChars {
		errs = append(errs, field.Invalid(at, config.Searches, fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxDNSSearchListChars)))
	}
	for i, search := range config.Searches {
		if search == "." {
			continue
		}
		name := strings.TrimSuffix(search, ".")
		errs = append(errs, rule.All(validation.IsDNS1123SubdomainWithUnderscore(name), at.Index(i), name)...)
	}
	for i, option := range config.Options {
		errs = append(errs, rule.NonEmpty(option.Name, path.Child("options").Index(i).Child("name"))...)
	}
	return errs
}

// validatePlacement checks where the pod may run.
func validatePlacement(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	errs := metav1validation.ValidateLabels(spec.NodeSelector, path.Child("nodeSelector"))
	if spec.NodeName != "" {
		errs = append(errs, rule.DNSSubdomain(spec.NodeName, path.Child("nodeName"))...)
	}
	errs = append(errs, validateAffinity(spec.Affinity, path.Child("affinity"))...)
	errs = append(errs, ValidateTolerations(spec.Tolerations, path.Child("tolerations"))...)
	errs = append(errs, validateTopologySpreadConstraints(spec.TopologySpreadConstraints, path.Child("topologySpreadConstraints"))...)
	seen := sets.New[string]()
	for i, gate := range spec.SchedulingGates {
		at := path.Child("schedulingGates").Index(i)
		errs = append(errs, rule.QualifiedName(gate.Name, at)...)
		if seen.Has(gate.Name) {
			errs = append(errs, field.Duplicate(at, gate.Name))
		}
		seen.Insert(gate.Name)
	}
	return errs
}

func validateOS(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	if spec.OS == nil {
		return nil
	}
	errs := rule.Supported(spec.OS.Name, path.Child("os", "name"), v1.Linux, v1.Windows)
	if spec.OS.Name == v1.Windows {
		for name, set := range map[string]bool{"hostPID": spec.HostPID, "hostIPC": spec.HostIPC, "shareProcessNamespace": spec.ShareProcessNamespace != nil} {
			if set {
				errs = append(errs, field.Forbidden(path.Child(name), "cannot be set for a windows pod"))
			}
		}
	}
	return errs
}

func claimNames(claims []v1.PodResourceClaim) sets.Set[string] {
	names := sets.New[string]()
	for _, claim := range claims {
		names.Insert(claim.Name)
	}
	return names
}

func validateResourceClaims(claims []v1.PodResourceClaim, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, claim := range claims {
		at := path.Index(i)
		switch {
		case claim.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case seen.Has(claim.Name):
			errs = append(errs, field.Duplicate(at.Child("name"), claim.Name))
		default:
			errs = append(errs, rule.DNSLabel(claim.Name, at.Child("name"))...)
		}
		seen.Insert(claim.Name)
		if (claim.ResourceClaimName == nil) == (claim.ResourceClaimTemplateName == nil) {
			errs = append(errs, field.Invalid(at, claim, "must specify exactly one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
	}
	return errs
}

// validatePodAnnotations checks the annotations that mean something to a pod.
func validatePodAnnotations(annotations map[string]string, spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if value, ok := annotations[v1.MirrorPodAnnotationKey]; ok && spec.NodeName == "" {
		errs = append(errs, field.Invalid(path.Key(v1.MirrorPodAnnotationKey), value, "must set spec.nodeName if mirror pod annotation is set"))
	}
	return errs
}
