package why

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// attempt is what the scheduler says of one turn of its loop (its JSON; scheduler/explain.go).
type attempt struct {
	UID            string         `json:"uid"`
	Number         int            `json:"attempt"`
	Time           time.Time      `json:"time"`
	Result         string         `json:"result"`
	Node           string         `json:"node"`
	Message        string         `json:"message"`
	TotalNodes     int            `json:"totalNodes"`
	FeasibleNodes  int            `json:"feasibleNodes"`
	EvaluatedNodes int            `json:"evaluatedNodes"`
	Filtered       []filteredNode `json:"filtered"`
	PreFilter      string         `json:"preFilter"`
	Scores         []nodeScores   `json:"scores"`
}

type filteredNode struct {
	Node    string   `json:"node"`
	Plugin  string   `json:"plugin"`
	Reasons []string `json:"reasons"`
}

type nodeScores struct {
	Name       string        `json:"name"`
	Scores     []pluginScore `json:"scores"`
	TotalScore int64         `json:"totalScore"`
}

type pluginScore struct {
	Name  string `json:"name"`
	Score int64  `json:"score"`
}

// pending explains why a pod has no node:
//
//	Step 1: is it held back on purpose (scheduling gates), or is there nobody to schedule it?
//	Step 2: which nodes refuse it, and what would have to change on the one that is nearest?
func pending(f *podFacts) []Finding {
	if f.pod.Spec.NodeName != "" || f.pod.DeletionTimestamp != nil {
		return nil
	}
	// Step 1: is it held back on purpose (scheduling gates), or is there nobody to schedule it?
	if len(f.pod.Spec.SchedulingGates) > 0 {
		var names []string
		for _, gate := range f.pod.Spec.SchedulingGates {
			names = append(names, gate.Name)
		}
		return []Finding{{Weight: Waiting, Title: "Pending: scheduling gate " + strings.Join(names, ", ") + " holds it back", Remedy: "whoever set the gate removes it from spec.schedulingGates"}}
	}
	if found := nobodySchedules(f); found != nil {
		return found
	}
	// Step 2: which nodes refuse it, and what would have to change on the one that is nearest?
	return refused(f)
}

func nobodySchedules(f *podFacts) []Finding {
	if name := f.pod.Spec.SchedulerName; name != corev1.DefaultSchedulerName {
		if f.attempt == nil && f.scheduledCondition() == nil {
			return []Finding{{Weight: Trouble, Title: fmt.Sprintf("Pending: no scheduler called %q has looked at it", name), Remedy: "start that scheduler, or leave spec.schedulerName out"}}
		}
		return nil
	}
	if f.stopped("kube-scheduler") {
		return []Finding{{Weight: Trouble, Title: "Pending: the scheduler does not run", Evidence: []string{f.runs("kube-scheduler")}, Remedy: "start it: hyperkube start scheduler"}}
	}
	if f.attempt == nil && f.scheduledCondition() == nil {
		return []Finding{{Weight: Waiting, Title: "Pending: the scheduler has not looked at it yet", Evidence: []string{f.runs("kube-scheduler")}, Remedy: "hyperkube status; hyperkube step, if the scheduler is held"}}
	}
	return nil
}

func (f *podFacts) scheduledCondition() *corev1.PodCondition {
	for i := range f.pod.Status.Conditions {
		if c := &f.pod.Status.Conditions[i]; c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c
		}
	}
	return nil
}

// refusal is a node that does not take the pod.
type refusal struct {
	node    string
	reasons []string
	changes []string
	// unknown are refusals by plugins that only the scheduler can judge.
	unknown int
}

func refused(f *podFacts) []Finding {
	refusals := refusalsOf(f)
	finding := Finding{Weight: Trouble, Title: fmt.Sprintf("Pending: none of %s takes it", plural(len(f.nodes), "node")) + f.when()}
	if len(f.nodes) == 0 {
		finding.Title, finding.Remedy = "Pending: there is no node"+f.when(), "start a kubelet: hyperkube kubelet"
		return []Finding{finding}
	}
	var remedies []string
	for _, r := range refusals {
		if len(r.reasons) == 0 {
			remedies = append(remedies, fmt.Sprintf("%s would take it now: the scheduler tries again by itself", r.node))
			finding.Weight = Waiting
			continue
		}
		finding.Evidence = append(finding.Evidence, r.node+": "+strings.Join(r.reasons, "; "))
		if len(r.changes) > 0 {
			remedies = append(remedies, "on "+r.node+": "+strings.Join(r.changes, "; and "))
		}
	}
	if f.attempt != nil && f.attempt.PreFilter != "" {
		finding.Evidence = append([]string{"for all nodes: " + f.attempt.PreFilter}, finding.Evidence...)
	}
	if c := f.scheduledCondition(); c != nil {
		finding.Evidence = append(finding.Evidence, fmt.Sprintf("the scheduler: %s: %s", c.Reason, oneLine(c.Message, 300)))
	}
	if name := f.pod.Status.NominatedNodeName; name != "" {
		finding.Weight = Waiting
		remedies = append([]string{fmt.Sprintf("pods of lower priority are being evicted from %s to make room", name)}, remedies...)
	}
	finding.Remedy = strings.Join(remedies[:min(3, len(remedies))], "\n")
	return []Finding{finding}
}

