package why

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corenode "hyperkube/api/core/node"
	corepod "hyperkube/api/core/pod"
)

// nodeFacts are what is gathered of a node.
type nodeFacts struct {
	*facts
	node  *corev1.Node
	lease holder
	pods  []corev1.Pod
}

func (r *reading) node(ctx context.Context) (*Explanation, error) {
	node, err := r.client.CoreV1().Nodes().Get(ctx, r.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	r.common(ctx, node)
	f := &nodeFacts{facts: &r.facts, node: node}
	_, f.lease = r.nodeAndLease(ctx, r.name)
	f.pods = r.podsOnNodes(ctx, "spec.nodeName="+r.name)
	return explainNode(f), nil
}

// explainNode says what is the matter with a node, and what is on it:
//
//	Step 1: is it Ready, and does its kubelet live?
//	Step 2: which other conditions are bad?
//	Step 3: is it cordoned or tainted, by whom?
//	Step 4: what is requested of it, and by whom?
//	Step 5: who changed it?
func explainNode(f *nodeFacts) *Explanation {
	state := "not Ready"
	if corenode.IsNodeReady(f.node) {
		state = "Ready"
	}
	if f.node.Spec.Unschedulable {
		state += ", cordoned"
	}
	e := &Explanation{State: fmt.Sprintf("%s, kubelet %s, created %s", state, f.node.Status.NodeInfo.KubeletVersion, ago(f.now, f.node.CreationTimestamp.Time))}
	e.add(heldUp(f.facts, f.node.Finalizers)...)
	// Step 1: is it Ready, and does its kubelet live?
	e.add(f.readiness()...)
	// Step 2: which other conditions are bad?
	e.add(f.conditions()...)
	// Step 3: is it cordoned or tainted, by whom?
	e.add(f.cordon()...)
	// Step 4: what is requested of it, and by whom?
	e.add(f.load())
	// Step 5: who changed it?
	e.add(lastChanged(f.facts)...)
	return e
}

func (f *nodeFacts) readiness() []Finding {
	_, ready := corenode.GetNodeCondition(&f.node.Status, corev1.NodeReady)
	lease := "its kubelet has no Lease: it never ran"
	if !f.lease.renewed.IsZero() {
		lease = fmt.Sprintf("its kubelet renewed its Lease %s (it holds for %s)", ago(f.now, f.lease.renewed), f.lease.duration)
	}
	silent := !f.lease.alive(f.now)
	switch {
	case ready == nil:
		return []Finding{{Weight: Trouble, Title: "Not Ready: no kubelet has reported its state", Evidence: []string{lease}, Remedy: "start the kubelet on it"}}
	case ready.Status == corev1.ConditionUnknown:
		return []Finding{{Weight: Trouble, Title: fmt.Sprintf("Not Ready since %s: its kubelet is silent", span(f.now.Sub(ready.LastTransitionTime.Time))),
			Evidence: []string{ready.Reason + ": " + ready.Message + " (written by the node-lifecycle-controller)", lease, f.runs(manager)}, Remedy: "start the kubelet on it, or see why it cannot reach the apiserver: hyperkube start kubelet"}}
	case ready.Status == corev1.ConditionFalse:
		return []Finding{{Weight: Trouble, Title: fmt.Sprintf("Not Ready since %s: its kubelet says: %s", span(f.now.Sub(ready.LastTransitionTime.Time)), oneLine(ready.Message, 300)),
			Evidence: []string{ready.Reason + " (written by the kubelet)", lease}, Remedy: "what the message names: most often the container runtime or its network"}}
	case silent:
		return []Finding{{Weight: Trouble, Title: "Its kubelet is silent, and nobody has noticed yet", Evidence: []string{lease, "the node-lifecycle-controller says Unknown 40 s to 50 s after the last sign of life; " + f.runs(manager)}, Remedy: "start the kubelet on it: hyperkube start kubelet"}}
	}
	return nil
}

func (f *nodeFacts) conditions() (findings []Finding) {
	for _, c := range f.node.Status.Conditions {
		if c.Type != corev1.NodeReady && c.Status == corev1.ConditionTrue {
			findings = append(findings, Finding{Weight: Trouble, Title: fmt.Sprintf("%s since %s: %s", c.Type, span(f.now.Sub(c.LastTransitionTime.Time)), oneLine(c.Message, 200)), Evidence: []string{"reason " + c.Reason}})
		}
	}
	return findings
}

// taintOwners put well-known taints.
var taintOwners = map[string]string{
	corev1.TaintNodeNotReady:           "the node-lifecycle-controller, because the node is not Ready",
	corev1.TaintNodeUnreachable:        "the node-lifecycle-controller, because the kubelet is silent",
	corev1.TaintNodeUnschedulable:      "the node-lifecycle-controller, because the node is cordoned",
	corev1.TaintNodeMemoryPressure:     "the node-lifecycle-controller, because of the condition",
	corev1.TaintNodeDiskPressure:       "the node-lifecycle-controller, because of the condition",
	corev1.TaintNodePIDPressure:        "the node-lifecycle-controller, because of the condition",
	corev1.TaintNodeNetworkUnavailable: "the node-lifecycle-controller, because of the condition",
	corev1.TaintNodeOutOfService:       "an administrator, who knows that the machine is off",
}

func (f *nodeFacts) cordon() (findings []Finding) {
	if f.node.Spec.Unschedulable {
		findings = append(findings, Finding{Weight: Trouble, Title: "Cordoned: it gets no new pods", Evidence: []string{"spec.unschedulable was set " + orUnknown(f.whoChanged("spec", "unschedulable"))}, Remedy: "kubectl uncordon " + f.name})
	}
	for _, taint := range f.node.Spec.Taints {
		if taint.Key == corev1.TaintNodeUnschedulable && f.node.Spec.Unschedulable {
			continue
		}
		by := taintOwners[taint.Key]
		remedy := ""
		if by == "" {
			by, remedy = orUnknown(f.whoChanged("spec", "taints")), fmt.Sprintf("kubectl taint node %s %s:%s-", f.name, taint.Key, taint.Effect)
		} else {
			by = "by " + by
		}
		effect := map[corev1.TaintEffect]string{
			corev1.TaintEffectNoSchedule: "pods that do not tolerate it do not come", corev1.TaintEffectPreferNoSchedule: "pods that do not tolerate it come last",
			corev1.TaintEffectNoExecute: "pods that do not tolerate it are evicted",
		}[taint.Effect]
		findings = append(findings, Finding{Weight: Waiting, Title: fmt.Sprintf("Taint %s: %s", taint.ToString(), effect), Evidence: []string{"put " + by}, Remedy: remedy})
	}
	return findings
}

// load compares what is requested with what there is.
func (f *nodeFacts) load() Finding {
	placed := placedOn(f.name, f.pods)
	notReady := 0
	for _, pod := range placed {
		if !corepod.IsPodReady(pod) {
			notReady++
		}
	}
	finding := Finding{Weight: Note, Title: fmt.Sprintf("%s of %s, %d not Ready", plural(len(placed), "pod"), f.node.Status.Allocatable.Pods(), notReady)}
	used := requested(placed)
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		allocatable, taken := f.node.Status.Allocatable[name], used[name]
		share := 0.0
		if !allocatable.IsZero() {
			share = 100 * taken.AsApproximateFloat64() / allocatable.AsApproximateFloat64()
		}
		finding.Evidence = append(finding.Evidence, fmt.Sprintf("%s: %s of %s requested (%.0f %%)%s", name, taken.String(), allocatable.String(), share, biggest(placed, name, 3)))
	}
	slices.Sort(finding.Evidence)
	return finding
}
