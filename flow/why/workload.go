package why

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	corepod "hyperkube/api/core/pod"
)

// workload is what Deployments, ReplicaSets, StatefulSets, DaemonSets and Jobs have in common, for
// whoever asks why there are fewer pods than wanted.
type workload struct {
	*facts
	desired, ready, updated int32
	// seen says whether the controller has looked at the newest spec.
	seen       bool
	controller string
	conditions []condition
	// pods are the workload's own, worst is the explanation of the one that is worst off.
	pods      []corev1.Pod
	worst     *Explanation
	worstName string
	// makerEvents are those of whoever makes the pods: of a Deployment, its newest ReplicaSet.
	makerEvents []corev1.Event
}

// condition is one of any kind of workload.
type condition struct{ kind, status, reason, message string }

// explainWorkload says what keeps a workload from having its pods:
//
//	Step 1: who holds its deletion up?
//	Step 2: has its controller seen it?
//	Step 3: are its pods refused?
//	Step 4: what does it wait for: the worst pod says?
func (w *workload) explainWorkload(e *Explanation) {
	// Step 1: who holds its deletion up?
	e.add(heldUp(w.facts, w.object.GetFinalizers())...)
	// Step 2: has its controller seen it?
	if !w.seen {
		weight := Waiting
		if w.stopped(manager) {
			weight = Trouble
		}
		e.add(Finding{Weight: weight, Title: fmt.Sprintf("The %s has not looked at the newest spec (generation %d)", w.controller, w.object.GetGeneration()), Evidence: []string{w.runs(manager)}, Remedy: "hyperkube status: does the controller-manager run? or is it held: hyperkube step"})
	}
	// Step 3: are its pods refused?
	e.add(w.refusedPods()...)
	// Step 4: what does it wait for: the worst pod says?
	e.add(w.worstPod()...)
}

var quotaText = regexp.MustCompile(`exceeded quota: ([^,]+), requested: (\S+), used: (\S+), limited: (\S+)`)

// refusedPods explains pods that the apiserver did not let be created: quota, admission, RBAC.
func (w *workload) refusedPods() []Finding {
	if int(w.desired) <= len(w.pods) {
		return nil
	}
	message, evidence := "", []string(nil)
	if event := lastEvent(w.makerEvents, func(e *corev1.Event) bool { return e.Reason == "FailedCreate" }); event != nil {
		message, evidence = event.Message, []string{w.facts.seen(event)}
	}
	for _, c := range w.conditions {
		if c.kind == "ReplicaFailure" && c.status == "True" {
			message = c.message
			evidence = append(evidence, fmt.Sprintf("condition %s: %s", c.kind, c.reason))
		}
	}
	if message == "" {
		return nil
	}
	finding := Finding{Weight: Trouble, Evidence: evidence}
	short := plural(int(w.desired)-len(w.pods), "pod")
	if q := quotaText.FindStringSubmatch(message); q != nil {
		finding.Title = fmt.Sprintf("%s refused: quota %s is used up", short, q[1])
		finding.Evidence = append([]string{fmt.Sprintf("one more pod asks for %s; used are %s of %s", q[2], q[3], q[4])}, evidence...)
		finding.Remedy = fmt.Sprintf("delete something of namespace %s, or raise the quota: kubectl edit quota %s%s", w.namespace, q[1], namespaceFlag(w.namespace))
		return []Finding{finding}
	}
	finding.Title = fmt.Sprintf("%s refused: %s", short, oneLine(message, 300))
	switch {
	case strings.Contains(message, "violates PodSecurity"):
		finding.Remedy = "change the pod template's securityContext as the message says, or the namespace's label pod-security.kubernetes.io/enforce"
	case strings.Contains(message, "serviceaccount") && strings.Contains(message, "not found"):
		finding.Remedy = "create the ServiceAccount that the pod template names"
	case strings.Contains(message, "admission webhook"):
		finding.Remedy = "ask who runs that webhook: kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"
	default:
		finding.Remedy = "correct the pod template as the message says"
	}
	return []Finding{finding}
}

