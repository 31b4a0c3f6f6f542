// Package webhook is what is true of a ValidatingWebhookConfiguration and a MutatingWebhookConfiguration. The two kinds of webhook
// differ in one field: hook has those they share.
//
// In Kubernetes: pkg/apis/admissionregistration (v1/defaults.go, validation/validation.go) and
// k8s.io/apiserver/pkg/util/webhook/validation.go.
package webhook

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/admissionregistration/match"
)

const (
	defaultTimeout = 10
	maxTimeout     = 30
	defaultPort    = 443
)

// hook is a webhook of either kind.
type hook struct {
	name                            string
	clientConfig                    *admissionregistrationv1.WebhookClientConfig
	rules                           []admissionregistrationv1.RuleWithOperations
	failurePolicy                   **admissionregistrationv1.FailurePolicyType
	matchPolicy                     **admissionregistrationv1.MatchPolicyType
	namespaceSelector, objectSelect **metav1.LabelSelector
	sideEffects                     *admissionregistrationv1.SideEffectClass
	timeoutSeconds                  **int32
	reviewVersions                  []string
	conditions                      []admissionregistrationv1.MatchCondition
	reinvocation                    **admissionregistrationv1.ReinvocationPolicyType // nil for a validating one
}

func validating(c *admissionregistrationv1.ValidatingWebhookConfiguration) []hook {
	hooks := make([]hook, len(c.Webhooks))
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		hooks[i] = hook{w.Name, &w.ClientConfig, w.Rules, &w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector,
			w.SideEffects, &w.TimeoutSeconds, w.AdmissionReviewVersions, w.MatchConditions, nil}
	}
	return hooks
}

func mutating(c *admissionregistrationv1.MutatingWebhookConfiguration) []hook {
	hooks := make([]hook, len(c.Webhooks))
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		hooks[i] = hook{w.Name, &w.ClientConfig, w.Rules, &w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector,
			w.SideEffects, &w.TimeoutSeconds, w.AdmissionReviewVersions, w.MatchConditions, &w.ReinvocationPolicy}
	}
	return hooks
}

// SetDefaultsValidating fills what the writer left out.
func SetDefaultsValidating(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
	setDefaults(validating(c))
}

// SetDefaultsMutating fills what the writer left out.
func SetDefaultsMutating(c *admissionregistrationv1.MutatingWebhookConfiguration) {
	setDefaults(mutating(c))
}

func setDefaults(hooks []hook) {
	for _, h := range hooks {
		if *h.failurePolicy == nil {
			*h.failurePolicy = ptr.To(admissionregistrationv1.Fail)
		}
		match.SetDefaults(h.matchPolicy, h.namespaceSelector, h.objectSelect)
		match.SetDefaultsRules(h.rules)
		if *h.timeoutSeconds == nil {
			*h.timeoutSeconds = ptr.To[int32](defaultTimeout)
		}
		if service := h.clientConfig.Service; service != nil && service.Port == nil {
			service.Port = ptr.To[int32](defaultPort)
		}
		if h.reinvocation != nil && *h.reinvocation == nil {
			*h.reinvocation = ptr.To(admissionregistrationv1.NeverReinvocationPolicy)
		}
	}
}

// ValidateValidating checks a configuration on its own.
func ValidateValidating(c *admissionregistrationv1.ValidatingWebhookConfiguration, compile match.Compile) field.ErrorList {
	return validate(validating(c), nil, compile)
}

// ValidateValidatingUpdate checks a configuration that was another before.
func ValidateValidatingUpdate(c, old *admissionregistrationv1.ValidatingWebhookConfiguration, compile match.Compile) field.ErrorList {
	return validate(validating(c), validating(old), compile)
}

// ValidateMutating checks a configuration on its own.
func ValidateMutating(c *admissionregistrationv1.MutatingWebhookConfiguration, compile match.Compile) field.ErrorList {
	return validate(mutating(c), nil, compile)
}

// ValidateMutatingUpdate checks a configuration that was another before.
func ValidateMutatingUpdate(c, old *admissionregistrationv1.MutatingWebhookConfiguration, compile match.Compile) field.ErrorList {
	return validate(mutating(c), mutating(old), compile)
}

func validate(hooks, old []hook, compile match.Compile) field.ErrorList {
	var errs field.ErrorList
	names, check := sets.New[string](), checker(hooks, old, compile)
	for i, h := range hooks {
		path := field.NewPath("webhooks").Index(i)
		errs = append(errs, h.validate(check, path)...)
		if h.name != "" && names.Has(h.name) {
			errs = append(errs, field.Duplicate(path.Child("name"), h.name))
		}
		names.Insert(h.name)
	}
	return errs
}

// checker checks conditions; nil where no webhook's have changed, so that whoever changes something else need not mend them.
func checker(hooks, old []hook, compile match.Compile) *match.Checker {
	same := func(a, b hook) bool { return equality.Semantic.DeepEqual(a.conditions, b.conditions) }
	if len(old) > 0 && slices.EqualFunc(hooks, old, same) {
		return nil
	}
	before := sets.New[string]()
	for _, h := range old {
		for _, c := range h.conditions {
			before.Insert(strings.TrimSpace(c.Expression))
		}
	}
	return &match.Checker{Compile: compile, Before: before}
}

