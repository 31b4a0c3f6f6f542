package e2e

import (
	"fmt"
	"os"
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

// TestBadPods: a command that isn't there, a hostPath of the wrong type, a memory
// limit below what a start needs, sysctls that are not allowed or make no sense, and
// a disk that is full: status and events name the cause as Kubernetes does, and what
// can recover does so when the cause is gone (issue 5).
func TestBadPods(t *testing.T) {
	host := t.TempDir()
	var disk string
	c := withKubelet(t, func(node string) {
		disk = node
		if err := os.MkdirAll(node, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("disk", node, "tmpfs", 0, "size=64m"); err != nil {
			t.Fatal(err)
		}
	}, "--eviction-hard=memory.available<1Mi") // or it would evict before the disk is full
	r := c.room(t)
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
	r.event(t, "hostpath", "FailedMount", `MountVolume.SetUp failed for volume "t" : hostPath type check failed: `)
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
