package why

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	corepod "hyperkube/api/core/pod"
	"hyperkube/flow"
)

// podFacts are what is gathered of a pod.
type podFacts struct {
	*facts
	pod *corev1.Pod
	// attempt is the scheduler's last one; nil: the record does not have it.
	attempt *attempt
	// failing is since when a probe has failed without a break: "readiness probe of c".
	failing map[string]time.Time
	// nodes and placed (the pods that have a node) are read for a pod without a node.
	nodes  []corev1.Node
	placed []corev1.Pod
	// node is the pod's own, nil if it is gone; nodeLease says whether its kubelet lives.
	node      *corev1.Node
	nodeLease holder
	// claims are the volumes it asks for; a nil one does not exist.
	claims map[string]*corev1.PersistentVolumeClaim
	// missingSecrets are pull secrets that do not exist.
	missingSecrets []string
	// services select the pod.
	services []corev1.Service
}

func (r *reading) pod(ctx context.Context) (*Explanation, error) {
	pod, err := r.client.CoreV1().Pods(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return explainPod(r.podFacts(ctx, pod)), nil
}

// podFacts gathers what explainPod wants to know.
func (r *reading) podFacts(ctx context.Context, pod *corev1.Pod) *podFacts {
	r.common(ctx, pod)
	f := &podFacts{facts: &r.facts, pod: pod}
	r.readEffects(ctx, f)
	if pod.Spec.NodeName == "" {
		nodes, err := r.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if !r.failed("nodes", err) {
			f.nodes = nodes.Items
		}
		f.placed = r.podsOnNodes(ctx, "spec.nodeName!=")
	} else {
		f.node, f.nodeLease = r.nodeAndLease(ctx, pod.Spec.NodeName)
	}
	f.claims = r.claimsOf(ctx, pod)
	if trouble(pod) != "" {
		f.missingSecrets = r.missingPullSecrets(ctx, pod)
	}
	services, err := r.client.CoreV1().Services(pod.Namespace).List(ctx, metav1.ListOptions{})
	if !r.failed("services", err) {
		for _, s := range services.Items {
			if len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
				f.services = append(f.services, s)
			}
		}
	}
	return f
}

// trouble is the name of a container that cannot get its image; "": there is none.
func trouble(pod *corev1.Pod) string {
	for _, s := range containerStatuses(pod) {
		if s.State.Waiting != nil && imageReasons[s.State.Waiting.Reason] {
			return s.Name
		}
	}
	return ""
}

// readEffects asks the record for what components did for the pod: the scheduler's last attempt (of
// this pod, not of an earlier namesake), and the answers of probes, of which the kubelet reports
// those that differ from the one before.
func (r *reading) readEffects(ctx context.Context, f *podFacts) {
	var effects []flow.Effect
	if !r.recorded || !r.ask(ctx, "/debug/flow/effects", targetOf("", "Pod", f.namespace, f.name), &effects) {
		return
	}
	f.failing = map[string]time.Time{}
	for i := range effects {
		e := &effects[i]
		if e.What == flow.Scheduled {
			a := &attempt{}
			if len(e.Data) > 0 && json.Unmarshal(e.Data, a) == nil && a.UID == string(f.pod.UID) {
				f.attempt = a
			}
			continue
		}
		if strings.HasSuffix(e.What, " probe") && !e.Time.Before(f.pod.CreationTimestamp.Time) {
			container, _, _ := strings.Cut(e.Detail, ":")
			name := e.What + " of " + container
			delete(f.failing, name)
			if e.Error != "" {
				f.failing[name] = e.Time
			}
		}
	}
}

func (r *reading) podsOnNodes(ctx context.Context, selector string) []corev1.Pod {
	pods, err := r.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: selector})
	if r.failed("the pods on nodes", err) {
		return nil
	}
	return pods.Items
}

func (r *reading) nodeAndLease(ctx context.Context, name string) (node *corev1.Node, lease holder) {
	node, err := r.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if r.failed("node "+name, err) {
		node = nil
	}
	found, err := r.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, name, metav1.GetOptions{})
	if !r.failed("the Lease of node "+name, err) {
		lease = holderOf(found)
	}
	return node, lease
}

func (r *reading) claimsOf(ctx context.Context, pod *corev1.Pod) map[string]*corev1.PersistentVolumeClaim {
	claims := map[string]*corev1.PersistentVolumeClaim{}
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		name := v.PersistentVolumeClaim.ClaimName
		claim, err := r.client.CoreV1().PersistentVolumeClaims(pod.Namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			claims[name] = nil
		case !r.failed("claim "+name, err):
			claims[name] = claim
		}
	}
	return claims
}

// missingPullSecrets looks for the names of the pull secrets, not at what is in them.
func (r *reading) missingPullSecrets(ctx context.Context, pod *corev1.Pod) (missing []string) {
	secrets := r.metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}).Namespace(pod.Namespace)
	for _, s := range pod.Spec.ImagePullSecrets {
		if _, err := secrets.Get(ctx, s.Name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			missing = append(missing, s.Name)
		} else {
			r.failed("secret "+s.Name, err)
		}
	}
	return missing
}

