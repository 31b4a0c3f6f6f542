package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestWorkloads: one of each kind that makes pods, with containers that run (S0-07 and its neighbours): what it makes,
// what happens when a pod goes, and that it takes all along when it is deleted.
func TestWorkloads(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, workloads)
	t.Run("ReplicationController: the number is kept", func(t *testing.T) {
		r.becomes(t, "rc/rc", ".status.readyReplicas", "2")
		first := strings.Fields(r.k(t, "get", "pods", "-l", "app=rc", "-o", "name"))[0]
		r.k(t, "delete", first, "--now")
		r.becomes(t, "rc/rc", ".status.readyReplicas", "2")
		r.k(t, "scale", "rc/rc", "--replicas=0")
		r.becomes(t, "rc/rc", ".status.replicas", "0")
	})
	t.Run("StatefulSet: names, order and the same name again", func(t *testing.T) {
		r.becomes(t, "sts/sts", ".status.readyReplicas", "2")
		holds(t, r.k(t, "get", "pods", "-l", "app=sts", "-o", "name"), "pod/sts-0", "pod/sts-1")
		before := r.field(t, "pod/sts-0", ".metadata.uid")
		r.k(t, "delete", "pod", "sts-0", "--now")
		eventually(t, "sts-0 comes again", func() error {
			if now := r.field(t, "sts/sts", ".status.readyReplicas") + " " + r.field(t, "pods", ".items[?(@.metadata.name==\"sts-0\")].metadata.uid"); !strings.HasPrefix(now, "2 ") || strings.Contains(now, before) {
				return fmt.Errorf("ready, uid of sts-0: %s", now)
			}
			return nil
		})
	})
	t.Run("DaemonSet: one a node, rolled over to a new template", func(t *testing.T) {
		r.becomes(t, "ds/ds", ".status.numberReady", "1")
		r.k(t, "set", "env", "ds/ds", "GENERATION=2")
		r.k(t, "rollout", "status", "ds/ds", "--timeout=60s")
		holds(t, r.k(t, "exec", "ds/ds", "--", "env"), "GENERATION=2")
		holds(t, r.k(t, "rollout", "history", "ds/ds"), "2 ")
	})
	t.Run("Job: indexed completions, and one that gives up", func(t *testing.T) {
		r.k(t, "wait", "job/job", "--for=condition=Complete", "--timeout=60s")
		var said []string
		for _, pod := range strings.Fields(r.k(t, "get", "pods", "-l", "job-name=job", "-o", "name")) {
			said = append(said, strings.TrimSpace(r.k(t, "logs", pod)))
		}
		holds(t, strings.Join(said, ","), "index 0", "index 1", "index 2")
		r.k(t, "wait", "job/hopeless", "--for=condition=Failed", "--timeout=60s")
		holds(t, r.field(t, "job/hopeless", ".status.conditions[?(@.type==\"Failed\")].reason"), "BackoffLimitExceeded")
	})
	t.Run("CronJob: a run by hand, owned by it", func(t *testing.T) {
		r.k(t, "create", "job", "byhand", "--from=cronjob/cron")
		r.k(t, "wait", "job/byhand", "--for=condition=Complete", "--timeout=60s")
		holds(t, r.field(t, "job/byhand", ".metadata.ownerReferences[0].kind"), "CronJob")
	})
	t.Run("deleted, they take their pods along", func(t *testing.T) {
		r.k(t, "delete", "rc/rc", "sts/sts", "ds/ds", "job/job", "job/hopeless", "cronjob/cron", "--wait=false")
		eventually(t, "all pods are gone", func() error {
			if left := r.k(t, "get", "pods", "-o", "name"); left != "" {
				return fmt.Errorf("left: %s", left)
			}
			return nil
		})
	})
}

const workloads = `
apiVersion: v1
kind: ReplicationController
metadata: {name: rc}
spec:
  replicas: 2
  selector: {app: rc}
  template:
    metadata: {labels: {app: rc}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: hyperkube.local/demo}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: sts}
spec:
  replicas: 2
  serviceName: sts
  selector: {matchLabels: {app: sts}}
  template:
    metadata: {labels: {app: sts}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: hyperkube.local/demo}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: ds}
spec:
  selector: {matchLabels: {app: ds}}
  template:
    metadata: {labels: {app: ds}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: hyperkube.local/demo}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: job}
spec:
  completions: 3
  parallelism: 2
  completionMode: Indexed
  template:
    spec: {restartPolicy: Never, containers: [{name: c, image: hyperkube.local/demo, command: [sh, -c, "echo index $JOB_COMPLETION_INDEX"]}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: hopeless}
spec:
  backoffLimit: 0
  template:
    spec: {restartPolicy: Never, containers: [{name: c, image: hyperkube.local/demo, command: ["false"]}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: cron}
spec:
  schedule: "0 0 1 1 *"
  jobTemplate:
    spec:
      template:
        spec: {restartPolicy: Never, containers: [{name: c, image: hyperkube.local/demo, command: ["true"]}]}
`
