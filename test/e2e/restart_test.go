package e2e

import (
	"errors"
	"strings"
	"testing"
)

// TestContainerRestartRules: containers with a restart policy and rules of their own (KEP-5307), and a pod that begins anew
// in its sandbox because of one (KEP-5532).
func TestContainerRestartRules(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, restartRulePods)
	status := func(container, field string) string {
		return `.status.containerStatuses[?(@.name=="` + container + `")].` + field
	}
	t.Run("a container's own policy", func(t *testing.T) {
		r.becomes(t, "pod/own", status("again", "restartCount"), "1")
		r.becomes(t, "pod/own", status("once", "state.terminated.exitCode"), "3")
		r.becomes(t, "pod/own", ".status.phase", "Running")
		if n := r.field(t, "pod/own", status("once", "restartCount")); n != "0" {
			t.Errorf("a container that is never to be restarted was, %s times", n)
		}
	})
	t.Run("its rules", func(t *testing.T) {
		r.becomes(t, "pod/ruled", ".status.phase", "Failed")
		if got := r.field(t, "pod/ruled", ".status.containerStatuses[0].restartCount") + r.field(t, "pod/ruled", ".status.containerStatuses[0].state.terminated.exitCode"); got != "17" {
			t.Errorf("restarts and last exit code: %s, want 17", got)
		}
	})
	t.Run("all begin anew", func(t *testing.T) {
		before := r.field(t, "pod/anew", ".status.podIP")
		r.becomes(t, "pod/anew", ".status.phase", "Running")
		eventually(t, "the init container has run twice", func() error {
			out, _, err := r.try("-n", r.ns, "exec", "anew", "-c", "other", "--", "cat", "/w/story")
			if err == nil && strings.Count(out, "init") != 2 {
				err = errors.New(out)
			}
			return err
		})
		for _, name := range []string{"other", "source"} {
			r.becomes(t, "pod/anew", status(name, "restartCount"), "1")
			r.becomes(t, "pod/anew", status(name, "lastState.terminated.reason"), "RestartingAllContainers")
		}
		r.becomes(t, "pod/anew", `.status.conditions[?(@.type=="AllContainersRestarting")].status`, "False")
		r.becomes(t, "pod/anew", `.status.conditions[?(@.type=="Ready")].status`, "True")
		if after := r.field(t, "pod/anew", ".status.podIP"); before != "" && after != before {
			t.Errorf("the pod's address changed from %s to %s: it has another sandbox", before, after)
		}
	})
}

const restartRulePods = `
apiVersion: v1
kind: Pod
metadata: {name: own}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{name: w, emptyDir: {}}]
  containers:
  - {name: again, image: hyperkube.local/demo, restartPolicy: Always, command: [sh, -c, "if test -e /w/x; then exec sleep 3600; fi; touch /w/x"], volumeMounts: [{name: w, mountPath: /w}]}
  - {name: once, image: hyperkube.local/demo, command: [sh, -c, "exit 3"]}
---
apiVersion: v1
kind: Pod
metadata: {name: ruled}
spec:
  restartPolicy: Always
  volumes: [{name: w, emptyDir: {}}]
  containers:
  - name: c
    image: hyperkube.local/demo
    restartPolicy: Never
    restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]
    command: [sh, -c, "if test -e /w/x; then exit 7; fi; touch /w/x; exit 42"]
    volumeMounts: [{name: w, mountPath: /w}]
---
apiVersion: v1
kind: Pod
metadata: {name: anew}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{name: w, emptyDir: {}}]
  initContainers: [{name: i, image: hyperkube.local/demo, command: [sh, -c, "echo init >> /w/story"], volumeMounts: [{name: w, mountPath: /w}]}]
  containers:
  - {name: other, image: hyperkube.local/demo, volumeMounts: [{name: w, mountPath: /w}]}
  - name: source
    image: hyperkube.local/demo
    restartPolicy: Never
    restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [88]}}]
    command: [sh, -c, "if test -e /w/x; then exec sleep 3600; fi; touch /w/x; sleep 0.5; exit 88"]
    volumeMounts: [{name: w, mountPath: /w}]
`

// TestEnvFromFile: an init container writes a file of variables, the others have them in their environment (KEP-3721).
func TestEnvFromFile(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, envFilePods)
	r.ready(t, "reads")
	if got := r.sh(t, "reads", `echo "$COLOR|${NONE-unset}|${NOFILE-unset}|$EXPANDED"`); got != "deep blue|unset|unset|it is deep blue" {
		t.Errorf("environment: %s", got)
	}
	for pod, message := range map[string]string{"nokey": `environment variable key "NONE" not found in file`, "broken": "couldn't parse env file"} {
		r.becomes(t, "pod/"+pod, ".status.containerStatuses[0].state.waiting.reason", "CreateContainerConfigError")
		holds(t, r.field(t, "pod/"+pod, ".status.containerStatuses[0].state.waiting.message"), message)
		r.event(t, pod, "Failed", "Error: "+message)
	}
}

var envFilePods = func() string {
	pod := func(name, script, env string) string {
		return strings.NewReplacer("NAME", name, "SCRIPT", script, "ENV", env).Replace(`---
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: e, emptyDir: {}}]
  initContainers: [{name: i, image: hyperkube.local/demo, command: [sh, -c, "mkdir /w/d; SCRIPT > /w/d/env"], volumeMounts: [{name: e, mountPath: /w}]}]
  containers:
  - name: c
    image: hyperkube.local/demo
    env:
ENV
`)
	}
	from := func(name, key, path, optional string) string {
		return "    - {name: " + name + ", valueFrom: {fileKeyRef: {volumeName: e, path: " + path + ", key: " + key + ", optional: " + optional + "}}}\n"
	}
	return pod("reads", `echo \"COLOR='deep blue' # of the sea\"`, from("COLOR", "COLOR", "d/env", "false")+from("NONE", "NONE", "d/env", "true")+from("NOFILE", "COLOR", "none", "true")+"    - {name: EXPANDED, value: it is $(COLOR)}") +
		pod("nokey", `echo \"COLOR='blue'\"`, from("NONE", "NONE", "d/env", "false")) +
		pod("broken", `echo COLOR=blue`, from("COLOR", "COLOR", "d/env", "false"))
}()
