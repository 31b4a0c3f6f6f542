package controllers

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// completions are what has been seen of a Job. A pod that has succeeded counts for ever, also when it is gone; so at each moment those
// that have and those that still may are no more than the Job wants, and of an Indexed one no two have the same index. That is exact:
// a pod can only succeed, fail or go, and none of these adds to the sum; only the controller does, and it counts before.
type completions struct {
	want int
	// succeeded are the pods that did, each with its index.
	succeeded map[types.UID]string
}

// completes says how many completions a Job will want.
func (w *world) completes(name string, want int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jobsSeen[name] = &completions{want: want, succeeded: map[types.UID]string{}}
}

// observeCompletions is called with the lock held, when w.pods has the pod as it is now.
func (w *world) observeCompletions(pod *corev1.Pod) {
	name := pod.Labels[modelLabel]
	job := w.jobsSeen[name]
	if job == nil {
		return
	}
	index := func(p *corev1.Pod) string { return p.Annotations[batchv1.JobCompletionIndexAnnotation] }
	if pod.Status.Phase == corev1.PodSucceeded {
		job.succeeded[pod.UID] = index(pod)
	}
	all, of := len(job.succeeded), map[string]int{}
	for _, i := range job.succeeded {
		of[i]++
	}
	for _, p := range w.pods {
		if p.Labels[modelLabel] == name && active(p) {
			all++
			of[index(p)]++
		}
	}
	if all > job.want {
		w.violations = append(w.violations, fmt.Sprintf("job %s has %d pods that succeeded or may at %s, wants %d", name, all, pod.ResourceVersion, job.want))
	}
	for i, n := range of {
		if i != "" && n > 1 {
			w.violations = append(w.violations, fmt.Sprintf("job %s has %d pods for index %s at %s", name, n, i, pod.ResourceVersion))
		}
	}
}

// observeDaemon holds that a node is the place of one active pod of the daemon at most. It is called with the lock held.
func (w *world) observeDaemon(pod *corev1.Pod) {
	if pod.Labels[modelLabel] != "daemon" {
		return
	}
	on := map[string]int{}
	for _, p := range w.pods {
		if p.Labels[modelLabel] == "daemon" && active(p) {
			on[daemonNode(p)]++
		}
	}
	for node, n := range on {
		if n > 1 {
			w.violations = append(w.violations, fmt.Sprintf("%s has %d pods of the daemon at %s", node, n, pod.ResourceVersion))
		}
	}
}

// daemonNode is the node that the controller has chosen for the pod, before the scheduler has.
func daemonNode(pod *corev1.Pod) string {
	return pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]
}
