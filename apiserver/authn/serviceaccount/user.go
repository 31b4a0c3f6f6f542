package serviceaccount

import (
	"strings"

	apimachineryvalidation "k8s.io/apimachinery/pkg/api/validation"

	"hyperkube/apiserver/request"
)

// Keys of a token user's extra fields.
const (
	PodNameKey      = "authentication.kubernetes.io/pod-name"
	PodUIDKey       = "authentication.kubernetes.io/pod-uid"
	NodeNameKey     = "authentication.kubernetes.io/node-name"
	NodeUIDKey      = "authentication.kubernetes.io/node-uid"
	CredentialIDKey = "authentication.kubernetes.io/credential-id"
)

// Username is the user name of a service account.
func Username(namespace, name string) string {
	return request.ServiceAccountPrefix + namespace + ":" + name
}

// SplitUsername takes a service account's user name apart; ok is false for any other user.
func SplitUsername(username string) (namespace, name string, ok bool) {
	rest, found := strings.CutPrefix(username, request.ServiceAccountPrefix)
	if !found {
		return "", "", false
	}
	namespace, name, found = strings.Cut(rest, ":")
	if !found || len(apimachineryvalidation.ValidateNamespaceName(namespace, false)) > 0 ||
		len(apimachineryvalidation.ValidateServiceAccountName(name, false)) > 0 {
		return "", "", false
	}
	return namespace, name, true
}

// Groups are the groups of every service account of namespace.
func Groups(namespace string) []string {
	return []string{request.ServiceAccountsGroup, request.ServiceAccountsGroup + ":" + namespace}
}

// User is who the bearer of the claims is.
func (c *Claims) User() *request.User {
	b := c.Kubernetes
	u := &request.User{
		Name:   Username(b.Namespace, b.ServiceAccount.Name),
		UID:    string(b.ServiceAccount.UID),
		Groups: Groups(b.Namespace),
		Extra:  map[string][]string{},
		Authn:  "service account token",
	}
	if c.ID != "" {
		u.Extra[CredentialIDKey] = []string{"JTI=" + c.ID}
	}
	if b.Pod != nil {
		u.Extra[PodNameKey] = []string{b.Pod.Name}
		u.Extra[PodUIDKey] = []string{string(b.Pod.UID)}
		u.Authn += " of pod " + b.Pod.Name
	}
	if b.Node != nil {
		u.Extra[NodeNameKey] = []string{b.Node.Name}
		u.Extra[NodeUIDKey] = []string{string(b.Node.UID)}
	}
	return u
}
