package authn

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/klog/v2"

	"hyperkube/apiserver/authn/serviceaccount"
	"hyperkube/apiserver/request"
)

// impersonationMode is one way to be let be another. The constrained ones (KEP-5284) ask two things: may you do this as such a user
// (impersonate-on:MODE:VERB, of what the request is for), and may you be this one (impersonate:MODE, of users, groups …). The last,
// of before, asks only whether you may be this one, whatever you then do.
type impersonationMode struct {
	name    string // "": the mode of before
	applies func(wanted, requestor *request.User) bool
}

// The most narrow mode is asked first, and its refusal is what the client is told.
var impersonationModes = [5]impersonationMode{
	{"associated-node", isAssociatedNode},
	{"arbitrary-node", func(wanted, _ *request.User) bool {
		_, isNode := nodeOf(wanted.Name)
		return isNode && onlyUsernameSet(wanted)
	}},
	{"serviceaccount", func(wanted, _ *request.User) bool {
		_, _, isAccount := serviceaccount.SplitUsername(wanted.Name)
		return isAccount && onlyUsernameSet(wanted)
	}},
	{"user-info", func(wanted, _ *request.User) bool {
		_, isNode := nodeOf(wanted.Name)
		_, _, isAccount := serviceaccount.SplitUsername(wanted.Name)
		return !isNode && !isAccount
	}},
	{"", func(_, _ *request.User) bool { return true }},
}

// impersonation is one try in one mode.
type impersonation struct {
	mode      impersonationMode
	asked     request.Attributes // by the one who impersonates
	wanted    *request.User
	authz     request.Authorizer
	forbidden Forbidden
}

func (i *impersonation) constrained() bool { return i.mode.name != "" }

// constraint is the verb by which the user may be impersonated in this mode; "" in the one without limits.
func (i *impersonation) constraint() string {
	if i.constrained() {
		return "impersonate:" + i.mode.name
	}
	return ""
}

// check asks, in this order: for what is done, the name, the uid, the groups, the extra values.
func (i *impersonation) check(ctx context.Context) error {
	if i.constrained() {
		on := i.asked
		on.Verb = "impersonate-on:" + i.mode.name + ":" + on.Verb
		if err := i.ask(ctx, on); err != nil {
			return err
		}
	}
	if err := i.ask(ctx, i.name()); err != nil {
		return err
	}
	if i.wanted.UID != "" {
		if err := i.ask(ctx, i.question(authenticationv1.GroupName, "uids", i.wanted.UID)); err != nil {
			return err
		}
	}
	if err := i.checkGroups(ctx); err != nil {
		return err
	}
	return i.checkExtra(ctx)
}

// name is the question for the user's name.
func (i *impersonation) name() request.Attributes {
	q := i.question(i.ownGroup(), "users", i.wanted.Name)
	if node, isNode := nodeOf(i.wanted.Name); isNode && i.constrained() {
		q.Resource, q.Name = "nodes", node
	}
	if namespace, account, ok := serviceaccount.SplitUsername(i.wanted.Name); ok {
		q.Resource, q.Namespace, q.Name = "serviceaccounts", namespace, account
	}
	return q
}

// many is from how many questions on a right to all is asked for first.
const many = 4

