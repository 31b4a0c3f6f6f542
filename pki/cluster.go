package pki

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"hyperkube/component/durable"
)

// layoutVersion is the version of the data directory's layout. A directory of
// another version is refused, never guessed at (R77).
const layoutVersion = 1

// Cluster is what all components of one cluster must agree on: cluster.yaml.
type Cluster struct {
	Version int `json:"version"`
	// Name tells clusters on one machine apart; it is part of link, cgroup and chain names.
	Name string `json:"name"`
	// APIServerHost and APIServerPort are where the apiserver is reached. Port 0: it has not
	// bound one yet (--ports=auto).
	APIServerHost string `json:"apiServerHost"`
	APIServerPort int    `json:"apiServerPort"`
	// EtcdPort is etcd's client port on loopback; 0 as above.
	EtcdPort int `json:"etcdPort"`
	// PodCIDR is the range of all pods; each node gets a /24 (or /120) of it.
	PodCIDR string `json:"podCIDR"`
	// ServiceCIDR is the range of ClusterIPs; its first address is the apiserver's.
	ServiceCIDR string `json:"serviceCIDR"`
	// SecondaryPodCIDR and SecondaryServiceCIDR are the same in IPv6, of a cluster of two families: both, or none.
	SecondaryPodCIDR     string `json:"secondaryPodCIDR,omitempty"`
	SecondaryServiceCIDR string `json:"secondaryServiceCIDR,omitempty"`
	// DNSAddress is the ClusterIP of the kube-dns Service: the tenth of ServiceCIDR.
	DNSAddress string `json:"dnsAddress"`
	// ClusterDomain is the suffix of all names in the cluster.
	ClusterDomain string `json:"clusterDomain"`
	// Nodes is how many real nodes this machine has; the first is the machine itself. 0 is 1.
	Nodes int `json:"nodes,omitempty"`
	// NodeCIDR is the range of the nodes' addresses when there are several.
	NodeCIDR string `json:"nodeCIDR,omitempty"`
	// SecondaryNodeCIDR is the same in IPv6, of a cluster of two families.
	SecondaryNodeCIDR string `json:"secondaryNodeCIDR,omitempty"`
	// AutoPorts says that every port was left to the kernel, for a second cluster beside a first.
	AutoPorts bool `json:"autoPorts,omitempty"`
}

// defaultNodeCIDR is off the ranges that home routers and clouds give out.
const (
	defaultNodeCIDR          = "172.30.254.0/24"
	defaultSecondaryNodeCIDR = "fd00:172:30:254::/64"
)

// DefaultCluster is the cluster that `hyperkube all` makes when nothing else is said.
func DefaultCluster() Cluster {
	return Cluster{
		Version: layoutVersion, Name: "hyperkube",
		APIServerHost: "127.0.0.1", APIServerPort: 6443, EtcdPort: 2379,
		PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/16", NodeCIDR: defaultNodeCIDR, ClusterDomain: "cluster.local",
	}
}

// complete fills what follows from the rest.
func (c *Cluster) complete() error {
	if c.NodeCIDR == "" {
		c.NodeCIDR = defaultNodeCIDR
	}
	if c.SecondaryNodeCIDR == "" && c.DualStack() {
		c.SecondaryNodeCIDR = defaultSecondaryNodeCIDR
	}
	if c.DNSAddress == "" {
		dns, err := c.serviceAddress(10)
		if err != nil {
			return err
		}
		c.DNSAddress = dns
	}
	return nil
}

// completeAndValidate returns the first thing that is wrong, since what follows it is a consequence.
func (c *Cluster) completeAndValidate() error {
	if err := c.complete(); err != nil && c.Version == layoutVersion {
		return err
	}
	return c.validate()
}

func (c *Cluster) validate() error {
	if c.Version != layoutVersion {
		return fmt.Errorf("version %d: this hyperkube reads version %d; use the release that wrote it, or another --data-dir", c.Version, layoutVersion)
	}
	if problems := validation.IsDNS1123Label(c.Name); len(problems) > 0 {
		return fmt.Errorf("name %q: %s", c.Name, problems[0])
	}
	for _, cidr := range []struct{ field, value string }{{"podCIDR", c.PodCIDR}, {"serviceCIDR", c.ServiceCIDR}, {"nodeCIDR", c.NodeCIDR}} {
		if prefix, err := netip.ParsePrefix(cidr.value); err != nil || !prefix.Addr().Is4() {
			return fmt.Errorf("%s %q: must be an IPv4 range such as 10.244.0.0/16", cidr.field, cidr.value)
		}
	}
	if err := c.validateSecondary(); err != nil {
		return err
	}
	pods, services := netip.MustParsePrefix(c.PodCIDR), netip.MustParsePrefix(c.ServiceCIDR)
	if pods.Overlaps(services) {
		return fmt.Errorf("podCIDR %s and serviceCIDR %s overlap: choose ranges apart", pods, services)
	}
	if nodes := netip.MustParsePrefix(c.NodeCIDR); nodes.Overlaps(pods) || nodes.Overlaps(services) {
		return fmt.Errorf("nodeCIDR %s overlaps podCIDR %s or serviceCIDR %s: choose ranges apart", nodes, pods, services)
	}
	if dns, err := netip.ParseAddr(c.DNSAddress); err != nil || !services.Contains(dns) {
		return fmt.Errorf("dnsAddress %q: must be an address within serviceCIDR %s", c.DNSAddress, services)
	}
	return nil
}

