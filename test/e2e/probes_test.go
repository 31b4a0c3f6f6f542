package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestProbes: liveness restarts, readiness gates endpoints, startup holds both
// back, each by exec, HTTP and TCP (R100, S0-08).
func TestProbes(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, probePods)
	restarted := func(t *testing.T, pod string) {
		t.Helper()
		eventually(t, pod+" is restarted", func() error {
			if n := r.field(t, "pod/"+pod, ".status.containerStatuses[0].restartCount"); n == "0" || n == "" {
				return fmt.Errorf("restarts: %q", n)
			}
			return nil
		})
	}
	event := func(t *testing.T, pod, reason, text string) {
		t.Helper()
		eventually(t, reason+" of "+pod, func() error {
			if out := r.k(t, "get", "events", "--field-selector=involvedObject.name="+pod+",reason="+reason); !strings.Contains(out, text) {
				return errors.New(out)
			}
			return nil
		})
	}
	endpoints := func(t *testing.T, want string) {
		t.Helper()
		eventually(t, "ready endpoints are "+want, func() error {
			if got := r.k(t, "get", "endpoints", "web", "-o", "jsonpath={.subsets[*].addresses[*].targetRef.name}"); got != want {
				return fmt.Errorf("%q", got)
			}
			return nil
		})
	}
	t.Run("liveness by HTTP", func(t *testing.T) {
		restarted(t, "live-http")
		event(t, "live-http", "Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 404")
		event(t, "live-http", "Killing", "Container c failed liveness probe, will be restarted")
	})
	t.Run("liveness by exec", func(t *testing.T) {
		restarted(t, "live-exec")
		event(t, "live-exec", "Unhealthy", "Liveness probe failed: not well")
	})
	t.Run("startup by TCP that fails", func(t *testing.T) {
		restarted(t, "start-tcp")
		event(t, "start-tcp", "Unhealthy", "Startup probe failed: dial tcp")
	})
	t.Run("readiness gates endpoints", func(t *testing.T) {
		r.becomes(t, "pod/gate", ".status.phase", "Running")
		endpoints(t, "")
		event(t, "gate", "Unhealthy", "Readiness probe failed")
		r.sh(t, "gate", "touch /ready")
		endpoints(t, "gate")
		r.ready(t, "gate")
		r.sh(t, "gate", "rm /ready")
		endpoints(t, "")
		r.becomes(t, "pod/gate", ".status.containerStatuses[0].restartCount", "0")
	})
	t.Run("startup holds liveness and readiness back", func(t *testing.T) {
		r.becomes(t, "pod/slow", ".status.phase", "Running")
		if started := r.field(t, "pod/slow", ".status.containerStatuses[0].started"); started != "false" {
			t.Errorf("started: %s", started)
		}
		r.sh(t, "slow", "touch /alive /started")
		r.ready(t, "slow")
		r.becomes(t, "pod/slow", ".status.containerStatuses[0].started", "true")
		r.becomes(t, "pod/slow", ".status.containerStatuses[0].restartCount", "0")
	})
	t.Run("readiness by TCP and by named port", func(t *testing.T) {
		r.ready(t, "ports")
	})
}

const probePods = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: gate}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: live-http}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, livenessProbe: {httpGet: {path: /env/NOT_SET, port: 8080}, periodSeconds: 1, failureThreshold: 2}}]
---
apiVersion: v1
kind: Pod
metadata: {name: live-exec}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, livenessProbe: {exec: {command: [sh, -c, "echo not well; exit 1"]}, periodSeconds: 1, failureThreshold: 1}}]
---
apiVersion: v1
kind: Pod
metadata: {name: start-tcp}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, startupProbe: {tcpSocket: {port: 9}, periodSeconds: 1, failureThreshold: 1}}]
---
apiVersion: v1
kind: Pod
metadata: {name: gate, labels: {app: gate}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, readinessProbe: {exec: {command: [cat, /ready]}, periodSeconds: 1, failureThreshold: 1}}]
---
apiVersion: v1
kind: Pod
metadata: {name: slow}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: hyperkube.local/demo
    startupProbe: {exec: {command: [cat, /started]}, periodSeconds: 1, failureThreshold: 90}
    livenessProbe: {exec: {command: [cat, /alive]}, periodSeconds: 1, failureThreshold: 1}
    readinessProbe: {exec: {command: [cat, /alive]}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: ports}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: tcp, image: hyperkube.local/demo, readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}
  - {name: named, image: hyperkube.local/demo, args: [/bin/serve, -p, "8081"], ports: [{name: web, containerPort: 8081}], readinessProbe: {httpGet: {path: /healthz, port: web}, periodSeconds: 1}}
`
