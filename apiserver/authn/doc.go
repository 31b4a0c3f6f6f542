// Package authn says who sent a request.
//
//	client certificate ─► x509 ──────────────┐
//	Authorization: Bearer ─► serviceaccount ─┼─► User ─► Impersonate-* headers ─► User
//	nothing, on a path for all ─► anonymous ─┘
//
// An Authenticator asks in this order:
//  1. the client certificate that TLS brought along: CommonName is the user, each
//     Organization a group, if the cluster's CA signed it for client use;
//  2. the bearer token: the service account it was signed for (package
//     serviceaccount), if all that it is bound to still exists; before that, the tokens
//     of a file and of those who join the cluster (bootstrap tokens);
//  3. nobody: system:anonymous, but only on the paths of health and version.
//
// Credentials that are there and wrong refuse the request (401), even when it could
// have gone on as anonymous: a client whose token has expired should learn that, not
// what anonymous may do. Whoever is known gets the group system:authenticated.
//
// Impersonate then lets one who may do so act as another: each header is a right
// (verb impersonate) of its own.
//
// Nouns: a credential is what the client shows; User (package request) is what is left
// of it; extra fields are what a credential says beyond name and groups, such as the
// pod of a token.
//
// Invariants: authn writes nothing but the day on which the token of a Secret was last used, and keeps no session; it looks at no password; the
// token and the Authorization header never reach a log or a handler behind
// it (the header is removed).
//
// Read first: Authenticator.AuthenticateRequest, x509Authenticator.authenticate, Impersonate.
//
// # In Kubernetes
//
// k8s.io/apiserver/pkg/authentication (request/union, request/x509, request/bearertoken,
// request/anonymous, group), pkg/kubeapiserver/authenticator/config.go, and
// endpoints/filters/impersonation. Left out: OIDC,
// webhooks and the front proxy's headers. Without anonymous on /livez a
// probe would need a credential; without the removal of the header, an aggregated
// apiserver would receive its caller's token.
package authn
