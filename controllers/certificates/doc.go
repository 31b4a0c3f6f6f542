// Package certificates acts on CertificateSigningRequests: three loops over the same objects, each with a part of its own.
//
//		request ──► approver ──Approved──► signer ──status.certificate──► whoever asked
//		   │        (kubelets' own          (a key nobody else has)
//		   │         client certificates)
//		   └──────► cleaner: deletes what is old
//
//	 1. approver.go says yes to a kubelet that asks for its own client certificate, or for a node's first one with a bootstrap
//	    token. May it? That is asked of the apiserver, as a SubjectAccessReview, and so is RBAC's to say. Everything else
//	    waits for a person: `kubectl certificate approve`.
//	 2. signer.go signs what is approved, for the signers it is: kubernetes.io/kube-apiserver-client,
//	    kubernetes.io/kube-apiserver-client-kubelet and kubernetes.io/kubelet-serving. It takes the subject and the names as they
//	    are asked, and the usages and the time from spec; never a CA.
//	 3. cleaner.go deletes requests an hour after they were decided, a day after they were left alone, and those whose certificate
//	    has run out: they hold nothing that anybody still needs.
//
// Invariants: a request is signed at most once, and never before it is approved or after it is denied. No certificate lives
// longer than its CA.
//
// Read first: `controllers/certificates/signer.go:Signer.handle`, `controllers/certificates/signer.go:authority.template`,
// `controllers/certificates/approver.go:Approver.handle`.
//
// # In Kubernetes
//
// pkg/controller/certificates: approver/sarapprove.go (sarApprover), signer/signer.go and authority (CertificateAuthority,
// PermissiveSigningPolicy), cleaner/cleaner.go (CSRCleanerController). There each signer has a controller and may have a CA of its
// own; here one loop signs for all with one CA. The signer kubernetes.io/legacy-unknown is left out: v1 refuses it.
package certificates
