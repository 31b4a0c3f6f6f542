package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// errNoIptables says that the node has no iptables program. Pods still reach
// each other and the node; the world outside does not know their addresses.
var errNoIptables = errors.New("iptables is not installed")

// iptablesSuffix finds the kernel interface that the node's other rules use: two
// sets of rules, one through each, would be hard to understand (R50).
func iptablesSuffix(ctx context.Context) string {
	if _, err := exec.LookPath("iptables-legacy-save"); err != nil {
		return ""
	}
	legacy, _ := exec.CommandContext(ctx, "iptables-legacy-save").Output()
	nft, _ := exec.CommandContext(ctx, "iptables-nft-save").Output()
	switch rules := bytes.Count(legacy, []byte("\n-A ")); {
	case rules > bytes.Count(nft, []byte("\n-A ")):
		return "-legacy"
	case bytes.Contains(nft, []byte("\n-A ")):
		return "-nft"
	}
	return "" // what the host calls iptables
}

// iptables is the programs of the chosen kind, for one family of addresses.
type iptables struct {
	name   string // iptables or ip6tables
	suffix string
}

// jumps makes looking for a rule and adding it one step: pods start side by
// side, and both would find it missing, and add it.
var jumps sync.Mutex

// findIptables finds the programs for IPv4, or for IPv6. Both are of the same kind.
func findIptables(ctx context.Context, six bool) (*iptables, error) {
	name := "iptables"
	if six {
		name = "ip6tables"
	}
	if _, err := exec.LookPath(name); err != nil {
		return nil, errNoIptables
	}
	return &iptables{name, iptablesSuffix(ctx)}, nil
}

func (t *iptables) run(ctx context.Context, args ...string) error {
	name := t.name + t.suffix
	out, err := exec.CommandContext(ctx, name, append([]string{"-w", "10"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// restore applies a text of rules as a whole, leaving all other chains alone.
func (t *iptables) restore(ctx context.Context, text string) error {
	cmd := exec.CommandContext(ctx, t.name+t.suffix+"-restore", "-w", "10", "--noflush")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s%s-restore: %w: %s of\n%s", t.name, t.suffix, err, bytes.TrimSpace(out), text)
	}
	return nil
}

// jump makes a built-in chain lead to one of ours, once: at its end (position 0)
// or at a position counted from 1.
func (t *iptables) jump(ctx context.Context, table, from string, position int, rule ...string) error {
	jumps.Lock()
	defer jumps.Unlock()
	if t.run(ctx, append([]string{"-t", table, "-C", from}, rule...)...) == nil {
		return nil
	}
	where := []string{"-t", table, "-A", from}
	if position > 0 {
		where = []string{"-t", table, "-I", from, strconv.Itoa(position)}
	}
	return t.run(ctx, append(where, rule...)...)
}

// behindServices is the first position of FORWARD behind the proxy's jumps:
// before what a host's firewall drops there, but after what refuses traffic to
// Services without endpoints.
func (t *iptables) behindServices(ctx context.Context) int {
	out, _ := exec.CommandContext(ctx, t.name+t.suffix, "-w", "10", "-S", "FORWARD").Output()
	position, rules := 1, 0
	for _, line := range strings.Split(string(out), "\n") {
		if !strings.HasPrefix(line, "-A ") {
			continue
		}
		rules++
		if strings.Contains(line, "-j KUBE-") {
			position = rules + 1
		}
	}
	return position
}

// save prints the rules of a table; nothing where the kernel does without IPv6, and so can have none.
func (t *iptables) save(ctx context.Context, table string) ([]byte, error) {
	saved, err := exec.CommandContext(ctx, t.name+t.suffix+"-save", "-t", table).Output()
	if err != nil && t.name == "ip6tables" {
		return nil, nil
	}
	return saved, err
}

// removeChain removes one of our chains and all jumps to it.
func (t *iptables) removeChain(ctx context.Context, table, chain string) error {
	saved, err := t.save(ctx, table)
	if err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString("*" + table + "\n")
	there := false
	for _, line := range strings.Split(string(saved), "\n") {
		if strings.HasPrefix(line, ":"+chain+" ") {
			there = true
		}
		if strings.HasPrefix(line, "-A ") && strings.HasSuffix(line, "-j "+chain) {
			text.WriteString("-D" + strings.TrimPrefix(line, "-A") + "\n")
		}
	}
	if !there {
		return nil
	}
	text.WriteString("-F " + chain + "\n-X " + chain + "\nCOMMIT\n")
	return t.restore(ctx, text.String())
}

func masqueradeChain(id string) string { return "HK-MASQ-" + id }
func forwardChain(id string) string    { return "HK-FORWARD-" + id }
func hostportChain(id string) string   { return "HK-HOSTPORT-" + id }
func hostportMasq(id string) string    { return "HK-HPMASQ-" + id }

// ensureMasquerade makes the rules that pods of this node need to reach beyond
// the cluster: their packets carry the node's address there, and are let
// through where the host drops what it forwards (R51). They are written when the
// first pod comes; that the jump is there says that they are.
func ensureMasquerade(ctx context.Context, conf *bridgeConf, subnet subnet) error {
	t, err := findIptables(ctx, subnet.six())
	if errors.Is(err, errNoIptables) {
		return nil
	}
	masq, forward := masqueradeChain(conf.ID), forwardChain(conf.ID)
	source := []string{"-s", subnet.CIDR.String(), "-m", "comment", "--comment", "pods of " + conf.Bridge + " to the outside", "-j", masq}
	if t.run(ctx, append([]string{"-t", "nat", "-C", "POSTROUTING"}, source...)...) == nil {
		return nil
	}
	multicast := "224.0.0.0/4"
	if subnet.six() {
		multicast = "ff00::/8"
	}
	text := fmt.Sprintf("*nat\n:%[1]s - [0:0]\n-A %[1]s -d %[2]s -j RETURN\n-A %[1]s -d %[5]s -j RETURN\n-A %[1]s -j MASQUERADE --random-fully\nCOMMIT\n"+
		"*filter\n:%[3]s - [0:0]\n-A %[3]s -s %[4]s -j ACCEPT\n-A %[3]s -d %[4]s -j ACCEPT\nCOMMIT\n",
		masq, subnet.Cluster, forward, subnet.CIDR, multicast)
	if err := t.restore(ctx, text); err != nil {
		return err
	}
	err = t.jump(ctx, "filter", "FORWARD", t.behindServices(ctx), "-m", "comment", "--comment", "pods of "+conf.Bridge, "-j", forward)
	if err != nil {
		return err
	}
	return t.jump(ctx, "nat", "POSTROUTING", 0, source...)
}

// removeChains removes chains of ours from a table, in both families.
func removeChains(ctx context.Context, chains ...[2]string) error {
	var errs []error
	for _, six := range []bool{false, true} {
		t, err := findIptables(ctx, six)
		if err != nil {
			continue
		}
		for _, chain := range chains {
			errs = append(errs, t.removeChain(ctx, chain[0], chain[1]))
		}
	}
	return errors.Join(errs...)
}

func removeMasquerade(ctx context.Context, id string) error {
	return removeChains(ctx, [2]string{"nat", masqueradeChain(id)}, [2]string{"filter", forwardChain(id)})
}
