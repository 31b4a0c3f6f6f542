// Package podparent is the parent process of one pod. It is small, since there
// is one for each pod, and it is alone, since containers must outlive the runtime
// that asked for them: a child of hyperkube would end, or lose its output and its
// exit code, with hyperkube.
//
//	cri ──"podparent launch DIR"──► launch ──clone(net, ipc, uts), setsid──► serve ──► DIR/parent.sock
//	                                  └─ ends: serve belongs to process 1 now      │ clone(mnt, pid)
//	cri ──start, exec, attach, signal, watch…──► parent.sock                       ▼
//	                                                                   init ──execve──► the command
//
// The same program is all of them, told apart by its first argument
// (`cri/podparent/main_linux.go:Main`). It is built alone (cmd/podparent) or is a
// part of hyperkube, which acts as podparent when argv[0] says so.
//
// What the parent does, in steps:
//
//  1. It sets up the namespaces it was cloned into (loopback, host name,
//     sysctls) and joins a cgroup of the pod.
//  2. It serves one request a connection (`cri/podparent/protocol.go:Request`).
//     Files, terminals and sockets travel as descriptors beside the messages, so
//     that exec and port-forward cost it nothing once they are set up.
//  3. It copies each container's output to its log, in the CRI log format, and to
//     those who are attached.
//  4. When a container ends, it writes status.json, then tells those who watch.
//  5. Asked to stop, it kills its containers and ends; its namespaces end with it.
//
// Where a container is made is one page: birth_linux.go.
//
// Nouns: a PodSpec and a ContainerSpec are complete orders, made by cri; a
// ContainerStatus is what became of one; an exec session is a process that
// enters a container; a newborn is a child between clone and execve; a midwife is
// the process that bears them where the pod has a user namespace of its own
// (`cri/podparent/midwife_linux.go:settle`).
//
// Invariants:
//   - No Kubernetes package, no net, no net/http, no TLS: the parent takes about
//     3.5 MiB. It decides nothing that cri could have decided.
//   - A pid is signalled only while the process has not been reaped.
//   - status.json is replaced as a whole and says the end before anyone is told.
//   - The parent never looks into a directory of another pod.
//
// Read first: `cri/podparent/birth_linux.go:Parent.begin`, `cri/podparent/birth_linux.go:bear`,
// `cri/podparent/parent_linux.go:serve`.
//
// # In Kubernetes
//
// containerd's shim (containerd-shim-runc-v2) together with runc: the shim
// stays, runc is started for each step (create, start, exec, delete) and reads
// the OCI runtime specification, which ContainerSpec abbreviates. Left out: checkpoints, hooks, Intel RDT, terminals kept open across a restart of the client. Without the
// re-execution that runc and this package share, a Go program could not change
// its namespaces: it has threads before main begins.
package podparent
