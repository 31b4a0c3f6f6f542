package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// recorder is a network plugin of somebody else's: it notes its calls, and leaves the work to the one of ours.
const recorder = `#!/bin/sh
dir=${0%/*}
echo "$CNI_COMMAND $CNI_ARGS" >>$dir/recorder.calls
exec $dir/hyperkube-bridge
`

// addonNetwork is its configuration; "00-": before ours.
const addonNetwork = `{"cniVersion": "1.0.0", "name": "addon", "plugins": [{
  "type": "recorder", "bridge": "addon0", "id": "addon1", "dataDir": "%s/addresses",
  "subnets": [{"cidr": "10.77.0.0/24", "cluster": "10.77.0.0/16"}]}]}`

// TestNetworkAddOn: a damaged network configuration makes the node NotReady and says why, in its condition and in the
// pods' events (R19); when another network's takes its place, the node is Ready, and pods have their addresses from there.
func TestNetworkAddOn(t *testing.T) {
	c := startOwn(t)
	node := firstNode(t)
	folder := filepath.Join(c.dir, "nodes", node, "cri", "cni")
	conf := filepath.Join(folder, "net.d", "00-addon.conflist")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	is := func(status string, messages ...string) func() error {
		return func() error {
			got := c.kubectl(t, "get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].message}`)
			for _, want := range append(messages, status) {
				if !strings.Contains(got, want) {
					return errors.New(got)
				}
			}
			return nil
		}
	}
	write(conf, "{")
	eventually(t, "the node is not ready, and says why", is("False", "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:", conf))
	// Bound by hand: the scheduler keeps pods away from such a node.
	c.apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: waits}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 1
  containers: [{name: demo, image: hyperkube.local/demo}]
`, node))
	eventually(t, "the pod's event says why it waits", func() error {
		got := c.kubectl(t, "get", "events", "--field-selector=involvedObject.name=waits,reason=NetworkNotReady", "-o", "jsonpath={.items[*].message}")
		if !strings.Contains(got, "network is not ready: ") || !strings.Contains(got, conf) {
			return errors.New("event: " + got)
		}
		return nil
	})
	write(filepath.Join(folder, "bin", "recorder"), recorder)
	write(conf, fmt.Sprintf(addonNetwork, t.TempDir()))
	t.Cleanup(func() {
		if link, err := netlink.LinkByName("addon0"); err == nil {
			netlink.LinkDel(link)
		}
	})
	eventually(t, "the node is ready with the other network", is("True"))
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/waits", "--timeout=90s")
	if ip := c.kubectl(t, "get", "pod", "waits", "-o", "jsonpath={.status.podIP}"); ip != "10.77.0.2" {
		t.Errorf("the pod has the address %s", ip)
	}
	c.kubectl(t, "delete", "pod", "waits", "--timeout=60s")
	calls, err := os.ReadFile(filepath.Join(folder, "bin", "recorder.calls"))
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"ADD", "DEL"} {
		if !strings.Contains(string(calls), command+" IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=waits;") {
			t.Errorf("the plugin was not called with %s: %s", command, calls)
		}
	}
	if err := os.Remove(conf); err != nil {
		t.Fatal(err)
	}
	// Without the other network, ours counts again.
	c.kubectl(t, "run", "ours", "--image=hyperkube.local/demo")
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/ours", "--timeout=90s")
	if ip := c.kubectl(t, "get", "pod", "ours", "-o", "jsonpath={.status.podIP}"); !strings.HasPrefix(ip, "10.244.") {
		t.Errorf("the pod has the address %s", ip)
	}
}

// TestBandwidth: a pod's annotations are limits in the queues of the node, and go with it; a limit that makes no sense keeps
// the pod from starting, and an event says why.
func TestBandwidth(t *testing.T) {
	c := shared(t)
	ns := c.namespace(t)
	c.apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: limited, namespace: %[1]s, annotations: {kubernetes.io/ingress-bandwidth: 77M, kubernetes.io/egress-bandwidth: 55M}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: demo, image: hyperkube.local/demo}]
---
apiVersion: v1
kind: Pod
metadata: {name: crawling, namespace: %[1]s, annotations: {kubernetes.io/ingress-bandwidth: "500"}}
spec:
  containers: [{name: demo, image: hyperkube.local/demo}]
`, ns))
	eventually(t, "the event of the pod with an impossible limit", func() error {
		got := c.kubectl(t, "get", "events", "-n", ns, "--field-selector=involvedObject.name=crawling,reason=FailedCreatePodSandBox", "-o", "jsonpath={.items[*].message}")
		if !strings.Contains(got, "resource is unreasonably small (< 1kbit)") {
			return errors.New("event: " + got)
		}
		return nil
	})
	if err := canLimit(); err != nil {
		t.Skip(err)
	}
	c.kubectl(t, "wait", "-n", ns, "--for=condition=Ready", "pod/limited", "--timeout=90s")
	rates, err := buckets()
	if err != nil || rates["veth"] != 77e6/8 || rates["ifb"] != 55e6/8 {
		t.Errorf("bytes a second: %v %v", rates, err)
	}
	ip := c.kubectl(t, "get", "pod", "-n", ns, "limited", "-o", "jsonpath={.status.podIP}")
	if _, err := get("http://" + ip + ":8080/"); err != nil {
		t.Errorf("the pod does not answer: %v", err)
	}
	c.kubectl(t, "delete", "pod", "-n", ns, "limited", "--timeout=60s")
	eventually(t, "the limits go with the pod", func() error {
		rates, err := buckets()
		if err == nil && len(rates) > 0 {
			err = fmt.Errorf("bytes a second: %v", rates)
		}
		return err
	})
}

// buckets are the rates of the token buckets on this host's links, by the kind of the link.
func buckets() (map[string]uint64, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	rates := map[string]uint64{}
	for _, link := range links {
		queues, err := netlink.QdiscList(link)
		if err != nil {
			continue // it went away meanwhile
		}
		for _, queue := range queues {
			if bucket, ok := queue.(*netlink.Tbf); ok {
				rates[link.Type()] = bucket.Rate
			}
		}
	}
	return rates, nil
}

// canLimit says whether this kernel has what limits need.
func canLimit() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "try0"
	link := &netlink.Ifb{LinkAttrs: attrs}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("no links of type ifb: %w", err)
	}
	defer netlink.LinkDel(link)
	queue := &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}, Rate: 1000, Limit: 10000, Buffer: 100000}
	if err := netlink.QdiscAdd(queue); err != nil {
		return fmt.Errorf("no token buckets: %w", err)
	}
	return nil
}