// validateSecondary: both ranges of IPv6, or none. With only one of them, Services would have addresses that lead to no pod,
// or pods addresses that no Service has.
func (c *Cluster) validateSecondary() error {
	if c.SecondaryPodCIDR == "" && c.SecondaryServiceCIDR == "" {
		return nil
	}
	if c.SecondaryPodCIDR == "" || c.SecondaryServiceCIDR == "" {
		return fmt.Errorf("secondaryPodCIDR %q, secondaryServiceCIDR %q: a cluster of two families needs both", c.SecondaryPodCIDR, c.SecondaryServiceCIDR)
	}
	for _, cidr := range []struct{ field, value string }{{"secondaryPodCIDR", c.SecondaryPodCIDR}, {"secondaryServiceCIDR", c.SecondaryServiceCIDR}, {"secondaryNodeCIDR", c.SecondaryNodeCIDR}} {
		if prefix, err := netip.ParsePrefix(cidr.value); err != nil || !prefix.Addr().Is6() || prefix.Addr().Is4In6() {
			return fmt.Errorf("%s %q: must be an IPv6 range such as fd00:10:244::/56", cidr.field, cidr.value)
		}
	}
	pods, services := netip.MustParsePrefix(c.SecondaryPodCIDR), netip.MustParsePrefix(c.SecondaryServiceCIDR)
	if pods.Overlaps(services) {
		return fmt.Errorf("secondaryPodCIDR %s and secondaryServiceCIDR %s overlap: choose ranges apart", pods, services)
	}
	if nodes := netip.MustParsePrefix(c.SecondaryNodeCIDR); nodes.Overlaps(pods) || nodes.Overlaps(services) {
		return fmt.Errorf("secondaryNodeCIDR %s overlaps secondaryPodCIDR %s or secondaryServiceCIDR %s: choose ranges apart", nodes, pods, services)
	}
	if services.Bits() > 124 {
		return fmt.Errorf("secondaryServiceCIDR %s: too small, a /124 is the least", services)
	}
	return nil
}

// DualStack: pods and Services have addresses of two families.
func (c *Cluster) DualStack() bool { return c.SecondaryPodCIDR != "" }

// PodCIDRs and ServiceCIDRs are the ranges as flags have them: one, or two with a comma between.
func (c *Cluster) PodCIDRs() string { return withComma(c.PodCIDR, c.SecondaryPodCIDR) }

// ServiceCIDRs are those of the Services.
func (c *Cluster) ServiceCIDRs() string { return withComma(c.ServiceCIDR, c.SecondaryServiceCIDR) }

func withComma(first, second string) string {
	if second == "" {
		return first
	}
	return first + "," + second
}

// serviceAddress returns the n-th address of the service range.
func (c *Cluster) serviceAddress(n int) (string, error) {
	prefix, err := netip.ParsePrefix(c.ServiceCIDR)
	if err != nil {
		return "", fmt.Errorf("serviceCIDR %q: must be an IPv4 range such as 10.96.0.0/16", c.ServiceCIDR)
	}
	address := prefix.Masked().Addr()
	for range n {
		address = address.Next()
	}
	if !prefix.Contains(address) {
		return "", fmt.Errorf("serviceCIDR %s: too small, it needs an address %d", prefix, n)
	}
	return address.String(), nil
}

// APIServerURL is the address in every kubeconfig.
func (c *Cluster) APIServerURL() string {
	return "https://" + net.JoinHostPort(c.APIServerHost, strconv.Itoa(c.APIServerPort))
}

// EtcdURL is where the apiserver reaches the embedded etcd.
func (c *Cluster) EtcdURL() string {
	return "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(c.EtcdPort))
}

// KubernetesServiceAddresses are the ClusterIPs that the apiserver's certificate is for: the first of each range.
func (c *Cluster) KubernetesServiceAddresses() ([]string, error) {
	first, err := c.serviceAddress(1)
	if err != nil || !c.DualStack() {
		return []string{first}, err
	}
	return []string{first, netip.MustParsePrefix(c.SecondaryServiceCIDR).Masked().Addr().Next().String()}, nil
}

// ReadCluster reads cluster.yaml; os.ErrNotExist when there is none.
func ReadCluster(dataDir string) (*Cluster, error) {
	file := filepath.Join(dataDir, "cluster.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var c Cluster
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return nil, fmt.Errorf("%s: %w; mend or remove it", file, err)
	}
	if err := c.completeAndValidate(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &c, nil
}

func writeCluster(dataDir string, c *Cluster) error {
	data, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	head := "# What all components of this cluster agree on. Written by the first that started; the\n" +
		"# apiserver and etcd record the ports they bound. Change it only while nothing runs.\n"
	return durable.WriteFile(filepath.Join(dataDir, "cluster.yaml"), append([]byte(head), data...), 0o644)
}
