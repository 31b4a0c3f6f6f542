package iptables

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hyperkube/proxy/tracker"
)

func portName(service, port string) tracker.ServicePortName {
	namespace, name, _ := strings.Cut(service, "/")
	return tracker.ServicePortName{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}, Port: port, Protocol: v1.ProtocolTCP}
}

func endpoints(local int, ips ...string) []tracker.Endpoint {
	var list []tracker.Endpoint
	for i, ip := range ips {
		list = append(list, tracker.Endpoint{IP: ip, Port: 8080, Ready: true, Serving: true, IsLocal: i < local})
	}
	return list
}

// Names must be upstream's: these three stand in the documentation of countless clusters.
func TestChainNamesAreUpstreams(t *testing.T) {
	udp := portName("kube-system/kube-dns", "dns")
	udp.Protocol = v1.ProtocolUDP
	for want, name := range map[string]tracker.ServicePortName{
		"NPX46M4PTMTKRN6Y": portName("default/kubernetes", "https"),
		"TCOU7JCQXEZGVUNU": udp,
		"ERIFXISQEP7F7OF4": portName("kube-system/kube-dns", "dns-tcp"),
	} {
		if got := portProtoHash(name); got != want {
			t.Errorf("%v: got %s, want %s", name, got, want)
		}
	}
}

// rulesOf returns the lines of a text that belong to a chain.
func rulesOf(r *Ruleset, table, chain string) string {
	rules := r.Nat.Rules
	if table == "filter" {
		rules = r.Filter.Rules
	}
	var lines []string
	for _, rule := range rules {
		if ruleChain(rule) == chain {
			lines = append(lines, strings.TrimPrefix(rule, "-A "+chain+" "))
		}
	}
	return strings.Join(lines, "\n")
}

