package flow

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Print writes a story as a tree, a line a step. What repeats itself becomes one line and a
// count, unless all is asked for:
//
//	+0.000s kubectl: create Deployment default/web @412 (201, 8ms)
//	│         by kubernetes-admin, member of system:masters; admission: …
//	│         told controller-manager 0.4ms, kubectl 0.5ms
//	└─ +0.003s controller-manager/deployment: create ReplicaSet default/web-5d @415 (201, 6ms)  controllers/deployment/sync.go:88 deploymentController.getNewReplicaSet
func (s *Story) Print(w io.Writer, all bool) {
	if len(s.Roots) == 0 {
		fmt.Fprintln(w, s.nothing())
		return
	}
	if s.Lost {
		fmt.Fprintf(w, "(the record is full: %d older entries have been dropped; --flow-buffer keeps more)\n", s.Status.Dropped)
	}
	p := printer{w: w, began: s.Roots[0].Time, all: all}
	roots := fold(s.Roots)
	if all {
		roots = unfolded(s.Roots)
	}
	for _, root := range roots {
		p.print(root, "", "")
	}
	for i, waits := range s.Waits {
		if i == 0 {
			fmt.Fprintf(w, "%s is being deleted, and waits for\n", s.Object)
		}
		fmt.Fprintf(w, "   %s\n", waits)
	}
	if p.hidden > 0 {
		fmt.Fprintf(w, "(%d lines like others are not shown: --all shows them)\n", p.hidden)
	}
}

// nothing says why a story has no lines.
func (s *Story) nothing() string {
	from := s.Status.Since
	if s.Since.After(from) {
		from = s.Since
	}
	if id, ok := strings.CutPrefix(s.Object, tracePrefix); ok {
		return fmt.Sprintf("nothing since %s is recorded of trace %s: what asks for /debug, /metrics or for health is not, nor are watches", from.Format(time.TimeOnly), id)
	}
	return fmt.Sprintf("nothing is recorded of %s since %s", s.Object, from.Format(time.TimeOnly))
}

type printer struct {
	w      io.Writer
	began  time.Time
	all    bool
	hidden int
}

// print writes a node's line after head, and what is below after indent.
func (p *printer) print(f *folded, head, indent string) {
	fmt.Fprintf(p.w, "%s%s\n", head, f.line(p.began, p.all))
	under := indent + "   "
	if len(f.children) > 0 {
		under = indent + "│  "
	}
	details := f.details(p.all)
	if rest := f.rest(p.began); rest != "" {
		details = append(details, rest)
		for _, n := range f.more {
			p.hidden += n.size()
		}
	}
	for _, detail := range details {
		fmt.Fprintf(p.w, "%s       %s\n", under, detail)
	}
	for i, child := range f.children {
		if i == len(f.children)-1 {
			p.print(child, indent+"└─ ", indent+"   ")
		} else {
			p.print(child, indent+"├─ ", indent+"│  ")
		}
	}
}

// size counts a node and all below it.
func (n *Node) size() int {
	count := 1
	for _, child := range n.Children {
		count += child.size()
	}
	return count
}

// Line is a node in a line: when, who, what, and the code that did it.
func (n *Node) Line(began time.Time) string { return n.line(began, false) }

// line with long texts whole, or cut.
func (n *Node) line(began time.Time, whole bool) string {
	limit := maxText
	if whole {
		limit = 1 << 20
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%+.3fs %s: %s", n.Time.Sub(began).Seconds(), n.Component, n.What)
	switch {
	case isEventObject(n.Object): // its own name says nothing: the text does, and the line above what it is about
		b.WriteString(" Event")
	case n.Object != "":
		b.WriteString(" " + n.Object)
	}
	if n.Revision != 0 {
		fmt.Fprintf(&b, " @%d", n.Revision)
	}
	if n.Detail != "" {
		b.WriteString(": " + clip(n.Detail, limit))
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
		b.WriteString(" failed: " + clip(n.Error, limit))
	}
	if n.Source.File != "" {
		b.WriteString("  " + n.Source.String())
	}
	return b.String()
}

// maxPrintedDiff is how many changed fields a line of text shows; JSON has more.
const maxPrintedDiff = 5

// details are the lines below a node's own.
func (n *Node) details(all bool) []string {
	var lines []string
	switch {
	case n.User == "" || n.Link == Observed:
	case n.Link == "":
		lines = append(lines, n.howItWent()...)
	default: // no component: it is worth a line who that was
		lines = append(lines, n.by())
	}
	diff := n.Diff
	if !all {
		diff = essential(diff)
	}
	for i, change := range diff {
		if !all && i == maxPrintedDiff && len(diff) > maxPrintedDiff+1 {
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

// howItWent tells of a request that began a story: who asked and how that is known, by which rule they may, what admission
// did, where it was stored.
func (n *Node) howItWent() []string {
	lines := []string{n.by() + ", at " + n.Time.Format("15:04:05.000")}
	if n.Allowed != "" {
		lines = append(lines, "allowed: "+n.Allowed)
	}
	var asked []string
	for _, step := range n.AdmissionSteps {
		switch {
		case step.Refused:
			asked = append(asked, step.Plugin+" (refused)")
		case step.Changed:
			asked = append(asked, step.Plugin+" (changed)")
		default:
			asked = append(asked, step.Plugin)
		}
	}
	if len(asked) > 0 {
		lines = append(lines, "admission, "+short(n.InAdmission)+": "+strings.Join(asked, ", "))
	}
	for _, step := range n.AdmissionSteps {
		for _, change := range step.Diff {
			lines = append(lines, "    "+step.Plugin+" ~ "+change)
		}
	}
	if n.EtcdKey != "" {
		lines = append(lines, fmt.Sprintf("etcd, %s: %s at revision %d", short(n.InEtcd), n.EtcdKey, n.Revision))
	}
	return lines
}

// by says who asked, how that is known, and what they only claim.
func (n *Node) by() string {
	by := "by " + n.User
	if n.Authn != "" {
		by += " (" + n.Authn + ")"
	}
	if len(n.Claimed) > 0 {
		by += ", who sent " + strings.Join(n.Claimed, ", ") + ": a claim"
	}
	return by
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
	if d >= 100*time.Microsecond {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
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
