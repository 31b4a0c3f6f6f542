package why

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	corepod "hyperkube/api/core/pod"
)

// Step is one rule on a packet's way, and where it leads, as a proxy tells it (its JSON;
// proxy/iptables/explain.go).
type Step struct {
	IPv6        bool    `json:"ipv6"`
	Chain       string  `json:"chain"`
	Rule        string  `json:"rule"`
	Target      string  `json:"target"`
	Probability float64 `json:"probability"`
	// Share is the part of all new connections that take this step, from 0 to 1.
	Share       float64 `json:"share"`
	Destination string  `json:"destination,omitempty"`
	Next        []Step  `json:"next,omitempty"`
}

// serviceFacts are what is gathered of a Service.
type serviceFacts struct {
	*facts
	service *corev1.Service
	slices  []discoveryv1.EndpointSlice
	// pods are all of the namespace.
	pods []corev1.Pod
	// ways are the rules in the kernel of this machine; rulesRead is false when they could not be read.
	ways      []Step
	rulesRead bool
}

func (r *reading) service(ctx context.Context) (*Explanation, error) {
	service, err := r.client.CoreV1().Services(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	r.common(ctx, service)
	f := &serviceFacts{facts: &r.facts, service: service}
	found, err := r.client.DiscoveryV1().EndpointSlices(r.namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + r.name})
	if !r.failed("EndpointSlices", err) {
		f.slices = found.Items
	}
	pods, err := r.client.CoreV1().Pods(r.namespace).List(ctx, metav1.ListOptions{})
	if !r.failed("pods", err) {
		f.pods = pods.Items
	}
	r.readRules(ctx, f)
	return explainService(f), nil
}

func (r *reading) readRules(ctx context.Context, f *serviceFacts) {
	switch {
	case f.service.Spec.Type == corev1.ServiceTypeExternalName || f.service.Spec.ClusterIP == corev1.ClusterIPNone:
		return // it has no rules
	case r.rules == nil:
		r.unread = append(r.unread, "the proxy's rules: only who may open the data directory, on the node, can ask the proxy for them")
	default:
		ways, err := r.rules(ctx, r.namespace, r.name)
		f.ways, f.rulesRead = ways, !r.failed("the proxy's rules", err)
	}
}

// explainService says what is behind a Service, or why nothing is:
//
//	Step 1: who holds its deletion up?
//	Step 2: which pods does it select, which of them get traffic, and why not the others?
//	Step 3: how does a packet come to them: address, rules, name?
//	Step 4: who changed it?
func explainService(f *serviceFacts) *Explanation {
	s := f.service
	e := &Explanation{State: fmt.Sprintf("%s %s, created %s", s.Spec.Type, addressText(s), ago(f.now, s.CreationTimestamp.Time))}
	// Step 1: who holds its deletion up?
	e.add(heldUp(f.facts, s.Finalizers)...)
	// Step 2: which pods does it select, which of them get traffic, and why not the others?
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		e.add(Finding{Weight: Note, Title: fmt.Sprintf("Its DNS name is an alias of %s: no pods, no rules", s.Spec.ExternalName)})
	case len(s.Spec.Selector) == 0:
		e.add(f.withoutSelector())
	default:
		e.add(f.selected()...)
	}
	// Step 3: how does a packet come to them: address, rules, name?
	e.add(f.rulesOf()...)
	e.add(f.waysIn()...)
	// Step 4: who changed it?
	e.add(lastChanged(f.facts)...)
	return e
}

// addressText is where a Service is reached: "10.96.0.9, 80→8080/TCP".
func addressText(s *corev1.Service) string {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return s.Spec.ExternalName
	}
	var ports []string
	for _, p := range s.Spec.Ports {
		text := fmt.Sprintf("%d→%s/%s", p.Port, p.TargetPort.String(), p.Protocol)
		if p.NodePort != 0 {
			text += fmt.Sprintf(" (NodePort %d)", p.NodePort)
		}
		ports = append(ports, text)
	}
	address := clusterIPs(s)
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		address = "headless"
	}
	return address + ", " + strings.Join(ports, " ")
}

// clusterIPs are its addresses, one a family.
func clusterIPs(s *corev1.Service) string {
	if len(s.Spec.ClusterIPs) > 1 {
		return strings.Join(s.Spec.ClusterIPs, " and ")
	}
	return s.Spec.ClusterIP
}