// explainPod says why a pod is as it is:
//
//	Step 1: is it leaving, and who holds it?
//	Step 2: has it no node, and why?
//	Step 3: do its volumes keep it waiting?
//	Step 4: which containers do not run, or are not ready?
//	Step 5: which have been restarted, and what ended them?
//	Step 6: why is it where it is, which Services lead to it, who changed it?
func explainPod(f *podFacts) *Explanation {
	e := &Explanation{State: podState(f)}
	// Step 1: is it leaving, and who holds it?
	e.add(heldUp(f.facts, f.pod.Finalizers)...)
	e.add(podTerminating(f)...)
	// Step 2: has it no node, and why?
	e.add(pending(f)...)
	// Step 3: do its volumes keep it waiting?
	e.add(volumes(f)...)
	// Step 4: which containers do not run, or are not ready?
	e.add(ended(f)...)
	e.add(notReady(f)...)
	// Step 5: which have been restarted, and what ended them?
	e.add(restarted(f)...)
	// Step 6: why is it where it is, which Services lead to it, who changed it?
	e.add(placement(f)...)
	e.add(behind(f)...)
	e.add(lastChanged(f.facts)...)
	return e
}

func podState(f *podFacts) string {
	state := string(f.pod.Status.Phase)
	if f.pod.DeletionTimestamp != nil {
		state = "Terminating"
	}
	if f.pod.Status.Phase == corev1.PodRunning && !corepod.IsPodReady(f.pod) {
		state += ", not Ready"
	}
	where := "no node"
	if f.pod.Spec.NodeName != "" {
		where = "on " + f.pod.Spec.NodeName
	}
	if f.pod.Status.PodIP != "" {
		where += ", " + f.pod.Status.PodIP
	}
	return fmt.Sprintf("%s, %s, created %s", state, where, ago(f.now, f.pod.CreationTimestamp.Time))
}

// volumes explains what keeps a pod from its volumes.
func volumes(f *podFacts) (findings []Finding) {
	for _, name := range sortedKeys(f.claims) {
		claim := f.claims[name]
		switch {
		case claim == nil:
			findings = append(findings, Finding{Weight: Trouble, Title: "Volume: there is no PersistentVolumeClaim " + name, Remedy: "create it"})
		case claim.Status.Phase != corev1.ClaimBound:
			findings = append(findings, Finding{Weight: Trouble, Title: fmt.Sprintf("Volume: claim %s is %s, not Bound", name, claim.Status.Phase), Remedy: "hyperkube why pvc/" + name + namespaceFlag(f.namespace)})
		}
	}
	for _, reason := range []string{"FailedMount", "FailedAttachVolume"} {
		if event := lastEvent(f.events, func(e *corev1.Event) bool { return e.Reason == reason }); event != nil && waiting(f.pod) {
			findings = append(findings, Finding{Weight: Trouble, Title: "Volume: " + oneLine(event.Message, 250), Evidence: []string{f.seen(event)}})
		}
	}
	return findings
}

// waiting says whether any container has not begun to run.
func waiting(pod *corev1.Pod) bool {
	statuses := containerStatuses(pod)
	for _, s := range statuses {
		if s.State.Waiting != nil {
			return true
		}
	}
	return len(statuses) == 0 && pod.Status.Phase == corev1.PodPending
}

// seen says of an Event who reported it, when, and how often.
func (f *facts) seen(e *corev1.Event) string {
	who := e.ReportingController
	if who == "" {
		who = e.Source.Component
	}
	text := fmt.Sprintf("Event %s by %s, %s", e.Reason, who, ago(f.now, lastSeen(e)))
	if n := times(e); n > 1 {
		text += fmt.Sprintf(", %d times since %s", n, ago(f.now, e.FirstTimestamp.Time))
	}
	return text
}

func namespaceFlag(namespace string) string {
	if namespace == metav1.NamespaceDefault {
		return ""
	}
	return " -n " + namespace
}

// behind names the Services that lead to the pod.
func behind(f *podFacts) []Finding {
	if len(f.services) == 0 {
		return nil
	}
	finding := Finding{Weight: Note, Title: "Behind " + plural(len(f.services), "Service")}
	for _, s := range f.services {
		line := fmt.Sprintf("%s: %s", s.Name, addressText(&s))
		if !corepod.IsPodReady(f.pod) {
			line += "; no traffic comes, for it is not Ready"
			if s.Spec.PublishNotReadyAddresses {
				line = fmt.Sprintf("%s: %s", s.Name, addressText(&s))
			}
		}
		finding.Evidence = append(finding.Evidence, line+" (hyperkube why svc/"+s.Name+namespaceFlag(f.namespace)+")")
	}
	return []Finding{finding}
}