func TestServiceRules(t *testing.T) {
	web := portName("default/web", "http")
	hash := portProtoHash(web)
	sep := func(ip string) string { return servicePortEndpointChainName(web, ip+":8080") }
	a, b, c, d := sep("10.244.0.2"), sep("10.244.0.3"), sep("10.244.0.4"), sep("10.244.0.5")
	replace := strings.NewReplacer("$HASH", hash, "$A", a, "$B", b, "$C", c, "$D", d)
	for name, test := range map[string]struct {
		port      tracker.ServicePort
		endpoints []tracker.Endpoint
		change    func(*Input)
		// want maps "table chain" to its rules; chains of other Services excepted.
		want map[string]string
	}{
		// R28: 1/4, 1/3, 1/2, the rest.
		"four endpoints share evenly": {
			port: tracker.ServicePort{}, endpoints: endpoints(0, "10.244.0.2", "10.244.0.3", "10.244.0.4", "10.244.0.5"),
			want: map[string]string{
				"nat KUBE-SERVICES": `-m comment --comment "default/web:http cluster IP" -m tcp -p tcp -d 10.96.0.9 --dport 80 -j KUBE-SVC-$HASH
-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`,
				"nat KUBE-SVC-$HASH": `-m comment --comment "default/web:http cluster IP" -m tcp -p tcp -d 10.96.0.9 --dport 80 ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ
-m comment --comment "default/web:http -> 10.244.0.2:8080" -m statistic --mode random --probability 0.2500000000 -j $A
-m comment --comment "default/web:http -> 10.244.0.3:8080" -m statistic --mode random --probability 0.3333333333 -j $B
-m comment --comment "default/web:http -> 10.244.0.4:8080" -m statistic --mode random --probability 0.5000000000 -j $C
-m comment --comment "default/web:http -> 10.244.0.5:8080" -j $D`,
				"nat $A": `-m comment --comment "default/web:http" -s 10.244.0.2 -j KUBE-MARK-MASQ
-m comment --comment "default/web:http" -m tcp -p tcp -j DNAT --to-destination 10.244.0.2:8080`,
				"filter KUBE-SERVICES": ``,
			},
		},
		"no endpoints: rejected everywhere": {
			port: tracker.ServicePort{NodePort: 30080, ExternalIPs: []string{"1.2.3.4"}},
			want: map[string]string{
				"filter KUBE-SERVICES": `-m comment --comment "default/web:http has no endpoints" -m tcp -p tcp -d 10.96.0.9 --dport 80 -j REJECT`,
				"filter KUBE-EXTERNAL-SERVICES": `-m comment --comment "default/web:http has no endpoints" -m tcp -p tcp -d 1.2.3.4 --dport 80 -j REJECT
-m comment --comment "default/web:http has no endpoints" -m addrtype --dst-type LOCAL -m tcp -p tcp --dport 30080 -j REJECT`,
				"nat KUBE-SVC-$HASH": ``, "nat KUBE-NODEPORTS": ``,
			},
		},
		"node port and external IP": {
			port: tracker.ServicePort{NodePort: 30080, ExternalIPs: []string{"1.2.3.4"}}, endpoints: endpoints(0, "10.244.0.2"),
			want: map[string]string{
				"nat KUBE-NODEPORTS": `-m comment --comment "default/web:http" -m tcp -p tcp --dport 30080 -j KUBE-EXT-$HASH`,
				"nat KUBE-EXT-$HASH": `-m comment --comment "masquerade traffic for default/web:http external destinations" -j KUBE-MARK-MASQ
-j KUBE-SVC-$HASH`,
				"nat KUBE-SERVICES": `-m comment --comment "default/web:http cluster IP" -m tcp -p tcp -d 10.96.0.9 --dport 80 -j KUBE-SVC-$HASH
-m comment --comment "default/web:http external IP" -m tcp -p tcp -d 1.2.3.4 --dport 80 -j KUBE-EXT-$HASH
-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`,
			},
		},
		"external policy Local keeps the client's address": {
			port: tracker.ServicePort{NodePort: 30080, ExternalPolicyLocal: true}, endpoints: endpoints(1, "10.244.0.2", "10.244.0.3"),
			want: map[string]string{
				"nat KUBE-EXT-$HASH": `-m comment --comment "pod traffic for default/web:http external destinations" -s 10.244.0.0/16 -j KUBE-SVC-$HASH
-m comment --comment "masquerade LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
-m comment --comment "route LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-$HASH
-j KUBE-SVL-$HASH`,
				"nat KUBE-SVL-$HASH": `-m comment --comment "default/web:http -> 10.244.0.2:8080" -j $A`,
			},
		},
		"external policy Local without local endpoints drops": {
			port: tracker.ServicePort{NodePort: 30080, ExternalPolicyLocal: true}, endpoints: endpoints(0, "10.244.0.2"),
			want: map[string]string{
				"filter KUBE-EXTERNAL-SERVICES": `-m comment --comment "default/web:http has no local endpoints" -m addrtype --dst-type LOCAL -m tcp -p tcp --dport 30080 -j DROP`,
				"nat KUBE-NODEPORTS":            `-m comment --comment "default/web:http" -m tcp -p tcp --dport 30080 -j KUBE-EXT-$HASH`,
				"nat KUBE-SVL-$HASH":            ``,
			},
		},
		"internal policy Local": {
			port: tracker.ServicePort{InternalPolicyLocal: true}, endpoints: endpoints(1, "10.244.0.2", "10.244.0.3"),
			want: map[string]string{
				"nat KUBE-SVL-$HASH": `-m comment --comment "default/web:http cluster IP" -m tcp -p tcp -d 10.96.0.9 --dport 80 ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ
-m comment --comment "default/web:http -> 10.244.0.2:8080" -j $A`,
				"nat KUBE-SVC-$HASH": ``,
			},
		},
		"internal policy Local without local endpoints drops": {
			port: tracker.ServicePort{InternalPolicyLocal: true}, endpoints: endpoints(0, "10.244.0.2"),
			want: map[string]string{
				"filter KUBE-SERVICES": `-m comment --comment "default/web:http has no local endpoints" -m tcp -p tcp -d 10.96.0.9 --dport 80 -j DROP`,
			},
		},
		"session affinity": {
			port: tracker.ServicePort{AffinitySeconds: 10800}, endpoints: endpoints(0, "10.244.0.2", "10.244.0.3"),
			want: map[string]string{
				"nat KUBE-SVC-$HASH": `-m comment --comment "default/web:http cluster IP" -m tcp -p tcp -d 10.96.0.9 --dport 80 ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ
-m comment --comment "default/web:http -> 10.244.0.2:8080" -m recent --name $A --rcheck --seconds 10800 --reap -j $A
-m comment --comment "default/web:http -> 10.244.0.3:8080" -m recent --name $B --rcheck --seconds 10800 --reap -j $B
-m comment --comment "default/web:http -> 10.244.0.2:8080" -m statistic --mode random --probability 0.5000000000 -j $A
-m comment --comment "default/web:http -> 10.244.0.3:8080" -j $B`,
				"nat $A": `-m comment --comment "default/web:http" -s 10.244.0.2 -j KUBE-MARK-MASQ
-m comment --comment "default/web:http" -m recent --name $A --set -m tcp -p tcp -j DNAT --to-destination 10.244.0.2:8080`,
			},
		},
		"load balancer for some sources": {
			port:      tracker.ServicePort{LoadBalancerIPs: []string{"5.6.7.8"}, SourceRanges: []string{"203.0.113.0/24"}, HealthCheckNodePort: 31000},
			endpoints: endpoints(0, "10.244.0.2"),
			want: map[string]string{
				"nat KUBE-FW-$HASH": `-m comment --comment "default/web:http loadbalancer IP" -s 203.0.113.0/24 -j KUBE-EXT-$HASH
-m comment --comment "other traffic to default/web:http will be dropped by KUBE-PROXY-FIREWALL"`,
				"filter KUBE-PROXY-FIREWALL": `-m comment --comment "default/web:http traffic not accepted by KUBE-FW-$HASH" -m tcp -p tcp -d 5.6.7.8 --dport 80 -j DROP`,
				"filter KUBE-NODEPORTS":      `-m comment --comment "default/web:http health check node port" -m tcp -p tcp --dport 31000 -j ACCEPT`,
			},
		},
		"masquerade all": {
			port: tracker.ServicePort{}, endpoints: endpoints(0, "10.244.0.2"), change: func(in *Input) { in.MasqueradeAll = true },
			want: map[string]string{
				"nat KUBE-SVC-$HASH": `-m comment --comment "default/web:http cluster IP" -m tcp -p tcp -d 10.96.0.9 --dport 80 -j KUBE-MARK-MASQ
-m comment --comment "default/web:http -> 10.244.0.2:8080" -j $A`,
			},
		},
		// R52: a bridge without br_netfilter.
		"plain bridge": {
			port: tracker.ServicePort{}, endpoints: endpoints(1, "10.244.0.2", "10.244.0.3"), change: func(in *Input) { in.MasqueradeLocal = true },
			want: map[string]string{
				"nat $A": `-m comment --comment "default/web:http" -s 10.244.0.2 -j KUBE-MARK-MASQ
-m comment --comment "default/web:http" -s 10.244.0.0/16 -j KUBE-MARK-MASQ
-m comment --comment "default/web:http" -m tcp -p tcp -j DNAT --to-destination 10.244.0.2:8080`,
				"nat $B": `-m comment --comment "default/web:http" -s 10.244.0.3 -j KUBE-MARK-MASQ
-m comment --comment "default/web:http" -m tcp -p tcp -j DNAT --to-destination 10.244.0.3:8080`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			port := test.port
			port.ClusterIP, port.Port = "10.96.0.9", 80
			in := Input{
				Services: tracker.ServicePortMap{web: &port}, Endpoints: tracker.EndpointsMap{web: test.endpoints}, ClusterCIDR: "10.244.0.0/16",
			}
			if test.change != nil {
				test.change(&in)
			}
			r := ComputeRules(in)
			for where, want := range test.want {
				table, chain, _ := strings.Cut(replace.Replace(where), " ")
				if got := rulesOf(r, table, chain); got != replace.Replace(want) {
					t.Errorf("%s %s:\n%s\nwant\n%s", table, chain, got, replace.Replace(want))
				}
			}
			checkConsistent(t, r)
		})
	}
}

