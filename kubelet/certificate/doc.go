// Package certificate renews the kubelet's two certificates while it runs: the
// one it serves with, and the one it shows to the apiserver.
//
//		pair on disk ──► wait for 70–90 % of its life ──► new key, CertificateSigningRequest
//		     ▲                                                        │ approved and signed
//		     └──── NAME-current.pem ◄──── written, in use at once ◄───┘
//
//	 1. New takes the pair that an earlier life has left in the directory, if it is
//	    still good; else the one that it is given to start with (pki has signed it, so
//	    that nothing waits for a request to start).
//	 2. Run waits until the pair's time has come, asks, and waits for the answer; what
//	    fails is tried again, ever more slowly.
//	 3. The new pair is written first, then used: the server hands it out at its next
//	    handshake, the client closes its connections and shows it on the next ones.
//
// A client's request is approved by the cluster itself, since a node asks in its
// own name (controllers/certificates). A serving one waits for a person, as in
// Kubernetes: `kubectl get csr`, `kubectl certificate approve NAME`. Until then the old
// one serves on, and a start of the kubelet within its last 90 days has pki sign another.
//
// Nouns: a pair is a certificate and its key in one PEM file. A seed is the pair to
// begin with.
//
// Invariants: a key never leaves the directory. There is at every moment a pair to
// serve with, unless it has run out.
//
// Read first: `kubelet/certificate/rotation.go:Rotation.Run`, `kubelet/certificate/transport.go:Rotation.Transport`.
//
// # In Kubernetes
//
// pkg/kubelet/certificate (kubelet.go, transport.go) and client-go's util/certificate. Its
// manager is not used here: it cannot be stopped while it waits, which leaves three goroutines
// behind for each start of the kubelet in a process that lives on, and it knows no clock but the
// real one. Left out: the bootstrap kubeconfig with a token (pki or whoever made the kubeconfig
// gives the first certificate), and a serving certificate that follows changed addresses.
package certificate
