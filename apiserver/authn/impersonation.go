package authn

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
	"k8s.io/utils/lru"

	"hyperkube/apiserver/authn/serviceaccount"
	"hyperkube/apiserver/request"
)

// Forbidden makes the error of a refused question.
type Forbidden func(a request.Attributes, reason string) error

// Impersonator decides who may be done as whom. It remembers in which mode a user was last let: that is asked first, and its refusal
// is what the user is told next time.
type Impersonator struct {
	authz     func() request.Authorizer
	forbidden Forbidden
	last      *lru.Cache // of mode indexes, by the user's name
}

// rememberedImpersonators is of how many users it remembers that.
const rememberedImpersonators = 1024

// NewImpersonator makes one; authz.Forbidden is the forbidden to pass.
func NewImpersonator(authz func() request.Authorizer, forbidden Forbidden) *Impersonator {
	return &Impersonator{authz, forbidden, lru.New(rememberedImpersonators)}
}

// Impersonate returns who r is to be done as: asked.User itself, or whom the Impersonate-* headers name, if a mode of impersonation lets
// that user do what is asked as all that they name. The headers are removed, so that nothing behind sees them. constraint is the
// verb of the mode, empty where that is the unconstrained one. Errors are statuses (400, 403); of several refusals it is the
// first mode's.
func (m *Impersonator) Impersonate(r *http.Request, asked request.Attributes) (user *request.User, constraint string, err error) {
	wanted, err := wantedUser(r.Header)
	if err != nil || wanted == nil {
		return asked.User, "", err
	}
	order := []int{0, 1, 2, 3, 4}
	if last, known := m.last.Get(asked.User.Name); known {
		order = slices.Insert(slices.DeleteFunc(order, func(i int) bool { return i == last }), 0, last.(int))
	}
	var first error
	for _, index := range order {
		i := impersonation{mode: impersonationModes[index], asked: asked, wanted: wanted, authz: m.authz(), forbidden: m.forbidden}
		if !i.mode.applies(wanted, asked.User) {
			continue
		}
		if err := i.check(r.Context()); err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		m.last.Add(asked.User.Name, index)
		removeImpersonation(r.Header)
		logImpersonation(r.Context(), asked.User, wanted)
		return i.user(), i.constraint(), nil
	}
	return nil, "", first
}

// wantedUser reads the headers; nil when there are none.
func wantedUser(h http.Header) (*request.User, error) {
	u := &request.User{
		Name:   h.Get(authenticationv1.ImpersonateUserHeader),
		UID:    h.Get(authenticationv1.ImpersonateUIDHeader),
		Groups: slices.Clone(h.Values(authenticationv1.ImpersonateGroupHeader)),
	}
	for name, values := range h {
		if !hasPrefixFold(name, authenticationv1.ImpersonateUserExtraHeaderPrefix) {
			continue
		}
		key := strings.ToLower(name[len(authenticationv1.ImpersonateUserExtraHeaderPrefix):])
		// Header names can't bear every character: keys come percent-encoded.
		if decoded, err := url.PathUnescape(key); err == nil {
			key = decoded
		}
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[key] = append(u.Extra[key], values...)
	}
	if u.Name != "" {
		return u, nil
	}
	if u.UID != "" || len(u.Groups) > 0 || len(u.Extra) > 0 {
		// Upstream shows the user as its programs hold it.
		return nil, apierrors.NewBadRequest(fmt.Sprintf("requested &user.DefaultInfo{Name:%q, UID:%q, Groups:%#v, Extra:%#v} without impersonating a user name", u.Name, u.UID, u.Groups, u.Extra))
	}
	return nil, nil
}

// completeGroups gives the impersonated user the groups that authentication would have given.
func completeGroups(u *request.User) *request.User {
	if u.Name == request.Anonymous {
		if !u.InGroup(request.AllUnauthenticated) {
			u.Groups = append(u.Groups, request.AllUnauthenticated)
		}
		return u
	}
	if namespace, _, ok := serviceaccount.SplitUsername(u.Name); ok && len(u.Groups) == 0 {
		u.Groups = serviceaccount.Groups(namespace)
	}
	return authenticated(u)
}

func removeImpersonation(h http.Header) {
	for name := range h {
		if hasPrefixFold(name, "Impersonate-") {
			delete(h, name)
		}
	}
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func logImpersonation(ctx context.Context, from, to *request.User) {
	klog.FromContext(ctx).V(3).Info("Impersonating", "user", from.Name, "as", to.Name, "groups", to.Groups)
}
