package e2e

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// canary is a Secret's value that must not get out.
const canary = "c4nary-hunter2"

// canaryForms are how it may show: as it is, and in base64, at each of the three alignments.
func canaryForms() []string {
	all := []string{canary}
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + canary))
		all = append(all, text[4:len(text)-4])
	}
	return all
}

// spans is an OpenTelemetry collector that keeps all it gets, as text.
type spans struct {
	collector.UnimplementedTraceServiceServer
	mu   sync.Mutex
	text strings.Builder
}

func (s *spans) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.WriteString(r.String())
	return &collector.ExportTraceServiceResponse{}, nil
}

func (s *spans) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// TestSecretsStayOut: the value of a Secret that pods use in every way is in nothing that the cluster tells of
// itself: traces, explanations, effects, the stream of the page, held events, connections, spans and logs (issue 3).
func TestSecretsStayOut(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	otlp, server := &spans{}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, otlp)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	c := startOwn(t, "--log-level=5", "--tracing-endpoint="+listener.Addr().String())
	r := c.room(t)
	r.create(t, strings.ReplaceAll(secretUsers, "CANARY", canary))
	r.ready(t, "user")
	eventually(t, "pulling has failed to", func() error {
		if reason := r.field(t, "pod/pulling", ".status.containerStatuses[0].state.waiting.reason"); !strings.Contains(reason, "Pull") {
			return errors.New(reason)
		}
		return nil
	})
	r.becomes(t, "pod/broken", ".status.containerStatuses[0].lastState.terminated.reason", "StartError")
	r.sh(t, "user", "echo "+canary+" | grep -q hunter")
	token := r.k(t, "create", "token", "default")

	told := map[string]string{}
	tell := func(name string, args ...string) {
		out, errs, _ := c.run(exec.Command(binary, append(args, "--data-dir="+c.dir)...))
		told[name] = out + errs
	}
	raw := func(path string) {
		out, errs, err := c.try("get", "--raw", path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		told[path] = out + errs
	}
	tell("step", "step", "kubelet")
	r.k(t, "run", "held", "--image=hyperkube.local/demo", "--env=A=b")
	r.k(t, "annotate", "secret", "canary", "touched=yes")
	tell("what is held", "step", "-o", "json")
	tell("one", "step", "--one")
	tell("continue", "continue")
	for _, object := range []string{"secret/canary", "secret/login", "pod/user", "pod/broken", "pod/pulling", "sa/default"} {
		r.tells(t, object, "") // it is recorded
		tell("trace "+object, "trace", "-n", r.ns, "--all", object)
		tell("trace -o json "+object, "trace", "-n", r.ns, "-o", "json", object)
		if strings.HasPrefix(object, "pod/") {
			tell("why "+object, "why", "-n", r.ns, object)
			raw("/debug/flow/effects?kind=Pod&namespace=" + r.ns + "&name=" + strings.TrimPrefix(object, "pod/"))
		}
	}
	tell("connections", "connections", "-o", "json")
	told["stream"] = r.stream(t)
	told["spans"] = otlp.String()
	told["logs"] = c.log.String()
	for name, wants := range map[string][]string{
		"trace secret/canary": {"create Secret " + r.ns + "/canary"}, "trace pod/broken": {"CRI StartContainer", "failed: "}, "trace pod/user": {"get exec Pod", "readiness probe"},
		"stream": {"/broken"}, "spans": {"CRI StartContainer"}, "logs": {"kubelet"}, "what is held": {"kubelet"},
	} {
		holds(t, told[name], wants...) // otherwise there would be nothing to find it in
	}
	for name, text := range told {
		for _, form := range append(canaryForms(), token[strings.LastIndex(token, ".")+1:]) {
			if at := strings.Index(text, form); at >= 0 {
				t.Errorf("%s has %q: …%s…", name, form, text[max(0, at-300):min(len(text), at+60)])
			}
		}
	}
}

// stream is what the live page has been sent since the start.
func (r *room) stream(t *testing.T) string {
	t.Helper()
	cmd := r.command(nil, "get", "--raw", "/debug/flow/stream")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	buffer := make([]byte, 1<<16)
	for !strings.Contains(all.String(), "/broken") {
		n, err := out.Read(buffer)
		if err != nil {
			t.Errorf("the stream: %v", err)
			break
		}
		all.Write(buffer[:n])
	}
	cmd.Process.Kill()
	cmd.Wait()
	return all.String()
}

const secretUsers = `
apiVersion: v1
kind: Secret
metadata: {name: canary}
stringData: {password: CANARY, KEY: CANARY}
---
apiVersion: v1
kind: Secret
metadata: {name: login}
type: kubernetes.io/dockerconfigjson
stringData:
  .dockerconfigjson: '{"auths":{"registry.invalid":{"username":"u","password":"CANARY"}}}'
---
apiVersion: v1
kind: Pod
metadata: {name: user}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: hyperkube.local/demo
    command: [sh, -c, sleep 3600, $(PASSWORD)]
    args: [$(PASSWORD)]
    env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: canary, key: password}}}]
    envFrom: [{secretRef: {name: canary}}]
    volumeMounts: [{name: secret, mountPath: /secret}]
    readinessProbe: {exec: {command: [sh, -c, 'test "$KEY" = CANARY']}, periodSeconds: 1, timeoutSeconds: 30}
    livenessProbe: {exec: {command: [grep, -q, CANARY, /secret/password]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 30}
    lifecycle: {postStart: {exec: {command: [sh, -c, ': CANARY']}}}
  volumes: [{name: secret, secret: {secretName: canary}}]
---
apiVersion: v1
kind: Pod
metadata: {name: pulling}
spec:
  terminationGracePeriodSeconds: 1
  imagePullSecrets: [{name: login}]
  containers: [{name: c, image: registry.invalid/x:1, envFrom: [{secretRef: {name: canary}}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: broken}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: hyperkube.local/demo
    command: [/no/such/$(PASSWORD)]
    workingDir: /tmp
    env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: canary, key: password}}}]
    livenessProbe: {httpGet: {path: /, port: 8080, httpHeaders: [{name: Authorization, value: CANARY}]}}
`
