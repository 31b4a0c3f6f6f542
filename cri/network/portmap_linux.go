package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	current "github.com/containernetworking/cni/pkg/types/100"
)

// portmap is the plugin that makes ports of the node lead to a pod: those of its
// IPv4 addresses to the pod's first one of that family, and so with IPv6.
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
	if len(conf.RuntimeConfig.PortMappings) == 0 {
		return args.Prev, nil
	}
	done := map[bool]bool{}
	for _, ip := range args.Prev.IPs {
		address, ok := netip.AddrFromSlice(ip.Address.IP)
		if address = address.Unmap(); !ok || done[address.Is6()] {
			continue
		}
		done[address.Is6()] = true
		if err := mapPorts(ctx, conf, args.ContainerID, address); err != nil {
			return nil, err
		}
	}
	return args.Prev, nil
}

// mapPorts makes the node's ports lead to one address of a pod.
func mapPorts(ctx context.Context, conf portmapConf, id string, ip netip.Addr) error {
	rules := portmapRules(conf, id, ip)
	if rules == "" {
		return nil // all are for addresses of the other family
	}
	t, err := findIptables(ctx, ip.Is6())
	if err != nil {
		return fmt.Errorf("hostPort: %w", err)
	}
	// Made apart from the rules: naming a chain to iptables-restore empties it. That they exist is no error.
	for _, chain := range []string{hostportChain(conf.ID), hostportMasq(conf.ID)} {
		t.run(ctx, "-t", "nat", "-N", chain)
	}
	if err := t.restore(ctx, rules); err != nil {
		return err
	}
	for _, from := range []string{"PREROUTING", "OUTPUT"} {
		err := t.jump(ctx, "nat", from, 1, "-m", "addrtype", "--dst-type", "LOCAL", "-m", "comment", "--comment", "ports of the node that lead to pods", "-j", hostportChain(conf.ID))
		if err != nil {
			return err
		}
	}
	return t.jump(ctx, "nat", "POSTROUTING", 1, "-m", "comment", "--comment", "ports of the node that lead to pods", "-j", hostportMasq(conf.ID))
}

// portmapRules is the text of the rules for one address of a pod, "" if there are none. Each carries the pod's id, by
// which del finds it.
func portmapRules(conf portmapConf, id string, ip netip.Addr) string {
	var b strings.Builder
	dnat, masq := hostportChain(conf.ID), hostportMasq(conf.ID)
	// Whom the pod could not answer otherwise: itself, and the node's loopback. That one leads out of the node in IPv4 only.
	from := []string{alone(ip).String(), "127.0.0.0/8"}
	if ip.Is6() {
		from = from[:1]
	}
	for _, m := range conf.RuntimeConfig.PortMappings {
		if m.HostPort == 0 {
			continue
		}
		to := ""
		if m.HostIP != "" && m.HostIP != "0.0.0.0" && m.HostIP != "::" {
			host, err := netip.ParseAddr(m.HostIP)
			if err != nil || host.Is6() != ip.Is6() {
				continue
			}
			to = " -d " + alone(host).String()
		}
		proto := strings.ToLower(m.Protocol)
		match := fmt.Sprintf("-p %s -m comment --comment %s", proto, id)
		target := net.JoinHostPort(ip.String(), fmt.Sprint(m.ContainerPort))
		fmt.Fprintf(&b, "-A %s%s %s -m %s --dport %d -j DNAT --to-destination %s\n", dnat, to, match, proto, m.HostPort, target)
		for _, source := range from {
			fmt.Fprintf(&b, "-A %s -s %s -d %s %s -m %s --dport %d -j MASQUERADE\n", masq, source, alone(ip), match, proto, m.ContainerPort)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "*nat\n" + b.String() + "COMMIT\n"
}

func (portmap) del(ctx context.Context, args *pluginArgs) error {
	var conf portmapConf
	if err := json.Unmarshal(args.Conf, &conf); err != nil {
		return err
	}
	if len(conf.RuntimeConfig.PortMappings) == 0 {
		return nil // most pods
	}
	var errs []error
	for _, six := range []bool{false, true} {
		if t, err := findIptables(ctx, six); err == nil {
			errs = append(errs, t.removeRulesOf(ctx, args.ContainerID))
		}
	}
	return errors.Join(errs...)
}

// removeRulesOf removes the rules that carry a pod's id.
func (t *iptables) removeRulesOf(ctx context.Context, id string) error {
	saved, err := t.save(ctx, "nat")
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, line := range strings.Split(string(saved), "\n") {
		if strings.HasPrefix(line, "-A HK-H") && strings.Contains(line, id) {
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
	return removeChains(ctx, [2]string{"nat", hostportChain(id)}, [2]string{"nat", hostportMasq(id)})
}