// worstPod passes on what the worst pod suffers from, in a line.
func (w *workload) worstPod() []Finding {
	var bad []string
	for i := range w.pods {
		if pod := &w.pods[i]; corepod.IsPodActive(pod) && !corepod.IsPodReady(pod) {
			bad = append(bad, pod.Name+" ("+shortReason(pod)+")")
		}
	}
	if w.worst == nil {
		return nil
	}
	finding := Finding{Weight: Waiting, Title: fmt.Sprintf("%d of %d pods Ready; not: %s", w.ready, w.desired, few(bad, 4)), Remedy: "hyperkube why pod/" + w.worstName + namespaceFlag(w.namespace)}
	if len(bad) == 0 {
		finding.Title = fmt.Sprintf("%d of %d pods Ready", w.ready, w.desired)
	}
	if worst := w.worst.worst(); worst != nil {
		finding.Weight = worst.Weight
		finding.Evidence = append([]string{fmt.Sprintf("pod %s: %s", w.worstName, worst.Title)}, worst.Evidence[:min(2, len(worst.Evidence))]...)
		if worst.Remedy != "" {
			first, _, _ := strings.Cut(worst.Remedy, "\n")
			finding.Remedy = first + "\n" + finding.Remedy
		}
	}
	return []Finding{finding}
}

// worstOf chooses the pod that needs explaining most; nil: all are well. How bad a state is: one
// that will not end by itself first.
func worstOf(pods []corev1.Pod) *corev1.Pod {
	badness := func(pod *corev1.Pod) int {
		reason := shortReason(pod)
		switch {
		case pod.Status.Phase == corev1.PodSucceeded || pod.DeletionTimestamp == nil && corepod.IsPodReady(pod):
			return 0
		case pod.DeletionTimestamp != nil:
			return 1
		case pod.Status.Phase == corev1.PodFailed:
			return 2
		case imageReasons[reason] || reason == "CrashLoopBackOff" || strings.HasPrefix(reason, "Create"):
			return 6
		case pod.Spec.NodeName == "":
			return 5
		case pod.Status.Phase == corev1.PodRunning:
			return 4
		}
		return 3
	}
	var worst *corev1.Pod
	for i := range pods {
		if b := badness(&pods[i]); b > 0 && (worst == nil || b > badness(worst)) {
			worst = &pods[i]
		}
	}
	return worst
}

// templateChanges says in which fields two pod templates differ: "containers[web].image: a → b".
func templateChanges(before, after *corev1.PodTemplateSpec) (lines []string) {
	old := map[string]corev1.Container{}
	for _, c := range before.Spec.Containers {
		old[c.Name] = c
	}
	for _, c := range after.Spec.Containers {
		was, ok := old[c.Name]
		delete(old, c.Name)
		if !ok {
			lines = append(lines, fmt.Sprintf("container %s is new", c.Name))
			continue
		}
		lines = append(lines, containerChanges(&was, &c)...)
	}
	for _, name := range sortedKeys(old) {
		lines = append(lines, fmt.Sprintf("container %s is gone", name))
	}
	for _, name := range union(before.Labels, after.Labels) {
		if name != "pod-template-hash" && before.Labels[name] != after.Labels[name] {
			lines = append(lines, fmt.Sprintf("label %s: %q → %q", name, before.Labels[name], after.Labels[name]))
		}
	}
	for _, name := range union(before.Annotations, after.Annotations) {
		if before.Annotations[name] != after.Annotations[name] {
			lines = append(lines, fmt.Sprintf("annotation %s: %q → %q", name, before.Annotations[name], after.Annotations[name]))
		}
	}
	return lines
}

func containerChanges(was, is *corev1.Container) (lines []string) {
	change := func(what, before, after string) {
		if before != after {
			lines = append(lines, fmt.Sprintf("container %s, %s: %s → %s", is.Name, what, before, after))
		}
	}
	change("image", was.Image, is.Image)
	change("command", strings.Join(was.Command, " "), strings.Join(is.Command, " "))
	change("args", strings.Join(was.Args, " "), strings.Join(is.Args, " "))
	change("requests", quantities(was.Resources.Requests), quantities(is.Resources.Requests))
	change("limits", quantities(was.Resources.Limits), quantities(is.Resources.Limits))
	change("readiness probe", probeOf(was.ReadinessProbe), probeOf(is.ReadinessProbe))
	change("liveness probe", probeOf(was.LivenessProbe), probeOf(is.LivenessProbe))
	if was, is := envNames(was), envNames(is); !slices.Equal(was, is) {
		lines = append(lines, "container "+"environment: "+few(was, 5)+" → "+few(is, 5))
	}
	return lines
}

// envNames are the names of the variables: their values may be secret.
func envNames(c *corev1.Container) (names []string) {
	for _, e := range c.Env {
		names = append(names, e.Name)
	}
	return names
}

func probeOf(p *corev1.Probe) string {
	if p == nil {
		return "none"
	}
	return probeText(p)
}

func quantities(list corev1.ResourceList) string {
	var words []string
	for _, name := range sortedKeys(list) {
		q := list[name]
		words = append(words, fmt.Sprintf("%s %s", name, q.String()))
	}
	return orNone(strings.Join(words, ", "))
}

func union(a, b map[string]string) []string {
	all := map[string]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return sortedKeys(all)
}
