// Package client is how a component of ours reaches the apiserver: from a
// kubeconfig to a client-go configuration that says who is asking.
//
//	kubeconfig ──► Load ──► rest.Config ──► kubernetes.Clientset ──► informers
//	                         │ User-Agent: <component>/hyperkube …
//	                         └ no client-side rate limit
//
// In steps: a component's options call Load with their kubeconfig and name; the
// component makes its clientset, informers and event recorder from the result
// with client-go; every request then says why it is made (TellCauses), Events too, which
// another goroutine writes (NewEventBroadcaster); WaitForAPI lets it start before the apiserver does (R17).
//
// Beside its work a component sends what it did (Effects), and lets the apiserver hold its
// loops (FollowGates). What a leader writes goes out only while its Lease holds (WithFence).
//
// Invariants: this package knows no component, and starts no goroutine that outlives
// the call. Every
// request names its component in the User-Agent, so that the apiserver's log
// and metrics can tell them apart. Clients do not limit themselves: the
// apiserver sees every request of the cluster, and decides there who waits.
//
// Read first: `client/client.go:Load`, `client/client.go:WaitForAPI`.
//
// # In Kubernetes
//
// The same is spread over cmd/<component>/app/options and
// k8s.io/component-base/config (ClientConnectionConfiguration). Left out: QPS and burst
// flags (upstream's controller manager is held to 20 requests a second by
// default, which is why 500 pods take it 24 s), and separate clients for events and
// leases: priority at the apiserver does what those were for.
package client