// endpoint is one address of the slices.
type endpoint struct {
	addresses []string
	pod, node string
	ready     bool
	why       string
}

func (f *serviceFacts) endpoints() (found []endpoint) {
	for i := range f.slices {
		for _, e := range f.slices[i].Endpoints {
			one := endpoint{ready: ptr.Deref(e.Conditions.Ready, true), node: ptr.Deref(e.NodeName, "")}
			if e.TargetRef != nil {
				one.pod = e.TargetRef.Name
			}
			for _, p := range f.slices[i].Ports {
				for _, a := range e.Addresses {
					one.addresses = append(one.addresses, net.JoinHostPort(a, strconv.Itoa(int(ptr.Deref(p.Port, 0)))))
				}
			}
			if ptr.Deref(e.Conditions.Terminating, false) {
				one.why = "Terminating"
			}
			found = append(found, one)
		}
	}
	return found
}

func (f *serviceFacts) withoutSelector() Finding {
	var lines []string
	for _, e := range f.endpoints() {
		lines = append(lines, strings.Join(e.addresses, " "))
	}
	if len(lines) == 0 {
		return Finding{Weight: Trouble, Title: "No endpoints: it has no selector, and nobody has made an EndpointSlice for it", Remedy: "add spec.selector, or an EndpointSlice with the label " + discoveryv1.LabelServiceName + "=" + f.name}
	}
	return Finding{Weight: Note, Title: fmt.Sprintf("%s, written by hand: it has no selector", plural(len(lines), "endpoint")), Evidence: lines}
}

// selected tells of the pods that the selector matches, and of those that get no traffic, why.
func (f *serviceFacts) selected() []Finding {
	selector := labels.SelectorFromSet(f.service.Spec.Selector)
	var ready, idle []string
	for i := range f.pods {
		pod := &f.pods[i]
		if !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		if reason := f.noTraffic(pod); reason != "" {
			idle = append(idle, pod.Name+": "+reason)
		} else {
			ready = append(ready, pod.Name)
		}
	}
	if len(ready)+len(idle) == 0 {
		return []Finding{f.noMatch()}
	}
	var findings []Finding
	reached := 0
	for _, e := range f.endpoints() {
		if e.ready && len(e.addresses) > 0 {
			reached++
		}
	}
	if reached == 0 {
		finding := Finding{Weight: Trouble, Title: fmt.Sprintf("No endpoints: %s match the selector, and none gets traffic", plural(len(ready)+len(idle), "pod")), Evidence: idle}
		if len(ready) > 0 {
			finding.Evidence = append(finding.Evidence, few(ready, 5)+" could: the EndpointSlices do not have them (yet)", f.runs(manager))
		}
		if len(idle) > 0 {
			name, _, _ := strings.Cut(idle[0], ":")
			finding.Remedy = "hyperkube why pod/" + name + namespaceFlag(f.namespace)
		}
		return []Finding{finding}
	}
	if len(idle) > 0 {
		findings = append(findings, Finding{Weight: Waiting, Title: fmt.Sprintf("%s of %d get no traffic", plural(len(idle), "pod"), len(ready)+len(idle)), Evidence: idle})
	}
	return append(findings, f.portTrouble()...)
}

// noTraffic says why a pod that is selected gets no traffic; "" if it does.
func (f *serviceFacts) noTraffic(pod *corev1.Pod) string {
	switch {
	case corepod.IsPodTerminal(pod):
		return string(pod.Status.Phase)
	case pod.DeletionTimestamp != nil:
		return "Terminating"
	case pod.Status.PodIP == "":
		return "has no IP yet (" + string(pod.Status.Phase) + ")"
	case !corepod.IsPodReady(pod) && !f.service.Spec.PublishNotReadyAddresses:
		return "not Ready" + readyMessage(pod)
	}
	for i := range f.service.Spec.Ports {
		if port := &f.service.Spec.Ports[i]; !hasPort(pod, port) {
			return fmt.Sprintf("has no port named %s, the targetPort of %d; its ports: %s", port.TargetPort.StrVal, port.Port, few(portNames(pod), 5))
		}
	}
	return ""
}

func readyMessage(pod *corev1.Pod) string {
	if c := corepod.GetPodReadyCondition(pod.Status); c != nil && c.Message != "" {
		return ": " + oneLine(c.Message, 120)
	}
	return ""
}

func hasPort(pod *corev1.Pod, port *corev1.ServicePort) bool {
	_, found := corepod.FindPort(pod, port)
	return found
}

