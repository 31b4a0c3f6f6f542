// Package request is what every part of the apiserver knows about the request
// it is working for: who asks (User), for what (Info), and the questions that
// authentication, authorization and admission answer about it. It is a leaf:
// it imports nothing of hyperkube, so that authn, authz, admission, registry and
// endpoints can all speak about the same request without knowing each other.
//
//	http.Request ──NewInfo──► Info ─┐
//	             ──Authenticator──► User ─┴─► Attributes ──Authorizer──► Decision
//	object of a write ─────────────────────► AdmissionAttributes ──Admission──► error
//
// In Kubernetes: k8s.io/apiserver's endpoints/request (RequestInfo, contexts),
// authentication/user, authorization/authorizer and admission packages. The
// interfaces there return interfaces; here they are plain structs, since nothing
// implements them twice.
package request
