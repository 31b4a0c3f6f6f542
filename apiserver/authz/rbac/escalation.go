package rbac

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"hyperkube/apiserver/request"
)

// ConfirmNoEscalation returns an error that lists what of rules user does not have in namespace: nobody
// may grant what they do not hold.
func (r *RuleResolver) ConfirmNoEscalation(user *request.User, namespace string, rules []rbacv1.PolicyRule) error {
	owned, err := r.RulesFor(user, namespace)
	missing := Missing(owned, rules)
	if len(missing) == 0 {
		return nil
	}
	message := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s",
		user.Name, user.Groups, strings.Join(describe(missing), "\n"))
	if err != nil {
		message += fmt.Sprintf("; resolution errors: %v", []error{err})
	}
	return errors.New(message)
}

// Missing returns what of wanted no rule of owned covers, in the smallest pieces: one verb
// on one resource (and name), or on one path.
func Missing(owned, wanted []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var missing []rbacv1.PolicyRule
	for _, w := range wanted {
		for _, piece := range breakdown(w) {
			if !slices.ContainsFunc(owned, func(o rbacv1.PolicyRule) bool { return covers(o, piece) }) {
				missing = append(missing, piece)
			}
		}
	}
	return missing
}

func breakdown(rule rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var pieces []rbacv1.PolicyRule
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				piece := rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: []string{verb}}
				if len(rule.ResourceNames) == 0 {
					pieces = append(pieces, piece)
				}
				for _, name := range rule.ResourceNames {
					named := piece
					named.ResourceNames = []string{name}
					pieces = append(pieces, named)
				}
			}
		}
	}
	for _, url := range rule.NonResourceURLs {
		for _, verb := range rule.Verbs {
			pieces = append(pieces, rbacv1.PolicyRule{NonResourceURLs: []string{url}, Verbs: []string{verb}})
		}
	}
	return pieces
}

// covers says whether owner allows all that piece, one of breakdown's, does.
func covers(owner, piece rbacv1.PolicyRule) bool {
	if !contains(owner.Verbs, piece.Verbs[0]) {
		return false
	}
	if len(piece.NonResourceURLs) > 0 {
		return nonResourceURLMatches(owner.NonResourceURLs, piece.NonResourceURLs[0])
	}
	resource, subresource, _ := strings.Cut(piece.Resources[0], "/")
	return contains(owner.APIGroups, piece.APIGroups[0]) &&
		resourceMatches(owner.Resources, resource, subresource) &&
		(len(owner.ResourceNames) == 0 ||
			len(piece.ResourceNames) > 0 && slices.Contains(owner.ResourceNames, piece.ResourceNames[0]))
}

// describe prints missing pieces, joining the verbs of those on one resource; paths stand alone.
func describe(pieces []rbacv1.PolicyRule) []string {
	var order []string
	joined := map[string]*rbacv1.PolicyRule{}
	for _, p := range pieces {
		key := fmt.Sprintf("%q%q%q%q", p.APIGroups, p.Resources, p.ResourceNames, p.NonResourceURLs)
		if len(p.NonResourceURLs) > 0 {
			key += p.Verbs[0]
		}
		if seen, ok := joined[key]; ok && len(p.NonResourceURLs) == 0 {
			seen.Verbs = append(seen.Verbs, p.Verbs...)
			continue
		}
		order = append(order, key)
		joined[key] = &p
	}
	var lines []string
	for _, key := range order {
		lines = append(lines, compactString(*joined[key]))
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

func compactString(r rbacv1.PolicyRule) string {
	var parts []string
	for _, part := range []struct {
		name   string
		values []string
	}{
		{"APIGroups", r.APIGroups}, {"Resources", r.Resources}, {"NonResourceURLs", r.NonResourceURLs},
		{"ResourceNames", r.ResourceNames}, {"Verbs", r.Verbs},
	} {
		if len(part.values) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", part.name, part.values))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
