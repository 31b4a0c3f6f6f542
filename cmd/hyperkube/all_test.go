package main

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"hyperkube/component"
)

// What --kubelet-arg says reaches the kubelet's command line behind what `all` gives it, so that it wins;
// k3s' names are as good; what a component would not understand is refused at once, and the component named.
func TestComponentArgs(t *testing.T) {
	parse := func(args ...string) (*allOptions, error) {
		o := newAllOptions()
		if err := component.Parse("all", o, args, io.Discard); err != nil {
			return o, err
		}
		return o, o.Args.validate()
	}
	o, err := parse("--kubelet-arg=max-pods=7", "--kubelet-arg=--allowed-unsafe-sysctls=net.core.somaxconn,kernel.msg*", "--kube-scheduler-arg=leader-elect=false")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := o.Args.of("kubelet"), []string{"--max-pods=7", "--allowed-unsafe-sysctls=net.core.somaxconn,kernel.msg*"}; !slices.Equal(got, want) {
		t.Errorf("kubelet: %v, want %v", got, want)
	}
	if got := o.Args.of("scheduler"); !slices.Equal(got, []string{"--leader-elect=false"}) {
		t.Errorf("scheduler: %v", got)
	}
	for arg, want := range map[string]string{
		"--kubelet-arg=nonsense=1":         "--kubelet-arg: unknown flag: --nonsense; see: hyperkube kubelet --help",
		"--proxy-arg=masquerade-all=maybe": `--proxy-arg: invalid argument "maybe" for "--masquerade-all" flag`,
		"--kubelet-arg=data-dir=/x":        "give it to `all`",
		"--nobody-arg=x":                   "unknown flag: --nobody-arg",
	} {
		_, err := parse(arg)
		var usage *component.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", arg, err, want)
		}
	}
}

// R02: `all` refuses to start on a host where a check of doctor's fails, in doctor's words; what only warns does not stop it.
func TestHopelessHost(t *testing.T) {
	h := healthyHost(t)
	h.disk = func(string) (disk, error) { return disk{free: 1, size: 100}, nil }
	if err := h.hopeless(nil); err != nil {
		t.Errorf("a warning stops it: %v", err)
	}
	h.write(t, "proc/sys/kernel/osrelease", "4.18.0")
	if err := h.hopeless(nil); err == nil || err.Error() != "kernel: 4.18.0: too old, 5.3 is needed: upgrade the kernel" {
		t.Errorf("an old kernel: %v", err)
	}
	if err := h.hopeless([]string{"kernel"}); err != nil {
		t.Errorf("ignored: %v", err)
	}
}

// Further nodes never bear the machine's own name.
func TestFurtherNodes(t *testing.T) {
	for host, want := range map[string][]string{"box": {"node-2", "node-3"}, "node-2": {"node-3", "node-4"}} {
		if got := furtherNodes(host, 3); !slices.Equal(got, want) {
			t.Errorf("on %s: %v, want %v", host, got, want)
		}
	}
	if got := furtherNodes("box", 0); len(got) > 0 {
		t.Errorf("of none: %v", got)
	}
}

// A further node is given what `all` was given for its components, but its name and addresses are its own.
func TestFurtherNodeParts(t *testing.T) {
	o := newAllOptions()
	o.DataDir = t.TempDir()
	if err := component.Parse("all", o, []string{"--data-dir=" + o.DataDir, "--nodes=2", "--kubelet-arg=max-pods=7", "--kubelet-arg=node-ip=192.0.2.1"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := o.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	node := newNodeOptions()
	if err := component.Parse("node", node, o.nodeArgs("node-2"), io.Discard); err != nil {
		t.Fatal(err)
	}
	node.dir = o.dir
	for _, p := range node.parts() {
		options := p.command.options()
		if err := component.Parse(p.command.name, options, p.args, io.Discard); err != nil {
			t.Error(err)
		}
		if k, ok := options.(*kubeletOptions); ok && (p.command.name != "kubelet-node-2" || k.MaxPods != 7 || k.NodeIP != "172.30.254.2" || k.NodeName != "node-2" || k.Host != "172.30.254.1") {
			t.Errorf("%s: %+v", p.command.name, k)
		}
	}
}

// A further node that runs counts as missing until the API knows it: the others are Ready before.
func TestUnregistered(t *testing.T) {
	got := unregistered([]string{"kubelet", "cri-node-2", "kubelet-node-2", "kubelet-node-3"}, []statusRow{{Component: "node/box"}, {Component: "node/node-2"}})
	if len(got) != 1 || !strings.HasPrefix(got[0], "node/node-3 ") {
		t.Errorf("%v", got)
	}
}
