package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// room is a test's namespace with what tests of pods do in it all the time.
type room struct {
	*cluster
	ns string
}

func (c *cluster) room(t *testing.T) *room {
	t.Helper()
	return &room{c, c.namespace(t)}
}

// k runs kubectl in the namespace; it must succeed.
func (r *room) k(t *testing.T, args ...string) string {
	t.Helper()
	out, _, err := r.try(append([]string{"-n", r.ns}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// create applies a manifest in the namespace.
func (r *room) create(t *testing.T, manifest string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	r.k(t, "apply", "-f", file)
}

// ready waits until pods are Ready.
func (r *room) ready(t *testing.T, pods ...string) {
	t.Helper()
	for i := range pods {
		pods[i] = "pod/" + pods[i]
	}
	r.k(t, append([]string{"wait", "--for=condition=Ready", "--timeout=90s"}, pods...)...)
}

// field is one field of an object, by jsonpath.
func (r *room) field(t *testing.T, object, path string) string {
	t.Helper()
	return r.k(t, "get", object, "-o", "jsonpath={"+path+"}")
}

// becomes waits until a field of an object has a value.
func (r *room) becomes(t *testing.T, object, path, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s %s is %q", object, path, want), func() error {
		out, _, err := r.try("-n", r.ns, "get", object, "-o", "jsonpath={"+path+"}")
		if err == nil && out != want {
			err = fmt.Errorf("is %q", out)
		}
		return err
	})
}

// sh runs a line of shell in a pod's first container.
func (r *room) sh(t *testing.T, pod, script string) string {
	t.Helper()
	return r.k(t, "exec", pod, "--", "sh", "-c", script)
}

// holds checks that each of several texts is in an output.
func holds(t *testing.T, output string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(output, want) {
			t.Errorf("no %q in:\n%s", want, output)
		}
	}
}

// TestInitContainersAndSidecars: init containers run one after another, a sidecar
// starts among them, counts as started by its startup probe, and outlives them (R100).
func TestInitContainersAndSidecars(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, initPods)
	t.Run("in their order, a sidecar between them", func(t *testing.T) {
		r.ready(t, "ordered")
		if got := strings.Join(strings.Fields(r.sh(t, "ordered", "cat /w/order")), " "); got != "first side second main" {
			t.Errorf("order: %s", got)
		}
		holds(t, r.k(t, "get", "pod", "ordered"), "2/2", "Running")
	})
	t.Run("a failed one with restartPolicy Never fails the pod", func(t *testing.T) {
		r.becomes(t, "pod/doomed", ".status.phase", "Failed")
		holds(t, r.k(t, "get", "pod", "doomed"), "Init:Error")
		if state := r.field(t, "pod/doomed", ".status.containerStatuses[0].state.waiting.reason"); state != "PodInitializing" {
			t.Errorf("main container: %q", state)
		}
	})
	t.Run("a failed one is run again otherwise", func(t *testing.T) {
		r.ready(t, "second-try")
		if got := r.field(t, "pod/second-try", ".status.initContainerStatuses[0].restartCount"); got != "1" {
			t.Errorf("restarts: %s", got)
		}
	})
	t.Run("a sidecar does not keep a job's pod from completing", func(t *testing.T) {
		r.becomes(t, "pod/job", ".status.phase", "Succeeded")
		holds(t, r.k(t, "logs", "job", "-c", "side"), "side")
	})
}

