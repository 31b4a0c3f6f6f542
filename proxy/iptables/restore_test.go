package iptables

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"hyperkube/proxy/tracker"
)

// fakeKernel holds rules as iptables-save would print them, and takes what
// iptables-restore would be given.
type fakeKernel struct {
	tables   map[string]*SavedTable
	restores int
	fail     error
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{tables: map[string]*SavedTable{"filter": {Chains: map[string]bool{}}, "nat": {Chains: map[string]bool{}}}}
}

func (k *fakeKernel) run(_ context.Context, stdin string, argv ...string) (string, error) {
	switch {
	case strings.HasSuffix(argv[0], "-save") && len(argv) == 3:
		t := k.tables[argv[2]]
		out := "*" + argv[2] + "\n"
		for chain := range t.Chains {
			out += ":" + chain + " - [0:0]\n"
		}
		return out + strings.Join(t.Rules, "\n") + "\nCOMMIT\n", nil
	case strings.HasSuffix(argv[0], "-restore"):
		if k.fail != nil {
			return "", k.fail
		}
		k.restores++
		return "", k.restore(stdin)
	}
	return "", nil
}

func (k *fakeKernel) restore(text string) error {
	var t *SavedTable
	for _, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "*"):
			t = k.tables[line[1:]]
		case strings.HasPrefix(line, ":"):
			t.Chains[fields[0][1:]] = true
			t.remove(func(rule string) bool { return ruleChain(rule) == fields[0][1:] })
		case strings.HasPrefix(line, "-A "):
			t.Rules = append(t.Rules, line)
		case strings.HasPrefix(line, "-I "):
			t.insert(fields)
		case strings.HasPrefix(line, "-D "):
			i := slices.Index(t.Rules, "-A"+line[2:])
			if i < 0 {
				return errors.New("no rule for " + line)
			}
			t.Rules = slices.Delete(t.Rules, i, i+1)
		case strings.HasPrefix(line, "-X "):
			delete(t.Chains, fields[1])
		}
	}
	return nil
}

// insert puts "-I CHAIN n ..." at the n-th place of its chain.
func (t *SavedTable) insert(fields []string) {
	rule := strings.Join(append([]string{"-A", fields[1]}, fields[3:]...), " ")
	seen := '0'
	for i, other := range t.Rules {
		if ruleChain(other) == fields[1] {
			if seen++; string(seen) == fields[2] {
				t.Rules = append(t.Rules[:i], append([]string{rule}, t.Rules[i:]...)...)
				return
			}
		}
	}
	t.Rules = append(t.Rules, rule)
}

func (t *SavedTable) remove(match func(string) bool) {
	var kept []string
	for _, rule := range t.Rules {
		if !match(rule) {
			kept = append(kept, rule)
		}
	}
	t.Rules = kept
}

func (k *fakeKernel) proxier(t *testing.T) *Proxier {
	t.Helper()
	return NewProxier(&Backend{Program: "iptables", run: k.run})
}

func input(ips ...string) Input {
	web := portName("default/web", "")
	return Input{
		Services:  tracker.ServicePortMap{web: {ClusterIP: "10.96.0.9", Port: 80, NodePort: 30080}},
		Endpoints: tracker.EndpointsMap{web: endpoints(0, ips...)}, ClusterCIDR: "10.244.0.0/16", LocalhostNodePorts: true,
	}
}

// R50: a hundred syncs add nothing.
func TestSyncIsIdempotent(t *testing.T) {
	k := newFakeKernel()
	count := 0
	for i := range 100 {
		// Each time a new Proxier, as after a restart, and every second time the same.
		p := k.proxier(t)
		for range 2 {
			if _, err := p.SyncProxyRules(t.Context(), input("10.244.0.2", "10.244.0.3")); err != nil {
				t.Fatal(err)
			}
		}
		if now := len(k.tables["filter"].Rules) + len(k.tables["nat"].Rules); i > 0 && now != count {
			t.Fatalf("sync %d: %d rules, before %d", i, now, count)
		} else {
			count = now
		}
	}
	if k.restores != 100 {
		t.Errorf("%d writes for 200 syncs, want one for each Proxier", k.restores)
	}
}

