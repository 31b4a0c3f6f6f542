package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPodWithUsersOfItsOwn: hostUsers: false (KEP-127), its volumes, exec and
// port-forward into it; images as volumes (KEP-4639).
func TestPodWithUsersOfItsOwn(t *testing.T) {
	r := shared(t).room(t)
	if got := r.field(t, "nodes", ".items[0].status.runtimeHandlers[0].features.userNamespaces"); got != "true" {
		t.Skip("SKIP: the kernel or the file system here knows no ID-mapped mounts")
	}
	r.create(t, userPods)
	r.ready(t, "u", "i")
	t.Run("its users are others on the node", func(t *testing.T) {
		fields := strings.Fields(r.sh(t, "u", "cat /proc/self/uid_map"))
		if len(fields) != 3 || fields[0] != "0" || fields[1] == "0" || fields[2] != "65536" {
			t.Errorf("uid_map %v", fields)
		}
		if other := strings.Fields(r.sh(t, "i", "cat /proc/self/uid_map")); len(other) == 3 && other[1] == fields[1] {
			t.Errorf("two pods have the same users: %v", other)
		}
	})
	t.Run("volumes are its root's", func(t *testing.T) {
		for _, path := range []string{"/empty", "/config/a", "/secret/b", "/etc/hosts"} {
			if fields := strings.Fields(r.sh(t, "u", "ls -ld "+path+" $(readlink -f "+path+")")); len(fields) < 4 || fields[2] != "0" {
				t.Errorf("%s: %v", path, fields)
			}
		}
		holds(t, r.sh(t, "u", "cat /config/a /secret/b; echo x > /empty/x && cat /empty/x"), "1", "2", "x")
		holds(t, r.k(t, "exec", "u", "-c", "user", "--", "sh", "-c", "echo mine > /empty/mine; ls -l /empty/mine; id"), "1000", "uid=1000", "2000")
	})
	t.Run("port-forward reaches it", func(t *testing.T) {
		portForwardBy(t, r, "u", nil)
	})
	t.Run("an image is a volume, whole and in part, and only read", func(t *testing.T) {
		for _, pod := range []string{"u", "i"} {
			whole, part := r.sh(t, pod, "cat /image/etc/passwd"), r.sh(t, pod, "cat /part/passwd")
			if whole != part || !strings.Contains(whole, "root:x:0:0") {
				t.Errorf("%s: in the image %q, in its part %q", pod, whole, part)
			}
			holds(t, r.sh(t, pod, "touch /image/x 2>&1; true"), "ead-only")
		}
	})
	t.Run("an image that isn't there, and a part that isn't", func(t *testing.T) {
		r.becomes(t, "pod/none", ".status.containerStatuses[0].state.waiting.reason", "ErrImageNeverPull")
		r.becomes(t, "pod/part", ".status.containerStatuses[0].state.waiting.reason", "CreateContainerError")
		r.event(t, "none", "ErrImageNeverPull", "is not present with pull policy of Never")
		r.event(t, "part", "Failed", "not/there")
	})
	t.Run("with the node's network it is refused", func(t *testing.T) {
		_, stderr, err := r.try("-n", r.ns, "run", "no", "--image=hyperkube.local/demo", `--overrides={"spec":{"hostUsers":false,"hostNetwork":true}}`)
		if err == nil || !strings.Contains(stderr, "when `hostUsers` is false") {
			t.Errorf("%v: %s", err, stderr)
		}
	})
}

