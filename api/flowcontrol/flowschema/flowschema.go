// Package flowschema is what is true of a FlowSchema.
//
// In Kubernetes: pkg/apis/flowcontrol (v1/defaults.go, validation/validation.go).
package flowschema

import (
	"fmt"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/flowcontrol/bootstrap"
	"hyperkube/api/rule"
)

const defaultPrecedence = 1000

// SetDefaults fills what the writer left out.
func SetDefaults(s *flowcontrolv1.FlowSchema) {
	if s.Spec.MatchingPrecedence == 0 {
		s.Spec.MatchingPrecedence = defaultPrecedence
	}
}

// Validate checks a schema on its own.
func Validate(s *flowcontrolv1.FlowSchema) field.ErrorList {
	path, spec := field.NewPath("spec"), &s.Spec
	at := path.Child("matchingPrecedence")
	var errs field.ErrorList
	switch n := spec.MatchingPrecedence; {
	case n <= 0:
		errs = append(errs, field.Invalid(at, n, "must be a positive value"))
	case n > flowcontrolv1.FlowSchemaMaxMatchingPrecedence:
		errs = append(errs, field.Invalid(at, n, fmt.Sprintf("must not be greater than %d", flowcontrolv1.FlowSchemaMaxMatchingPrecedence)))
	case n == 1 && s.Name != flowcontrolv1.FlowSchemaNameExempt:
		errs = append(errs, field.Invalid(at, n, "only the schema named 'exempt' may have matchingPrecedence 1"))
	}
	if method := spec.DistinguisherMethod; method != nil {
		known := []flowcontrolv1.FlowDistinguisherMethodType{flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType}
		if !slices.Contains(known, method.Type) {
			errs = append(errs, field.NotSupported(path.Child("distinguisherMethod", "type"), rule.Untagged(method), known))
		}
	}
	level := path.Child("priorityLevelConfiguration", "name")
	if name := spec.PriorityLevelConfiguration.Name; name == "" {
		errs = append(errs, field.Required(level, "must reference a priority level"))
	} else {
		errs = append(errs, rule.All(validation.NameIsDNSSubdomain(name, false), level, name)...)
	}
	for i := range spec.Rules {
		errs = append(errs, validateRules(&spec.Rules[i], path.Child("rules").Index(i))...)
	}
	if bootstrap.Mandatory(s.Name) {
		for _, fixed := range bootstrap.FlowSchemas() {
			if fixed.Name == s.Name && !equality.Semantic.DeepEqual(s.Spec, fixed.Spec) {
				errs = append(errs, field.Invalid(path, rule.Untagged(s.Spec), fmt.Sprintf("spec of '%s' must equal the fixed value", s.Name)))
			}
		}
	}
	return append(errs, ValidateStatus(s)...)
}

// ValidateStatus checks the conditions.
func ValidateStatus(s *flowcontrolv1.FlowSchema) field.ErrorList {
	path := field.NewPath("status", "conditions")
	seen := sets.New[flowcontrolv1.FlowSchemaConditionType]()
	var errs field.ErrorList
	for i, c := range s.Status.Conditions {
		errs = append(errs, rule.OnceNamed(string(c.Type), seen.Has(c.Type), path.Index(i).Child("type"))...)
		seen.Insert(c.Type)
	}
	return errs
}

func validateRules(r *flowcontrolv1.PolicyRulesWithSubjects, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(r.Subjects) == 0 {
		errs = append(errs, field.Required(path.Child("subjects"), "subjects must contain at least one value"))
	}
	for i := range r.Subjects {
		errs = append(errs, validateSubject(&r.Subjects[i], path.Child("subjects").Index(i))...)
	}
	if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
		errs = append(errs, field.Required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
	}
	for i := range r.ResourceRules {
		errs = append(errs, validateResourceRule(&r.ResourceRules[i], path.Child("resourceRules").Index(i))...)
	}
	for i := range r.NonResourceRules {
		errs = append(errs, validateNonResourceRule(&r.NonResourceRules[i], path.Child("nonResourceRules").Index(i))...)
	}
	return errs
}

// validateSubject: kind says which one of user, group and serviceAccount is there.
func validateSubject(s *flowcontrolv1.Subject, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	known := false
	for _, member := range []struct {
		kind  flowcontrolv1.SubjectKind
		field string
		there bool
		check func(*field.Path) field.ErrorList
	}{
		{flowcontrolv1.SubjectKindServiceAccount, "serviceAccount", s.ServiceAccount != nil, func(at *field.Path) field.ErrorList { return validateServiceAccount(s.ServiceAccount, at) }},
		{flowcontrolv1.SubjectKindUser, "user", s.User != nil, func(at *field.Path) field.ErrorList { return rule.NonEmpty(s.User.Name, at.Child("name")) }},
		{flowcontrolv1.SubjectKindGroup, "group", s.Group != nil, func(at *field.Path) field.ErrorList { return rule.NonEmpty(s.Group.Name, at.Child("name")) }},
	} {
		at, mine := path.Child(member.field), member.kind == s.Kind
		known = known || mine
		switch {
		case mine && !member.there:
			errs = append(errs, field.Required(at, fmt.Sprintf("%s is required when subject kind is '%s'", member.field, member.kind)))
		case mine:
			errs = append(errs, member.check(at)...)
		case member.there:
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("%s is forbidden when subject kind is not '%s'", member.field, member.kind)))
		}
	}
	if !known {
		return field.ErrorList{field.NotSupported(path.Child("kind"), s.Kind,
			[]flowcontrolv1.SubjectKind{flowcontrolv1.SubjectKindGroup, flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindUser})}
	}
	return errs
}

