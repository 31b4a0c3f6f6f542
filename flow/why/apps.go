package why

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// revisionAnnotation numbers the ReplicaSets of a Deployment.
const revisionAnnotation = "deployment.kubernetes.io/revision"

// workloadOf gathers what all workloads have in common.
func (r *reading) workloadOf(ctx context.Context, object metav1.Object, controller string, observed int64) *workload {
	r.common(ctx, object)
	return &workload{facts: &r.facts, controller: controller, seen: observed >= object.GetGeneration(), makerEvents: r.events}
}

// readPods reads the pods that the owners control, and explains the worst of them.
func (r *reading) readPods(ctx context.Context, w *workload, owners ...types.UID) {
	pods, err := r.client.CoreV1().Pods(r.namespace).List(ctx, metav1.ListOptions{})
	if r.failed("pods", err) {
		return
	}
	for _, pod := range pods.Items {
		if owner := metav1.GetControllerOf(&pod); owner != nil && slices.Contains(owners, owner.UID) {
			w.pods = append(w.pods, pod)
		}
	}
	worst := worstOf(w.pods)
	if worst == nil {
		return
	}
	inner := &reading{Gatherer: r.Gatherer, facts: facts{now: r.now, kind: "Pod", namespace: r.namespace, name: worst.Name}}
	w.worstName, w.worst = worst.Name, explainPod(inner.podFacts(ctx, worst))
	for _, unread := range inner.unread {
		if !slices.Contains(r.unread, unread) {
			r.unread = append(r.unread, unread)
		}
	}
}

