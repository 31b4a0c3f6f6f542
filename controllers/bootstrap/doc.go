// Package bootstrap serves those who join a cluster: they know a bootstrap token, ID.SECRET, and nothing else.
//
//	Secret kube-system/bootstrap-token-ID ─┬─► TokenCleaner ─► deleted once it has expired
//	                                       └─► Signer ─► ConfigMap kube-public/cluster-info: jws-kubeconfig-ID
//
// cluster-info says where the apiserver is and which CA signs for it. Who reads it without credentials cannot trust it, yet can check the
// signature under the id of a token that both sides know. With that token one then asks for a certificate.
//
// Invariants: a signature is there for each token that is good for signing, and for no other; both loops are
// woken again when the next token expires.
//
// Read first: `controllers/bootstrap/bootstrapsigner.go:Signer.signConfigMap`, `api/core/secret/bootstraptoken.go:BootstrapTokenOf`.
//
// # In Kubernetes
//
// pkg/controller/bootstrap (bootstrapsigner.go, tokencleaner.go), k8s.io/cluster-bootstrap/token/jws. There kubeadm writes cluster-info; here
// the apiserver does, if it lets bearers of such tokens in at all.
package bootstrap
