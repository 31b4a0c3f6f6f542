package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStorage: persistent volumes end to end, by the class that every cluster has (R100).
func TestStorage(t *testing.T) {
	r := shared(t).room(t)
	kept := t.TempDir()
	r.create(t, strings.NewReplacer("DIR", kept, "NAME", "kept-"+r.ns).Replace(storageObjects))
	t.Cleanup(func() { _, _, _ = r.try("delete", "pv", "kept-"+r.ns, "--ignore-not-found") })

	t.Run("a claim waits for its first consumer", func(t *testing.T) {
		r.event(t, "lonely", "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
		if phase := r.field(t, "pvc/lonely", ".status.phase"); phase != "Pending" {
			t.Errorf("the claim is %s", phase)
		}
	})
	t.Run("a StatefulSet's data outlives its pods", func(t *testing.T) {
		r.k(t, "rollout", "status", "statefulset/db", "--timeout=90s")
		r.sh(t, "db-0", "echo zero > /data/name")
		r.sh(t, "db-1", "echo one > /data/name")
		uid := r.field(t, "pod/db-0", ".metadata.uid")
		r.k(t, "delete", "pod", "db-0", "db-1")
		eventually(t, "a new pod", func() error {
			if out, _, err := r.try("-n", r.ns, "get", "pod", "db-0", "-o", "jsonpath={.metadata.uid}"); err != nil || out == uid {
				return fmt.Errorf("pod %q, %v", out, err)
			}
			return nil
		})
		r.k(t, "rollout", "status", "statefulset/db", "--timeout=90s")
		if got := r.sh(t, "db-0", "cat /data/name") + r.sh(t, "db-1", "cat /data/name"); got != "zeroone" {
			t.Errorf("the pods find %q", got)
		}
	})
	t.Run("Delete removes the volume and its directory, once no pod has it", func(t *testing.T) {
		volume := r.field(t, "pvc/data-db-1", ".spec.volumeName")
		path := r.field(t, "pv/"+volume, ".spec.local.path")
		if data, err := os.ReadFile(filepath.Join(path, "name")); err != nil || string(data) != "one\n" {
			t.Errorf("on the node: %q, %v", data, err)
		}
		r.k(t, "delete", "pvc", "data-db-1", "--wait=false")
		holds(t, r.k(t, "get", "pvc", "data-db-1"), "Terminating") // db-1 runs
		r.k(t, "scale", "statefulset/db", "--replicas=1")
		r.becomesGone(t, "pv/"+volume)
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the directory is still there: %v", err)
		}
		holds(t, r.sh(t, "db-0", "cat /data/name"), "zero")
	})
	t.Run("a volume of a person's: bound by size and class, subPath, kept", func(t *testing.T) {
		r.ready(t, "writer")
		r.sh(t, "writer", "echo mine > /data/x")
		if data, err := os.ReadFile(filepath.Join(kept, "deep", "er", "x")); err != nil || string(data) != "mine\n" {
			t.Errorf("on the node: %q, %v", data, err)
		}
		r.k(t, "delete", "pod", "writer")
		r.k(t, "delete", "pvc", "static")
		r.becomes(t, "pv/kept-"+r.ns, ".status.phase", "Released")
		if _, err := os.Stat(filepath.Join(kept, "deep", "er", "x")); err != nil {
			t.Errorf("a retained volume lost its data: %v", err)
		}
	})
	t.Run("an ephemeral volume goes with its pod, and belongs to the fsGroup", func(t *testing.T) {
		r.ready(t, "scratch")
		holds(t, r.sh(t, "scratch", "touch /scratch/x && ls -l /scratch && id"), "x", "2000")
		volume := r.field(t, "pvc/scratch-v", ".spec.volumeName")
		r.k(t, "delete", "pod", "scratch")
		r.becomesGone(t, "pvc/scratch-v")
		r.becomesGone(t, "pv/"+volume)
	})
	t.Run("a claim that nobody can satisfy says so", func(t *testing.T) {
		r.event(t, "shared", "ProvisioningFailed", "access mode ReadWriteMany is not supported")
		r.event(t, "none", "FailedBinding", "no persistent volumes available for this claim and no storage class is set")
		r.event(t, "wants-shared", "FailedScheduling", `provisioning failed for PVC "shared"`)
		r.event(t, "wants-none", "FailedScheduling", "pod has unbound immediate PersistentVolumeClaims")
		holds(t, r.k(t, "describe", "pvc", "shared"), "ReadWriteMany is not supported", "Used By:       wants-shared")
		r.why(t, "pvc/none", "✗ Not bound: it names no class, there is no default one, and no volume fits")
		r.why(t, "pvc/shared", "Not bound", "access mode ReadWriteMany is not supported")
	})
	t.Run("a claim for one pod at a time", func(t *testing.T) {
		r.ready(t, "first")
		r.create(t, strings.ReplaceAll(onePod, "NAME", "second"))
		r.event(t, "second", "FailedScheduling", "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode")
		r.k(t, "delete", "pod", "first")
		r.ready(t, "second")
	})
}

// event waits for an Event about an object whose message holds a text.
func (r *room) event(t *testing.T, object, reason, text string) {
	t.Helper()
	eventually(t, reason+" of "+object, func() error {
		out := r.k(t, "get", "events", "--field-selector=involvedObject.name="+object+",reason="+reason, "-o", "jsonpath={.items[*].message}")
		if !strings.Contains(out, text) {
			return errors.New(out)
		}
		return nil
	})
}

const storageObjects = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: data, mountPath: /data}]}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: lonely}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: none}
spec: {storageClassName: "", accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: once}
spec: {accessModes: [ReadWriteOncePod], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: wants-shared}
spec:
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: shared}}]
---
apiVersion: v1
kind: Pod
metadata: {name: wants-none}
spec:
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: none}}]
---
apiVersion: v1
kind: Pod
metadata: {name: scratch}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 2000, runAsUser: 1000}
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: v, mountPath: /scratch}]}]
  volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: static}
spec: {storageClassName: by-hand, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: v, mountPath: /data, subPath: deep/er}]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: static}}]
---
apiVersion: v1
kind: Pod
metadata: {name: first}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: once}}]
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: NAME}
spec: {storageClassName: by-hand, capacity: {storage: 2Gi}, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Retain, hostPath: {path: DIR}}
`

// onePod wants the claim that one pod may have.
const onePod = `
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: once}}]
`