func validateServiceAccount(s *flowcontrolv1.ServiceAccountSubject, path *field.Path) field.ErrorList {
	errs := rule.NonEmpty(s.Name, path.Child("name"))
	if s.Name != "" && s.Name != flowcontrolv1.NameAll {
		errs = append(errs, rule.All(validation.ValidateServiceAccountName(s.Name, false), path.Child("name"), s.Name)...)
	}
	if s.Namespace == "" {
		return append(errs, field.Required(path.Child("namespace"), "must specify namespace for service account"))
	}
	return append(errs, rule.All(validation.ValidateNamespaceName(s.Namespace, false), path.Child("namespace"), s.Namespace)...)
}

var knownVerbs = sets.New("get", "list", "create", "update", "delete", "deletecollection", "patch", "watch", "proxy")

func validateVerbs(verbs []string, path *field.Path) field.ErrorList {
	switch {
	case len(verbs) == 0:
		return field.ErrorList{field.Required(path, "verbs must contain at least one value")}
	case slices.Contains(verbs, flowcontrolv1.VerbAll):
		return rule.Wildcard(verbs, path, "verbs")
	case !knownVerbs.HasAll(verbs...):
		return field.ErrorList{field.NotSupported(path, verbs, sets.List(knownVerbs))}
	}
	return nil
}

func validateResourceRule(r *flowcontrolv1.ResourcePolicyRule, path *field.Path) field.ErrorList {
	errs := validateVerbs(r.Verbs, path.Child("verbs"))
	if len(r.APIGroups) == 0 {
		errs = append(errs, field.Required(path.Child("apiGroups"), "resource rules must supply at least one api group"))
	}
	errs = append(errs, rule.Wildcard(r.APIGroups, path.Child("apiGroups"), "api groups")...)
	if len(r.Resources) == 0 {
		errs = append(errs, field.Required(path.Child("resources"), "resource rules must supply at least one resource"))
	}
	errs = append(errs, rule.Wildcard(r.Resources, path.Child("resources"), "resources")...)
	at := path.Child("namespaces")
	switch {
	case len(r.Namespaces) == 0 && !r.ClusterScope:
		errs = append(errs, field.Required(at, "resource rules that are not cluster scoped must supply at least one namespace"))
	case slices.Contains(r.Namespaces, flowcontrolv1.NamespaceEvery):
		errs = append(errs, rule.Wildcard(r.Namespaces, at, "namespaces")...)
	default:
		for i, namespace := range r.Namespaces {
			for _, message := range validation.ValidateNamespaceName(namespace, false) {
				errs = append(errs, field.Invalid(at.Index(i), namespace, "each member of this list must be '*' or a DNS-1123 label; "+message))
			}
		}
	}
	return errs
}

func validateNonResourceRule(r *flowcontrolv1.NonResourcePolicyRule, path *field.Path) field.ErrorList {
	errs := validateVerbs(r.Verbs, path.Child("verbs"))
	at := path.Child("nonResourceURLs")
	switch {
	case len(r.NonResourceURLs) == 0:
		errs = append(errs, field.Required(at, "nonResourceURLs must contain at least one value"))
	case slices.Contains(r.NonResourceURLs, flowcontrolv1.NonResourceAll):
		errs = append(errs, rule.Wildcard(r.NonResourceURLs, at, "non-resource URLs")...)
	default:
		for i, url := range r.NonResourceURLs {
			if message := wrongPath(url); message != "" {
				errs = append(errs, field.Invalid(at.Index(i), url, message))
			}
		}
	}
	return errs
}

// wrongPath says what is wrong with a path; a "*" may stand for its end.
func wrongPath(path string) string {
	switch stars := strings.Count(path, "*"); {
	case path == "":
		return "must not be empty"
	case path == "/":
	case !strings.HasPrefix(path, "/"):
		return "must start with slash"
	case strings.Contains(path, " "):
		return "must not contain white-space"
	case strings.Contains(path, "//"):
		return "must not contain double slash"
	case stars > 1 || (stars == 1 && !strings.HasSuffix(path, "/*")):
		return "wildcard can only do suffix matching"
	}
	return ""
}
