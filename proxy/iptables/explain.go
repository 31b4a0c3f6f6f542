package iptables

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Step is one rule on a packet's way, and where it leads.
type Step struct {
	// IPv6 tells, of the first step of a way, that ip6tables has it: chains of both families have the same names.
	IPv6   bool   `json:"ipv6,omitempty"`
	Chain  string `json:"chain"`
	Rule   string `json:"rule"`
	Target string `json:"target"`
	// Probability is what the rule itself says: the share of what reaches it; 1
	// without a statistic match.
	Probability float64 `json:"probability"`
	// Share is the part of all new connections that take this step, from 0 to 1.
	Share float64 `json:"share"`
	// Destination is the endpoint, on the last step of a way.
	Destination string `json:"destination,omitempty"`
	Next        []Step `json:"next,omitempty"`
}

// Explain walks the nat rules of one Service from every way in to its endpoints
// (R28). It reads rules, from iptables-save or from Ruleset.Text, and so shows what
// the kernel does, not what was meant.
func Explain(save, namespace, name string) []Step {
	byChain := map[string][]string{}
	for _, rule := range ParseSave(save).table("nat").Rules {
		byChain[ruleChain(rule)] = append(byChain[ruleChain(rule)], rule)
	}
	var ways []Step
	for _, entry := range []string{kubeServicesChain, kubeNodePortsChain} {
		for _, rule := range byChain[entry] {
			if concerns(rule, namespace+"/"+name) {
				ways = append(ways, walk(byChain, rule, 1, nil))
			}
		}
	}
	return ways
}

// concerns looks at a rule's comment: "ns/name" or "ns/name:port", then a space or
// the end.
func concerns(rule, service string) bool {
	text := ruleComment(rule)
	text, _, _ = strings.Cut(text, " ")
	return text == service || strings.HasPrefix(text, service+":")
}

// ruleComment returns the comment, quoted in the rule or, if it is one word, not.
func ruleComment(rule string) string {
	_, after, found := strings.Cut(rule, "--comment ")
	if !found {
		return ""
	}
	if strings.HasPrefix(after, `"`) {
		text, _, _ := strings.Cut(after[1:], `"`)
		return text
	}
	word, _, _ := strings.Cut(after, " ")
	return word
}

// walk follows one rule. share is what part of the connections reaches it; visited
// guards against a loop, which only damaged rules could have.
func walk(byChain map[string][]string, rule string, share float64, visited []string) Step {
	step := Step{Chain: ruleChain(rule), Rule: rule, Target: ruleTarget(rule), Probability: probability(rule)}
	step.Share = share * step.Probability
	if step.Target == "DNAT" {
		_, after, _ := strings.Cut(rule, "--to-destination ")
		step.Destination, _, _ = strings.Cut(after, " ")
		return step
	}
	if !isPerServiceChain(step.Target) || slices.Contains(visited, step.Target) {
		return step
	}
	left := step.Share
	for _, next := range byChain[step.Target] {
		target := ruleTarget(next)
		if target != "DNAT" && !isPerServiceChain(target) {
			continue // marks for masquerade do not end the way
		}
		follow := walk(byChain, next, left, append(visited, step.Target))
		// Rules for certain sources (affinity, pods, this node) take a part nobody knows;
		// what is left for the others is shown as if they took none.
		if !selectsSource(next) {
			left -= follow.Share
		}
		step.Next = append(step.Next, follow)
	}
	return step
}

// selectsSource tells whether a rule is only for some clients.
func selectsSource(rule string) bool {
	if ruleTarget(rule) == "DNAT" {
		return false
	}
	return strings.Contains(rule, "-m recent") || strings.Contains(rule, " -s ") || strings.Contains(rule, "--src-type")
}

// probability reads "--probability"; the kernel's own rounding is taken off.
func probability(rule string) float64 {
	_, after, found := strings.Cut(rule, "--probability ")
	if !found {
		return 1
	}
	word, _, _ := strings.Cut(after, " ")
	p, err := strconv.ParseFloat(word, 64)
	if err != nil {
		return 1
	}
	return p
}

// FormatSteps prints the walk for reading.
func FormatSteps(steps []Step) string {
	var b strings.Builder
	for _, way := range steps {
		formatStep(&b, way, 0)
	}
	return b.String()
}

func formatStep(b *strings.Builder, s Step, depth int) {
	indent := strings.Repeat("  ", depth)
	switch {
	case s.Destination != "":
		fmt.Fprintf(b, "%s%s: to %s, %.1f %% of all\n", indent, s.Chain, s.Destination, s.Share*100)
	case s.Probability < 1:
		fmt.Fprintf(b, "%s%s: with probability %.3f to %s\n", indent, s.Chain, s.Probability, s.Target)
	case strings.Contains(s.Rule, "-m recent"):
		fmt.Fprintf(b, "%s%s: who was there before, to %s\n", indent, s.Chain, s.Target)
		return // the same way is shown below for new clients
	default:
		fmt.Fprintf(b, "%s%s: %s to %s\n", indent, s.Chain, describeMatch(s.Rule), s.Target)
	}
	for _, next := range s.Next {
		formatStep(b, next, depth+1)
	}
}

// describeMatch says which packets a rule is about.
func describeMatch(rule string) string {
	fields := strings.Fields(rule)
	value := func(flag string) string {
		if i := slices.Index(fields, flag); i >= 0 && i+1 < len(fields) {
			return fields[i+1]
		}
		return ""
	}
	if port := value("--dport"); port != "" {
		address := strings.TrimSuffix(strings.TrimSuffix(value("-d"), "/32"), "/128")
		if address == "" {
			address = "this node"
		}
		return fmt.Sprintf("%s %s port %s (%s)", value("-p"), address, port, ruleComment(rule))
	}
	if source := value("-s"); source != "" {
		return "from " + source
	}
	if kind := value("--src-type"); kind != "" {
		return "from this node"
	}
	return "the rest"
}
