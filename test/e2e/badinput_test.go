package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// badPods want what is not there yet, or never will be.
const badPods = `
apiVersion: v1
kind: Pod
metadata: {name: command}
spec: {containers: [{name: c, image: hyperkube.local/demo, command: [/tools/run], volumeMounts: [{name: t, mountPath: /tools}]}], volumes: [{name: t, hostPath: {path: DIR}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: hostpath}
spec: {containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: t, mountPath: /t}]}], volumes: [{name: t, hostPath: {path: DIR/file, type: Directory}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: memory}
spec: {containers: [{name: c, image: hyperkube.local/demo, resources: {limits: {memory: 1Mi}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: sysctl}
spec: {securityContext: {sysctls: [{name: kernel.msgmax, value: "65536"}]}, containers: [{name: c, image: hyperkube.local/demo}]}
---
apiVersion: v1
kind: Pod
metadata: {name: value}
spec: {securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: nonsense}]}, containers: [{name: c, image: hyperkube.local/demo}]}
`

// kubeletConfiguration has the node take 33 pods, and evict none before its disk is full; one field is nobody's.
const kubeletConfiguration = `
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
maxPods: 33
evictionHard: {memory.available: 1Mi}
nonsense: 5
`

// configuredByFile: what the file says is so; a kubelet does not start with a file that cannot be.
func configuredByFile(t *testing.T, c *cluster, file string) {
	node := c.kubectl(t, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name} {.items[0].status.capacity.pods}")
	name, pods, _ := strings.Cut(node, " ")
	if pods != "33" {
		t.Errorf("node %s takes %s pods", name, pods)
	}
	if got := c.kubectl(t, "get", "--raw", "/api/v1/nodes/"+name+"/proxy/configz"); !strings.Contains(got, `"maxPods":33`) || !strings.Contains(got, `"evictionHard":{"memory.available":"1Mi"}`) {
		t.Errorf("configz: %s", got)
	}
	for wrong, want := range map[string]string{
		"maxPods: -1":   "invalid configuration: maxPods (--max-pods) -1 must not be a negative number",
		"maxPods: many": "cannot unmarshal string into Go struct field KubeletConfiguration.maxPods",
		"kind: Pod":     "must be a KubeletConfiguration",
	} {
		bad := file + ".bad"
		if err := os.WriteFile(bad, []byte(strings.Replace(kubeletConfiguration, strings.Fields(wrong)[0], wrong+" #", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(binary, "kubelet", "--data-dir="+c.dir, "--config="+bad).CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %s; want %q", wrong, err, out, want)
		}
	}
}

// TestBadPods: a command that isn't there, a hostPath of the wrong type, a memory
// limit below what a start needs, sysctls that are not allowed or make no sense, and
// a disk that is full: status and events name the cause as Kubernetes does, and what
// can recover does so when the cause is gone (issue 5).
func TestBadPods(t *testing.T) {
	host := t.TempDir()
	config := filepath.Join(host, "kubelet.yaml")
	if err := os.WriteFile(config, []byte(kubeletConfiguration), 0o600); err != nil {
		t.Fatal(err)
	}
	var disk string
	c := withKubelet(t, func(node string) {
		disk = node
		if err := os.MkdirAll(node, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("disk", node, "tmpfs", 0, "size=64m"); err != nil {
			t.Fatal(err)
		}
	}, "--config="+config)
	r := c.room(t)
	t.Run("configured by a file", func(t *testing.T) { configuredByFile(t, c, config) })
	file := filepath.Join(host, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.create(t, strings.ReplaceAll(badPods, "DIR", host))
	t.Run("told", func(t *testing.T) { r.tellsOfBadPods(t) })
	filler := filepath.Join(disk, "filler")
	t.Run("a full disk", func(t *testing.T) {
		fill(t, filler)
		r.k(t, "run", "full", "--image=hyperkube.local/demo")
		r.event(t, "full", "FailedCreatePodSandBox", "no space left on device")
		r.becomes(t, "pod/full", ".status.phase", "Pending")
	})
	t.Run("recovered", func(t *testing.T) {
		for _, err := range []error{os.Remove(filler), os.Remove(file), os.Mkdir(file, 0o755), os.WriteFile(filepath.Join(host, "run"), []byte("#!/bin/sh\nsleep 1000\n"), 0o755)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		r.ready(t, "full", "hostpath", "command")
	})
}

// tellsOfBadPods checks what users see of each.
func (r *room) tellsOfBadPods(t *testing.T) {
	t.Helper()
	r.becomes(t, "pod/command", ".status.containerStatuses[0].lastState.terminated.reason", "StartError")
	r.becomes(t, "pod/command", ".status.containerStatuses[0].lastState.terminated.exitCode", "128")
	r.event(t, "command", "Failed", `exec: "/tools/run": no such file or directory`)
	r.event(t, "command", "BackOff", "Back-off restarting failed container c in pod command")
	r.event(t, "hostpath", "FailedMount", "is not a directory, it's a File")
	r.becomes(t, "pod/hostpath", ".status.containerStatuses[0].state.waiting.reason", "ContainerCreating")
	r.becomes(t, "pod/memory", ".status.containerStatuses[0].state.waiting.reason", "CreateContainerError")
	r.event(t, "memory", "Failed", "set memory limit 1048576 too low; should be at least 4194304 bytes")
	r.becomes(t, "pod/memory", ".status.containerStatuses[0].restartCount", "0")
	r.becomes(t, "pod/sysctl", ".status.phase", "Failed")
	r.becomes(t, "pod/sysctl", ".status.reason", "SysctlForbidden")
	r.event(t, "sysctl", "SysctlForbidden", `forbidden sysctl: "kernel.msgmax" not allowlisted`)
	r.event(t, "value", "FailedCreatePodSandBox", "net.ipv4.ip_unprivileged_port_start")
}

// fill writes a file until the disk has no room left.
func fill(t *testing.T, name string) {
	t.Helper()
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for chunk := make([]byte, 64<<10); err == nil; {
		_, err = file.Write(chunk)
		if err != nil && len(chunk) > 1 { // smaller and smaller, until no byte fits
			chunk, err = chunk[:len(chunk)/2], nil
		}
	}
	if !strings.Contains(err.Error(), "no space left") {
		t.Fatal(fmt.Errorf("filling the disk: %w", err))
	}
}
