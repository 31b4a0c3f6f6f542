// Package pki keeps what the components of one cluster must agree on, in its
// data directory: the cluster's description, its certificate authority, a
// certificate for each of them, and their kubeconfig files.
//
//	DIR/cluster.yaml                 name, ports, address ranges, nodes
//	DIR/admin.kubeconfig             cluster-admin, for people (mode 0600)
//	DIR/pki/ca.crt, ca.key           signs everything below
//	DIR/pki/sa.key, sa.pub           sign service account tokens
//	DIR/pki/<name>.crt, .key         serving and client certificates
//	DIR/kubeconfig/<user>.kubeconfig one a component
//
// Open is all there is to call. Whichever component starts first makes what is
// missing, under a file lock, so that the start order does not matter and
// nobody makes keys by hand (R12):
//
//  1. lock DIR/.lock, so that two components that start at once agree;
//  2. read cluster.yaml, or write it from the defaults given;
//  3. make the CA and the service account key if they are missing;
//  4. later, for each certificate asked for: keep the one on disk while it is
//     signed by this CA, has the names wanted and lives long enough; else sign
//     a new one.
//
// Nouns: a leaf is a certificate that signs nothing. A user is what the
// apiserver takes from a client certificate: its common name, and its
// organizations as groups.
//
// Invariants: the CA's key never leaves the directory. A file is replaced by
// rename, so a reader sees the old one or the new one. Certificates are valid
// from a day before they were made (clocks differ) for at least a year, and are
// renewed at a start within 90 days of their end (R76). Nothing here talks
// to the network.
//
// Read first: `pki/pki.go:Open`, `pki/cluster.go:Cluster`, `pki/certs.go:Dir.leaf`.
//
// # In Kubernetes
//
// kubeadm does this once, at installation: cmd/kubeadm/app/phases/certs and
// phases/kubeconfig. Left out: separate authorities for etcd and the front
// proxy, external CAs, and encrypted keys. One CA signs all leaves here; what
// keeps a component in its place is its user name and RBAC, not its issuer.
package pki
