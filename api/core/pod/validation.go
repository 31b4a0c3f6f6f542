package pod

import (
	"fmt"
	"math"
	"strings"

	v1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	return append(errs, validateProfilesMatch(pod.Annotations, &pod.Spec, path)...)
}

// validatePodOnly is what holds of a pod at any time, but not all of it of a template.
func validatePodOnly(pod *v1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := validatePodAnnotations(pod.Annotations, &pod.Spec, field.NewPath("metadata", "annotations"))
	errs = append(errs, ValidatePodSpec(&pod.Spec, &pod.ObjectMeta, path)...)
	if pod.Spec.ServiceAccountName == "" {
		errs = append(errs, forbidTokens(pod.Spec.Volumes, path.Child("volumes"))...)
	}
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		errs = append(errs, rule.NonNegative(*s, path.Child("terminationGracePeriodSeconds"))...)
	}
	for i := range pod.Spec.Containers {
		errs = append(errs, validateTrimmedImage(&pod.Spec.Containers[i], path.Child("containers").Index(i))...)
	}
	for i := range pod.Spec.InitContainers {
		errs = append(errs, validateTrimmedImage(&pod.Spec.InitContainers[i], path.Child("initContainers").Index(i))...)
	}
	return errs
}

// forbidTokens: without a service account there is nobody whose token a volume could show.
func forbidTokens(volumes []v1.Volume, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, volume := range volumes {
		if volume.Projected == nil {
			continue
		}
		for j, source := range volume.Projected.Sources {
			if source.ServiceAccountToken != nil {
				at := path.Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken")
				errs = append(errs, field.Forbidden(at, "must not be specified when serviceAccountName is not set"))
			}
		}
	}
	return errs
}

// validateTrimmedImage: templates may have spaces there, which some program puts its own meaning in.
func validateTrimmedImage(c *v1.Container, path *field.Path) field.ErrorList {
	if strings.TrimSpace(c.Image) == c.Image {
		return nil
	}
	return field.ErrorList{field.Invalid(path.Child("image"), c.Image, "must not have leading or trailing whitespace")}
}

