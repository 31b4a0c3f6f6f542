package nodenet

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

func (n Network) forwardChain() string    { return "HK-NODES-" + n.short() }
func (n Network) masqueradeChain() string { return "HK-NODEMASQ-" + n.short() }

// program is the one for a family.
func (r Range) program() string {
	if r.Nodes.Addr().Is6() {
		return "ip6tables"
	}
	return "iptables"
}

// jumps lead to our chains.
func (n Network) jumps(r Range) [][]string {
	return [][]string{
		{"filter", "FORWARD", "-m", "comment", "--comment", "between the nodes of this machine", "-j", n.forwardChain()},
		{"nat", "POSTROUTING", "-s", r.Nodes.String(), "-m", "comment", "--comment", "from nodes of this machine to the outside", "-j", n.masqueradeChain()},
	}
}

// ensureRules lets the nodes' packets through where the machine drops what it forwards, and gives them the machine's
// address when they leave for the world. On a machine without iptables nodes reach each other, and not the world.
func (n Network) ensureRules(ctx context.Context) error {
	for _, r := range n.Ranges {
		program := r.program()
		if _, err := exec.LookPath(program + "-restore"); err != nil {
			continue
		}
		toAll := "224.0.0.0/4"
		if r.Nodes.Addr().Is6() {
			toAll = "ff00::/8"
		}
		text := fmt.Sprintf("*filter\n:%[1]s - [0:0]\n-A %[1]s -i %[2]s -j ACCEPT\n-A %[1]s -o %[2]s -j ACCEPT\nCOMMIT\n"+
			"*nat\n:%[3]s - [0:0]\n-A %[3]s -d %[4]s -j RETURN\n-A %[3]s -d %[5]s -j RETURN\n-A %[3]s -d %[6]s -j RETURN\n-A %[3]s -j MASQUERADE\nCOMMIT\n",
			n.forwardChain(), n.Bridge(), n.masqueradeChain(), r.Nodes, r.Pods, toAll)
		if err := iptables(ctx, text, program+"-restore", "-w", "10", "--noflush"); err != nil {
			return err
		}
		for _, jump := range n.jumps(r) {
			rule := append([]string{"-t", jump[0], "-C", jump[1]}, jump[2:]...)
			if iptables(ctx, "", program, append([]string{"-w", "10"}, rule...)...) == nil {
				continue
			}
			rule[2] = "-I"
			if err := iptables(ctx, "", program, append([]string{"-w", "10"}, rule...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeRules takes them away again.
func (n Network) removeRules(ctx context.Context) error {
	for _, r := range n.Ranges {
		program := r.program()
		if _, err := exec.LookPath(program); err != nil {
			continue
		}
		for _, jump := range n.jumps(r) {
			chain := jump[len(jump)-1]
			if iptables(ctx, "", program, "-w", "10", "-t", jump[0], "-S", chain) != nil {
				continue // not there
			}
			for iptables(ctx, "", program, append([]string{"-w", "10", "-t", jump[0], "-D", jump[1]}, jump[2:]...)...) == nil {
			}
			text := fmt.Sprintf("*%s\n-F %[2]s\n-X %[2]s\nCOMMIT\n", jump[0], chain)
			if err := iptables(ctx, text, program+"-restore", "-w", "10", "--noflush"); err != nil {
				return err
			}
		}
	}
	return nil
}

func iptables(ctx context.Context, stdin, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
