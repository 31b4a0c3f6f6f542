// Package authz says whether a request may be done.
//
//	Attributes ─► system:masters? ─► node authorizer ─► RBAC ─► allowed, or 403 with the reasons
//
// Each is asked in turn until one allows; nobody allows means no. There are
// no rules that deny.
//  1. Members of system:masters may do anything: this is what breaks a cluster free
//     whose roles are broken.
//  2. A kubelet (system:node:NAME in system:nodes) may do what its node's pods need:
//     package node.
//  3. Everybody may do what the roles bound to them say: package rbac.
//
// RBAC reads roles and bindings through listers on every request; no decision is
// cached, so that taking away a right counts from the next request on.
//
// Nouns: Attributes (package request) is the question; a rule is verbs on resources or
// on paths; a role is a list of rules; a binding gives a role to subjects. The roles a
// cluster starts with are package bootstrappolicy's; the same Authorizer answers
// the review APIs (SubjectAccessReview), kubectl's `auth can-i`.
//
// Invariants: authz never looks into the object of a write (admission does: see
// NodeRestriction) and never changes anything; its answer depends only on the question
// and on the stored roles.
//
// Read first: Authorizer.Authorize, rbac.Authorizer.Authorize, node.Authorizer.Authorize.
//
// # In Kubernetes
//
// k8s.io/apiserver/pkg/authorization (union, authorizerfactory), plugin/pkg/auth/authorizer/{rbac,node}.
// Left out: webhooks, ABAC, conditional authorization. Without the node authorizer, a kubelet taken
// over could read every Secret of the cluster.
package authz
