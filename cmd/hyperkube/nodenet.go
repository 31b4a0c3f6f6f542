package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"hyperkube/addons/nodenet"
	"hyperkube/component"
	"hyperkube/pki"
)

// nodenetOptions is the command line of `hyperkube nodenet`.
type nodenetOptions struct {
	apiClient
}

func newNodenetOptions() component.Options {
	return &nodenetOptions{apiClient: newAPIClient("nodenet", "system:hyperkube-nodenet")}
}

// Run waits for the apiserver, then keeps the routes. When the whole cluster leaves the host, it takes the bridge along.
func (o *nodenetOptions) Run(ctx context.Context, env *component.Env) error {
	_, set, err := o.connect(ctx)
	if err != nil {
		return nil // stopped while waiting
	}
	host, err := nodeName()
	if err != nil {
		return err
	}
	network := nodeNetwork(o.dir)
	router, err := nodenet.New(nodenet.Config{
		Client: set, Network: network, Host: host, Further: furtherNodes(host, o.dir.Cluster.Nodes),
		Gate: o.gate(), Metrics: env.Metrics, Health: env.Health,
	})
	if err != nil {
		return err
	}
	err = o.serveAndRun(ctx, env, "", router.Run)
	if component.Leaving(ctx) {
		err = errors.Join(err, network.CleanUp(env.Context(context.Background())))
	}
	return err
}

// nodeNetwork is the network between the nodes of a data directory.
func nodeNetwork(dir *pki.Dir) nodenet.Network {
	// All have been read by pki, which refuses what is no range.
	cluster := dir.Cluster
	network := nodenet.Network{ID: strings.TrimPrefix(clusterID(dir), "/"),
		Ranges: []nodenet.Range{{Nodes: netip.MustParsePrefix(cluster.NodeCIDR), Pods: netip.MustParsePrefix(cluster.PodCIDR)}}}
	if cluster.DualStack() {
		network.Ranges = append(network.Ranges, nodenet.Range{Nodes: netip.MustParsePrefix(cluster.SecondaryNodeCIDR), Pods: netip.MustParsePrefix(cluster.SecondaryPodCIDR)})
	}
	return network
}

// furtherNodes are the names of the nodes besides the machine itself, when there are count in all: node-2, node-3 and so
// on, but never the machine's own name.
func furtherNodes(host string, count int) []string {
	var names []string
	for number := 2; len(names) < count-1; number++ {
		if name := fmt.Sprintf("node-%d", number); name != host {
			names = append(names, name)
		}
	}
	return names
}

// furtherMark is the file in a node's folder that says: this node has a network namespace of its own, with this number.
func furtherMark(dir *pki.Dir, node string) string {
	return filepath.Join(dir.NodeDir(node), "number")
}

// furtherNumber is a further node's number in the network; 0: the node is the machine itself.
func furtherNumber(dir *pki.Dir, node string) int {
	number := 0
	if data, err := os.ReadFile(furtherMark(dir, node)); err == nil {
		if _, err := fmt.Sscan(string(data), &number); err != nil {
			return 0
		}
	}
	return number
}
