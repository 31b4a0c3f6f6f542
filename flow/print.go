package flow

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Print writes a story as a tree, a line a step:
//
//	+0.000s kubectl: create Deployment default/web @412 (201, 8ms) by kubernetes-admin, member of system:masters
//	│         told controller-manager 0.4ms, kubectl 0.5ms
//	└─ +0.003s controller-manager/deployment: create ReplicaSet default/web-5d @415 (201, 6ms)  controllers/deployment/sync.go:88 deploymentController.getNewReplicaSet
func (s *Story) Print(w io.Writer) {
	if len(s.Roots) == 0 {
		fmt.Fprintf(w, "nothing is recorded of %s: the record goes back to %s\n", s.Object, s.Status.Since.Format(time.TimeOnly))
		return
	}
	if s.Lost {
		fmt.Fprintf(w, "(the record is full: %d older entries have been dropped; --flow-buffer keeps more)\n", s.Status.Dropped)
	}
	began := s.Roots[0].Time
	for _, root := range s.Roots {
		root.print(w, began, "", "")
	}
}

// print writes n's line after head, and what is below after indent.
func (n *Node) print(w io.Writer, began time.Time, head, indent string) {
	fmt.Fprintf(w, "%s%s\n", head, n.Line(began))
	under := indent + "   "
	if len(n.Children) > 0 {
		under = indent + "│  "
	}
	for _, detail := range n.details() {
		fmt.Fprintf(w, "%s       %s\n", under, detail)
	}
	for i, child := range n.Children {
		if i == len(n.Children)-1 {
			child.print(w, began, indent+"└─ ", indent+"   ")
		} else {
			child.print(w, began, indent+"├─ ", indent+"│  ")
		}
	}
}

// Line is a node in a line: when, who, what, and the code that did it.
func (n *Node) Line(began time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%+.3fs %s: %s", n.Time.Sub(began).Seconds(), n.Component, n.What)
	if n.Object != "" {
		b.WriteString(" " + n.Object)
	}
	if n.Revision != 0 {
		fmt.Fprintf(&b, " @%d", n.Revision)
	}
	if n.Detail != "" {
		b.WriteString(": " + n.Detail)
	}
	var facts []string
	if n.Code != 0 {
		facts = append(facts, fmt.Sprint(n.Code))
	}
	if n.Took != 0 {
		facts = append(facts, short(n.Took))
	}
	if n.Link == Inferred || n.Link == Claimed {
		facts = append(facts, string(n.Link))
	}
	if len(facts) > 0 {
		b.WriteString(" (" + strings.Join(facts, ", ") + ")")
	}
	if n.Error != "" {
		b.WriteString(" failed: " + n.Error)
	}
	if n.Source.File != "" {
		b.WriteString("  " + n.Source.String())
	}
	return b.String()
}

// maxPrintedDiff is how many changed fields a line of text shows; JSON has more.
const maxPrintedDiff = 5

// details are the lines below a node's own.
func (n *Node) details() []string {
	var lines []string
	if n.Link == "" && n.User != "" {
		by := "by " + n.User
		if n.Allowed != "" {
			by += ", " + n.Allowed
		}
		if len(n.Admission) > 0 {
			by += "; admission: " + strings.Join(n.Admission, ", ")
		}
		lines = append(lines, by)
	}
	for i, change := range n.Diff {
		if i == maxPrintedDiff && len(n.Diff) > maxPrintedDiff+1 {
			lines = append(lines, "~ …")
			break
		}
		if n.Revision != 0 {
			change = "~ " + change
		}
		lines = append(lines, change)
	}
	if more := len(n.Causes) - 1; more > 0 && n.Link == Observed {
		lines = append(lines, "because of "+strings.Join(n.Causes, ", "))
	}
	if told := n.told(); told != "" {
		lines = append(lines, "told "+told)
	}
	return lines
}

// told names each listener once, with its first delivery.
func (n *Node) told() string {
	var names []string
	seen := map[string]bool{}
	for _, d := range n.Deliveries {
		if !seen[d.Component] {
			seen[d.Component] = true
			names = append(names, d.Component+" "+short(d.After))
		}
	}
	return strings.Join(names, ", ")
}

func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}

// Flat are all nodes of a story, in the order of time.
func (s *Story) Flat() []*Node {
	var all []*Node
	var walk func(nodes []*Node)
	walk = func(nodes []*Node) {
		for _, n := range nodes {
			all = append(all, n)
			walk(n.Children)
		}
	}
	walk(s.Roots)
	slices.SortStableFunc(all, byTime)
	return all
}