// TestInspectContainer: what inspect says is what /proc says (R29), and no value of the environment.
func TestInspectContainer(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, `
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: hyperkube.local/demo
    command: [sleep, "3600"]
    env: [{name: HIDDEN, value: canary-in-the-environment}]
    resources: {limits: {memory: 64Mi, cpu: 100m}}
`)
	r.ready(t, "p")
	id := r.field(t, "pod/p", ".status.containerStatuses[0].containerID")
	out, err := exec.Command(binary, "inspect", "container", id, "-o", "json", "--data-dir", r.dir).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got struct {
		Pod     struct{ Name string }
		LogPath string
		State   string
		Process struct {
			Pid, ParentPid int
			Argv           []string
		}
		Namespaces []struct {
			Kind, Shared string
			Inode        uint64
		}
		Cgroups []struct {
			Path   string
			Limits map[string]string
		}
		Network []struct {
			Addresses        []string
			HostName, Bridge string
		}
		Mounts []struct{ Target string }
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	proc := fmt.Sprintf("/proc/%d", got.Process.Pid)
	cmdline, _ := os.ReadFile(proc + "/cmdline")
	if strings.Join(got.Process.Argv, "\x00")+"\x00" != string(cmdline) || got.Pod.Name != "p" || got.State != "running" {
		t.Errorf("argv %q, /proc says %q; pod %q, %s", got.Process.Argv, cmdline, got.Pod.Name, got.State)
	}
	for _, ns := range got.Namespaces {
		if link, _ := os.Readlink(filepath.Join(proc, "ns", ns.Kind)); link != fmt.Sprintf("%s:[%d]", ns.Kind, ns.Inode) {
			t.Errorf("namespace %v, /proc says %s", ns, link)
		}
		if want := map[string]string{"net": "pod", "mnt": "", "user": "node"}; ns.Kind == "net" && ns.Shared != want["net"] || ns.Kind == "mnt" && ns.Shared != "" {
			t.Errorf("%s is shared with %q", ns.Kind, ns.Shared)
		}
	}
	limits := fmt.Sprint(got.Cgroups)
	if !strings.Contains(limits, "67108864") || !strings.Contains(limits, "10000") {
		t.Errorf("limits %s", limits)
	}
	if ip := r.field(t, "pod/p", ".status.podIP"); !strings.Contains(string(out), `"`+ip+"/") || !strings.Contains(string(out), `"hostName": "veth`) {
		t.Errorf("network %+v, address %s", got.Network, ip)
	}
	if _, err := os.Stat(got.LogPath); err != nil || len(got.Mounts) < 10 {
		t.Errorf("log %v, %d mounts", err, len(got.Mounts))
	}
	if strings.Contains(string(out), "canary") {
		t.Error("inspect prints the environment")
	}
	text, err := exec.Command(binary, "inspect", "container", id, "--data-dir", r.dir).Output()
	if err != nil || !strings.Contains(string(text), "NAMESPACE") || !strings.Contains(string(text), "podparent") {
		t.Errorf("as text: %v %s", err, text)
	}
}

const userPods = `
apiVersion: v1
kind: ConfigMap
metadata: {name: cm}
data: {a: "1"}
---
apiVersion: v1
kind: Secret
metadata: {name: se}
stringData: {b: "2"}
---
apiVersion: v1
kind: Pod
metadata: {name: u}
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 2000}
  containers:
  - name: root
    image: hyperkube.local/demo
    volumeMounts:
    - {name: empty, mountPath: /empty}
    - {name: config, mountPath: /config}
    - {name: secret, mountPath: /secret}
    - {name: image, mountPath: /image}
    - {name: image, mountPath: /part, subPath: etc}
  - name: user
    image: hyperkube.local/demo
    command: [sleep, "3600"]
    securityContext: {runAsUser: 1000}
    volumeMounts: [{name: empty, mountPath: /empty}]
  volumes:
  - {name: empty, emptyDir: {}}
  - {name: config, configMap: {name: cm}}
  - {name: secret, secret: {secretName: se}}
  - {name: image, image: {reference: hyperkube.local/demo}}
---
apiVersion: v1
kind: Pod
metadata: {name: i}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: hyperkube.local/demo
    volumeMounts: [{name: image, mountPath: /image}, {name: image, mountPath: /part, subPath: etc}]
  volumes: [{name: image, image: {reference: hyperkube.local/demo}}]
---
apiVersion: v1
kind: Pod
metadata: {name: none}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: image, mountPath: /image}]}]
  volumes: [{name: image, image: {reference: hyperkube.local/absent, pullPolicy: Never}}]
---
apiVersion: v1
kind: Pod
metadata: {name: part}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: image, mountPath: /image, subPath: not/there}]}]
  volumes: [{name: image, image: {reference: hyperkube.local/demo}}]
`
