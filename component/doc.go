// Package component is what every component of hyperkube shares, and nothing
// that only one of them needs: how a command line becomes a running part, how
// it logs, how it says that it is healthy, and how it stops.
//
//	flags ──► Options ──► Complete ──► Validate ──► Run(ctx) ──► nil | error
//	                                                 │
//	                          Env{Logger, Metrics, Health}, served on
//	                          DIR/run/<component>.sock: /healthz /readyz
//	                          /metrics /debug/pprof /loglevel
//
// In steps, for `hyperkube scheduler` alone as for the scheduler inside
// `hyperkube all` (`component/component.go:Execute`):
//
//  1. Parse the flags into the component's Options.
//  2. Complete fills in what the data directory knows: certificates,
//     kubeconfig, addresses.
//  3. Validate refuses what cannot work, with a line that says what to do.
//  4. Run blocks until the context ends, and stops in order. There is one
//     stop mechanism in the whole program: a cancelled context.
//
// Nouns: an Env is one life of one component: its logger, its own metrics
// registry, its health checks. A component that is stopped and started again
// gets a new Env, so nothing of its former life remains. A Registration is the
// file DIR/run/<component>.json by which `hyperkube status` finds it.
//
// Invariants: this package knows no component. It keeps no state of its own
// but the process-wide log output, which libraries share, and the garbage
// collector's setting of a process that is one component (KeepHeadroom).
//
// Read first: `component/component.go:Execute`, `component/health.go:Health`,
// `component/logging.go:sink`.
//
// # In Kubernetes
//
// The same job is done by k8s.io/component-base (logs, metrics, version), by
// cmd/<component>/app/options (Complete and Validate), and by
// k8s.io/apiserver/pkg/server (healthz, signals). Left out: feature gates,
// configz, flag groups, and cobra; each component here has one flag set. Without the
// per-life registry two starts of one component in a process would panic on
// a duplicate metric, as upstream's would.
package component
