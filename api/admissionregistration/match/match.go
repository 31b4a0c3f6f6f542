// Package match is what webhooks and admission policies have in common: the rules that say which requests they are for.
//
// In Kubernetes: pkg/apis/admissionregistration (v1/defaults.go, validation/validation.go).
package match

import (
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

// SetDefaultsRules gives rules that name none the scope of all.
func SetDefaultsRules(rules []admissionregistrationv1.RuleWithOperations) {
	for i := range rules {
		if rules[i].Scope == nil {
			rules[i].Scope = ptr.To(admissionregistrationv1.AllScopes)
		}
	}
}

// SetDefaults fills the shared fields of webhooks and policies.
func SetDefaults(policy **admissionregistrationv1.MatchPolicyType, namespaces, objects **metav1.LabelSelector) {
	if *policy == nil {
		*policy = ptr.To(admissionregistrationv1.Equivalent)
	}
	for _, selector := range []**metav1.LabelSelector{namespaces, objects} {
		if *selector == nil {
			*selector = &metav1.LabelSelector{}
		}
	}
}

// ValidateFailurePolicy checks a failure policy; nil is left to the caller.
func ValidateFailurePolicy(p *admissionregistrationv1.FailurePolicyType, path *field.Path) field.ErrorList {
	return oneOf(p, path.Child("failurePolicy"), admissionregistrationv1.Fail, admissionregistrationv1.Ignore)
}

// ValidateMatchPolicy checks a match policy; nil is left to the caller.
func ValidateMatchPolicy(p *admissionregistrationv1.MatchPolicyType, path *field.Path) field.ErrorList {
	return oneOf(p, path.Child("matchPolicy"), admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)
}

func oneOf[T ~string](value *T, path *field.Path, words ...T) field.ErrorList {
	known := sets.New(words...)
	if value == nil || known.Has(*value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, *value, sets.List(known))}
}

// ValidateSelector checks a selector, if there is one.
func ValidateSelector(selector *metav1.LabelSelector, path *field.Path) field.ErrorList {
	if selector == nil {
		return nil
	}
	return metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, path)
}

var operations = []admissionregistrationv1.OperationType{
	admissionregistrationv1.OperationAll, admissionregistrationv1.Connect, admissionregistrationv1.Create, admissionregistrationv1.Delete, admissionregistrationv1.Update,
}

// ValidateRule checks which operations on which resources a rule is for.
func ValidateRule(r *admissionregistrationv1.RuleWithOperations, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(r.Operations) == 0 {
		errs = append(errs, field.Required(path.Child("operations"), ""))
	}
	if len(r.Operations) > 1 && slices.Contains(r.Operations, admissionregistrationv1.OperationAll) {
		errs = append(errs, field.Invalid(path.Child("operations"), r.Operations, "if '*' is present, must not specify other operations"))
	}
	for i, operation := range r.Operations {
		errs = append(errs, oneOf(&operation, path.Child("operations").Index(i), operations...)...)
	}
	if len(r.APIGroups) == 0 {
		errs = append(errs, field.Required(path.Child("apiGroups"), ""))
	}
	errs = append(errs, rule.Wildcard(r.APIGroups, path.Child("apiGroups"), "API groups")...)
	versions := path.Child("apiVersions")
	if len(r.APIVersions) == 0 {
		errs = append(errs, field.Required(versions, ""))
	}
	errs = append(errs, rule.Wildcard(r.APIVersions, versions, "API versions")...)
	for i, version := range r.APIVersions {
		errs = append(errs, rule.NonEmpty(version, versions.Index(i))...)
	}
	errs = append(errs, validateResources(r.Resources, path.Child("resources"))...)
	return append(errs, oneOf(r.Scope, path.Child("scope"), admissionregistrationv1.AllScopes, admissionregistrationv1.ClusterScope, admissionregistrationv1.NamespacedScope)...)
}

// validateResources: "pods", "pods/log", "pods/*", "*/scale", "*" (all but subresources), "*/*".
func validateResources(resources []string, path *field.Path) field.ErrorList {
	if len(resources) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	allOf, anyWith := sets.New[string](), sets.New[string]() // resources of "x/*", subresources of "*/x"
	everything, all, plain := false, false, false
	var errs field.ErrorList
	for i, name := range resources {
		if name == "" {
			errs = append(errs, field.Required(path.Index(i), ""))
			continue
		}
		everything, all = everything || name == "*/*", all || name == "*"
		resource, sub, found := strings.Cut(name, "/")
		if !found {
			plain = name != "*" // the last one's word holds, as upstream has it
			continue
		}
		if allOf.Has(resource) {
			errs = append(errs, field.Invalid(path.Index(i), name, fmt.Sprintf("if '%s/*' is present, must not specify %s", resource, name)))
		}
		if anyWith.Has(sub) {
			errs = append(errs, field.Invalid(path.Index(i), name, fmt.Sprintf("if '*/%s' is present, must not specify %s", sub, name)))
		}
		if sub == "*" {
			allOf.Insert(resource)
		}
		if resource == "*" {
			anyWith.Insert(sub)
		}
	}
	if len(resources) > 1 && everything {
		errs = append(errs, field.Invalid(path, resources, "if '*/*' is present, must not specify other resources"))
	}
	if all && plain {
		errs = append(errs, field.Invalid(path, resources, "if '*' is present, must not specify other resources without subresources"))
	}
	return errs
}

const maxConditions = 64

// ValidateConditions checks the conditions beside the rules.
func ValidateConditions(conditions []admissionregistrationv1.MatchCondition, check Checker, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(conditions) > maxConditions {
		errs = append(errs, field.TooMany(path, len(conditions), maxConditions))
	}
	seen := sets.New[string]()
	for i, c := range conditions {
		at := path.Index(i)
		if expression := strings.TrimSpace(c.Expression); expression == "" {
			errs = append(errs, field.Required(at.Child("expression"), ""))
		} else {
			errs = append(errs, check.Check(Expression{Text: expression, Path: at.Child("expression"), Result: Bool, Authorizer: true, Alone: true})...)
		}
		if c.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		errs = append(errs, rule.QualifiedName(c.Name, at.Child("name"))...)
		if seen.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		seen.Insert(c.Name)
	}
	return errs
}