func portNames(pod *corev1.Pod) (names []string) {
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == "" {
				names = append(names, fmt.Sprintf("%d (no name)", p.ContainerPort))
			} else {
				names = append(names, fmt.Sprintf("%s=%d", p.Name, p.ContainerPort))
			}
		}
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	return names
}

// portTrouble looks for a numeric targetPort that no container names: legal, and often a mistake.
func (f *serviceFacts) portTrouble() (findings []Finding) {
	selector := labels.SelectorFromSet(f.service.Spec.Selector)
	for _, port := range f.service.Spec.Ports {
		for i := range f.pods {
			pod := &f.pods[i]
			number := port.TargetPort.IntVal
			if number == 0 || !selector.Matches(labels.Set(pod.Labels)) || slices.Equal(portNames(pod), []string{"none"}) {
				continue
			}
			declared := slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
				return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.ContainerPort == number })
			})
			if !declared {
				findings = append(findings, Finding{Weight: Note, Title: fmt.Sprintf("targetPort %d is no port that pod %s declares (%s): if nothing listens there, connections are refused", number, pod.Name, few(portNames(pod), 5))})
				break
			}
		}
	}
	return findings
}

// noMatch explains a selector that no pod matches, by the pod that comes nearest.
func (f *serviceFacts) noMatch() Finding {
	selector := f.service.Spec.Selector
	finding := Finding{Weight: Trouble, Title: fmt.Sprintf("No endpoints: no pod in %s has the labels of its selector, %s", f.namespace, labels.FormatLabels(selector))}
	if len(f.pods) == 0 {
		finding.Evidence, finding.Remedy = []string{"there are no pods in the namespace"}, "create the pods, or look in another namespace: a Service reaches its own only"
		return finding
	}
	var nearest *corev1.Pod
	best := 2 * len(selector) // who shares no key is no near miss
	for i := range f.pods {
		if n := distance(selector, &f.pods[i]); n < best {
			nearest, best = &f.pods[i], n
		}
	}
	if nearest == nil {
		// Perhaps the key is another one: "run=web" instead of "app=web".
		for i := range f.pods {
			for _, name := range sortedKeys(f.pods[i].Labels) {
				for _, want := range sortedKeys(selector) {
					if nearest == nil && f.pods[i].Labels[name] == selector[want] {
						nearest = &f.pods[i]
						finding.Evidence = append(finding.Evidence, fmt.Sprintf("pod %s has %s=%s, not %s=%s: the key differs", nearest.Name, name, selector[want], want, selector[want]))
					}
				}
			}
		}
	} else {
		finding.Evidence = append(finding.Evidence, fmt.Sprintf("nearest is pod %s: %s", nearest.Name, strings.Join(mismatches(selector, nearest), "; ")))
	}
	if nearest == nil {
		finding.Evidence, finding.Remedy = []string{plural(len(f.pods), "pod") + " in the namespace, none with any of these labels"}, "kubectl get pods --show-labels"+namespaceFlag(f.namespace)
		return finding
	}
	finding.Remedy = fmt.Sprintf("make spec.selector of the Service match the pod template's labels: %s", labels.FormatLabels(nearest.Labels))
	return finding
}

// distance is how far a pod is from a selector: a label with another value is nearer than none.
func distance(selector map[string]string, pod *corev1.Pod) (n int) {
	for name, want := range selector {
		has, ok := pod.Labels[name]
		switch {
		case !ok:
			n += 2
		case has != want:
			n++
		}
	}
	return n
}

// mismatches are the labels of a selector that a pod does not have so.
func mismatches(selector map[string]string, pod *corev1.Pod) (found []string) {
	for _, name := range sortedKeys(selector) {
		has, ok := pod.Labels[name]
		switch {
		case !ok:
			found = append(found, fmt.Sprintf("it has no label %s (wanted: %s)", name, selector[name]))
		case has != selector[name]:
			found = append(found, fmt.Sprintf("its label %s is %s, not %s", name, has, selector[name]))
		}
	}
	return found
}

