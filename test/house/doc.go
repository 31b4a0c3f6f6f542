// Package house holds the rules of the house as tests: who may import whom
// (layers), how long a file and a function may be (budgets), that what
// documents cite exists (anchors), that every file has its place in the
// reading order, and that every package says what it is.
//
//	the tree's Go files ──► load ──► layers, budgets, docs
//	docs/*.md, comments ──► citations ──► anchors
//	docs/reading-order.txt ─────────────► reading order
//
// The package has no code but tests. They read the tree as text and syntax,
// run nothing of it, and need no network.
//
// Read first: `test/house/layers_test.go:TestLayers`.
//
// # In Kubernetes
//
// The same job is done by hack/verify-*.sh, import-boss and its .import-restrictions
// files, and golangci's settings. Left out: everything that a Go vet already says.
package house
