package flow

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"hyperkube/dns"
	"hyperkube/flow"
	"hyperkube/proxy"
	"hyperkube/test/integration"
)

// network runs a proxy whose rules go nowhere, and a DNS server.
func network(t *testing.T, cluster *integration.Cluster) {
	t.Helper()
	sysctls := t.TempDir()
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet"} {
		path := filepath.Join(sysctls, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	proxySet := kubernetes.NewForConfigOrDie(as(cluster, "proxy", "system:kube-proxy"))
	proxier, err := proxy.New(proxy.Config{Client: proxySet, NodeName: "n1", SysctlRoot: sysctls,
		Runner: func(context.Context, string, ...string) (string, error) { return "", nil }})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "proxy", proxySet, proxier.Run)
	dnsSet := kubernetes.NewForConfigOrDie(as(cluster, "dns", "system:kube-dns"))
	names, err := dns.New(dns.Config{Client: dnsSet, ListenAddresses: []string{"127.0.0.1:0"}, ResolvConf: "/dev/null"})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "dns", dnsSet, names.Run)
}

// paths are the ways from the root of a story to each line of a name that has such a line below it:
// "who: what Kind", without the names of objects; an EndpointSlice may be created or updated.
func paths(story flow.Story, what, line string) (found [][]string) {
	var walk func(n *flow.Node, above []string)
	walk = func(n *flow.Node, above []string) {
		kind, _, _ := strings.Cut(n.Object, " ")
		verb := n.What
		if kind == "EndpointSlice" && n.Revision != 0 {
			verb = "write"
		}
		way := append(slices.Clone(above), fmt.Sprintf("%s: %s %s", n.Component, verb, kind))
		if n.What == what && slices.ContainsFunc(n.Diff, func(l string) bool { return strings.HasPrefix(l, line) }) {
			found = append(found, way)
		}
		for _, child := range n.Children {
			walk(child, way)
		}
	}
	for _, root := range story.Roots {
		walk(root, nil)
	}
	return found
}

// From kubectl's request over the answer of a probe to the rule in the kernel, and to the name: one story.
func TestFromProbeToRuleAndName(t *testing.T) {
	cluster := start(t)
	network(t, cluster)
	ready(t, cluster)
	for name, address := range map[string]string{"shop": "", "peers": corev1.ClusterIPNone} {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.ServiceSpec{ClusterIP: address, Selector: map[string]string{"app": "shop"}, Ports: []corev1.ServicePort{{Port: 80}}}}
		if _, err := kubectl(cluster).CoreV1().Services("default").Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for what, line := range map[string]string{"iptables-restore": "+ -A KUBE-SERVICES ", "names changed": "+ shop.default.svc.cluster.local A "} {
		eventually(t, what+" is told of the Service", func() error {
			// Rules may be written once for the Service and its empty slice: the slice too hangs under the Service.
			found := paths(trace(t, cluster, "", "Service", "default", "shop"), what, line)
			if !slices.ContainsFunc(found, func(way []string) bool { return way[0] == "kubectl: create Service" }) {
				return fmt.Errorf("found %q", found)
			}
			return nil
		})
	}
	create(t, cluster, "shop", 1)
	toSlice := []string{"kubectl: create Deployment", "controller-manager/deployment: create ReplicaSet", "controller-manager/replicaset: create Pod",
		"scheduler: create binding Pod", "kubelet-n1: patch status Pod", "controller-manager/endpointslice: write EndpointSlice"}
	for _, end := range []struct{ what, line, last string }{
		{"iptables-restore", "+ -A KUBE-SEP-", "proxy: iptables-restore EndpointSlice"},
		{"names changed", "+ peers.default.svc.cluster.local A ", "dns: names changed EndpointSlice"},
	} {
		eventually(t, end.what+" is told", func() error {
			story := trace(t, cluster, "apps", "Deployment", "default", "shop")
			found := paths(story, end.what, end.line)
			for i := range found {
				found[i] = slices.Compact(found[i]) // a slice may be written twice: see edges
			}
			if want := append(slices.Clone(toSlice), end.last); !slices.ContainsFunc(found, func(way []string) bool { return slices.Equal(way, want) }) {
				var text strings.Builder
				story.Print(&text, true)
				return fmt.Errorf("%q, want %q, in\n%s", found, want, text.String())
			}
			checkSources(t, story)
			return nil
		})
	}
}