// when says of which attempt the answer is.
func (f *podFacts) when() string {
	if f.attempt == nil {
		return ""
	}
	return fmt.Sprintf(" (attempt %d, %s)", f.attempt.Number, ago(f.now, f.attempt.Time))
}

// refusalsOf puts together, node by node, what is computed here and what the scheduler said of its
// last attempt; the node that is nearest to taking the pod comes first.
func refusalsOf(f *podFacts) []refusal {
	var refusals []refusal
	for i := range f.nodes {
		node := &f.nodes[i]
		r := refusal{node: node.Name}
		known := map[string]bool{}
		for _, o := range obstacles(f.pod, node, placedOn(node.Name, f.placed)) {
			known[o.plugin] = true
			r.reasons = append(r.reasons, o.reason+" ("+o.plugin+")")
			if o.change != "" {
				r.changes = append(r.changes, o.change)
			}
		}
		if said := f.attempt.refusalBy(node.Name); said != nil && !known[said.Plugin] && !computed[said.Plugin] {
			r.unknown++
			r.reasons = append(r.reasons, strings.Join(said.Reasons, "; ")+" ("+said.Plugin+")")
			if change := pluginRemedies[said.Plugin]; change != "" {
				r.changes = append(r.changes, change)
			}
		}
		refusals = append(refusals, r)
	}
	slices.SortStableFunc(refusals, func(a, b refusal) int { return len(a.reasons) + a.unknown - len(b.reasons) - b.unknown })
	return refusals
}

// computed are the plugins whose rules obstacles knows: when it finds nothing, the reason is gone since.
var computed = map[string]bool{"NodeUnschedulable": true, "TaintToleration": true, "NodeAffinity": true, "NodePorts": true, "NodeResourcesFit": true}

// pluginRemedies are what helps against refusals that concern more than one node.
var pluginRemedies = map[string]string{
	"PodTopologySpread":    "its topologySpreadConstraints allow no more pods there: raise maxSkew, add nodes, or whenUnsatisfiable: ScheduleAnyway",
	"InterPodAffinity":     "its podAffinity or podAntiAffinity (or another pod's) forbids it: see spec.affinity",
	"VolumeBinding":        "its claims must be bound first: hyperkube why pvc/NAME",
	"VolumeZone":           "its volume lies in another zone than the node",
	"VolumeRestrictions":   "another pod has its volume (ReadWriteOncePod, or a disk with one writer)",
	"NodeVolumeLimits":     "the node has as many volumes of this driver as it may have",
	"DynamicResources":     "its ResourceClaims must be allocated: kubectl get resourceclaims",
	"NodeDeclaredFeatures": "the node's kubelet lacks a feature that the pod needs",
	"NodeName":             "spec.nodeName names another node",
}

func (a *attempt) refusalBy(node string) *filteredNode {
	if a == nil {
		return nil
	}
	for i := range a.Filtered {
		if a.Filtered[i].Node == node {
			return &a.Filtered[i]
		}
	}
	return nil
}

// maxScored is how many nodes the table of scores shows.
const maxScored = 5

// placement explains why a pod that has a node has this one.
func placement(f *podFacts) []Finding {
	a := f.attempt
	if f.pod.Spec.NodeName == "" || a == nil || a.Node != f.pod.Spec.NodeName {
		return nil
	}
	finding := Finding{Weight: Note, Title: fmt.Sprintf("On %s: the best score of %d nodes that fit, of %d looked at%s", a.Node, a.FeasibleNodes, a.EvaluatedNodes, f.when())}
	if len(a.Scores) == 0 {
		finding.Title = fmt.Sprintf("On %s: the only one of %s that fits%s; with one left, nothing is scored", a.Node, plural(a.EvaluatedNodes, "node"), f.when())
	}
	finding.Evidence = scoreTable(a.Scores[:min(maxScored, len(a.Scores))])
	for _, r := range a.Filtered {
		finding.Evidence = append(finding.Evidence, fmt.Sprintf("%s was refused: %s (%s)", r.Node, strings.Join(r.Reasons, "; "), r.Plugin))
	}
	return []Finding{finding}
}

// scoreTable has a row a plugin and a column a node; scores are weighted, as they were added.
func scoreTable(nodes []nodeScores) []string {
	if len(nodes) == 0 {
		return nil
	}
	const first = 33
	row := func(name string, cell func(n *nodeScores) string) string {
		line := fmt.Sprintf("%-*s", first, name)
		for i := range nodes {
			line += fmt.Sprintf(" %*s", max(8, min(12, len(nodes[i].Name))), cell(&nodes[i]))
		}
		return line
	}
	lines := []string{row("score (weighted)", func(n *nodeScores) string { return oneLine(n.Name, 12) })}
	for i, plugin := range nodes[0].Scores {
		lines = append(lines, row(plugin.Name, func(n *nodeScores) string {
			if i < len(n.Scores) {
				return fmt.Sprint(n.Scores[i].Score)
			}
			return ""
		}))
	}
	return append(lines, row("total", func(n *nodeScores) string { return fmt.Sprint(n.TotalScore) }))
}