func TestSyncRemovesChainsOfGoneEndpoints(t *testing.T) {
	k := newFakeKernel()
	p := k.proxier(t)
	for _, in := range []Input{input("10.244.0.2", "10.244.0.3"), input("10.244.0.3")} {
		if _, err := p.SyncProxyRules(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	gone := servicePortEndpointChainName(portName("default/web", ""), "10.244.0.2:8080")
	if k.tables["nat"].Chains[gone] || strings.Contains(strings.Join(k.tables["nat"].Rules, "\n"), gone) {
		t.Errorf("chain %s is still there", gone)
	}
}

func TestFlushedJumpsComeBackInFront(t *testing.T) {
	k := newFakeKernel()
	p := k.proxier(t)
	if _, err := p.SyncProxyRules(t.Context(), input("10.244.0.2")); err != nil {
		t.Fatal(err)
	}
	// Somebody flushes FORWARD, puts in his own, and doubles one of ours.
	filter := k.tables["filter"]
	filter.remove(func(rule string) bool { return ruleChain(rule) == "FORWARD" })
	filter.Rules = append(filter.Rules, "-A FORWARD -j DOCKER-USER", "-A FORWARD -j KUBE-FORWARD", "-A FORWARD -j KUBE-FORWARD")
	if _, err := p.SyncProxyRules(t.Context(), input("10.244.0.2")); err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, rule := range filter.Rules {
		if ruleChain(rule) == "FORWARD" {
			targets = append(targets, ruleTarget(rule))
		}
	}
	want := "KUBE-PROXY-FIREWALL KUBE-SERVICES KUBE-EXTERNAL-SERVICES KUBE-FORWARD DOCKER-USER"
	if got := strings.Join(targets, " "); got != want {
		t.Errorf("FORWARD leads to %s, want %s", got, want)
	}
}

// R70: what was there before is there afterwards, and nothing else.
func TestCleanUpRestoresTheHost(t *testing.T) {
	k := newFakeKernel()
	k.tables["nat"].Chains["DOCKER"] = true
	k.tables["nat"].Rules = []string{"-A PREROUTING -j DOCKER", "-A DOCKER -j RETURN"}
	before := strings.Join(k.tables["nat"].Rules, "\n")
	p := k.proxier(t)
	if _, err := p.SyncProxyRules(t.Context(), input("10.244.0.2")); err != nil {
		t.Fatal(err)
	}
	if err := p.CleanUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(k.tables["nat"].Rules, "\n"); got != before || len(k.tables["filter"].Rules) != 0 {
		t.Errorf("left:\n%s\n%v", got, k.tables["filter"].Rules)
	}
	if len(k.tables["nat"].Chains) != 1 || len(k.tables["filter"].Chains) != 0 {
		t.Errorf("chains left: %v %v", k.tables["nat"].Chains, k.tables["filter"].Chains)
	}
	writes := k.restores
	if err := p.CleanUp(t.Context()); err != nil || k.restores != writes {
		t.Errorf("a second clean-up: %v, %d writes", err, k.restores-writes)
	}
}

func TestFailedWriteIsTriedAgain(t *testing.T) {
	k := newFakeKernel()
	p := k.proxier(t)
	k.fail = errors.New("lock")
	if _, err := p.SyncProxyRules(t.Context(), input("10.244.0.2")); !errors.Is(err, k.fail) {
		t.Fatalf("got %v", err)
	}
	k.fail = nil
	report, err := p.SyncProxyRules(t.Context(), input("10.244.0.2"))
	if err != nil || !report.Written || len(report.Added) == 0 {
		t.Errorf("report %+v, %v", report, err)
	}
}

func TestReportNamesWhatChanged(t *testing.T) {
	k := newFakeKernel()
	p := k.proxier(t)
	if _, err := p.SyncProxyRules(t.Context(), input("10.244.0.2")); err != nil {
		t.Fatal(err)
	}
	report, err := p.SyncProxyRules(t.Context(), input("10.244.0.2", "10.244.0.3"))
	if err != nil {
		t.Fatal(err)
	}
	// Two rules of the new endpoint, and its line in KUBE-SVC; the first endpoint's
	// line got a probability.
	if len(report.Added) != 4 || len(report.Removed) != 1 {
		t.Errorf("added:\n%s\nremoved:\n%s", strings.Join(report.Added, "\n"), strings.Join(report.Removed, "\n"))
	}
}

// R50.
func TestChooseBackend(t *testing.T) {
	for name, test := range map[string]struct {
		mode Mode
		p    probe
		want string
	}{
		"nothing installed":     {ModeAuto, probe{}, ""},
		"fresh host":            {ModeAuto, probe{plain: true, nft: true, legacy: true}, "iptables"},
		"rules in legacy":       {ModeAuto, probe{plain: true, nft: true, legacy: true, legacyRules: 3, nftRules: 1}, "iptables-legacy"},
		"rules in nft":          {ModeAuto, probe{plain: true, nft: true, legacy: true, nftRules: 3}, "iptables-nft"},
		"a kubelet says nft":    {ModeAuto, probe{plain: true, nft: true, legacy: true, legacyRules: 9, nftKube: true}, "iptables-nft"},
		"a kubelet says legacy": {ModeAuto, probe{plain: true, nft: true, legacy: true, nftRules: 9, legacyKube: true}, "iptables-legacy"},
		"only plain (Alpine)":   {ModeAuto, probe{plain: true}, "iptables"},
		"asked for":             {ModeLegacy, probe{plain: true, nft: true, legacy: true, nftRules: 9}, "iptables-legacy"},
		"asked for, not there":  {ModeLegacy, probe{plain: true, nft: true}, ""},
		"unknown mode":          {"ipset", probe{plain: true}, ""},
	} {
		got, _, err := chooseBackend(test.mode, test.p)
		if got != test.want || (err == nil) == (test.want == "") {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestOwnRulesDoNotDecideTheBackend(t *testing.T) {
	save := "*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A KUBE-SERVICES -j RETURN\n-A POSTROUTING -j MASQUERADE\n"
	if got := countForeignRules(save); got != 1 {
		t.Errorf("%d foreign rules, want 1", got)
	}
}
