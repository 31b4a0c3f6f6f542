// Package policy is what is true of the admission policies, validating and mutating, and of their bindings. What is wrong with an
// expression is asked of a match.Compile; here stands what each place expects of it.
//
// In Kubernetes: pkg/apis/admissionregistration (v1/defaults.go, validation/validation.go).
package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/util/jsonpath"
	"k8s.io/utils/ptr"

	"hyperkube/api/admissionregistration/match"
	"hyperkube/api/rule"
)

// SetDefaultsValidating fills what the writer of a ValidatingAdmissionPolicy left out.
func SetDefaultsValidating(p *admissionregistrationv1.ValidatingAdmissionPolicy) {
	setDefaults(&p.Spec.FailurePolicy, p.Spec.MatchConstraints)
}

// SetDefaultsMutating fills what the writer of a MutatingAdmissionPolicy left out.
func SetDefaultsMutating(p *admissionregistrationv1.MutatingAdmissionPolicy) {
	setDefaults(&p.Spec.FailurePolicy, p.Spec.MatchConstraints)
}

func setDefaults(failure **admissionregistrationv1.FailurePolicyType, resources *admissionregistrationv1.MatchResources) {
	if *failure == nil {
		*failure = ptr.To(admissionregistrationv1.Fail)
	}
	SetDefaultsMatch(resources)
}

// SetDefaultsMatch fills what a policy or a binding says about resources.
func SetDefaultsMatch(m *admissionregistrationv1.MatchResources) {
	if m == nil {
		return
	}
	match.SetDefaults(&m.MatchPolicy, &m.NamespaceSelector, &m.ObjectSelector)
	for _, rules := range [][]admissionregistrationv1.NamedRuleWithOperations{m.ResourceRules, m.ExcludeResourceRules} {
		for i := range rules {
			if rules[i].Scope == nil {
				rules[i].Scope = ptr.To(admissionregistrationv1.AllScopes)
			}
		}
	}
}

const maxAuditAnnotations, maxAnnotationExpression = 20, 5 * 1024

// ValidateValidating checks a ValidatingAdmissionPolicy on its own.
func ValidateValidating(p *admissionregistrationv1.ValidatingAdmissionPolicy, compile match.Compile) field.ErrorList {
	return validateValidating(p, nil, compile)
}

// ValidateValidatingUpdate checks one that was another before.
func ValidateValidatingUpdate(p, old *admissionregistrationv1.ValidatingAdmissionPolicy, compile match.Compile) field.ErrorList {
	return validateValidating(p, old, compile)
}

func validateValidating(p, old *admissionregistrationv1.ValidatingAdmissionPolicy, compile match.Compile) field.ErrorList {
	spec, path := &p.Spec, field.NewPath("spec")
	check := match.Checker{Compile: compile, Params: spec.ParamKind != nil, Before: expressionsOf(old)}
	errs := validateShared(spec.FailurePolicy, spec.ParamKind, spec.MatchConstraints, path)
	if old == nil || conditionsChanged(spec.ParamKind, old.Spec.ParamKind, spec.MatchConditions, old.Spec.MatchConditions) {
		errs = append(errs, match.ValidateConditions(spec.MatchConditions, check, path.Child("matchConditions"))...)
	}
	errs = append(errs, validateVariables(spec.Variables, check, path.Child("variables"))...)
	if len(spec.Validations) == 0 && len(spec.AuditAnnotations) == 0 {
		const message = "validations or auditAnnotations must contain at least one item"
		return append(errs, field.Required(path.Child("validations"), message), field.Required(path.Child("auditAnnotations"), message))
	}
	for i := range spec.Validations {
		errs = append(errs, validateValidation(&spec.Validations[i], check, path.Child("validations").Index(i))...)
	}
	return append(errs, validateAuditAnnotations(p.Name, spec.AuditAnnotations, check, path.Child("auditAnnotations"))...)
}

// conditionsChanged: conditions that stay as they are, on parameters that stay what they are, are not checked again.
func conditionsChanged(params, oldParams *admissionregistrationv1.ParamKind, conditions, old []admissionregistrationv1.MatchCondition) bool {
	return !equality.Semantic.DeepEqual(params, oldParams) || !equality.Semantic.DeepEqual(conditions, old)
}

