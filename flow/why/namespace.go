package why

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corepod "hyperkube/api/core/pod"
)

// namespaceFacts are what is gathered of a namespace.
type namespaceFacts struct {
	*facts
	object *corev1.Namespace
	quotas []corev1.ResourceQuota
	pods   []corev1.Pod
}

func (r *reading) namespaceObject(ctx context.Context) (*Explanation, error) {
	object, err := r.client.CoreV1().Namespaces().Get(ctx, r.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	r.common(ctx, object)
	f := &namespaceFacts{facts: &r.facts, object: object}
	quotas, err := r.client.CoreV1().ResourceQuotas(r.name).List(ctx, metav1.ListOptions{})
	if !r.failed("quotas", err) {
		f.quotas = quotas.Items
	}
	pods, err := r.client.CoreV1().Pods(r.name).List(ctx, metav1.ListOptions{})
	if !r.failed("pods", err) {
		f.pods = pods.Items
	}
	return explainNamespace(f), nil
}

// explainNamespace says what keeps a namespace that is deleted, and which quotas are used up.
func explainNamespace(f *namespaceFacts) *Explanation {
	e := &Explanation{State: fmt.Sprintf("%s, %s, created %s", f.object.Status.Phase, plural(len(f.pods), "pod"), ago(f.now, f.object.CreationTimestamp.Time))}
	var names []string
	for _, finalizer := range f.object.Spec.Finalizers {
		names = append(names, string(finalizer))
	}
	held := heldUp(f.facts, append(names, f.object.Finalizers...))
	if len(held) > 0 {
		held[0].Evidence = append(held[0].Evidence, f.remains()...)
	}
	e.add(held...)
	for _, q := range f.quotas {
		var lines []string
		full := false
		for _, name := range sortedKeys(q.Status.Hard) {
			hard, used := q.Status.Hard[name], q.Status.Used[name]
			full = full || used.Cmp(hard) >= 0
			lines = append(lines, fmt.Sprintf("%s: %s of %s", name, used.String(), hard.String()))
		}
		finding := Finding{Weight: Note, Title: "Quota " + q.Name, Evidence: lines}
		if full {
			finding.Weight, finding.Title, finding.Remedy = Trouble, "Quota "+q.Name+" is used up: more is refused", "delete something, or raise the quota: kubectl edit quota "+q.Name+" -n "+f.name
		}
		e.add(finding)
	}
	bad := 0
	for i := range f.pods {
		if !corepod.IsPodReady(&f.pods[i]) && !corepod.IsPodTerminal(&f.pods[i]) {
			bad++
			if bad <= 5 && f.object.DeletionTimestamp == nil {
				e.add(Finding{Weight: Waiting, Title: "Pod " + f.pods[i].Name + ": " + shortReason(&f.pods[i]), Remedy: "hyperkube why pod/" + f.pods[i].Name + " -n " + f.name})
			}
		}
	}
	e.add(lastChanged(f.facts)...)
	return e
}

// remains is what the namespace controller says is left, and what is seen of it here.
func (f *namespaceFacts) remains() (lines []string) {
	for _, c := range f.object.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			lines = append(lines, fmt.Sprintf("%s: %s", c.Type, oneLine(c.Message, 300)))
		}
	}
	var pods []string
	for i := range f.pods {
		text := f.pods[i].Name
		if len(f.pods[i].Finalizers) > 0 {
			text += " (finalizer " + strings.Join(f.pods[i].Finalizers, ", ") + ")"
		}
		pods = append(pods, text)
	}
	if len(pods) > 0 {
		lines = append(lines, "pods that are left: "+few(pods, 5))
	}
	return lines
}

// shortReason is a pod's state in one word or two, as kubectl's STATUS column has it.
func shortReason(pod *corev1.Pod) string {
	for _, s := range containerStatuses(pod) {
		if s.State.Waiting != nil && s.State.Waiting.Reason != "" && s.State.Waiting.Reason != "PodInitializing" {
			return s.State.Waiting.Reason
		}
	}
	switch {
	case pod.DeletionTimestamp != nil:
		return "Terminating"
	case pod.Spec.NodeName == "":
		return "Pending, no node"
	case pod.Status.Phase == corev1.PodRunning:
		return "Running, not Ready"
	}
	return string(pod.Status.Phase)
}