func (r *reading) deployment(ctx context.Context) (*Explanation, error) {
	d, err := r.client.AppsV1().Deployments(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	w := r.workloadOf(ctx, d, "deployment-controller", d.Status.ObservedGeneration)
	w.desired, w.ready, w.updated = ptr.Deref(d.Spec.Replicas, 1), d.Status.ReadyReplicas, d.Status.UpdatedReplicas
	for _, c := range d.Status.Conditions {
		w.conditions = append(w.conditions, condition{string(c.Type), string(c.Status), c.Reason, c.Message})
	}
	var sets []appsv1.ReplicaSet
	all, err := r.client.AppsV1().ReplicaSets(r.namespace).List(ctx, metav1.ListOptions{})
	if !r.failed("ReplicaSets", err) {
		sets = slices.DeleteFunc(all.Items, func(s appsv1.ReplicaSet) bool { return !metav1.IsControlledBy(&s, d) })
	}
	slices.SortFunc(sets, func(a, b appsv1.ReplicaSet) int { return revisionOf(&b) - revisionOf(&a) })
	var owners []types.UID
	for i := range sets {
		owners = append(owners, sets[i].UID)
	}
	if len(sets) > 0 {
		w.makerEvents = r.eventsOf(ctx, "ReplicaSet", r.namespace, sets[0].Name, string(sets[0].UID))
	}
	r.readPods(ctx, w, owners...)
	return explainDeployment(w, d, sets), nil
}

func revisionOf(s *appsv1.ReplicaSet) int {
	n, err := strconv.Atoi(s.Annotations[revisionAnnotation])
	if err != nil {
		return 0
	}
	return n
}

// explainDeployment adds to what is true of any workload how far the rollout is, and what began it.
// sets are the Deployment's, newest first.
func explainDeployment(w *workload, d *appsv1.Deployment, sets []appsv1.ReplicaSet) *Explanation {
	e := &Explanation{State: fmt.Sprintf("%d of %d pods Ready, %d of the newest template, created %s", w.ready, w.desired, w.updated, ago(w.now, d.CreationTimestamp.Time))}
	if d.Spec.Paused {
		e.add(Finding{Weight: Trouble, Title: "Paused: changes of the pod template are not rolled out", Evidence: []string{"spec.paused was set " + orUnknown(w.whoChanged("spec", "paused"))}, Remedy: "kubectl rollout resume deploy/" + d.Name + namespaceFlag(w.namespace)})
	}
	for _, c := range w.conditions {
		if c.kind == "Progressing" && c.status == "False" {
			e.add(Finding{Weight: Trouble, Title: "The rollout has not progressed for " + fmt.Sprint(ptr.Deref(d.Spec.ProgressDeadlineSeconds, 600)) + "s: " + c.reason, Evidence: []string{oneLine(c.message, 200)},
				Remedy: "mend what the pods suffer from, or go back: kubectl rollout undo deploy/" + d.Name + namespaceFlag(w.namespace)})
		}
	}
	w.explainWorkload(e)
	var lines []string
	for i := range sets {
		s := &sets[i]
		if wanted := ptr.Deref(s.Spec.Replicas, 1); i == 0 || wanted > 0 || s.Status.Replicas > 0 {
			age := "newest"
			if i > 0 {
				age = "older"
			}
			lines = append(lines, fmt.Sprintf("%s (revision %d, %s): wants %d, has %d, %d Ready", s.Name, revisionOf(s), age, wanted, s.Status.Replicas, s.Status.ReadyReplicas))
		}
	}
	if len(sets) > 0 {
		e.add(Finding{Weight: Note, Title: "Its ReplicaSets", Evidence: lines})
	}
	if len(sets) > 1 {
		changes := templateChanges(&sets[1].Spec.Template, &sets[0].Spec.Template)
		finding := Finding{Weight: Note, Title: fmt.Sprintf("The last rollout (revision %d) began %s with a change of the template", revisionOf(&sets[0]), ago(w.now, sets[0].CreationTimestamp.Time)), Evidence: changes}
		if c := w.changed("spec.template"); c != nil {
			finding.Evidence = append(finding.Evidence, "by "+c.by()+", "+ago(w.now, c.time))
		}
		e.add(finding)
	}
	e.add(lastChanged(w.facts)...)
	return e
}

func (r *reading) replicaSet(ctx context.Context) (*Explanation, error) {
	s, err := r.client.AppsV1().ReplicaSets(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	w := r.workloadOf(ctx, s, "replicaset-controller", s.Status.ObservedGeneration)
	w.desired, w.ready = ptr.Deref(s.Spec.Replicas, 1), s.Status.ReadyReplicas
	for _, c := range s.Status.Conditions {
		w.conditions = append(w.conditions, condition{string(c.Type), string(c.Status), c.Reason, c.Message})
	}
	r.readPods(ctx, w, s.UID)
	state := ""
	if owner := metav1.GetControllerOf(s); owner != nil {
		state = fmt.Sprintf(", of %s %s", owner.Kind, owner.Name)
	}
	return w.explanation(state), nil
}

// explanation is that of a workload that has nothing special.
func (w *workload) explanation(more string) *Explanation {
	e := &Explanation{State: fmt.Sprintf("%d of %d pods Ready%s, created %s", w.ready, w.desired, more, ago(w.now, w.object.GetCreationTimestamp().Time))}
	w.explainWorkload(e)
	e.add(lastChanged(w.facts)...)
	return e
}

func (r *reading) statefulSet(ctx context.Context) (*Explanation, error) {
	s, err := r.client.AppsV1().StatefulSets(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	w := r.workloadOf(ctx, s, "statefulset-controller", s.Status.ObservedGeneration)
	w.desired, w.ready = ptr.Deref(s.Spec.Replicas, 1), s.Status.ReadyReplicas
	r.readPods(ctx, w, s.UID)
	e := w.explanation("")
	if w.worst != nil && s.Spec.PodManagementPolicy != appsv1.ParallelPodManagement && len(w.pods) < int(w.desired) {
		e.add(Finding{Weight: Waiting, Title: fmt.Sprintf("Pods are made in order: %s must be Ready before the next one is made", w.worstName), Remedy: "podManagementPolicy: Parallel does not wait (of a new StatefulSet)"})
	}
	return e, nil
}

func (r *reading) daemonSet(ctx context.Context) (*Explanation, error) {
	s, err := r.client.AppsV1().DaemonSets(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	w := r.workloadOf(ctx, s, "daemonset-controller", s.Status.ObservedGeneration)
	w.desired, w.ready = s.Status.DesiredNumberScheduled, s.Status.NumberReady
	r.readPods(ctx, w, s.UID)
	e := w.explanation("")
	nodes, err := r.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if !r.failed("nodes", err) {
		e.add(leftOut(s, nodes.Items)...)
	}
	return e, nil
}

// leftOut names the nodes on which a DaemonSet wants no pod, and why.
func leftOut(s *appsv1.DaemonSet, nodes []corev1.Node) []Finding {
	var lines []string
	for i := range nodes {
		node := &nodes[i]
		// The controller makes pods tolerate what a node is tainted with for its own state.
		pod := &corev1.Pod{Spec: s.Spec.Template.Spec}
		for _, taint := range node.Spec.Taints {
			if _, own := taintOwners[taint.Key]; own {
				pod.Spec.Tolerations = append(slices.Clone(pod.Spec.Tolerations), corev1.Toleration{Key: taint.Key, Operator: corev1.TolerationOpExists})
			}
		}
		for _, o := range slices.Concat(taints(pod, node), affinity(pod, node)) {
			lines = append(lines, node.Name+": "+o.reason)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return []Finding{{Weight: Note, Title: "Nodes that it leaves out", Evidence: lines}}
}

func (r *reading) job(ctx context.Context) (*Explanation, error) {
	j, err := r.client.BatchV1().Jobs(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	w := r.workloadOf(ctx, j, "job-controller", j.Generation) // a Job's status has no observedGeneration
	w.ready = ptr.Deref(j.Status.Ready, 0)
	w.desired = min(ptr.Deref(j.Spec.Parallelism, 1), max(1, ptr.Deref(j.Spec.Completions, 1)-j.Status.Succeeded))
	r.readPods(ctx, w, j.UID)
	return explainJob(w, j), nil
}

func explainJob(w *workload, j *batchv1.Job) *Explanation {
	e := &Explanation{State: fmt.Sprintf("%d active, %d succeeded of %d, %d failed, created %s", j.Status.Active, j.Status.Succeeded, ptr.Deref(j.Spec.Completions, 1), j.Status.Failed, ago(w.now, j.CreationTimestamp.Time))}
	done := false
	for _, c := range j.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobFailed, batchv1.JobFailureTarget:
			if done {
				continue
			}
			done = true
			e.add(Finding{Weight: Trouble, Title: fmt.Sprintf("Failed: %s: %s", c.Reason, oneLine(c.Message, 200)), Evidence: []string{ago(w.now, c.LastTransitionTime.Time)}, Remedy: "mend what the pods suffer from, then make the Job anew: a failed one is never tried again"})
		case batchv1.JobComplete:
			done = true
			e.add(Finding{Weight: Note, Title: "Complete, " + ago(w.now, c.LastTransitionTime.Time)})
		case batchv1.JobSuspended:
			e.add(Finding{Weight: Trouble, Title: "Suspended: it makes no pods", Evidence: []string{"spec.suspend was set " + orUnknown(w.whoChanged("spec", "suspend"))}, Remedy: "kubectl patch job " + j.Name + namespaceFlag(w.namespace) + ` -p '{"spec":{"suspend":false}}'`})
			w.desired = 0
		}
	}
	if done {
		w.desired = 0
	}
	w.explainWorkload(e)
	if limit := ptr.Deref(j.Spec.BackoffLimit, 6); !done && j.Status.Failed > 0 {
		e.add(Finding{Weight: Waiting, Title: fmt.Sprintf("%d of %d failures that it may have (backoffLimit)", j.Status.Failed, limit), Remedy: "each failure doubles the wait for the next pod, from 10s to 6m"})
	}
	e.add(lastChanged(w.facts)...)
	return e
}