// expressionsOf are all expressions of a policy; nil has none.
func expressionsOf(p *admissionregistrationv1.ValidatingAdmissionPolicy) sets.Set[string] {
	all := sets.New[string]()
	if p == nil {
		return all
	}
	for _, c := range p.Spec.MatchConditions {
		all.Insert(strings.TrimSpace(c.Expression))
	}
	for _, v := range p.Spec.Variables {
		all.Insert(v.Expression)
	}
	for _, v := range p.Spec.Validations {
		all.Insert(v.Expression, v.MessageExpression)
	}
	for _, a := range p.Spec.AuditAnnotations {
		all.Insert(a.ValueExpression)
	}
	return all
}

// ValidateMutating checks a MutatingAdmissionPolicy on its own.
func ValidateMutating(p *admissionregistrationv1.MutatingAdmissionPolicy, compile match.Compile) field.ErrorList {
	return validateMutating(p, nil, compile)
}

// ValidateMutatingUpdate checks one that was another before.
func ValidateMutatingUpdate(p, old *admissionregistrationv1.MutatingAdmissionPolicy, compile match.Compile) field.ErrorList {
	return validateMutating(p, old, compile)
}

func validateMutating(p, old *admissionregistrationv1.MutatingAdmissionPolicy, compile match.Compile) field.ErrorList {
	spec, path := &p.Spec, field.NewPath("spec")
	check := match.Checker{Compile: compile, Params: spec.ParamKind != nil, Before: mutationsOf(old)}
	errs := validateShared(spec.FailurePolicy, spec.ParamKind, spec.MatchConstraints, path)
	errs = append(errs, validateMutable(spec.MatchConstraints, path.Child("matchConstraints"))...)
	if old == nil || conditionsChanged(spec.ParamKind, old.Spec.ParamKind, spec.MatchConditions, old.Spec.MatchConditions) {
		errs = append(errs, match.ValidateConditions(spec.MatchConditions, check, path.Child("matchConditions"))...)
	}
	errs = append(errs, validateVariables(spec.Variables, check, path.Child("variables"))...)
	if len(spec.Mutations) == 0 {
		errs = append(errs, field.Required(path.Child("mutations"), "mutations must contain at least one item"))
	}
	for i := range spec.Mutations {
		errs = append(errs, validateMutation(&spec.Mutations[i], check, path.Child("mutations").Index(i))...)
	}
	return append(errs, rule.Supported(spec.ReinvocationPolicy, path.Child("reinvocationPolicy"),
		admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)...)
}

// mutationsOf are all expressions of a policy; nil has none.
func mutationsOf(p *admissionregistrationv1.MutatingAdmissionPolicy) sets.Set[string] {
	all := sets.New[string]()
	if p == nil {
		return all
	}
	for _, c := range p.Spec.MatchConditions {
		all.Insert(strings.TrimSpace(c.Expression))
	}
	for _, v := range p.Spec.Variables {
		all.Insert(v.Expression)
	}
	for _, m := range p.Spec.Mutations {
		if m.ApplyConfiguration != nil {
			all.Insert(m.ApplyConfiguration.Expression)
		}
		if m.JSONPatch != nil {
			all.Insert(m.JSONPatch.Expression)
		}
	}
	return all
}

func validateShared(failure *admissionregistrationv1.FailurePolicyType, params *admissionregistrationv1.ParamKind, resources *admissionregistrationv1.MatchResources, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if failure == nil {
		errs = append(errs, field.Required(path.Child("failurePolicy"), ""))
	}
	errs = append(errs, match.ValidateFailurePolicy(failure, path)...)
	if params != nil {
		errs = append(errs, validateParamKind(params, path.Child("paramKind"))...)
	}
	if resources == nil {
		return append(errs, field.Required(path.Child("matchConstraints"), ""))
	}
	errs = append(errs, validateMatch(resources, path.Child("matchConstraints"))...)
	if len(resources.ResourceRules) == 0 {
		errs = append(errs, field.Required(path.Child("matchConstraints", "resourceRules"), ""))
	}
	return errs
}

