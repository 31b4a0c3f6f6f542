package iptables

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Saved is what iptables-save printed, per table.
type Saved map[string]*SavedTable

// SavedTable is one table as it is in the kernel.
type SavedTable struct {
	Chains map[string]bool
	// Rules are the "-A ..." lines, in order.
	Rules []string
}

// ParseSave reads the output of iptables-save.
func ParseSave(text string) Saved {
	saved := Saved{}
	var table *SavedTable
	for _, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "*"):
			table = &SavedTable{Chains: map[string]bool{}}
			saved[line[1:]] = table
		case table == nil:
		case strings.HasPrefix(line, ":"):
			name, _, _ := strings.Cut(line[1:], " ")
			table.Chains[name] = true
		case strings.HasPrefix(line, "-A "):
			table.Rules = append(table.Rules, line)
		}
	}
	return saved
}

func (s Saved) table(name string) *SavedTable {
	if t, ok := s[name]; ok {
		return t
	}
	return &SavedTable{}
}

// ruleChain and ruleTarget take a "-A CHAIN ... -j TARGET" line apart.
func ruleChain(rule string) string {
	fields := strings.Fields(rule)
	if len(fields) < 2 {
		return ""
	}
	return fields[1]
}

func ruleTarget(rule string) string {
	_, after, found := strings.Cut(rule, " -j ")
	if !found {
		return ""
	}
	target, _, _ := strings.Cut(after, " ")
	return target
}

// Complete tells whether every chain of the ruleset and every jump is in the
// kernel, so that a periodic sync need not write: nobody has flushed them.
func (r *Ruleset) Complete(saved Saved) bool {
	for _, t := range []*Table{&r.Filter, &r.Nat} {
		for _, chain := range t.Chains {
			if !saved.table(t.Name).Chains[chain] {
				return false
			}
		}
	}
	return len(r.jumpRepairs("filter", saved))+len(r.jumpRepairs("nat", saved)) == 0
}

// RestoreText is the input of one `iptables-restore --noflush`: it makes the kernel
// have exactly these rules of ours, whatever ours it had before, and leaves
// everybody else's alone. Each table is, in this order:
//
//	1: our chains, which empties them
//	2: our rules
//	3: the jumps from built-in chains, where they are not right already
//	4: the chains of Services that are gone, emptied and removed
func (r *Ruleset) RestoreText(saved Saved) string {
	var b strings.Builder
	for _, t := range []*Table{&r.Filter, &r.Nat} {
		stale := staleChains(t, saved)
		fmt.Fprintf(&b, "*%s\n", t.Name)

		// Step 1: our chains, which empties them
		for _, chain := range append(slices.Clone(t.Chains), stale...) {
			fmt.Fprintf(&b, ":%s - [0:0]\n", chain)
		}
		// Step 2: our rules
		for _, rule := range t.Rules {
			b.WriteString(rule + "\n")
		}
		// Step 3: the jumps from built-in chains, where they are not right already
		for _, line := range r.jumpRepairs(t.Name, saved) {
			b.WriteString(line + "\n")
		}
		// Step 4: the chains of Services that are gone, emptied and removed
		for _, chain := range stale {
			b.WriteString("-X " + chain + "\n")
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// staleChains are Services' chains in the kernel that the ruleset does not have.
func staleChains(t *Table, saved Saved) []string {
	wanted := map[string]bool{}
	for _, chain := range t.Chains {
		wanted[chain] = true
	}
	var stale []string
	for chain := range saved.table(t.Name).Chains {
		if isPerServiceChain(chain) && !wanted[chain] {
			stale = append(stale, chain)
		}
	}
	sort.Strings(stale)
	return stale
}

// jumpRepairs: for each built-in chain whose jumps into our chains are not there
// exactly once and in order, remove them all and put them in again at its head.
func (r *Ruleset) jumpRepairs(table string, saved Saved) []string {
	var lines []string
	for _, from := range builtinChains(table) {
		var want []jump
		for _, j := range jumps {
			if j.table == table && j.from == from {
				want = append(want, j)
			}
		}
		existing := existingJumps(table, from, saved)
		if slices.EqualFunc(existing, want, func(rule string, j jump) bool { return ruleTarget(rule) == j.to }) {
			continue
		}
		for _, rule := range existing {
			lines = append(lines, "-D"+strings.TrimPrefix(rule, "-A"))
		}
		for i, j := range want {
			lines = append(lines, strings.Join(strings.Fields(fmt.Sprintf("-I %s %d %s -j %s", from, i+1, j.match, j.to)), " "))
		}
	}
	return lines
}

func builtinChains(table string) []string {
	if table == "nat" {
		return []string{"PREROUTING", "OUTPUT", "POSTROUTING"}
	}
	return []string{"INPUT", "FORWARD", "OUTPUT"}
}

// existingJumps are the rules of a built-in chain that lead into a chain of ours.
func existingJumps(table, from string, saved Saved) []string {
	var rules []string
	for _, rule := range saved.table(table).Rules {
		if ruleChain(rule) == from && slices.Contains(fixedChains[table], ruleTarget(rule)) {
			rules = append(rules, rule)
		}
	}
	return rules
}

// CleanUpText is the input of one `iptables-restore --noflush` that takes away every
// chain and rule of ours; "" when there is nothing of ours.
func CleanUpText(saved Saved) string {
	var b strings.Builder
	for _, table := range []string{"filter", "nat"} {
		var chains []string
		for chain := range saved.table(table).Chains {
			if isPerServiceChain(chain) || slices.Contains(fixedChains[table], chain) {
				chains = append(chains, chain)
			}
		}
		if len(chains) == 0 {
			continue
		}
		sort.Strings(chains)
		fmt.Fprintf(&b, "*%s\n", table)
		for _, chain := range chains {
			fmt.Fprintf(&b, ":%s - [0:0]\n", chain)
		}
		for _, from := range builtinChains(table) {
			for _, rule := range existingJumps(table, from, saved) {
				b.WriteString("-D" + strings.TrimPrefix(rule, "-A") + "\n")
			}
		}
		for _, chain := range chains {
			b.WriteString("-X " + chain + "\n")
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}
