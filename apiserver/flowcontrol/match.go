package flowcontrol

import (
	"cmp"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"hyperkube/apiserver/authn/serviceaccount"
	"hyperkube/apiserver/request"
)

// sorted puts schemas in the order in which they are asked.
func sorted(schemas []*flowcontrolv1.FlowSchema) []*flowcontrolv1.FlowSchema {
	schemas = slices.Clone(schemas)
	slices.SortFunc(schemas, func(a, b *flowcontrolv1.FlowSchema) int {
		return cmp.Or(cmp.Compare(a.Spec.MatchingPrecedence, b.Spec.MatchingPrecedence), strings.Compare(a.Name, b.Name))
	})
	return schemas
}

func matches(schema *flowcontrolv1.FlowSchema, user *request.User, info *request.Info) bool {
	return slices.ContainsFunc(schema.Spec.Rules, func(rule flowcontrolv1.PolicyRulesWithSubjects) bool {
		return slices.ContainsFunc(rule.Subjects, func(s flowcontrolv1.Subject) bool { return subjectMatches(s, user) }) && requestMatches(rule, info)
	})
}

func subjectMatches(s flowcontrolv1.Subject, user *request.User) bool {
	switch {
	case user == nil:
		return false
	case s.Kind == flowcontrolv1.SubjectKindUser && s.User != nil:
		return s.User.Name == "*" || s.User.Name == user.Name
	case s.Kind == flowcontrolv1.SubjectKindGroup && s.Group != nil:
		return s.Group.Name == "*" || user.InGroup(s.Group.Name)
	case s.Kind == flowcontrolv1.SubjectKindServiceAccount && s.ServiceAccount != nil:
		namespace, name, ok := serviceaccount.SplitUsername(user.Name)
		return ok && namespace == s.ServiceAccount.Namespace && (s.ServiceAccount.Name == "*" || name == s.ServiceAccount.Name)
	}
	return false
}

func requestMatches(rule flowcontrolv1.PolicyRulesWithSubjects, info *request.Info) bool {
	if !info.IsResourceRequest {
		return slices.ContainsFunc(rule.NonResourceRules, func(r flowcontrolv1.NonResourcePolicyRule) bool {
			return contains(r.Verbs, info.Verb) && slices.ContainsFunc(r.NonResourceURLs, func(url string) bool {
				prefix, isPrefix := strings.CutSuffix(url, "*")
				return url == info.Path || isPrefix && strings.HasPrefix(info.Path, prefix)
			})
		})
	}
	resource := info.Resource
	if info.Subresource != "" {
		resource += "/" + info.Subresource
	}
	return slices.ContainsFunc(rule.ResourceRules, func(r flowcontrolv1.ResourcePolicyRule) bool {
		if !contains(r.Verbs, info.Verb) || !contains(r.APIGroups, info.APIGroup) || !contains(r.Resources, resource) {
			return false
		}
		if info.Namespace == "" {
			return r.ClusterScope
		}
		return contains(r.Namespaces, info.Namespace)
	})
}

func contains(allowed []string, wanted string) bool {
	return slices.Contains(allowed, "*") || slices.Contains(allowed, wanted)
}
