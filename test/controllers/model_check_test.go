package controllers

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// activePods are the pods of a workload that have not ended and do not go, from the API.
func (m *model) activePods(name string) ([]corev1.Pod, error) {
	list, err := m.client.CoreV1().Pods("default").List(m.t.Context(), metav1.ListOptions{LabelSelector: modelLabel + "=" + name})
	if err != nil {
		return nil, err
	}
	var all []corev1.Pod
	for i := range list.Items {
		if active(&list.Items[i]) {
			all = append(all, list.Items[i])
		}
	}
	return all, nil
}

func (m *model) deploymentsStand() error {
	var errs []error
	list, err := m.client.AppsV1().Deployments("default").List(m.t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(list.Items) != len(m.deployments) {
		errs = append(errs, fmt.Errorf("%d deployments, want %d", len(list.Items), len(m.deployments)))
	}
	for _, d := range list.Items {
		want, s := m.deployments[d.Name], d.Status
		if s.ObservedGeneration != d.Generation || s.Replicas != want || s.UpdatedReplicas != want || s.ReadyReplicas != want || s.AvailableReplicas != want || s.UnavailableReplicas != 0 {
			errs = append(errs, fmt.Errorf("deployment %s, wanted %d: generation %d, %+v", d.Name, want, d.Generation, s))
		}
		pods, err := m.activePods(d.Name)
		if err != nil || len(pods) != int(want) {
			errs = append(errs, fmt.Errorf("deployment %s has %d pods, want %d: %v", d.Name, len(pods), want, err))
		}
		sets, err := m.client.AppsV1().ReplicaSets("default").List(m.t.Context(), metav1.ListOptions{LabelSelector: modelLabel + "=" + d.Name})
		if err != nil || len(sets.Items) > 3 {
			errs = append(errs, fmt.Errorf("deployment %s keeps %d replica sets, want one and two old ones at most: %v", d.Name, len(sets.Items), err))
		}
		inUse := 0
		for _, rs := range sets.Items {
			if ptr.Deref(rs.Spec.Replicas, 0) > 0 {
				inUse++
			}
		}
		if inUse > 1 {
			errs = append(errs, fmt.Errorf("deployment %s: %d replica sets with pods", d.Name, inUse))
		}
	}
	return errors.Join(errs...)
}

func (m *model) statefulSetsStand() error {
	var errs []error
	list, err := m.client.AppsV1().StatefulSets("default").List(m.t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(list.Items) != len(m.statefulSets) {
		errs = append(errs, fmt.Errorf("%d stateful sets, want %d", len(list.Items), len(m.statefulSets)))
	}
	for _, set := range list.Items {
		want, s := m.statefulSets[set.Name], set.Status
		if s.ObservedGeneration != set.Generation || s.Replicas != want || s.ReadyReplicas != want || s.UpdatedReplicas != want && want > 0 || s.CurrentRevision != s.UpdateRevision {
			errs = append(errs, fmt.Errorf("stateful set %s, wanted %d: generation %d, %+v", set.Name, want, set.Generation, s))
		}
		pods, err := m.activePods(set.Name)
		if err != nil {
			return err
		}
		names := map[string]bool{}
		for _, pod := range pods {
			names[pod.Name] = ready(&pod) && pod.Labels["controller-revision-hash"] == s.UpdateRevision
		}
		for i := range want {
			if !names[fmt.Sprint(set.Name, "-", i)] {
				errs = append(errs, fmt.Errorf("stateful set %s: no ready pod %d of the newest revision in %v", set.Name, i, names))
			}
		}
		if len(pods) != int(want) {
			errs = append(errs, fmt.Errorf("stateful set %s has %d pods, want %d", set.Name, len(pods), want))
		}
	}
	return errors.Join(errs...)
}

func (m *model) daemonStands() error {
	set, err := m.client.AppsV1().DaemonSets("default").Get(m.t.Context(), "daemon", metav1.GetOptions{})
	if err != nil {
		return err
	}
	pods, err := m.activePods("daemon")
	if err != nil {
		return err
	}
	on := map[string]bool{}
	for _, pod := range pods {
		on[pod.Spec.NodeName] = ready(&pod)
	}
	n, s := len(m.nodes), set.Status
	if len(pods) != n || len(on) != n || s.ObservedGeneration != set.Generation || int(s.NumberReady) != n || int(s.UpdatedNumberScheduled) != n {
		return fmt.Errorf("daemon set: pods ready on %v; generation %d, %+v; want one on each of %d nodes", on, set.Generation, s, n)
	}
	return nil
}

// jobsDone: each has as many successes as it wanted, no more, and no pod is still held.
func (m *model) jobsDone() error {
	var errs []error
	list, err := m.client.BatchV1().Jobs("default").List(m.t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(list.Items) != len(m.jobs) {
		errs = append(errs, fmt.Errorf("%d jobs, want %d", len(list.Items), len(m.jobs)))
	}
	for _, job := range list.Items {
		if want := 2 * m.jobs[job.Name]; job.Status.Succeeded != want || job.Status.Active != 0 || job.Status.CompletionTime == nil {
			errs = append(errs, fmt.Errorf("job %s, wanted %d: %+v", job.Name, want, job.Status))
		}
		if u := job.Status.UncountedTerminatedPods; u != nil && len(u.Succeeded)+len(u.Failed) > 0 {
			errs = append(errs, fmt.Errorf("job %s: uncounted %+v", job.Name, *u))
		}
	}
	return errors.Join(errs...)
}

// noOrphans: each pod and ReplicaSet has an owner that is there, and no finalizer holds a pod.
func (m *model) noOrphans() error {
	owners := map[types.UID]bool{}
	apps, batch := m.client.AppsV1(), m.client.BatchV1()
	deployments, err1 := apps.Deployments("default").List(m.t.Context(), metav1.ListOptions{})
	sets, err2 := apps.ReplicaSets("default").List(m.t.Context(), metav1.ListOptions{})
	stateful, err3 := apps.StatefulSets("default").List(m.t.Context(), metav1.ListOptions{})
	daemons, err4 := apps.DaemonSets("default").List(m.t.Context(), metav1.ListOptions{})
	jobs, err5 := batch.Jobs("default").List(m.t.Context(), metav1.ListOptions{})
	pods, err6 := m.client.CoreV1().Pods("default").List(m.t.Context(), metav1.ListOptions{})
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return err
	}
	var errs []error
	orphan := func(kind string, o metav1.Object) {
		if ref := metav1.GetControllerOf(o); ref == nil || !owners[ref.UID] {
			errs = append(errs, fmt.Errorf("%s %s is an orphan: %v", kind, o.GetName(), o.GetOwnerReferences()))
		}
	}
	for i := range deployments.Items {
		owners[deployments.Items[i].UID] = true
	}
	for i := range sets.Items {
		orphan("replica set", &sets.Items[i])
		owners[sets.Items[i].UID] = true
	}
	for i := range stateful.Items {
		owners[stateful.Items[i].UID] = true
	}
	for i := range daemons.Items {
		owners[daemons.Items[i].UID] = true
	}
	for i := range jobs.Items {
		owners[jobs.Items[i].UID] = true
	}
	for i := range pods.Items {
		orphan("pod", &pods.Items[i])
		if f := pods.Items[i].Finalizers; len(f) > 0 {
			errs = append(errs, fmt.Errorf("pod %s has finalizers %v", pods.Items[i].Name, f))
		}
	}
	return errors.Join(errs...)
}
