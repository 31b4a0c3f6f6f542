package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	current "github.com/containernetworking/cni/pkg/types/100"
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

// iptables is the program of the chosen kind.
type iptables struct{ suffix string }

// jumps makes looking for a rule and adding it one step: pods start side by
// side, and both would find it missing, and add it.
var jumps sync.Mutex

func findIptables(ctx context.Context) (*iptables, error) {
	if _, err := exec.LookPath("iptables"); err != nil {
		return nil, errNoIptables
	}
	return &iptables{iptablesSuffix(ctx)}, nil
}

func (t *iptables) run(ctx context.Context, args ...string) error {
	name := "iptables" + t.suffix
	out, err := exec.CommandContext(ctx, name, append([]string{"-w", "10"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// restore applies a text of rules as a whole, leaving all other chains alone.
func (t *iptables) restore(ctx context.Context, text string) error {
	cmd := exec.CommandContext(ctx, "iptables"+t.suffix+"-restore", "-w", "10", "--noflush")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("iptables%s-restore: %w: %s of\n%s", t.suffix, err, bytes.TrimSpace(out), text)
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
	out, _ := exec.CommandContext(ctx, "iptables"+t.suffix, "-w", "10", "-S", "FORWARD").Output()
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

// removeChain removes one of our chains and all jumps to it.
func (t *iptables) removeChain(ctx context.Context, table, chain string) error {
	saved, err := exec.CommandContext(ctx, "iptables"+t.suffix+"-save", "-t", table).Output()
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
func ensureMasquerade(ctx context.Context, conf *bridgeConf, subnet netip.Prefix) error {
	t, err := findIptables(ctx)
	if errors.Is(err, errNoIptables) {
		return nil
	}
	masq, forward := masqueradeChain(conf.ID), forwardChain(conf.ID)
	source := []string{"-s", subnet.String(), "-m", "comment", "--comment", "pods of " + conf.Bridge + " to the outside", "-j", masq}
	if t.run(ctx, append([]string{"-t", "nat", "-C", "POSTROUTING"}, source...)...) == nil {
		return nil
	}
	text := fmt.Sprintf("*nat\n:%[1]s - [0:0]\n-A %[1]s -d %[2]s -j RETURN\n-A %[1]s -d 224.0.0.0/4 -j RETURN\n-A %[1]s -j MASQUERADE --random-fully\nCOMMIT\n"+
		"*filter\n:%[3]s - [0:0]\n-A %[3]s -s %[4]s -j ACCEPT\n-A %[3]s -d %[4]s -j ACCEPT\nCOMMIT\n",
		masq, conf.ClusterCIDR, forward, subnet)
	if err := t.restore(ctx, text); err != nil {
		return err
	}
	err = t.jump(ctx, "filter", "FORWARD", t.behindServices(ctx), "-m", "comment", "--comment", "pods of "+conf.Bridge, "-j", forward)
	if err != nil {
		return err
	}
	return t.jump(ctx, "nat", "POSTROUTING", 0, source...)
}

func removeMasquerade(ctx context.Context, id string) error {
	t, err := findIptables(ctx)
	if err != nil {
		return nil
	}
	return errors.Join(t.removeChain(ctx, "nat", masqueradeChain(id)), t.removeChain(ctx, "filter", forwardChain(id)))
}

// portmap is the plugin that makes ports of the node lead to a pod.
type portmap struct{}

type portmapConf struct {
	ID            string `json:"id"`
	RuntimeConfig struct {
		PortMappings []PortMapping `json:"portMappings"`
	} `json:"runtimeConfig"`
}

func (portmap) add(ctx context.Context, args *pluginArgs) (*current.Result, error) {
	if args.Prev == nil {
		return nil, errors.New("portmap needs a plugin before it in the list")
	}
	var conf portmapConf
	if err := json.Unmarshal(args.Conf, &conf); err != nil {
		return nil, err
	}
	if len(conf.RuntimeConfig.PortMappings) == 0 || len(args.Prev.IPs) == 0 {
		return args.Prev, nil
	}
	t, err := findIptables(ctx)
	if err != nil {
		return nil, fmt.Errorf("hostPort: %w", err)
	}
	ip := args.Prev.IPs[0].Address.IP.String()
	// Made apart from the rules: naming a chain to iptables-restore empties it. That they exist is no error.
	for _, chain := range []string{hostportChain(conf.ID), hostportMasq(conf.ID)} {
		t.run(ctx, "-t", "nat", "-N", chain)
	}
	if err := t.restore(ctx, portmapRules(conf, args.ContainerID, ip)); err != nil {
		return nil, err
	}
	for _, from := range []string{"PREROUTING", "OUTPUT"} {
		err := t.jump(ctx, "nat", from, 1, "-m", "addrtype", "--dst-type", "LOCAL", "-m", "comment", "--comment", "ports of the node that lead to pods", "-j", hostportChain(conf.ID))
		if err != nil {
			return nil, err
		}
	}
	err = t.jump(ctx, "nat", "POSTROUTING", 1, "-m", "comment", "--comment", "ports of the node that lead to pods", "-j", hostportMasq(conf.ID))
	return args.Prev, err
}

// portmapRules is the text of a pod's rules. Each carries the pod's id, by which
// del finds it.
func portmapRules(conf portmapConf, id, ip string) string {
	var b strings.Builder
	dnat, masq := hostportChain(conf.ID), hostportMasq(conf.ID)
	b.WriteString("*nat\n")
	for _, m := range conf.RuntimeConfig.PortMappings {
		if m.HostPort == 0 {
			continue
		}
		proto := strings.ToLower(m.Protocol)
		to := ""
		if m.HostIP != "" && m.HostIP != "0.0.0.0" {
			to = " -d " + m.HostIP + "/32"
		}
		match := fmt.Sprintf("-p %s -m comment --comment %s", proto, id)
		fmt.Fprintf(&b, "-A %s%s %s -m %s --dport %d -j DNAT --to-destination %s:%d\n", dnat, to, match, proto, m.HostPort, ip, m.ContainerPort)
		for _, from := range []string{"127.0.0.0/8", ip + "/32"} { // whom the pod could not answer otherwise
			fmt.Fprintf(&b, "-A %s -s %s -d %s/32 %s -m %s --dport %d -j MASQUERADE\n", masq, from, ip, match, proto, m.ContainerPort)
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

func (portmap) del(ctx context.Context, args *pluginArgs) error {
	var conf portmapConf
	if err := json.Unmarshal(args.Conf, &conf); err != nil {
		return err
	}
	if len(conf.RuntimeConfig.PortMappings) == 0 {
		return nil // most pods
	}
	t, err := findIptables(ctx)
	if err != nil {
		return nil
	}
	saved, err := exec.CommandContext(ctx, "iptables"+t.suffix+"-save", "-t", "nat").Output()
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, line := range strings.Split(string(saved), "\n") {
		if strings.HasPrefix(line, "-A HK-H") && strings.Contains(line, args.ContainerID) {
			text.WriteString("-D" + strings.TrimPrefix(line, "-A") + "\n")
		}
	}
	if text.Len() == 0 {
		return nil
	}
	return t.restore(ctx, "*nat\n"+text.String()+"COMMIT\n")
}

func (portmap) check(context.Context, *pluginArgs) error { return nil }

func removePortmap(ctx context.Context, id string) error {
	t, err := findIptables(ctx)
	if err != nil {
		return nil
	}
	return errors.Join(t.removeChain(ctx, "nat", hostportChain(id)), t.removeChain(ctx, "nat", hostportMasq(id)))
}