func validateParamKind(p *admissionregistrationv1.ParamKind, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("apiVersion")
	group, version, found := strings.Cut(p.APIVersion, "/")
	if !found {
		group, version = "", p.APIVersion
	}
	switch {
	case p.APIVersion == "":
		errs = append(errs, field.Required(at, ""))
	case strings.Contains(version, "/"):
		errs = append(errs, field.Invalid(at, p.APIVersion, "unexpected GroupVersion string: "+p.APIVersion))
	default:
		if messages := validation.IsDNS1123Subdomain(group); group != "" && len(messages) > 0 {
			errs = append(errs, field.Invalid(at, group, strings.Join(messages, ",")))
		}
		if messages := validation.IsDNS1035Label(version); version == "" {
			errs = append(errs, field.Invalid(at, p.APIVersion, "version must be specified"))
		} else if len(messages) > 0 {
			errs = append(errs, field.Invalid(at, version, strings.Join(messages, ",")))
		}
	}
	if p.Kind == "" {
		errs = append(errs, field.Required(path.Child("kind"), ""))
	} else if messages := validation.IsDNS1035Label(strings.ToLower(p.Kind)); len(messages) > 0 {
		errs = append(errs, field.Invalid(path.Child("kind"), p.Kind, "may have mixed case, but should otherwise match: "+strings.Join(messages, ",")))
	}
	return errs
}

func validateMatch(m *admissionregistrationv1.MatchResources, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if m.MatchPolicy == nil {
		errs = append(errs, field.Required(path.Child("matchPolicy"), ""))
	}
	errs = append(errs, match.ValidateMatchPolicy(m.MatchPolicy, path)...)
	for _, s := range []struct {
		selector *metav1.LabelSelector
		name     string
	}{{m.NamespaceSelector, "namespaceSelector"}, {m.ObjectSelector, "objectSelector"}} {
		if s.selector == nil {
			errs = append(errs, field.Required(path.Child(s.name), ""))
		}
		errs = append(errs, match.ValidateSelector(s.selector, path.Child(s.name))...)
	}
	for i := range m.ResourceRules {
		errs = append(errs, validateNamedRule(&m.ResourceRules[i], path.Child("resourceRules").Index(i))...)
	}
	for i := range m.ExcludeResourceRules {
		errs = append(errs, validateNamedRule(&m.ExcludeResourceRules[i], path.Child("excludeResourceRules").Index(i))...)
	}
	return errs
}

func validateNamedRule(r *admissionregistrationv1.NamedRuleWithOperations, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, name := range r.ResourceNames {
		at := path.Child("resourceNames").Index(i)
		errs = append(errs, rule.All(pathvalidation.ValidatePathSegmentName(name, false), at, name)...)
		if slices.Contains(r.ResourceNames[:i], name) {
			errs = append(errs, field.Duplicate(at, name))
		}
	}
	return append(errs, match.ValidateRule(&r.RuleWithOperations, path)...)
}

var (
	identifier = regexp.MustCompile(`^[_a-zA-Z][_a-zA-Z0-9]*$`)
	reserved   = sets.New("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
		"let", "loop", "package", "namespace", "return", "var", "void", "while")
)

func validateVariables(variables []admissionregistrationv1.Variable, check match.Checker, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, v := range variables {
		at := path.Index(i)
		switch {
		case strings.TrimSpace(v.Name) == "":
			errs = append(errs, field.Required(at.Child("name"), "name is not specified"))
		case !identifier.MatchString(v.Name) || reserved.Has(v.Name):
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, "must be a valid CEL identifier"))
		}
		errs = append(errs, validateExpression(match.Expression{Text: v.Expression, Path: at.Child("expression"), Authorizer: true, Variable: v.Name}, check)...)
	}
	return errs
}

func validateExpression(e match.Expression, check match.Checker) field.ErrorList {
	if strings.TrimSpace(e.Text) == "" {
		return field.ErrorList{field.Required(e.Path, "expression is not specified")}
	}
	return check.Check(e)
}

func validateValidation(v *admissionregistrationv1.Validation, check match.Checker, path *field.Path) field.ErrorList {
	errs := validateExpression(match.Expression{Text: v.Expression, Path: path.Child("expression"), Result: match.Bool, Authorizer: true}, check)
	if at := path.Child("messageExpression"); v.MessageExpression != "" && strings.TrimSpace(v.MessageExpression) == "" {
		errs = append(errs, field.Invalid(at, v.MessageExpression, "must be non-empty if specified"))
	} else if v.MessageExpression != "" {
		// A message is for everybody who is refused: it cannot ask what they may do.
		errs = append(errs, check.Check(match.Expression{Text: v.MessageExpression, Path: at, Result: match.String})...)
	}
	if message := strings.TrimSpace(v.Message); v.Message != "" && message == "" {
		errs = append(errs, field.Invalid(path.Child("message"), v.Message, "must be non-empty if specified"))
	} else if strings.ContainsAny(message, "\n\r") {
		errs = append(errs, field.Invalid(path.Child("message"), v.Message, "must not contain line breaks"))
	}
	known := []metav1.StatusReason{metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge}
	if v.Reason != nil && !slices.Contains(known, *v.Reason) {
		errs = append(errs, field.NotSupported(path.Child("reason"), *v.Reason, known))
	}
	return errs
}

