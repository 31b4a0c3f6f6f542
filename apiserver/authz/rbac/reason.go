package rbac

import (
	"cmp"
	"fmt"
	"strings"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// grant is the way by which a rule is somebody's: bound to whom, by what, in which role. All
// are parts of objects in the watch cache, which are never changed, only replaced.
type grant struct {
	binding *metav1.ObjectMeta
	role    *rbacv1.RoleRef
	subject *rbacv1.Subject
	rule    *rbacv1.PolicyRule
}

// maxReasons bounds the reasons remembered: beyond it all are forgotten.
const maxReasons = 2000

// reasons are the texts of grants. Every request needs one, and there are no more of them than ways
// to be allowed: each is made once. That of a changed binding or role is under another pointer.
type reasons struct {
	mu    sync.RWMutex
	texts map[grant]string
}

func (r *reasons) of(g grant) string {
	r.mu.RLock()
	text, found := r.texts[g]
	r.mu.RUnlock()
	if found {
		return text
	}
	text = g.String()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.texts == nil || len(r.texts) >= maxReasons {
		r.texts = map[grant]string{}
	}
	r.texts[g] = text
	return text
}

// String begins with upstream's words, and adds the rule:
//
//	RBAC: allowed by ClusterRoleBinding "jane" of ClusterRole "view" to User "jane": get,list pods,services
func (g grant) String() string {
	kind, name := "ClusterRoleBinding", g.binding.Name
	if g.binding.Namespace != "" {
		kind, name = "RoleBinding", name+"/"+g.binding.Namespace
	}
	subject := g.subject.Name
	if g.subject.Kind == rbacv1.ServiceAccountKind {
		subject += "/" + cmp.Or(g.subject.Namespace, g.binding.Namespace)
	}
	return fmt.Sprintf("RBAC: allowed by %s %q of %s %q to %s %q: %s", kind, name, g.role.Kind, g.role.Name, g.subject.Kind, subject, ruleText(g.rule))
}

// ruleText is a rule in a few words: verbs, then resources with their group, or paths.
func ruleText(rule *rbacv1.PolicyRule) string {
	what := rule.NonResourceURLs
	if len(rule.Resources) > 0 {
		what = rule.Resources
	}
	text := strings.Join(rule.Verbs, ",") + " " + few(what)
	if groups := strings.Join(rule.APIGroups, ","); groups != "" {
		text += " in " + groups
	}
	if len(rule.ResourceNames) > 0 {
		text += " named " + few(rule.ResourceNames)
	}
	return text
}

// few are the first names of a list.
func few(names []string) string {
	if len(names) > 5 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:5], ","), len(names)-5)
	}
	return strings.Join(names, ",")
}
