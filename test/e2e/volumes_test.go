package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVolumes: each kind of volume as its container finds it, what follows changes
// and what does not (R100, S0-09).
func TestVolumes(t *testing.T) {
	r := shared(t).room(t)
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "from-host"), []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.create(t, strings.ReplaceAll(volumePods, "DIR", host))
	r.ready(t, "v", "token")
	t.Run("emptyDir is shared by the pod's containers", func(t *testing.T) {
		r.k(t, "exec", "v", "-c", "one", "--", "sh", "-c", "echo hello > /shared/x")
		holds(t, r.k(t, "exec", "v", "-c", "two", "--", "cat", "/also/x"), "hello")
	})
	t.Run("emptyDir in memory, with a limit", func(t *testing.T) {
		holds(t, r.sh(t, "v", "mount"), "tmpfs on /mem type tmpfs (rw,", "size=1024k")
	})
	t.Run("hostPath, both ways", func(t *testing.T) {
		holds(t, r.sh(t, "v", "cat /host/from-host; echo pod > /host/from-pod; cat /host-file"), "host\nhost")
		if got, err := os.ReadFile(filepath.Join(host, "from-pod")); err != nil || string(got) != "pod\n" {
			t.Errorf("on the host: %q, %v", got, err)
		}
	})
	t.Run("a hostPath that is not what its type says", func(t *testing.T) {
		eventually(t, "FailedMount", func() error {
			if out := r.k(t, "get", "events", "--field-selector=involvedObject.name=wrong,reason=FailedMount"); !strings.Contains(out, "hostPath type check failed") {
				return errors.New(out)
			}
			return nil
		})
	})
	t.Run("Secrets: in memory, with their mode", func(t *testing.T) {
		out := r.sh(t, "v", "cat /secret/password; mount; ls -l /secret/..data/password; touch /secret/x; echo touched $?")
		holds(t, out, "s3cret", "on /secret type tmpfs (ro", "-r--------", "touched 1")
	})
	t.Run("downward API", func(t *testing.T) {
		holds(t, r.sh(t, "v", "cat /info/labels; echo; cat /info/cpu"), `which="one"`, "2")
		r.k(t, "label", "pod", "v", "added=later")
		eventually(t, "a new label shows", func() error {
			if out := r.sh(t, "v", "cat /info/labels"); !strings.Contains(out, `added="later"`) {
				return errors.New(out)
			}
			return nil
		})
	})
	t.Run("a ConfigMap's items, updates, subPath", func(t *testing.T) {
		holds(t, r.sh(t, "v", "cat /config/color /config/nested/size /etc/color-file; ls /shared-sub; echo mine > /shared-sub/f"), "blue", "big")
		holds(t, r.k(t, "exec", "v", "-c", "two", "--", "cat", "/also/sub/v/f"), "mine")
		r.k(t, "patch", "configmap", "settings", "-p", `{"data":{"color":"green"}}`)
		eventually(t, "the new value shows", func() error {
			if out := r.sh(t, "v", "cat /config/color"); out != "green" {
				return errors.New(out)
			}
			return nil
		})
		if out := r.sh(t, "v", "cat /etc/color-file"); out != "blue" {
			t.Errorf("a file mounted by subPath changed: %s", out)
		}
	})
	t.Run("a ConfigMap that isn't there holds the pod up until it is", func(t *testing.T) {
		eventually(t, "FailedMount", func() error {
			if out := r.k(t, "get", "events", "--field-selector=involvedObject.name=waits,reason=FailedMount"); !strings.Contains(out, `configmap "later" not found`) {
				return errors.New(out)
			}
			return nil
		})
		r.k(t, "create", "configmap", "later", "--from-literal=a=b")
		r.ready(t, "waits")
	})
	t.Run("the pod's token opens the API", func(t *testing.T) {
		r.k(t, "create", "rolebinding", "reader", "--clusterrole=view", "--serviceaccount="+r.ns+":default")
		script := `D=/var/run/secrets/kubernetes.io/serviceaccount
			wget -q -O - --ca-certificate=$D/ca.crt --header="Authorization: Bearer $(cat $D/token)" https://$KUBERNETES_SERVICE_HOST/api/v1/namespaces/$(cat $D/namespace)/pods/v`
		eventually(t, "an answer", func() error {
			out, _, err := r.try("-n", r.ns, "exec", "token", "--", "sh", "-c", script)
			if err == nil && !strings.Contains(out, `"name":"v"`) {
				err = fmt.Errorf("answer: %.200s", out)
			}
			return err
		})
		own := r.sh(t, "token", `wget -q -O - --ca-certificate=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt --header="Authorization: Bearer $(cat /tokens/vault)" https://kubernetes.default/api/v1 2>&1 || true`)
		if strings.Contains(own, "APIResourceList") {
			t.Errorf("a token for another audience opened the API: %.200s", own)
		}
	})
}

const volumePods = `
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
kind: Pod
metadata: {name: v, labels: {which: one}}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: mem, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: host, hostPath: {path: DIR, type: Directory}}
  - {name: host-file, hostPath: {path: DIR/from-host, type: File}}
  - {name: secret, secret: {secretName: keys, defaultMode: 0400}}
  - {name: config, configMap: {name: settings, items: [{key: color, path: color}, {key: size, path: nested/size}]}}
  - name: info
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: cpu, resourceFieldRef: {containerName: one, resource: limits.cpu}}
  containers:
  - name: one
    image: hyperkube.local/demo
    resources: {limits: {cpu: "2"}, requests: {cpu: 10m}}
    env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: shared, mountPath: /shared-sub, subPathExpr: sub/$(POD)}
    - {name: mem, mountPath: /mem}
    - {name: host, mountPath: /host}
    - {name: host-file, mountPath: /host-file}
    - {name: secret, mountPath: /secret, readOnly: true}
    - {name: config, mountPath: /config}
    - {name: config, mountPath: /etc/color-file, subPath: color}
    - {name: info, mountPath: /info}
  - name: two
    image: hyperkube.local/demo
    command: [sleep, "3600"]
    volumeMounts: [{name: shared, mountPath: /also}]
---
apiVersion: v1
kind: Pod
metadata: {name: wrong}
spec:
  volumes: [{name: h, hostPath: {path: DIR/nothing, type: Directory}}]
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: h, mountPath: /h}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: waits}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: h, configMap: {name: later}}]
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: h, mountPath: /h}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: token}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: vault, audience: vault, expirationSeconds: 600}}]}}]
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: t, mountPath: /tokens}]}]
`