const initPods = `
apiVersion: v1
kind: Pod
metadata: {name: ordered}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: w, emptyDir: {}}]
  initContainers:
  - {name: first, image: hyperkube.local/demo, command: [sh, -c, "sleep 0.3; echo first >> /w/order"], volumeMounts: [{name: w, mountPath: /w}]}
  - name: side
    image: hyperkube.local/demo
    restartPolicy: Always
    command: [sh, -c, "sleep 0.3; echo side >> /w/order; sleep 3600"]
    volumeMounts: [{name: w, mountPath: /w}]
    startupProbe: {exec: {command: [grep, -q, side, /w/order]}, periodSeconds: 1, failureThreshold: 30}
  - {name: second, image: hyperkube.local/demo, command: [sh, -c, "echo second >> /w/order"], volumeMounts: [{name: w, mountPath: /w}]}
  containers:
  - {name: main, image: hyperkube.local/demo, command: [sh, -c, "echo main >> /w/order; sleep 3600"], volumeMounts: [{name: w, mountPath: /w}]}
---
apiVersion: v1
kind: Pod
metadata: {name: doomed}
spec:
  restartPolicy: Never
  initContainers: [{name: i, image: hyperkube.local/demo, command: ["false"]}]
  containers: [{name: main, image: hyperkube.local/demo}]
---
apiVersion: v1
kind: Pod
metadata: {name: second-try}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: w, emptyDir: {}}]
  initContainers: [{name: i, image: hyperkube.local/demo, command: [sh, -c, "if test -e /w/x; then exit 0; fi; touch /w/x; exit 1"], volumeMounts: [{name: w, mountPath: /w}]}]
  containers: [{name: main, image: hyperkube.local/demo}]
---
apiVersion: v1
kind: Pod
metadata: {name: job}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  initContainers: [{name: side, image: hyperkube.local/demo, restartPolicy: Always, command: [sh, -c, "echo side; sleep 3600"]}]
  containers: [{name: main, image: hyperkube.local/demo, command: ["true"]}]
`

// TestRestartPolicies: Always, OnFailure and Never, with what kubectl shows of each,
// exit codes, the termination message, a command that isn't there, too much memory (R100).
func TestRestartPolicies(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, restartPods)
	t.Run("Always, failing: CrashLoopBackOff", func(t *testing.T) {
		r.becomes(t, "pod/crash", ".status.containerStatuses[0].state.waiting.reason", "CrashLoopBackOff")
		holds(t, r.k(t, "get", "pod", "crash"), "CrashLoopBackOff")
		holds(t, r.k(t, "get", "pod", "crash", "-o", "jsonpath={.status.containerStatuses[0].lastState.terminated}"), `"exitCode":3`, `"reason":"Error"`, `"message":"why\n"`)
		holds(t, r.k(t, "get", "events", "--field-selector=involvedObject.name=crash"), "Back-off restarting failed container c in pod crash")
		holds(t, r.k(t, "logs", "crash", "--previous"), "bye")
	})
	t.Run("Always, succeeding: restarted too", func(t *testing.T) {
		eventually(t, "a restart", func() error {
			if n := r.field(t, "pod/again", ".status.containerStatuses[0].restartCount"); n == "0" || n == "" {
				return fmt.Errorf("restarts: %q", n)
			}
			return nil
		})
		if phase := r.field(t, "pod/again", ".status.phase"); phase != "Running" {
			t.Errorf("phase: %s", phase)
		}
	})
	t.Run("OnFailure: until it succeeds", func(t *testing.T) {
		r.becomes(t, "pod/onfailure", ".status.phase", "Succeeded")
		if got := r.field(t, "pod/onfailure", ".status.containerStatuses[0].restartCount"); got != "1" {
			t.Errorf("restarts: %s", got)
		}
		holds(t, r.k(t, "get", "pod", "onfailure"), "Completed")
	})
	t.Run("Never: once; its logs' end is the message", func(t *testing.T) {
		r.becomes(t, "pod/never", ".status.phase", "Failed")
		holds(t, r.k(t, "get", "pod", "never", "-o", "jsonpath={.status.containerStatuses[0].state.terminated}"), `"exitCode":4`, `"message":"last words\n"`)
		if got := r.field(t, "pod/never", ".status.containerStatuses[0].restartCount"); got != "0" {
			t.Errorf("restarts: %s", got)
		}
	})
	t.Run("a command that isn't there", func(t *testing.T) {
		r.becomes(t, "pod/nothing", ".status.containerStatuses[0].state.terminated.reason", "StartError")
		holds(t, r.k(t, "get", "events", "--field-selector=involvedObject.name=nothing,reason=Failed"), `exec: "no-such-program": executable file not found in $PATH`)
	})
	t.Run("more memory than its limit: OOMKilled", func(t *testing.T) {
		r.becomes(t, "pod/greedy", ".status.phase", "Failed")
		reason := r.field(t, "pod/greedy", ".status.containerStatuses[0].state.terminated.reason")
		// containerd hears of the kill by another way than of the exit, and says Error where the exit is first.
		if containerd := strings.HasPrefix(r.field(t, "nodes", ".items[0].status.nodeInfo.containerRuntimeVersion"), "containerd://"); reason != "OOMKilled" && !(containerd && reason == "Error") {
			t.Errorf("reason: %s", reason)
		}
		holds(t, r.k(t, "get", "pod", "greedy"), reason)
		if code := r.field(t, "pod/greedy", ".status.containerStatuses[0].state.terminated.exitCode"); code != "137" {
			t.Errorf("exit code: %s", code)
		}
	})
}

