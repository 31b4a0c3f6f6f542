package network

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recorder is a plugin of somebody else's: it notes how it is called, and leaves the work to ours, under its own name.
// While the file "broken" is there, it says that it cannot give pods a network.
const recorder = `#!/bin/sh
conf=$(cat)
dir=${0%/*}
echo "$CNI_COMMAND $CNI_IFNAME $CNI_ARGS" >>$dir/calls
echo "$conf" >>$dir/conf.$CNI_COMMAND
if [ $CNI_COMMAND = STATUS ]; then
	[ -e $dir/broken ] || exit 0
	echo '{"cniVersion":"1.1.0","code":50,"msg":"the switch is on fire"}'
	exit 1
fi
echo "$conf" | exec $dir/hyperkube-bridge
`

// addon writes the configuration of another network into the directory, under a file name.
func addon(t *testing.T, n *Network, file, name string) {
	t.Helper()
	dir := t.TempDir()
	conf, err := json.Marshal(map[string]any{"cniVersion": "1.1.0", "name": name, "plugins": []any{map[string]any{
		"type": "recorder", "bridge": "addon0", "id": "addon1", "dataDir": dir + "/addresses",
		"subnets":      []any{map[string]string{"cidr": "10.77.0.0/24", "cluster": "10.77.0.0/16"}},
		"capabilities": map[string]bool{"portMappings": true, "bandwidth": true}}}})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{filepath.Join(n.cfg.BinDir, "recorder"): recorder, filepath.Join(n.cfg.ConfDir, file): string(conf)} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := deleteLink("addon0"); err != nil {
			t.Error(err)
		}
		if err := removeMasquerade(context.Background(), "addon1"); err != nil {
			t.Error(err)
		}
	})
}

// An add-on's configuration takes the place of ours, the first by name if there are several; its plugin is executed,
// with the pod's ports and limits if it can do with them, and asked whether it is ready; a pod is taken off the network
// that it was put on.
func TestAnotherConfigurationCounts(t *testing.T) {
	n := newNetwork(t, "10.9.3.0/24")
	addon(t, n, "20-second.conflist", "second")
	addon(t, n, "10-first.conflist", "first")
	if err := n.Ready(t.Context()); err != nil || n.Name() != "first" {
		t.Errorf("the network is %s, ready: %v", n.Name(), err)
	}
	pod := &Pod{ID: "p", NetNS: namespace(t), Name: "web", Namespace: "ns", UID: "u", Ports: []PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}},
		Bandwidth: &Bandwidth{IngressRate: 1000000, IngressBurst: 524288}}
	ips, err := n.Add(t.Context(), pod)
	if err != nil || len(ips) != 1 || ips[0] != "10.77.0.2" {
		t.Fatalf("%v %v", ips, err)
	}
	read := func(file string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(n.cfg.BinDir, file))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := read("calls"); !strings.Contains(got, "STATUS") || !strings.Contains(got, "ADD eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=p;K8S_POD_UID=u") {
		t.Errorf("calls:\n%s", got)
	}
	var told struct {
		Name          string         `json:"name"`
		RuntimeConfig map[string]any `json:"runtimeConfig"`
	}
	if err := json.Unmarshal([]byte(read("conf.ADD")), &told); err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(told)
	want := `{"name":"first","runtimeConfig":{"bandwidth":{"ingressBurst":524288,"ingressRate":1000000},"portMappings":[{"containerPort":80,"hostPort":8080,"protocol":"tcp"}]}}`
	if string(got) != want {
		t.Errorf("ADD was told %s, want %s", got, want)
	}
	if err := os.Remove(filepath.Join(n.cfg.ConfDir, "10-first.conflist")); err != nil {
		t.Fatal(err)
	}
	// Only the id: so is a pod known of which a crash has left no more.
	if err := n.Del(t.Context(), &Pod{ID: "p"}); err != nil {
		t.Fatal(err)
	}
	if got := read("conf.DEL"); !strings.Contains(got, `"name":"first"`) || !strings.Contains(got, `"hostPort":8080`) {
		t.Errorf("DEL was told %s", got)
	}
	if n.Name() != "second" {
		t.Errorf("without the first, the network is %s", n.Name())
	}
}

// R19: what is wrong with the network is said, and is gone when its cause is.
func TestWhyTheNetworkIsNotReady(t *testing.T) {
	n := newNetwork(t, "10.9.3.0/24")
	addon(t, n, "10-addon.conflist", "addon")
	broken, damaged := filepath.Join(n.cfg.BinDir, "broken"), filepath.Join(n.cfg.ConfDir, "05-damaged.conflist")
	for _, test := range []struct{ file, want string }{
		{broken, "network addon: the switch is on fire"},
		{damaged, "05-damaged.conflist"},
	} {
		if err := os.WriteFile(test.file, []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := n.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v lacks %q", err, test.want)
		}
		if err := os.Remove(test.file); err != nil {
			t.Fatal(err)
		}
		if err := n.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
