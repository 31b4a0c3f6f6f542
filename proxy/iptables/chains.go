package iptables

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	v1 "k8s.io/api/core/v1"

	"hyperkube/proxy/tracker"
)

// The chains that always exist. Names are upstream's, so that what one learned about
// `iptables-save` on any cluster holds here.
const (
	kubeServicesChain         = "KUBE-SERVICES"
	kubeExternalServicesChain = "KUBE-EXTERNAL-SERVICES"
	kubeNodePortsChain        = "KUBE-NODEPORTS"
	kubePostroutingChain      = "KUBE-POSTROUTING"
	kubeMarkMasqChain         = "KUBE-MARK-MASQ"
	kubeForwardChain          = "KUBE-FORWARD"
	kubeProxyFirewallChain    = "KUBE-PROXY-FIREWALL"
	kubeletFirewallChain      = "KUBE-FIREWALL"
)

// The chains of one Service port or endpoint: a prefix and a hash, since a chain's
// name may have 28 characters at most.
const (
	servicePortPolicyClusterChainPrefix = "KUBE-SVC-" // to any endpoint
	servicePortPolicyLocalChainPrefix   = "KUBE-SVL-" // to endpoints of this node
	serviceExternalChainPrefix          = "KUBE-EXT-" // what comes from outside
	serviceFirewallChainPrefix          = "KUBE-FW-"  // who may use the load balancer
	servicePortEndpointChainPrefix      = "KUBE-SEP-" // one endpoint
)

// perServicePrefixes are the chains that come and go.
var perServicePrefixes = []string{
	servicePortPolicyClusterChainPrefix, servicePortPolicyLocalChainPrefix, serviceExternalChainPrefix,
	serviceFirewallChainPrefix, servicePortEndpointChainPrefix,
}

// masqueradeMark is the bit that says "rewrite the source address" between the
// chains that decide it and KUBE-POSTROUTING, which does it.
const masqueradeMark = "0x4000"

// portProtoHash hashes a Service port as upstream does.
func portProtoHash(name tracker.ServicePortName) string {
	return hash16(name.String() + protocol(name.Protocol))
}

func hash16(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:])[:16]
}

// servicePortEndpointChainName names the chain of one endpoint of a Service port.
func servicePortEndpointChainName(name tracker.ServicePortName, endpoint string) string {
	return servicePortEndpointChainPrefix + hash16(name.String()+protocol(name.Protocol)+endpoint)
}

func protocol(p v1.Protocol) string { return strings.ToLower(string(p)) }

// isPerServiceChain tells whether a chain belongs to some Service.
func isPerServiceChain(chain string) bool {
	for _, prefix := range perServicePrefixes {
		if strings.HasPrefix(chain, prefix) {
			return true
		}
	}
	return false
}

// jump is a rule in a built-in chain that leads into one of ours.
type jump struct {
	table, from, to string
	match           string
}

// jumps in the order they must stand, first to last. KUBE-FORWARD accepts what pods
// send, so it must come after the chains that refuse traffic to Services without
// endpoints; otherwise clients would wait for a timeout.
var jumps = []jump{
	{"filter", "INPUT", kubeProxyFirewallChain, `-m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall"`},
	{"filter", "INPUT", kubeNodePortsChain, `-m comment --comment "kubernetes health check service ports"`},
	{"filter", "INPUT", kubeExternalServicesChain, `-m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals"`},
	{"filter", "INPUT", kubeletFirewallChain, ""},
	{"filter", "OUTPUT", kubeProxyFirewallChain, `-m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall"`},
	{"filter", "OUTPUT", kubeServicesChain, `-m conntrack --ctstate NEW -m comment --comment "kubernetes service portals"`},
	{"filter", "OUTPUT", kubeletFirewallChain, ""},
	{"filter", "FORWARD", kubeProxyFirewallChain, `-m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall"`},
	{"filter", "FORWARD", kubeServicesChain, `-m conntrack --ctstate NEW -m comment --comment "kubernetes service portals"`},
	{"filter", "FORWARD", kubeExternalServicesChain, `-m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals"`},
	{"filter", "FORWARD", kubeForwardChain, `-m comment --comment "kubernetes forwarding rules"`},
	{"nat", "PREROUTING", kubeServicesChain, `-m comment --comment "kubernetes service portals"`},
	{"nat", "OUTPUT", kubeServicesChain, `-m comment --comment "kubernetes service portals"`},
	{"nat", "POSTROUTING", kubePostroutingChain, `-m comment --comment "kubernetes postrouting rules"`},
}

// fixedChains are the chains that always exist, per table.
var fixedChains = map[string][]string{
	"filter": {kubeServicesChain, kubeExternalServicesChain, kubeForwardChain, kubeNodePortsChain, kubeProxyFirewallChain, kubeletFirewallChain},
	"nat":    {kubeServicesChain, kubeNodePortsChain, kubePostroutingChain, kubeMarkMasqChain},
}