func (i *impersonation) checkGroups(ctx context.Context) error {
	groups := i.wanted.Groups
	q := i.question(i.ownGroup(), "groups", "")
	if i.constrained() {
		if slices.Contains(groups, "") {
			return i.forbidden(q, "impersonating the empty string group is not allowed")
		}
		if slices.Contains(groups, request.SystemPrivileged) {
			q.Name = request.SystemPrivileged
			return i.forbidden(q, "impersonating the system:masters group is not allowed")
		}
		q.Name = "*"
		if len(groups) >= many && i.ask(ctx, q) == nil {
			return nil
		}
	}
	for _, group := range groups {
		q.Name = group
		if err := i.ask(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

func (i *impersonation) checkExtra(ctx context.Context) error {
	q := i.question(authenticationv1.GroupName, "userextras", "")
	if i.constrained() {
		if err := validateExtra(i.wanted.Extra); err != nil {
			return i.forbidden(q, err.Error())
		}
		count := 0
		for _, values := range i.wanted.Extra {
			count += max(1, len(values))
		}
		q.Subresource, q.Name = "*", "*"
		if count >= many && i.ask(ctx, q) == nil {
			return nil
		}
	}
	for _, key := range slices.Sorted(maps.Keys(i.wanted.Extra)) {
		for _, value := range i.wanted.Extra[key] {
			q.Subresource, q.Name = key, value
			if err := i.ask(ctx, q); err != nil {
				return err
			}
		}
	}
	return nil
}

// question is one about the wanted user; the constrained modes have all of theirs in one API group.
func (i *impersonation) question(group, resource, name string) request.Attributes {
	verb := "impersonate"
	if i.constrained() {
		verb = i.constraint()
	}
	return request.Attributes{User: i.asked.User, Verb: verb, APIGroup: group, APIVersion: "v1", Resource: resource, Name: name, ResourceRequest: true}
}

func (i *impersonation) ownGroup() string {
	if i.constrained() {
		return authenticationv1.GroupName
	}
	return ""
}

func (i *impersonation) ask(ctx context.Context, q request.Attributes) error {
	if i.mode.name == "associated-node" {
		// One right for an agent on whatever node it runs: neither the node's name nor what its token says of it is asked about.
		asking := *q.User
		asking.Extra = map[string][]string{"authentication.kubernetes.io/associated-node-keys": slices.Sorted(maps.Keys(q.User.Extra))}
		q.User = &asking
		if q.Verb == "impersonate:associated-node" {
			q.Name = "*"
		}
	}
	decision, reason, err := i.authz.Authorize(ctx, q)
	if decision == request.Allow {
		return nil
	}
	if err != nil {
		klog.FromContext(ctx).Info("Impersonation refused with an error", "user", q.User.Name, "err", err)
	}
	return i.forbidden(q, reason)
}

// user is the wanted one with what authentication would have known of it.
func (i *impersonation) user() *request.User {
	if _, isNode := nodeOf(i.wanted.Name); isNode && i.constrained() {
		i.wanted.Groups = []string{request.NodesGroup}
	}
	i.wanted.Authn = "impersonated by " + i.asked.User.Name + ", " + i.asked.User.Authn
	return completeGroups(i.wanted)
}

// isAssociatedNode: a pod of the node asks to be the node.
func isAssociatedNode(wanted, requestor *request.User) bool {
	node, isNode := nodeOf(wanted.Name)
	_, _, isAccount := serviceaccount.SplitUsername(requestor.Name)
	return isNode && isAccount && onlyUsernameSet(wanted) && slices.Equal(requestor.Extra[serviceaccount.NodeNameKey], []string{node})
}

func onlyUsernameSet(u *request.User) bool {
	return u.UID == "" && len(u.Groups) == 0 && len(u.Extra) == 0
}

func nodeOf(username string) (string, bool) {
	name, found := strings.CutPrefix(username, request.NodeUserPrefix)
	return name, found && len(validation.NameIsDNSSubdomain(name, false)) == 0
}

// validateExtra refuses what no authenticator would have said of a user.
func validateExtra(extra map[string][]string) error {
	for _, key := range slices.Sorted(maps.Keys(extra)) {
		values := extra[key]
		if key == "" {
			return fmt.Errorf("impersonating the empty string key in extra is not allowed")
		}
		if err := utilvalidation.IsDomainPrefixedPath(field.NewPath("extra", "key"), key).ToAggregate(); err != nil {
			return fmt.Errorf("impersonating an invalid key in extra is not allowed: %w", err)
		}
		switch {
		case key != strings.ToLower(key):
			return fmt.Errorf("impersonating a non-lowercase key in extra is not allowed: %q", key)
		case len(values) == 0:
			return fmt.Errorf("impersonating empty values in extra is not allowed")
		case slices.Contains(values, ""):
			return fmt.Errorf("impersonating the empty string value in extra is not allowed")
		}
	}
	return nil
}
