package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dual is a pod that prints its addresses, and a Service that must have one of each family.
const dual = `
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: demo
    image: hyperkube.local/demo
    env:
    - {name: POD_IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
    - {name: HOST_IPS, valueFrom: {fieldRef: {fieldPath: status.hostIPs}}}
    ports: [{containerPort: 8080, hostPort: 18080}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: NotIn, values: [node-2]}]}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 1
  containers: [{name: demo, image: hyperkube.local/demo}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, ipFamilyPolicy: RequireDualStack, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30081}]}
---
apiVersion: v1
kind: Service
metadata: {name: six}
spec: {ipFamilies: [IPv6], selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: four}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`

// TestDualStack: a cluster that is asked for two families has them everywhere, and between its nodes: the nodes' shares, a pod's addresses and what
// it is told of them, Services from pods and from the host, names, ports of the node; a Service that says nothing has IPv4;
// nothing is left at the end.
func TestDualStack(t *testing.T) {
	if _, err := exec.LookPath("ip6tables"); err != nil {
		t.Skip("needs ip6tables")
	}
	stopShared(t)
	uplink, err := netlink.LinkByName("uplink0")
	if err != nil {
		t.Fatal(err)
	}
	address, err := netlink.ParseAddr("2001:db8::10/64")
	if err != nil {
		t.Fatal(err)
	}
	address.Flags = unix.IFA_F_NODAD
	if err := netlink.AddrAdd(uplink, address); err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	t.Cleanup(func() { netlink.AddrDel(uplink, address) })
	// As a host with IPv6 has. Without any route to them, the kernel refuses Services' addresses before a rule could turn them.
	out := &netlink.Route{LinkIndex: uplink.Attrs().Index, Gw: net.ParseIP("2001:db8::1")}
	if err := netlink.RouteAdd(out); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netlink.RouteDel(out) })
	before := host(t)
	c := startOwn(t, "--cluster-cidr=10.244.0.0/16,fd00:10:244::/56", "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112", "--nodes=2")
	first := strings.ReplaceAll(strings.ReplaceAll(c.kubectl(t, "get", "nodes", "-o", "name"), "node/node-2", ""), "\n", "")
	for node, addresses := range map[string]string{first: "192.0.2.10 2001:db8::10", "node/node-2": "172.30.254.2 fd00:172:30:254::2"} {
		if got := c.kubectl(t, "get", node, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`); got != addresses {
			t.Errorf("%s has %s, want %s", node, got, addresses)
		}
	}
	shares := strings.Fields(c.kubectl(t, "get", first, "-o", "jsonpath={.spec.podCIDRs[*]}"))
	if len(shares) != 2 || !strings.HasPrefix(shares[0], "10.244.") || !strings.HasPrefix(shares[1], "fd00:10:244:") {
		t.Fatalf("shares of %s: %v", first, shares)
	}
	c.apply(t, dual)
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout=90s")
	ips := strings.Fields(c.kubectl(t, "get", "pod", "web", "-o", "jsonpath={.status.podIPs[*].ip}"))
	if len(ips) != 2 || !netip.MustParsePrefix(shares[0]).Contains(netip.MustParseAddr(ips[0])) || !netip.MustParsePrefix(shares[1]).Contains(netip.MustParseAddr(ips[1])) {
		t.Fatalf("podIPs %v, shares %v", ips, shares)
	}
	if got := c.kubectl(t, "exec", "web", "--", "sh", "-c", "echo $POD_IPS $HOST_IPS"); got != strings.Join(ips, ",")+" 192.0.2.10,2001:db8::10" {
		t.Errorf("the pod is told %s", got)
	}
	clusterIPs := func(service string) []string {
		return strings.Fields(c.kubectl(t, "get", "service", service, "-o", "jsonpath={.spec.clusterIPs[*]}"))
	}
	both, six, four := clusterIPs("web"), clusterIPs("six"), clusterIPs("four")
	if len(both) != 2 || len(six) != 1 || !strings.Contains(six[0], ":") || len(four) != 1 || strings.Contains(four[0], ":") {
		t.Fatalf("ClusterIPs: %v, %v, %v", both, six, four)
	}
	urls := []string{"http://" + ips[0] + ":8080/", "http://[" + ips[1] + "]:8080/", "http://" + both[0] + "/", "http://[" + both[1] + "]/", "http://[" + six[0] + "]/",
		"http://192.0.2.10:30081/", "http://[2001:db8::10]:30081/", "http://192.0.2.10:18080/", "http://[2001:db8::10]:18080/",
		"http://172.30.254.2:30081/", "http://[fd00:172:30:254::2]:30081/"}
	for _, url := range urls {
		eventually(t, url+" from the host", func() error { return reaches(get(url)) })
		eventually(t, url+" from a pod", func() error {
			out, _, err := c.try("exec", "client", "--", "wget", "-q", "-T", "3", "-O", "-", url)
			return reaches(out, err)
		})
	}
	eventually(t, "the pod reaches itself behind its Service", func() error {
		out, _, err := c.try("exec", "web", "--", "wget", "-q", "-T", "3", "-O", "-", "http://["+both[1]+"]/")
		return reaches(out, err)
	})
	// A pod of another node sees which node asks, not the bridge between them.
	clientIPs := strings.Fields(c.kubectl(t, "get", "pod", "client", "-o", "jsonpath={.status.podIPs[*].ip}"))
	if len(clientIPs) != 2 {
		t.Fatalf("podIPs %v", clientIPs)
	}
	for url, from := range map[string]string{"http://" + clientIPs[0] + ":8080/": "192.0.2.10:", "http://[" + clientIPs[1] + "]:8080/": "[2001:db8::10]:"} {
		if out, err := get(url); err != nil || !strings.Contains(out, "client: "+from) {
			t.Errorf("%s: %v, %s; want it to be asked by %s", url, err, out, from)
		}
	}
	clusterDNS := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "10.96.0.10:53")
	}}
	eventually(t, "both addresses have the name", func() error {
		found, err := clusterDNS.LookupHost(t.Context(), "web.default.svc.cluster.local.")
		slices.Sort(found)
		if want := slices.Sorted(slices.Values(both)); err == nil && !slices.Equal(found, want) {
			err = fmt.Errorf("%v, want %v", found, want)
		}
		return err
	})
	if err := c.interrupt(); err != nil {
		t.Error(err)
	}
	eventually(t, "no rule, link or process is left", func() error {
		after := host(t)
		for _, kind := range []string{"rules of iptables-save", "rules of ip6tables-save", "links", "processes"} {
			if !slices.Equal(before[kind], after[kind]) {
				return fmt.Errorf("%s before: %v\nafter: %v", kind, before[kind], after[kind])
			}
		}
		return nil
	})
}

func reaches(answer string, err error) error {
	if err == nil && podIn(answer) != "web" {
		err = fmt.Errorf("answer %q", answer)
	}
	return err
}