func (h hook) validate(check *match.Checker, path *field.Path) field.ErrorList {
	errs := validation.IsFullyQualifiedName(path.Child("name"), h.name)
	for i := range h.rules {
		errs = append(errs, match.ValidateRule(&h.rules[i], path.Child("rules").Index(i))...)
	}
	errs = append(errs, match.ValidateFailurePolicy(*h.failurePolicy, path)...)
	errs = append(errs, match.ValidateMatchPolicy(*h.matchPolicy, path)...)
	// A dry run must leave nothing behind: only these two classes can keep that.
	none, onDryRun := admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.SideEffectClassNoneOnDryRun
	if h.sideEffects == nil {
		errs = append(errs, field.Required(path.Child("sideEffects"), fmt.Sprintf("must specify one of %s, %s", none, onDryRun)))
	} else if *h.sideEffects != none && *h.sideEffects != onDryRun {
		errs = append(errs, field.NotSupported(path.Child("sideEffects"), *h.sideEffects, []admissionregistrationv1.SideEffectClass{none, onDryRun}))
	}
	if seconds := *h.timeoutSeconds; seconds != nil && (*seconds < 1 || *seconds > maxTimeout) {
		errs = append(errs, field.Invalid(path.Child("timeoutSeconds"), *seconds, "the timeout value must be between 1 and 30 seconds"))
	}
	errs = append(errs, match.ValidateSelector(*h.namespaceSelector, path.Child("namespaceSelector"))...)
	errs = append(errs, match.ValidateSelector(*h.objectSelect, path.Child("objectSelector"))...)
	if h.reinvocation != nil && *h.reinvocation != nil {
		known := []admissionregistrationv1.ReinvocationPolicyType{admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy}
		if !slices.Contains(known, **h.reinvocation) {
			errs = append(errs, field.NotSupported(path.Child("reinvocationPolicy"), **h.reinvocation, known))
		}
	}
	errs = append(errs, validateClientConfig(h.clientConfig, path.Child("clientConfig"))...)
	if check != nil {
		errs = append(errs, match.ValidateConditions(h.conditions, *check, path.Child("matchConditions"))...)
	}
	return append(errs, validateReviewVersions(h.reviewVersions, path.Child("admissionReviewVersions"))...)
}

// reviewVersions are the AdmissionReviews that an apiserver sends.
var reviewVersions = []string{"v1", "v1beta1"}

func validateReviewVersions(versions []string, path *field.Path) field.ErrorList {
	known := strings.Join(reviewVersions, ", ")
	if len(versions) == 0 {
		return field.ErrorList{field.Required(path, "must specify one of "+known)}
	}
	var errs field.ErrorList
	accepted := false
	for i, version := range versions {
		if slices.Contains(versions[:i], version) {
			errs = append(errs, field.Invalid(path.Index(i), version, "duplicate version"))
			continue
		}
		for _, message := range validation.IsDNS1035Label(version) {
			errs = append(errs, field.Invalid(path.Index(i), version, message))
		}
		accepted = accepted || slices.Contains(reviewVersions, version)
	}
	if !accepted {
		errs = append(errs, field.Invalid(path, versions, "must include at least one of "+known))
	}
	return errs
}

func validateClientConfig(c *admissionregistrationv1.WebhookClientConfig, path *field.Path) field.ErrorList {
	switch {
	case (c.URL == nil) == (c.Service == nil):
		return field.ErrorList{field.Required(path, "exactly one of url or service is required")}
	case c.URL != nil:
		return validateURL(*c.URL, path.Child("url"))
	}
	return validateService(c.Service, path.Child("service"))
}

func validateURL(text string, path *field.Path) field.ErrorList {
	const form = "; desired format: https://host[/path]"
	u, err := url.Parse(text)
	if err != nil {
		return field.ErrorList{field.Required(path, "url must be a valid URL: "+err.Error()+form)}
	}
	var errs field.ErrorList
	if u.Scheme != "https" {
		errs = append(errs, field.Invalid(path, u.Scheme, "'https' is the only allowed URL scheme"+form))
	}
	if u.Host == "" {
		errs = append(errs, field.Invalid(path, u.Host, "host must be specified"+form))
	}
	if u.User != nil {
		errs = append(errs, field.Invalid(path, u.User.String(), "user information is not permitted in the URL"))
	}
	if u.Fragment != "" {
		errs = append(errs, field.Invalid(path, u.Fragment, "fragments are not permitted in the URL"))
	}
	if u.RawQuery != "" {
		errs = append(errs, field.Invalid(path, u.RawQuery, "query parameters are not permitted in the URL"))
	}
	return errs
}

func validateService(s *admissionregistrationv1.ServiceReference, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	if s.Namespace == "" {
		errs = append(errs, field.Required(path.Child("namespace"), ""))
	}
	if port := ptr.Deref(s.Port, defaultPort); len(validation.IsValidPortNum(int(port))) > 0 {
		errs = append(errs, field.Invalid(path.Child("port"), port, "port is not valid: "+strings.Join(validation.IsValidPortNum(int(port)), ", ")))
	}
	return append(errs, validatePath(ptr.Deref(s.Path, ""), path.Child("path"))...)
}

func validatePath(text string, path *field.Path) field.ErrorList {
	switch {
	case text == "" || text == "/":
		return nil
	case text == "//":
		return field.ErrorList{field.Invalid(path, text, "segment[0] may not be empty")}
	}
	var errs field.ErrorList
	if !strings.HasPrefix(text, "/") {
		errs = append(errs, field.Invalid(path, text, "must start with a '/'"))
	}
	// The first character is taken for the slash, be it one or not.
	for i, segment := range strings.Split(strings.TrimSuffix(text[1:], "/"), "/") {
		if segment == "" {
			errs = append(errs, field.Invalid(path, text, fmt.Sprintf("segment[%d] may not be empty", i)))
			continue
		}
		for _, message := range validation.IsDNS1123Subdomain(segment) {
			errs = append(errs, field.Invalid(path, text, fmt.Sprintf("segment[%d]: %v", i, message)))
		}
	}
	return errs
}
