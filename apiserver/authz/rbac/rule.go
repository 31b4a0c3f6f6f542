package rbac

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"hyperkube/apiserver/request"
)

// RulesAllow says whether one of the rules allows a.
func RulesAllow(a request.Attributes, rules ...rbacv1.PolicyRule) bool {
	return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return RuleAllows(a, &r) })
}

// RuleAllows says whether rule allows a.
func RuleAllows(a request.Attributes, rule *rbacv1.PolicyRule) bool {
	if !contains(rule.Verbs, a.Verb) {
		return false
	}
	if !a.ResourceRequest {
		return nonResourceURLMatches(rule.NonResourceURLs, a.Path)
	}
	return contains(rule.APIGroups, a.APIGroup) &&
		resourceMatches(rule.Resources, a.Resource, a.Subresource) &&
		(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, a.Name))
}

func contains(allowed []string, wanted string) bool {
	return slices.Contains(allowed, "*") || slices.Contains(allowed, wanted)
}

// resourceMatches: "pods" covers no subresource, "pods/log" one, "*/scale" that of every resource; only
// "*" covers all. There is no "pods/*".
func resourceMatches(allowed []string, resource, subresource string) bool {
	full := resource
	if subresource != "" {
		full += "/" + subresource
	}
	return slices.ContainsFunc(allowed, func(r string) bool {
		if r == "*" || r == full {
			return true
		}
		return subresource != "" && strings.TrimPrefix(r, "*/") == subresource && strings.HasPrefix(r, "*/")
	})
}

// nonResourceURLMatches: a trailing "*" covers all that begins alike.
func nonResourceURLMatches(allowed []string, path string) bool {
	return slices.ContainsFunc(allowed, func(u string) bool {
		if u == "*" || u == path {
			return true
		}
		prefix, wildcard := strings.CutSuffix(u, "*")
		return wildcard && strings.HasPrefix(path, prefix)
	})
}