const restartPods = `
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec: {containers: [{name: c, image: hyperkube.local/demo, command: [sh, -c, "echo bye; echo why > /dev/termination-log; exit 3"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: again}
spec: {containers: [{name: c, image: hyperkube.local/demo, command: ["true"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: onfailure}
spec:
  restartPolicy: OnFailure
  volumes: [{name: w, emptyDir: {}}]
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: w, mountPath: /w}], command: [sh, -c, "if test -e /w/x; then exit 0; fi; touch /w/x; exit 1"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: never}
spec: {restartPolicy: Never, containers: [{name: c, image: hyperkube.local/demo, terminationMessagePolicy: FallbackToLogsOnError, command: [sh, -c, "echo last words; exit 4"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: nothing}
spec: {restartPolicy: Never, containers: [{name: c, image: hyperkube.local/demo, command: [no-such-program]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers: [{name: c, image: hyperkube.local/demo, command: [sh, -c, "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done"], resources: {limits: {memory: 48Mi}}}]
`

// TestContainerIsConfined: what securityContext and limits say is what the process
// sees of itself (S0-29, R100).
func TestContainerIsConfined(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, confinedPod)
	r.ready(t, "confined")
	status := r.k(t, "exec", "confined", "-c", "plain", "--", "cat", "/proc/self/status")
	holds(t, status, "NoNewPrivs:\t0", "CapEff:\t00000000a80425fb", "Seccomp:\t0")

	out := r.k(t, "exec", "confined", "-c", "tight", "--", "sh", "-c", "id; cat /proc/self/status; touch /x; echo touched $?; touch /data/mine && ls -l /data; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max; true")
	holds(t, out, "uid=1000 gid=2000", "3000", "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000400", "Seccomp:\t2", "touched 1", "67108864", "50000")
	for _, line := range strings.Split(out, "\n") {
		if strings.HasSuffix(line, " mine") && !strings.Contains(line, " 3000 ") {
			t.Errorf("a file in a volume does not belong to fsGroup: %s", line)
		}
	}
	if groups := r.k(t, "exec", "confined", "-c", "tight", "--", "id", "-G"); !strings.Contains(groups, "3000") || !strings.Contains(groups, "4000") {
		t.Errorf("groups: %s", groups)
	}
	if got := r.field(t, "pod/confined", ".status.qosClass"); got != "Burstable" {
		t.Errorf("QoS class: %s", got)
	}
	masked := r.k(t, "exec", "confined", "-c", "plain", "--", "sh", "-c", "echo 1 > /proc/sys/kernel/domainname; echo write $?; ls /proc/acpi | wc -l")
	holds(t, masked, "write 1")

	r.becomes(t, "pod/root-refused", ".status.containerStatuses[0].state.waiting.reason", "CreateContainerConfigError")
	holds(t, r.field(t, "pod/root-refused", ".status.containerStatuses[0].state.waiting.message"), "runAsNonRoot")
}

const confinedPod = `
apiVersion: v1
kind: Pod
metadata: {name: confined}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 3000, supplementalGroups: [4000]}
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: tight
    image: hyperkube.local/demo
    command: [sleep, "3600"]
    volumeMounts: [{name: data, mountPath: /data}]
    resources: {limits: {memory: 64Mi, cpu: 500m}, requests: {memory: 16Mi, cpu: 10m}}
    securityContext:
      runAsUser: 1000
      runAsGroup: 2000
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}
      seccompProfile: {type: RuntimeDefault}
  - {name: plain, image: hyperkube.local/demo, command: [sleep, "3600"]}
---
apiVersion: v1
kind: Pod
metadata: {name: root-refused}
spec:
  containers: [{name: c, image: hyperkube.local/demo, securityContext: {runAsNonRoot: true}}]
`

