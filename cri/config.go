package cri

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"hyperkube/component"
	"hyperkube/cri/network"
)

// Config is the runtime of one node.
type Config struct {
	// Root holds everything that belongs to this runtime: images, pods, given
	// addresses. DIR/nodes/<name>/cri.
	Root string
	// Socket is the path of the CRI socket. Default: Root/cri.sock.
	Socket string
	// NodeName is the node's name; only for logs and for the default of CgroupRoot.
	NodeName string
	// CNIConfDir holds network configurations. The first by name is used; ours is
	// written there once the pod CIDR is known. Default: Root/cni/net.d.
	CNIConfDir string
	// CNIBinDir holds CNI plugins. Default: Root/cni/bin.
	CNIBinDir string
	// CDISpecDirs are where devices are described, the last first in rank. Default: /etc/cdi, /var/run/cdi.
	CDISpecDirs []string
	// PodCIDR is the node's share of the pods' addresses. Empty: the kubelet tells
	// it (UpdateRuntimeConfig), and until then the network is not ready.
	PodCIDR string
	// ClusterCIDR is all pods' addresses; traffic to it is not masqueraded. Default: PodCIDR.
	ClusterCIDR string
	// Bridge is the name of the pods' bridge, at most 15 letters. Default: "hk" and
	// six letters derived from Root, so that two clusters have two.
	Bridge string
	// CgroupRoot is the cgroup, below the root of the hierarchy, of pods that come
	// without one. Default: hyperkube/<NodeName>.
	CgroupRoot string
	// ImagesDir holds image archives (*.tar) that are loaded at start. Empty: none.
	ImagesDir string
	// Registries is a file with mirrors and what is special about registries
	// (`cri/images/registries_linux.go:Registries`). It need not exist; a change
	// counts from the next pull on.
	Registries string
	// RegistryMirrors are more mirrors: HOST=URL, or only URL for docker.io.
	RegistryMirrors []string
	// SelfExe is this program. It is started as argv[0] "podparent" and "box" when
	// it does not carry those programs, and as the CNI plugins. Default: /proc/self/exe's target.
	SelfExe string
	// Box is the program that the demo image is made of. Default: the embedded one,
	// or SelfExe.
	Box string
	// Metrics takes this component's metrics; nil: none.
	Metrics prometheus.Registerer
	// Health gets a check that the socket answers; nil: none.
	Health *component.Health
}

// complete fills in defaults.
func (c *Config) complete() {
	setDefault(&c.Socket, filepath.Join(c.Root, "cri.sock"))
	setDefault(&c.CNIConfDir, filepath.Join(c.Root, "cni", "net.d"))
	setDefault(&c.CNIBinDir, filepath.Join(c.Root, "cni", "bin"))
	if c.CDISpecDirs == nil {
		c.CDISpecDirs = []string{"/etc/cdi", "/var/run/cdi"}
	}
	setDefault(&c.CgroupRoot, "hyperkube/"+c.NodeName)
	c.CgroupRoot = "/" + strings.Trim(c.CgroupRoot, "/")
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// BridgeName is the name of the pods' bridge.
func (c *Config) BridgeName() string {
	if c.Bridge != "" {
		return c.Bridge
	}
	return network.BridgeName(c.networkDir())
}

// networkDir holds the given addresses.
func (c *Config) networkDir() string { return filepath.Join(c.Root, "cni", "data") }

// validate refuses what cannot work.
func (c *Config) validate() error {
	if !filepath.IsAbs(c.Root) {
		return fmt.Errorf("root %q must be an absolute path", c.Root)
	}
	if c.NodeName == "" {
		return errors.New("the node's name is missing")
	}
	for name, cidrs := range map[string]string{"pod CIDR": c.PodCIDR, "cluster CIDR": c.ClusterCIDR} {
		if cidrs == "" {
			continue
		}
		for _, cidr := range strings.Split(cidrs, ",") {
			if _, err := netip.ParsePrefix(cidr); err != nil {
				return fmt.Errorf("%s %q is not a network such as 10.244.0.0/24", name, cidr)
			}
		}
	}
	if len(c.Bridge) > 15 {
		return fmt.Errorf("bridge name %q is longer than 15 letters", c.Bridge)
	}
	return nil
}
