package service

import (
	"context"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// syncPorts checks the ports of the nodes: each that a service has is marked, and its alone; each that is marked is a service's.
func (r *repair) syncPorts(ctx context.Context, services []*v1.Service) {
	owned := map[int]bool{}
	for _, s := range services {
		for _, port := range nodePorts(s) {
			r.syncPort(ctx, s, port, owned)
		}
	}
	r.releaseLeakedPorts(ctx, owned)
}

func (r *repair) syncPort(ctx context.Context, s *v1.Service, port int32, owned map[int]bool) {
	a := r.allocation
	n, ok := a.portOffset(port)
	switch {
	case !ok:
		r.ports.about(ctx, s, problem{reason: "PortOutOfRange", message: fmt.Sprintf("Port %d is not within the port range %s; please recreate service", port, a.env.NodePortRange.String())})
	case owned[n]:
		r.ports.about(ctx, s, problem{reason: "PortAlreadyAllocated", message: fmt.Sprintf("Port %d was assigned to multiple services; please recreate service", port)})
	case !a.ports.has(n):
		// Its service may have been deleted since the list was made.
		now, err := r.fresh(ctx, s.Namespace, s.Name)
		if err != nil || now == nil || now.UID != s.UID || !slices.Contains(nodePorts(now), port) {
			return
		}
		r.ports.about(ctx, s, problem{reason: "PortNotAllocated", message: fmt.Sprintf("Port %d is not allocated; repairing", port)})
		a.ports.take(n)
		owned[n] = true
	default:
		owned[n] = true
	}
}

func (r *repair) releaseLeakedPorts(ctx context.Context, owned map[int]bool) {
	a := r.allocation
	leaked := map[int]int{}
	for _, n := range a.ports.all() {
		if owned[n] {
			continue
		}
		port := n + a.env.NodePortRange.Base
		switch leaked[n] = r.leakedPorts[n] + 1; leaked[n] {
		case 1:
			klog.FromContext(ctx).Info("The node port may have leaked: flagging for later clean up", "port", port)
		case repairsBeforeRelease:
			klog.FromContext(ctx).Info("The node port appears to have leaked: cleaning up", "port", port)
			a.ports.release(n)
			delete(leaked, n)
		}
	}
	r.leakedPorts = leaked
}
