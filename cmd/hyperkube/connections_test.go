package main

import (
	"os"
	"slices"
	"testing"
	"time"

	"hyperkube/component"
	"hyperkube/flow"
)

// Each node has lines of its own: those of a further node bear its name at both ends, and its requests are not counted with
// the first node's.
func TestConnectionsOfSeveralNodes(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(component.RunDir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"apiserver", "etcd", "kubelet", "cri", "proxy", "kubelet-node-2", "cri-node-2", "proxy-node-2"} {
		remove, err := component.Registration{Component: name, PID: os.Getpid(), Address: "at " + name}.Register(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer remove()
	}
	found, err := lines(dir)
	if err != nil {
		t.Fatal(err)
	}
	found, _ = live(t.Context(), dir, found, []flow.Peer{
		{Program: "kubelet-node-1", Requests: 3, Last: time.Now()}, {Program: "kubelet-node-2", Requests: 5}, {Program: "proxy-node-2", Requests: 7},
	})
	requests := map[string]int{}
	var names []string
	for _, c := range found {
		name := c.From + " → " + c.To
		names = append(names, name)
		requests[name] = c.Requests
		if c.To != "etcd" && c.Address != "at "+c.To {
			t.Errorf("%s: at %q", name, c.Address)
		}
	}
	slices.Sort(names)
	want := []string{
		"apiserver → etcd", "apiserver → kubelet", "apiserver → kubelet-node-2", "kubelet → apiserver", "kubelet → cri",
		"kubelet-node-2 → apiserver", "kubelet-node-2 → cri-node-2", "proxy → apiserver", "proxy-node-2 → apiserver",
	}
	if !slices.Equal(names, want) {
		t.Errorf("lines %q, want %q", names, want)
	}
	for name, n := range map[string]int{"kubelet → apiserver": 3, "kubelet-node-2 → apiserver": 5, "proxy → apiserver": 0, "proxy-node-2 → apiserver": 7} {
		if requests[name] != n {
			t.Errorf("%s: %d requests, want %d", name, requests[name], n)
		}
	}
}
