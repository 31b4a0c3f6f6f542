package kubelet

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// dirs is where things lie under RootDir:
//
//	pods/<uid>/volumes/kubernetes.io~<plugin>/<name>
//	pods/<uid>/volume-subpaths/…
//	pods/<uid>/containers/<name>/<random>      termination logs
//	pods/<uid>/etc-hosts
//	logs/pods/<namespace>_<name>_<uid>/<container>/<restart>.log
//	seccomp/                                   Localhost profiles
type dirs struct{ root, pods, logs, seccomp string }

func newDirs(root string) dirs {
	return dirs{root: root, pods: filepath.Join(root, "pods"), logs: filepath.Join(root, "logs", "pods"), seccomp: filepath.Join(root, "seccomp")}
}

func (d dirs) make() error {
	for _, dir := range []string{d.root, d.pods, d.logs, d.seccomp} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return err
		}
	}
	return nil
}

func (d dirs) pod(uid types.UID) string { return filepath.Join(d.pods, string(uid)) }

func (d dirs) makePod(uid types.UID) error {
	for _, dir := range []string{"volumes", "containers"} {
		if err := os.MkdirAll(filepath.Join(d.pod(uid), dir), 0o750); err != nil {
			return err
		}
	}
	return nil
}

// terminationLog makes an empty file that any user of the container may write.
func (d dirs) terminationLog(uid types.UID, container string) (string, error) {
	dir := filepath.Join(d.pod(uid), "containers", container)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	path := filepath.Join(dir, fmt.Sprintf("%08x", rand.Uint32()))
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		return "", err
	}
	return path, os.Chmod(path, 0o666)
}

// writeHosts writes the pod's /etc/hosts. A pod on the node's network gets the
// node's own, so that it resolves what the node resolves.
func (d dirs) writeHosts(pod *v1.Pod, hosts hostsInput) (string, error) {
	var content []byte
	if pod.Spec.HostNetwork {
		node, err := os.ReadFile(hostsPath)
		if err != nil && !os.IsNotExist(err) {
			return "", err
		}
		content = append([]byte("# Kubernetes-managed hosts file (host network).\n"), node...)
	} else {
		content = podHosts(hosts)
	}
	content = append(content, hostAliases(pod.Spec.HostAliases)...)
	path := filepath.Join(d.pod(pod.UID), "etc-hosts")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return "", err
	}
	return path, os.Chmod(path, 0o644)
}

func podHosts(hosts hostsInput) []byte {
	var b bytes.Buffer
	b.WriteString("# Kubernetes-managed hosts file.\n" +
		"127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\nfe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
	for _, ip := range hosts.podIPs {
		if hosts.domain != "" {
			fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, hosts.hostname, hosts.domain, hosts.hostname)
		} else {
			fmt.Fprintf(&b, "%s\t%s\n", ip, hosts.hostname)
		}
	}
	return b.Bytes()
}

func hostAliases(aliases []v1.HostAlias) []byte {
	if len(aliases) == 0 {
		return nil
	}
	var b bytes.Buffer
	b.WriteString("\n# Entries added by HostAliases.\n")
	for _, alias := range aliases {
		b.WriteString(alias.IP)
		for _, name := range alias.Hostnames {
			b.WriteString("\t" + name)
		}
		b.WriteString("\n")
	}
	return b.Bytes()
}

// PodLogsDir is where the runtime writes a pod's logs.
func (kl *Kubelet) PodLogsDir(pod *v1.Pod) string {
	return filepath.Join(kl.dirs.logs, fmt.Sprintf("%s_%s_%s", pod.Namespace, pod.Name, pod.UID))
}

// SeccompProfileRoot is where Localhost profiles lie.
func (kl *Kubelet) SeccompProfileRoot() string { return kl.dirs.seccomp }

// GetOrCreateUserNamespaceMappings says which users of the node the pod's are.
func (kl *Kubelet) GetOrCreateUserNamespaceMappings(pod *v1.Pod) (*runtimeapi.UserNamespace, error) {
	handler := ""
	if pod.Spec.RuntimeClassName != nil {
		handler = *pod.Spec.RuntimeClassName
	}
	return kl.users.GetOrCreateUserNamespaceMappings(pod, handler)
}
