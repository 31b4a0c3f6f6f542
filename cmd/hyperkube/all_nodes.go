package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"hyperkube/component"
	"hyperkube/pki"
)

// settleNodes writes down how many nodes there are, removes from the host those that are no more, and returns the parts
// that run the further ones.
func (o *allOptions) settleNodes(ctx context.Context) ([]*part, error) {
	if err := o.dir.Update(func(c *pki.Cluster) { c.Nodes = o.Nodes }); err != nil {
		return nil, err
	}
	host, err := nodeName()
	if err != nil {
		return nil, err
	}
	further := furtherNodes(host, o.Nodes)
	for _, node := range markedNodes(o.dir) {
		if !slices.Contains(further, node) {
			if err := removeNode(ctx, o.dir, node); err != nil {
				return nil, fmt.Errorf("removing node %s: %w", node, err)
			}
			o.dropped = append(o.dropped, node)
		}
	}
	var parts []*part
	for _, node := range further {
		run := &furtherNode{nodeOptions: *newNodeOptions(), patience: podsStop + 20*time.Second}
		parts = append(parts, &part{
			command: &command{name: node, options: func() component.Options { return run }}, line: "node", args: o.nodeArgs(node),
		})
	}
	return parts, nil
}

// nodeArgs is the command line of a further node.
func (o *allOptions) nodeArgs(node string) []string {
	network := nodeNetwork(o.dir)
	var addresses []string
	for _, address := range network.Addresses(numberOf(node)) {
		addresses = append(addresses, address.String())
	}
	args := []string{"--data-dir=" + o.DataDir, "--hostname-override=" + node,
		"--node-ip=" + strings.Join(addresses, ","), "--apiserver-host=" + network.Gateway().String(), "--log-level=" + o.Logs.Level}
	if o.Logs.Format != "" {
		args = append(args, "--log-format="+o.Logs.Format)
	}
	if o.Logs.Dir != "" {
		args = append(args, "--logs-dir="+o.Logs.Dir)
	}
	if slices.Contains(o.Disable, "proxy") {
		args = append(args, "--disable=proxy")
	}
	for _, name := range []string{"cri", "kubelet", "proxy"} {
		for _, arg := range o.Args.of(name) {
			args = append(args, "--"+name+"-arg="+strings.TrimLeft(arg, "-"))
		}
	}
	return args
}

// markedNodes are the further nodes of which there is a folder.
func markedNodes(dir *pki.Dir) []string {
	entries, err := os.ReadDir(dir.NodesDir())
	if err != nil {
		return nil // no node has ever run here
	}
	var names []string
	for _, entry := range entries {
		if furtherNumber(dir, entry.Name()) > 0 {
			names = append(names, entry.Name())
		}
	}
	return names
}

// removeNode removes a further node from the host, and its folder.
func removeNode(ctx context.Context, dir *pki.Dir, node string) error {
	err := errors.Join(cleanUpPods(ctx, dir, node), nodeNetwork(dir).Remove(node, furtherNumber(dir, node)))
	if err != nil {
		return err
	}
	return os.RemoveAll(dir.NodeDir(node))
}
