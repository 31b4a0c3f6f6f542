package authn

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"

	"hyperkube/apiserver/authn/serviceaccount"
	"hyperkube/apiserver/request"
)

// Forbidden makes the error of a refused question; authz.Forbidden is the one to pass.
type Forbidden func(a request.Attributes, reason string) error

// Impersonate returns who r is to be done as: user itself, or whom the Impersonate-* headers
// name, if user may impersonate all that they name. The headers are removed, so that nothing
// behind sees them. Errors are statuses (400, 403).
func Impersonate(r *http.Request, user *request.User, authz request.Authorizer, forbidden Forbidden) (*request.User, error) {
	wanted, err := wantedUser(r.Header)
	if err != nil || wanted == nil {
		return user, err
	}
	for _, question := range impersonationQuestions(wanted) {
		question.User, question.Verb, question.ResourceRequest = user, "impersonate", true
		decision, reason, err := authz.Authorize(r.Context(), question)
		if decision != request.Allow {
			if err != nil {
				klog.FromContext(r.Context()).Info("Impersonation refused with an error", "user", user.Name, "err", err)
			}
			return nil, forbidden(question, reason)
		}
	}
	removeImpersonation(r.Header)
	logImpersonation(r.Context(), user, wanted)
	wanted.Authn = "impersonated by " + user.Name + ", " + user.Authn
	return completeGroups(wanted), nil
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
		return nil, apierrors.NewBadRequest("requested groups, uid or extra fields without impersonating a user")
	}
	return nil, nil
}

// impersonationQuestions asks for a right for each thing that is claimed.
func impersonationQuestions(u *request.User) []request.Attributes {
	var questions []request.Attributes
	if namespace, name, ok := serviceaccount.SplitUsername(u.Name); ok {
		questions = append(questions, request.Attributes{APIVersion: "v1", Resource: "serviceaccounts", Namespace: namespace, Name: name})
	} else {
		questions = append(questions, request.Attributes{APIVersion: "v1", Resource: "users", Name: u.Name})
	}
	for _, group := range u.Groups {
		questions = append(questions, request.Attributes{APIVersion: "v1", Resource: "groups", Name: group})
	}
	group, version := authenticationv1.SchemeGroupVersion.Group, authenticationv1.SchemeGroupVersion.Version
	for key, values := range u.Extra {
		for _, value := range values {
			questions = append(questions, request.Attributes{APIGroup: group, APIVersion: version, Resource: "userextras", Subresource: key, Name: value})
		}
	}
	if u.UID != "" {
		questions = append(questions, request.Attributes{APIGroup: group, APIVersion: version, Resource: "uids", Name: u.UID})
	}
	return questions
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
