// Package answers holds our apiserver to what kube-apiserver says, answer by answer.
//
//	testdata/seeds/*/*.yaml ──▶ mutants: each field of the schema deleted, empty, badly named,
//	        │                   too long, negative, doubled, each value of its enum …
//	        ▼                        │ POST, PUT, PUT …/status with dryRun=All
//	   created once            kube-apiserver v1.37.1 ──▶ testdata/recorded/*/*.gz   (with -record)
//	                                 │
//	                           our apiserver ──▶ the same code, Status, warnings and object?
//
// A seed is a file of one or more objects. The last one is mutated; those before it are there first. Comments at
// its top say what it is for and, if need be, which writes it is about (`# writes: create update /resize`: a word
// that begins with a slash is a subresource; without such a line: create, update, and status where there is one). A review is
// only asked, since it is never stored.
//
// The answers were recorded by the same code from kube-apiserver itself, which you can do as well:
//
//	go test ./test/answers -record -upstream KUBECONFIG
//
// with the kubeconfig of a cluster's administrator, and a store that is empty but for what a new cluster has.
// What differs on purpose stands in `test/answers/differences_test.go:differences`, with its reason; a line there that no answer needs
// any more fails the test.
//
// In Kubernetes: the tables of pkg/apis/*/validation, which call the functions; here the question goes the whole way, from
// TLS through admission and defaults to the Status.
package answers
