package flow

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A container that crashes twenty times makes the same eight lines twenty times. To print
// a story, siblings that look alike, with all below them, become one and a count.

const (
	// maxAlike is how many lines about one object may look alike before they become one;
	maxAlike = 2
	// maxSiblings likewise, of lines about different objects: a class follows two pods more easily than one.
	maxSiblings = 3
)

// folded is a node and those that look like it.
type folded struct {
	*Node
	more     []*Node // later than the node itself
	children []*folded
}

// unfolded shows every node.
func unfolded(nodes []*Node) []*folded {
	var all []*folded
	for _, n := range nodes {
		all = append(all, &folded{Node: n, children: unfolded(n.Children)})
	}
	return all
}

// fold puts together what looks alike among siblings, wherever it stands: what several
// goroutines wrote comes in no strict order.
func fold(nodes []*Node) []*folded {
	type group struct {
		objects map[string]bool
		nodes   []*Node
	}
	groups := map[string]*group{}
	for _, n := range nodes {
		shape := n.shape()
		if groups[shape] == nil {
			groups[shape] = &group{objects: map[string]bool{}}
		}
		groups[shape].objects[n.Object] = true
		groups[shape].nodes = append(groups[shape].nodes, n)
	}
	var all []*folded
	done := map[string]bool{}
	for _, n := range nodes {
		shape := n.shape()
		g := groups[shape]
		allowed := maxAlike
		switch {
		case isEventObject(n.Object):
			allowed = 1
		case len(g.objects) > 1:
			allowed = maxSiblings
		}
		switch {
		case len(g.nodes) <= allowed:
			all = append(all, &folded{Node: n, children: fold(n.Children)})
		case !done[shape]:
			done[shape] = true
			all = append(all, &folded{Node: n, more: g.nodes[1:], children: fold(n.Children)})
		}
	}
	return all
}

// generated is what the apiserver and controllers append to a name to make it unique: letters without vowels.
var generated = regexp.MustCompile(`(-[bcdfghjklmnpqrstvwxz2456789]{8,10})?-[bcdfghjklmnpqrstvwxz2456789]{5}$|\.[0-9a-f]{16}$`)

// shape is what two nodes that look alike have in common.
func (n *Node) shape() string {
	var below []string
	for _, child := range n.Children {
		if shape := child.shape(); !slices.Contains(below, shape) {
			below = append(below, shape)
		}
	}
	slices.Sort(below)
	about := generated.ReplaceAllString(n.Object, "")
	if isEventObject(n.Object) {
		reason, _, _ := strings.Cut(n.Detail, ": ")
		reason, _, _ = strings.Cut(reason, " ×")
		return fmt.Sprint(n.Component, "|Event|", reason, "|", n.Source.Function) // created, then counted up
	}
	return fmt.Sprint(n.Component, "|", n.What, "|", about, "|", n.Source.Function, "|", n.Error != "", "|", n.Link, n.changed(), below)
}

// changed are the conditions that a write changed, as "Ready: true": otherwise the status by
// which a pod becomes ready would be one among several that look alike.
func (n *Node) changed() []string {
	var conditions []string
	for _, line := range n.Diff {
		if path, to, ok := strings.Cut(line, ": "); ok && conditionStatus.MatchString(path) {
			conditions = append(conditions, path+": "+to)
		}
	}
	return conditions
}

// conditionStatus is the path of whether a condition holds.
var conditionStatus = regexp.MustCompile(`^status\.conditions\[[^\]]*\](\.status)?$`)

// maxNamed is how many of the folded are told apart.
const maxNamed = 4

// rest is the line about those that were folded into f.
func (f *folded) rest(began time.Time) string {
	if len(f.more) == 0 {
		return ""
	}
	last := f.more[len(f.more)-1]
	var named []string
	for _, n := range f.more {
		text := n.Detail
		if n.Object != f.Object && !isEventObject(n.Object) {
			text = n.Object
		}
		if text != "" && text != f.Detail && !slices.Contains(named, text) {
			named = append(named, text)
		}
	}
	line := fmt.Sprintf("× %d in all, the last at %+.3fs", len(f.more)+1, last.Time.Sub(began).Seconds())
	if skipped := len(named) - maxNamed; skipped > 0 {
		named = append([]string{fmt.Sprintf("%d others", skipped)}, named[skipped:]...)
	}
	if len(named) > 0 {
		for i := range named {
			named[i] = clip(named[i], maxText)
		}
		line += ": " + strings.Join(named, "; ")
	}
	return line
}

// maxText is how long a text within a printed line may be.
const maxText = 120

func clip(text string, limit int) string {
	text, _, cut := strings.Cut(text, "\n")
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	if cut {
		return text + "…"
	}
	return text
}

func isEventObject(object string) bool { return strings.HasPrefix(object, "Event ") }

// conditionDetail is a line of a diff about what explains a condition.
var conditionDetail = regexp.MustCompile(`^(status\.conditions\[[^\]]*\])\.(reason|message|observedGeneration|lastProbeTime|lastHeartbeatTime|lastUpdateTime):`)

// essential leaves out of a diff what a reader need not be told twice: why a condition
// changed, when it is said that it did, and numbers that only count.
func essential(diff []string) []string {
	changed := map[string]bool{}
	for _, line := range diff {
		if path, _, ok := strings.Cut(line, ".status: "); ok {
			changed[path] = true
		}
	}
	var kept []string
	for _, line := range diff {
		match := conditionDetail.FindStringSubmatch(line)
		switch {
		case match != nil && (changed[match[1]] || match[2] == "observedGeneration" || strings.HasPrefix(match[2], "last")):
		case strings.HasPrefix(line, "metadata.generation:"), strings.HasPrefix(line, "status.observedGeneration:"):
		default:
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		return diff
	}
	return kept
}