func validateAuditAnnotations(policy string, annotations []admissionregistrationv1.AuditAnnotation, check match.Checker, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(annotations) > maxAuditAnnotations {
		errs = append(errs, field.Invalid(path, annotations, fmt.Sprintf("must not have more than %d auditAnnotations", maxAuditAnnotations)))
	}
	seen := sets.New[string]()
	for i, a := range annotations {
		at := path.Index(i)
		if policy == "" {
			errs = append(errs, field.Invalid(at.Child("key"), a.Key, "requires metadata.name be non-empty"))
		} else {
			errs = append(errs, rule.QualifiedName(policy+"/"+a.Key, at.Child("key"))...)
		}
		at, value := at.Child("valueExpression"), strings.TrimSpace(a.ValueExpression)
		switch {
		case value == "":
			errs = append(errs, field.Required(at, "valueExpression is not specified"))
		case len(value) > maxAnnotationExpression:
			errs = append(errs, field.Required(at, fmt.Sprintf("must not exceed %d bytes in length", maxAnnotationExpression)))
		default:
			errs = append(errs, check.Check(match.Expression{Text: value, Shown: a.ValueExpression, Path: at, Result: match.StringOrNull, Authorizer: true})...)
		}
		if seen.Has(a.Key) {
			errs = append(errs, field.Duplicate(path.Index(i).Child("key"), a.Key))
		}
		seen.Insert(a.Key)
	}
	return errs
}

// form is one of the two ways in which a mutation may be written.
type form struct {
	kind       admissionregistrationv1.PatchType
	name       string
	result     match.Result
	there      bool
	expression string
}

func formsOf(m *admissionregistrationv1.Mutation) []form {
	apply := form{kind: admissionregistrationv1.PatchTypeApplyConfiguration, name: "applyConfiguration", result: match.ApplyConfiguration}
	if m.ApplyConfiguration != nil {
		apply.there, apply.expression = true, m.ApplyConfiguration.Expression
	}
	patch := form{kind: admissionregistrationv1.PatchTypeJSONPatch, name: "jsonPatch", result: match.JSONPatch}
	if m.JSONPatch != nil {
		patch.there, patch.expression = true, m.JSONPatch.Expression
	}
	return []form{apply, patch}
}

func validateMutation(m *admissionregistrationv1.Mutation, check match.Checker, path *field.Path) field.ErrorList {
	forms := formsOf(m)
	i := slices.IndexFunc(forms, func(f form) bool { return f.kind == m.PatchType })
	if i < 0 {
		return rule.Supported(m.PatchType, path.Child("patchType"), admissionregistrationv1.PatchTypeApplyConfiguration, admissionregistrationv1.PatchTypeJSONPatch)
	}
	mine, other := forms[i], forms[1-i]
	var errs field.ErrorList
	at := path.Child(mine.name)
	switch {
	case !mine.there:
		errs = append(errs, field.Required(at, fmt.Sprintf("must be specified when patchType is %s", mine.kind)))
	case strings.TrimSpace(mine.expression) == "":
		errs = append(errs, field.Required(at.Child("expression"), ""))
	default:
		errs = append(errs, check.Check(match.Expression{Text: strings.TrimSpace(mine.expression),
			Path: at.Child("expression"), Result: mine.result, Authorizer: true, Patch: true})...)
	}
	if other.there {
		errs = append(errs, field.Invalid(path.Child(other.name), "{"+other.name+"}", fmt.Sprintf("must not be specified when patchType is %s", m.PatchType)))
	}
	return errs
}

// ValidateStatus checks what the type checker reports.
func ValidateStatus(p *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
	path := field.NewPath("status")
	errs := metav1validation.ValidateConditions(p.Status.Conditions, path.Child("conditions"))
	if p.Status.TypeChecking == nil {
		return errs
	}
	for i, w := range p.Status.TypeChecking.ExpressionWarnings {
		at := path.Child("typeChecking", "expressionWarnings").Index(i)
		errs = append(errs, rule.NonEmpty(w.Warning, at.Child("warning"))...)
		ref := strings.TrimSpace(w.FieldRef)
		errs = append(errs, rule.NonEmpty(ref, at.Child("fieldRef"))...)
		if err := jsonpath.New("spec").Parse("{" + ref + "}"); ref != "" && err != nil {
			errs = append(errs, field.Invalid(at.Child("fieldRef"), ref, fmt.Sprintf("invalid JSONPath: %v", err)))
		}
	}
	return errs
}