// rulesOf tells the way of a packet, from the rules in the kernel to the pods.
func (f *serviceFacts) rulesOf() []Finding {
	if !f.rulesRead {
		return nil
	}
	reached := slices.ContainsFunc(f.endpoints(), func(e endpoint) bool { return e.ready && len(e.addresses) > 0 })
	if len(f.ways) == 0 && !reached {
		return []Finding{{Weight: Note, Title: "The kernel has no rule that leads anywhere: connections to it are refused (REJECT)"}}
	}
	if len(f.ways) == 0 {
		return []Finding{{Weight: Trouble, Title: "The kernel has no rule for it", Evidence: []string{"iptables-save -t nat was read on this node"}, Remedy: "hyperkube status: does the proxy run?"}}
	}
	behind := map[string]string{}
	for _, e := range f.endpoints() {
		for _, a := range e.addresses {
			behind[a] = e.pod
		}
	}
	finding := Finding{Weight: Note, Title: "The way of a packet, in the rules of this node's kernel"}
	shown := map[bool]map[string]bool{false: {}, true: {}} // a family's chains are its own, whatever their names
	for _, way := range f.ways {
		finding.Evidence = append(finding.Evidence, wayLines(way, behind, shown[way.IPv6], 0)...)
	}
	return []Finding{finding}
}

// wayLines tells one way; behind names the pods of addresses. A chain that has been shown is only named.
func wayLines(s Step, behind map[string]string, shown map[string]bool, depth int) []string {
	indent := strings.Repeat("  ", depth)
	if s.Destination != "" {
		pod := behind[s.Destination]
		if pod == "" {
			pod = "no endpoint of the slices"
		}
		return []string{fmt.Sprintf("%s%s: DNAT to %s (%s), %.0f %% of all", indent, s.Chain, s.Destination, pod, s.Share*100)}
	}
	line := fmt.Sprintf("%s%s → %s", indent, s.Chain, s.Target)
	switch {
	case s.Probability < 1:
		line = fmt.Sprintf("%s%s: with probability %.3f → %s", indent, s.Chain, s.Probability, s.Target)
	case strings.Contains(s.Rule, "-m recent"):
		return []string{fmt.Sprintf("%s%s: who came before (session affinity) → %s", indent, s.Chain, s.Target)}
	case depth == 0:
		line = fmt.Sprintf("%s: %s → %s", s.Chain, matchText(s), s.Target)
	}
	if shown[s.Target] {
		return []string{line + ", as above"}
	}
	shown[s.Target] = true
	lines := []string{line}
	for _, next := range s.Next {
		lines = append(lines, wayLines(next, behind, shown, depth+1)...)
	}
	return lines
}

// matchText says which packets the first rule of a way is about: "TCP to 10.96.0.9 port 80".
func matchText(s Step) string {
	words := strings.Fields(s.Rule)
	after := func(flag string) string {
		if i := slices.Index(words, flag); i >= 0 && i+1 < len(words) {
			return strings.TrimSuffix(strings.TrimSuffix(words[i+1], "/32"), "/128")
		}
		return ""
	}
	to := after("-d")
	if to == "" {
		to = "this node"
		if s.IPv6 {
			to += " by IPv6"
		}
	}
	return fmt.Sprintf("%s to %s port %s", after("-p"), to, after("--dport"))
}

// waysIn tells the other ways in: DNS, NodePort, load balancer.
func (f *serviceFacts) waysIn() []Finding {
	s := f.service
	var lines []string
	name := fmt.Sprintf("DNS: %s.%s.svc.cluster.local", s.Name, s.Namespace)
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		name += " (headless: the addresses of its ready pods)"
	} else if s.Spec.Type != corev1.ServiceTypeExternalName {
		name += " → " + clusterIPs(s)
	}
	lines = append(lines, name)
	if s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		nodes := map[string]bool{}
		for _, e := range f.endpoints() {
			if e.ready {
				nodes[e.node] = true
			}
		}
		if s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
			lines = append(lines, fmt.Sprintf("externalTrafficPolicy Local: only nodes that have a ready pod answer from outside: %s", few(sortedKeys(nodes), 5)))
		} else {
			lines = append(lines, "externalTrafficPolicy Cluster: every node answers from outside; pods see the node's address, not the client's")
		}
	}
	findings := []Finding{{Weight: Note, Title: "Names and ways in", Evidence: lines}}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && len(s.Status.LoadBalancer.Ingress) == 0 {
		findings = append(findings, Finding{Weight: Trouble, Title: "It has no external address: no load balancer controller has answered", Evidence: []string{"status.loadBalancer is empty"}, Remedy: "run a controller for Services of type LoadBalancer; its NodePort works without"})
	}
	return findings
}