// ValidatePodTemplateSpec checks the template of a workload.
func ValidatePodTemplateSpec(template *v1.PodTemplateSpec, path *field.Path) field.ErrorList {
	errs := metav1validation.ValidateLabels(template.Labels, path.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(template.Annotations, path.Child("annotations"))...)
	errs = append(errs, validatePodAnnotations(template.Annotations, &template.Spec, path.Child("annotations"))...)
	errs = append(errs, ValidatePodSpec(&template.Spec, nil, path.Child("spec"))...)
	errs = append(errs, validateProfilesMatch(template.Annotations, &template.Spec, path.Child("spec"))...)
	if len(template.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// ValidatePodSpec checks what pods and templates share. It expects defaults to be applied. meta is the pod's; a template, whose
// pods have no names yet, has none. The order is that of upstream's errors.
func ValidatePodSpec(spec *v1.PodSpec, meta *metav1.ObjectMeta, path *field.Path) field.ErrorList {
	volumes, errs := validateVolumes(spec.Volumes, meta, path.Child("volumes"))
	c := &containerRules{spec: spec, inPod: meta != nil, volumes: volumes, claims: claimNames(spec.ResourceClaims)}
	errs = append(errs, validateResourceClaims(spec.ResourceClaims, meta, path.Child("resourceClaims"))...)
	errs = append(errs, c.validateContainers(path.Child("containers"))...)
	errs = append(errs, c.validateInitContainers(path.Child("initContainers"))...)
	errs = append(errs, c.validateEphemeralContainers(path.Child("ephemeralContainers"))...)
	errs = append(errs, validatePodResources(spec, path.Child("resources"))...)
	if spec.HostNetwork {
		errs = append(errs, c.validateHostNetworkPorts(path.Child("containers"))...)
	}
	errs = append(errs, rule.RequiredListed(spec.RestartPolicy, path.Child("restartPolicy"),
		v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever)...)
	errs = append(errs, rule.RequiredListed(spec.DNSPolicy, path.Child("dnsPolicy"),
		v1.DNSClusterFirstWithHostNet, v1.DNSClusterFirst, v1.DNSDefault, v1.DNSNone)...)
	errs = append(errs, metav1validation.ValidateLabels(spec.NodeSelector, path.Child("nodeSelector"))...)
	errs = append(errs, validatePodSecurityContext(spec, path.Child("securityContext"))...)
	if share := spec.ShareProcessNamespace; share != nil && *share && spec.HostPID {
		errs = append(errs, field.Invalid(path.Child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	errs = append(errs, validateAffinity(spec.Affinity, path.Child("affinity"))...)
	errs = append(errs, validateDNSConfig(spec, path.Child("dnsConfig"))...)
	errs = append(errs, validateGates(spec, path)...)
	errs = append(errs, validateTopologySpreadConstraints(spec.TopologySpreadConstraints, path.Child("topologySpreadConstraints"))...)
	errs = append(errs, validateHostProcess(spec, path)...)
	errs = append(errs, validateHostUsers(spec, path)...)
	errs = append(errs, validateHostnameOverride(spec, path.Child("hostnameOverride"))...)
	errs = append(errs, validateIdentity(spec, path)...)
	errs = append(errs, ValidateTolerations(spec.Tolerations, path.Child("tolerations"))...)
	errs = append(errs, validateHostAliases(spec.HostAliases, path.Child("hostAliases"))...)
	errs = append(errs, validateClasses(spec, path)...)
	errs = append(errs, ValidateResourceRequirements(&v1.ResourceRequirements{Limits: spec.Overhead}, path.Child("overhead"), ValidateContainerResourceName)...)
	errs = append(errs, validateOS(spec, path)...)
	return append(errs, validateFileKeyRefVolumes(spec, path)...)
}

// validateIdentity checks under whose names the pod runs, and for how long.
func validateIdentity(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name := spec.ServiceAccountName; name != "" {
		errs = append(errs, rule.DNSSubdomain(name, path.Child("serviceAccountName"))...)
	}
	if name := spec.NodeName; name != "" {
		errs = append(errs, rule.DNSSubdomain(name, path.Child("nodeName"))...)
	}
	if s := spec.ActiveDeadlineSeconds; s != nil && (*s < 1 || *s > math.MaxInt32) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *s, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	if name := spec.Hostname; name != "" {
		errs = append(errs, rule.DNSLabel(name, path.Child("hostname"))...)
	}
	if name := spec.Subdomain; name != "" {
		errs = append(errs, rule.DNSLabel(name, path.Child("subdomain"))...)
	}
	return errs
}

// validateClasses checks what the pod names of the cluster's classes.
func validateClasses(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name := spec.PriorityClassName; name != "" {
		errs = append(errs, rule.DNSSubdomain(name, path.Child("priorityClassName"))...)
	}
	if name := spec.RuntimeClassName; name != nil {
		errs = append(errs, rule.DNSSubdomain(*name, path.Child("runtimeClassName"))...)
	}
	if spec.PreemptionPolicy != nil {
		errs = append(errs, rule.RequiredListed(*spec.PreemptionPolicy, path.Child("preemptionPolicy"), v1.PreemptLowerPriority, v1.PreemptNever)...)
	}
	return errs
}

func validateHostnameOverride(spec *v1.PodSpec, at *field.Path) field.ErrorList {
	name := spec.HostnameOverride
	if name == nil {
		return nil
	}
	errs := forbidden(spec.SetHostnameAsFQDN != nil && *spec.SetHostnameAsFQDN, at, "may not be specified when setHostnameAsFQDN is true")
	errs = append(errs, forbidden(spec.HostNetwork, at, "may not be specified when hostNetwork is true")...)
	if len(*name) > 64 {
		errs = append(errs, field.TooLong(at, "", 64))
	}
	return append(errs, rule.DNSSubdomain(*name, at)...)
}

// Limits of a resolver's configuration, generous ones of current C libraries.
const (
	maxDNSNameservers     = 3
	maxDNSSearchPaths     = 32
	maxDNSSearchListChars = 2048
)

func validateHostAliases(aliases []v1.HostAlias, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, alias := range aliases {
		errs = append(errs, rule.IP(alias.IP, path.Index(i).Child("ip"))...)
		for j, name := range alias.Hostnames {
			errs = append(errs, rule.DNSSubdomain(name, path.Index(i).Child("hostnames").Index(j))...)
		}
	}
	return errs
}

func validateDNSConfig(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	config := spec.DNSConfig
	switch {
	case config == nil && spec.DNSPolicy == v1.DNSNone:
		return field.ErrorList{field.Required(path, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", v1.DNSNone))}
	case config == nil:
		return nil
	case len(config.Nameservers) == 0 && spec.DNSPolicy == v1.DNSNone:
		return field.ErrorList{field.Required(path.Child("nameservers"), fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", v1.DNSNone))}
	}
	var errs field.ErrorList
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
		if option.Name == "" {
			errs = append(errs, field.Required(path.Child("options").Index(i), "must not be empty"))
		}
	}
	return errs
}

// validateGates checks what others must say before the pod is ready, and before it is scheduled.
func validateGates(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, gate := range spec.ReadinessGates {
		errs = append(errs, rule.QualifiedName(string(gate.ConditionType), path.Child("readinessGates").Index(i).Child("conditionType"))...)
	}
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

func claimNames(claims []v1.PodResourceClaim) sets.Set[string] {
	names := sets.New[string]()
	for _, claim := range claims {
		if claim.Name != "" {
			names.Insert(claim.Name)
		}
	}
	return names
}

func validateResourceClaims(claims []v1.PodResourceClaim, meta *metav1.ObjectMeta, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	mirror := false
	if meta != nil {
		_, mirror = meta.Annotations[v1.MirrorPodAnnotationKey]
	}
	for i, claim := range claims {
		at := path.Index(i)
		if mirror {
			errs = append(errs, field.Forbidden(field.NewPath(""), "static pods do not support resource claims"))
			continue
		}
		switch {
		case claim.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case seen.Has(claim.Name):
			errs = append(errs, field.Duplicate(at.Child("name"), claim.Name))
		default:
			errs = append(errs, rule.DNSLabel(claim.Name, at.Child("name"))...)
		}
		seen.Insert(claim.Name)
		switch name, template := claim.ResourceClaimName != nil, claim.ResourceClaimTemplateName != nil; {
		case name && template:
			errs = append(errs, field.Invalid(at, rule.Untagged(claim), "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		case !name && !template:
			errs = append(errs, field.Invalid(at, rule.Untagged(claim), "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
		if name := claim.ResourceClaimName; name != nil {
			errs = append(errs, rule.DNSSubdomain(*name, at.Child("resourceClaimName"))...)
		}
		if name := claim.ResourceClaimTemplateName; name != nil {
			errs = append(errs, rule.DNSSubdomain(*name, at.Child("resourceClaimTemplateName"))...)
		}
	}
	return errs
}
