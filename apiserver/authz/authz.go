package authz

import (
	"context"
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/authz/bootstrappolicy"
	"hyperkube/apiserver/authz/node"
	"hyperkube/apiserver/authz/rbac"
	"hyperkube/apiserver/request"
)

// Config is what authorization reads.
type Config struct {
	// RBAC are the listers of roles and bindings; all required.
	RBAC rbac.Listers
	// Node are the listers of what ties objects to a node; Pods is required.
	Node node.Listers
}

func (c *Config) validate() error {
	if c.RBAC.Roles == nil || c.RBAC.RoleBindings == nil || c.RBAC.ClusterRoles == nil || c.RBAC.ClusterRoleBindings == nil {
		return fmt.Errorf("authz: RBAC needs all four listers")
	}
	if c.Node.Pods == nil {
		return fmt.Errorf("authz: the node authorizer needs the lister of pods")
	}
	return nil
}

// Authorizer asks system:masters, the node authorizer and RBAC, in this order.
type Authorizer struct {
	node *node.Authorizer
	rbac *rbac.Authorizer
}

var _ request.Authorizer = &Authorizer{}

// New makes an Authorizer.
func New(cfg Config) (*Authorizer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Authorizer{
		node: node.New(cfg.Node, bootstrappolicy.NodeRules()),
		rbac: rbac.New(cfg.RBAC),
	}, nil
}

// RuleResolver finds the rules of a user: what RBAC's rooms check escalation with.
func (z *Authorizer) RuleResolver() *rbac.RuleResolver { return z.rbac.Resolver }

// Authorize implements request.Authorizer. Its reason joins what each authorizer had to say.
func (z *Authorizer) Authorize(ctx context.Context, a request.Attributes) (request.Decision, string, error) {
	if a.User.InGroup(request.SystemPrivileged) {
		return request.Allow, "", nil
	}
	var reasons []string
	for _, next := range []struct {
		name string
		request.Authorizer
	}{{"node", z.node}, {"rbac", z.rbac}} {
		decision, reason, err := next.Authorize(ctx, a)
		if decision != request.NoOpinion {
			return decision, reason, err
		}
		if reason != "" {
			reasons = append(reasons, next.name+": "+reason)
		}
	}
	return request.NoOpinion, strings.Join(reasons, "\n"), nil
}

// RulesFor lists what user may do in namespace, as far as it can be listed; incomplete says
// that there may be more.
func (z *Authorizer) RulesFor(user *request.User, namespace string) (status authorizationv1.SubjectRulesReviewStatus) {
	status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{},
	}
	var problems []string
	if _, isNode := node.Identity(user); isNode {
		status.Incomplete = true
		problems = append(problems, "node authorizer does not support user rule resolution")
	}
	rules, err := z.rbac.Resolver.EffectiveRulesFor(user, namespace)
	if err != nil {
		status.Incomplete = true
		problems = append(problems, err.Error())
	}
	for _, r := range rules {
		if len(r.Resources) > 0 {
			status.ResourceRules = append(status.ResourceRules, authorizationv1.ResourceRule{
				Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames,
			})
		}
		if len(r.NonResourceURLs) > 0 {
			status.NonResourceRules = append(status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: r.Verbs, NonResourceURLs: r.NonResourceURLs})
		}
	}
	status.EvaluationError = strings.Join(problems, ", ")
	return status
}

// Forbidden is the answer to a refused request.
func Forbidden(a request.Attributes, reason string) error {
	message := forbiddenMessage(a)
	if reason != "" {
		message += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.APIGroup, Resource: a.Resource}, a.Name, fmt.Errorf("%s", message))
}

func forbiddenMessage(a request.Attributes) string {
	name := ""
	if a.User != nil {
		name = a.User.Name
	}
	if !a.ResourceRequest {
		return fmt.Sprintf("User %q cannot %s path %q", name, a.Verb, a.Path)
	}
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	if a.Namespace != "" {
		return fmt.Sprintf("User %q cannot %s resource %q in API group %q in the namespace %q", name, a.Verb, resource, a.APIGroup, a.Namespace)
	}
	return fmt.Sprintf("User %q cannot %s resource %q in API group %q at the cluster scope", name, a.Verb, resource, a.APIGroup)
}