// ValidateValidatingBinding checks a ValidatingAdmissionPolicyBinding on its own.
func ValidateValidatingBinding(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources, path)
	errs = append(errs, rule.NonEmpty(b.Spec.PolicyName, path.Child("policyName")).MarkBeta()...)
	return append(errs, validateActions(b.Spec.ValidationActions, path.Child("validationActions"))...)
}

// ValidateMutatingBinding checks a MutatingAdmissionPolicyBinding on its own.
func ValidateMutatingBinding(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) field.ErrorList {
	path := field.NewPath("spec")
	errs := rule.NonEmpty(b.Spec.PolicyName, path.Child("policyName"))
	errs = append(errs, validateBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources, path)...)
	return append(errs, validateMutable(b.Spec.MatchResources, path.Child("matchResources"))...)
}

// validateMutable: what is deleted cannot be changed on its way. Upstream tells of it at the field of all rules.
func validateMutable(m *admissionregistrationv1.MatchResources, path *field.Path) field.ErrorList {
	if m == nil {
		return nil
	}
	known := []admissionregistrationv1.OperationType{
		admissionregistrationv1.OperationAll, admissionregistrationv1.Connect, admissionregistrationv1.Create, admissionregistrationv1.Update}
	var errs field.ErrorList
	for _, r := range m.ResourceRules {
		for _, operation := range r.Operations {
			if !slices.Contains(known, operation) {
				errs = append(errs, field.NotSupported(path.Child("resourceRules", "operations"), operation, known))
			}
		}
	}
	return errs
}

func validateBinding(policy string, params *admissionregistrationv1.ParamRef, resources *admissionregistrationv1.MatchResources, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if policy != "" {
		errs = append(errs, rule.DNSSubdomain(policy, path.Child("policyName"))...)
	}
	if params != nil {
		errs = append(errs, validateParamRef(params, path.Child("paramRef"))...)
	}
	if resources != nil {
		errs = append(errs, validateMatch(resources, path.Child("matchResources"))...)
	}
	return errs
}

func validateParamRef(p *admissionregistrationv1.ParamRef, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	const exclusive = "name and selector are mutually exclusive"
	both := p.Name != "" && p.Selector != nil
	if p.Name != "" {
		errs = append(errs, rule.All(pathvalidation.ValidatePathSegmentName(p.Name, false), path.Child("name"), p.Name)...)
	}
	if both {
		errs = append(errs, field.Forbidden(path.Child("name"), exclusive))
	}
	errs = append(errs, match.ValidateSelector(p.Selector, path.Child("selector"))...)
	if both {
		errs = append(errs, field.Forbidden(path.Child("selector"), exclusive))
	}
	if p.Name == "" && p.Selector == nil {
		errs = append(errs, field.Required(path, "one of name or selector must be specified"))
	}
	at, action := path.Child("parameterNotFoundAction"), ptr.Deref(p.ParameterNotFoundAction, "")
	switch action {
	case "":
		errs = append(errs, field.Required(at, ""))
	case admissionregistrationv1.AllowAction, admissionregistrationv1.DenyAction:
	default:
		errs = append(errs, field.NotSupported(at, action, []admissionregistrationv1.ParameterNotFoundActionType{admissionregistrationv1.DenyAction, admissionregistrationv1.AllowAction}))
	}
	return errs
}

func validateActions(actions []admissionregistrationv1.ValidationAction, path *field.Path) field.ErrorList {
	if len(actions) == 0 {
		return field.ErrorList{field.Required(path, "").MarkBeta()}
	}
	known := []admissionregistrationv1.ValidationAction{admissionregistrationv1.Audit, admissionregistrationv1.Deny, admissionregistrationv1.Warn}
	var errs field.ErrorList
	for i, action := range actions {
		if !slices.Contains(known, action) {
			errs = append(errs, field.NotSupported(path.Index(i), action, known))
		}
		if slices.Contains(actions[:i], action) {
			errs = append(errs, field.Duplicate(path.Index(i), action))
		}
	}
	if slices.Contains(actions, admissionregistrationv1.Deny) && slices.Contains(actions, admissionregistrationv1.Warn) {
		errs = append(errs, field.Invalid(path, actions, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"))
	}
	return errs
}