// TestHooksAndTermination: postStart before readiness, preStop before SIGTERM, the
// grace period as the limit of both, --now as a shorter one (R100).
func TestHooksAndTermination(t *testing.T) {
	r := shared(t).room(t)
	dir := t.TempDir()
	r.create(t, strings.ReplaceAll(hookPods, "DIR", dir))
	r.ready(t, "polite", "stubborn", "endless")
	deleted := func(t *testing.T, pod string, args ...string) time.Duration {
		t.Helper()
		begin := time.Now()
		r.k(t, append([]string{"delete", "pod", pod}, args...)...)
		return time.Since(begin)
	}
	t.Run("hooks and SIGTERM in their order", func(t *testing.T) {
		logs := exec.Command(binary, "kubectl", "--data-dir="+r.dir, "-n", r.ns, "logs", "-f", "polite")
		output := &lockedBuffer{}
		logs.Stdout = output
		if err := logs.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "logs -f follows", func() error {
			if !strings.Contains(output.String(), "listening") {
				return errors.New("nothing yet")
			}
			return nil
		})
		if took := deleted(t, "polite"); took > 15*time.Second {
			t.Errorf("a pod that ends at SIGTERM took %s", took)
		}
		if err := logs.Wait(); err != nil {
			t.Errorf("logs -f: %v", err)
		}
		holds(t, output.String(), "stopping: finishing the requests under way")
		story, err := os.ReadFile(filepath.Join(dir, "polite"))
		if got := strings.Join(strings.Fields(string(story)), " "); err != nil || got != "postStart preStop" {
			t.Errorf("story: %q, %v", got, err)
		}
	})
	t.Run("SIGKILL after the grace period", func(t *testing.T) {
		if took := deleted(t, "stubborn"); took < 2*time.Second || took > 15*time.Second {
			t.Errorf("with terminationGracePeriodSeconds 2 it took %s", took)
		}
	})
	t.Run("--now", func(t *testing.T) {
		if took := deleted(t, "endless", "--now"); took > 15*time.Second {
			t.Errorf("--now took %s of a grace period of 600 s", took)
		}
	})
	t.Run("a postStart hook that fails kills the container", func(t *testing.T) {
		eventually(t, "FailedPostStartHook", func() error {
			if out := r.k(t, "get", "events", "--field-selector=involvedObject.name=hookless,reason=FailedPostStartHook"); !strings.Contains(out, "PostStartHook") {
				return fmt.Errorf("events: %s", out)
			}
			return nil
		})
	})
}

const hookPods = `
apiVersion: v1
kind: Pod
metadata: {name: polite}
spec:
  terminationGracePeriodSeconds: 30
  volumes: [{name: story, hostPath: {path: DIR}}]
  containers:
  - name: c
    image: hyperkube.local/demo
    volumeMounts: [{name: story, mountPath: /story}]
    lifecycle:
      postStart: {exec: {command: [sh, -c, "echo postStart >> /story/polite"]}}
      preStop: {exec: {command: [sh, -c, "echo preStop >> /story/polite; sleep 0.2"]}}
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - {name: c, image: hyperkube.local/demo, lifecycle: {preStop: {exec: {command: [sleep, "60"]}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: endless}
spec:
  terminationGracePeriodSeconds: 600
  containers:
  - {name: c, image: hyperkube.local/demo, lifecycle: {preStop: {exec: {command: [sleep, "600"]}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: hookless}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: hyperkube.local/demo, lifecycle: {postStart: {exec: {command: ["false"]}}}}
`

