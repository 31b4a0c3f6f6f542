// Package e2e runs the built binary as its users do: `hyperkube all` with real
// containers, kubectl as a process, curl as a plain HTTP client.
//
// TestMain starts the tests again in a network and mount namespace of their own, so
// that no link, route or iptables rule of the machine is ever touched, and
// brings up one cluster that most tests share. Tests that stop, kill or
// break a cluster start their own.
//
// They need root, iptables and bin/hyperkube (`make build`); without one of
// them they say so and are skipped.
//
// # In Kubernetes
//
// The same job is done by test/e2e (Ginkgo). Left out: everything but Go's own
// testing package.
package e2e