// checkConsistent: each chain that is named exists, and each chain that exists for a
// Service is named.
func checkConsistent(t *testing.T, r *Ruleset) {
	t.Helper()
	for _, table := range []*Table{&r.Filter, &r.Nat} {
		declared, used := map[string]bool{}, map[string]bool{}
		for _, chain := range table.Chains {
			if declared[chain] {
				t.Errorf("chain %s is declared twice", chain)
			}
			declared[chain] = true
		}
		for _, rule := range table.Rules {
			used[ruleTarget(rule)] = true
			if target := ruleTarget(rule); strings.HasPrefix(target, "KUBE-") && !declared[target] {
				t.Errorf("no chain %s for rule %s", target, rule)
			}
			if !declared[ruleChain(rule)] {
				t.Errorf("no chain for rule %s", rule)
			}
		}
		for chain := range declared {
			if isPerServiceChain(chain) && !used[chain] {
				t.Errorf("nothing leads to chain %s", chain)
			}
		}
	}
}

func TestForwardLetsPodsThrough(t *testing.T) {
	want := `-m conntrack --ctstate INVALID -j DROP
-m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-m comment --comment "traffic from pods" -s 10.244.0.0/16 -j ACCEPT
-m comment --comment "traffic to pods" -d 10.244.0.0/16 -j ACCEPT`
	if got := rulesOf(ComputeRules(Input{ClusterCIDR: "10.244.0.0/16"}), "filter", "KUBE-FORWARD"); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestExplainWalksToEndpoints(t *testing.T) {
	web := portName("default/web", "http")
	port := tracker.ServicePort{ClusterIP: "10.96.0.9", Port: 80, NodePort: 30080}
	in := Input{Services: tracker.ServicePortMap{
		web: &port, portName("default/web2", "http"): {ClusterIP: "10.96.0.10", Port: 80},
	}, Endpoints: tracker.EndpointsMap{
		web: endpoints(0, "10.244.0.2", "10.244.0.3", "10.244.0.4", "10.244.0.5"), portName("default/web2", "http"): endpoints(0, "10.244.0.9"),
	}, ClusterCIDR: "10.244.0.0/16"}
	ways := Explain(ComputeRules(in).Text(), "default", "web")
	if len(ways) != 2 {
		t.Fatalf("%d ways in, want cluster IP and node port:\n%s", len(ways), FormatSteps(ways))
	}
	var probabilities []float64
	for _, s := range ways[0].Next {
		probabilities = append(probabilities, s.Probability)
		if s.Share < 0.249 || s.Share > 0.251 || len(s.Next) != 1 || s.Next[0].Destination == "" {
			t.Errorf("step %+v", s)
		}
	}
	if len(probabilities) != 4 || probabilities[0] != 0.25 || probabilities[1] != 0.3333333333 || probabilities[2] != 0.5 || probabilities[3] != 1 {
		t.Errorf("probabilities %v", probabilities)
	}
	text := FormatSteps(ways)
	for _, want := range []string{"tcp 10.96.0.9 port 80 (default/web:http cluster IP) to KUBE-SVC-", "to 10.244.0.5:8080, 25.0 % of all", "tcp this node port 30080"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// In IPv6, loopback leads to no NodePort, nothing is said of 127.0.0.1, and addresses with ports stand in brackets.
func TestRulesOfIPv6(t *testing.T) {
	web := portName("default/web", "")
	text := ComputeRules(Input{IPv6: true, ClusterCIDR: "fd00:10:244::/56", LocalhostNodePorts: true,
		Services:  tracker.ServicePortMap{web: {ClusterIP: "fd00:10:96::9", Port: 80, NodePort: 30080}},
		Endpoints: tracker.EndpointsMap{web: {{IP: "fd00:10:244::2", Port: 8080, Ready: true}}}}).Text()
	for _, want := range []string{"! -d ::1/128 -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS", "-d fd00:10:96::9 --dport 80", "--to-destination [fd00:10:244::2]:8080",
		"-s fd00:10:244::2 -j KUBE-MARK-MASQ", "! -s fd00:10:244::/56 -j KUBE-MARK-MASQ"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "127.0.0") {
		t.Errorf("an IPv4 address in\n%s", text)
	}
}