// TestPodsNetworkIdentity: hostname, /etc/hosts, resolv.conf, the host's network (R100).
func TestPodsNetworkIdentity(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, identityPods)
	r.ready(t, "plain", "named", "host", "own-dns")
	t.Run("plain", func(t *testing.T) {
		ip := r.field(t, "pod/plain", ".status.podIP")
		out := r.sh(t, "plain", "hostname; cat /etc/hosts /etc/resolv.conf; ip addr")
		holds(t, out, "plain", ip+"\tplain", "10.1.2.3\tfoo.example\tbar.example", "nameserver 10.96.0.10",
			"search "+r.ns+".svc.cluster.local svc.cluster.local cluster.local", "options ndots:5")
		holds(t, out, ip+"/24")
	})
	t.Run("hostname and subdomain", func(t *testing.T) {
		holds(t, r.sh(t, "named", "hostname; cat /etc/hosts"), "h1\n", "h1.sub."+r.ns+".svc.cluster.local\th1")
	})
	t.Run("hostNetwork", func(t *testing.T) {
		nodeIP := r.field(t, "pod/host", ".status.hostIP")
		if ip := r.field(t, "pod/host", ".status.podIP"); ip != nodeIP {
			t.Errorf("pod's address %s, node's %s", ip, nodeIP)
		}
		holds(t, r.sh(t, "host", "ip addr; cat /etc/resolv.conf"), "uplink0", "nameserver 10.96.0.10")
	})
	t.Run("dnsPolicy None", func(t *testing.T) {
		out := r.sh(t, "own-dns", "cat /etc/resolv.conf")
		holds(t, out, "nameserver 9.9.9.9", "search a.example", "options ndots:3")
		if strings.Contains(out, "10.96.0.10") {
			t.Errorf("resolv.conf: %s", out)
		}
	})
}

const identityPods = `
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  terminationGracePeriodSeconds: 1
  hostAliases: [{ip: 10.1.2.3, hostnames: [foo.example, bar.example]}]
  containers: [{name: c, image: hyperkube.local/demo}]
---
apiVersion: v1
kind: Pod
metadata: {name: named}
spec: {terminationGracePeriodSeconds: 1, hostname: h1, subdomain: sub, containers: [{name: c, image: hyperkube.local/demo}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec: {terminationGracePeriodSeconds: 1, hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet, containers: [{name: c, image: hyperkube.local/demo, command: [sleep, "3600"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: own-dns}
spec:
  terminationGracePeriodSeconds: 1
  dnsPolicy: None
  dnsConfig: {nameservers: [9.9.9.9], searches: [a.example], options: [{name: ndots, value: "3"}]}
  containers: [{name: c, image: hyperkube.local/demo}]
`

// TestEnvironment: values, references between them, ConfigMaps, Secrets, fields
// of the pod and its resources, Services; a missing source is named (R100).
func TestEnvironment(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, envPods)
	r.ready(t, "env")
	out := "\n" + r.k(t, "exec", "env", "--", "env") + "\n"
	nodeIP := r.field(t, "pod/env", ".status.hostIP")
	for _, want := range []string{"PLAIN=1", "REFER=1-$(NOT)-$(PLAIN)", "COLOR=blue", "P_size=big", "P_color=blue", "PASSWORD=s3cret",
		"NAME=env", "NS=" + r.ns, "NODE_IP=" + nodeIP, "IP=" + r.field(t, "pod/env", ".status.podIP"), "LABEL=one", "SA=default",
		"CPU=250", "MEM=64", "KUBERNETES_SERVICE_HOST=10.96.0.1", "EARLIER_SERVICE_PORT=80", "HOSTNAME=env"} {
		if !strings.Contains(out, "\n"+want+"\n") {
			t.Errorf("no %s in %s", want, out)
		}
	}
	if strings.Contains(out, "ABSENT=") {
		t.Error("an optional key that is missing was set")
	}
	r.becomes(t, "pod/broken", ".status.containerStatuses[0].state.waiting.reason", "CreateContainerConfigError")
	holds(t, r.field(t, "pod/broken", ".status.containerStatuses[0].state.waiting.message"), `configmap "nowhere" not found`)
	r.k(t, "create", "configmap", "nowhere", "--from-literal=a=b")
	r.ready(t, "broken")
}

const envPods = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue, size: big}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {password: s3cret}
---
apiVersion: v1
kind: Service
metadata: {name: earlier}
spec: {selector: {app: none}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: env, labels: {which: one}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: hyperkube.local/demo
    resources: {limits: {cpu: 250m, memory: 64Mi}}
    envFrom: [{prefix: P_, configMapRef: {name: settings}}, {secretRef: {name: absent, optional: true}}]
    env:
    - {name: PLAIN, value: "1"}
    - {name: REFER, value: "$(PLAIN)-$(NOT)-$$(PLAIN)"}
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: ABSENT, valueFrom: {configMapKeyRef: {name: settings, key: absent, optional: true}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NS, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: NODE_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: LABEL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['which']"}}}
    - {name: SA, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: broken}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, envFrom: [{configMapRef: {name: nowhere}}]}]
`
