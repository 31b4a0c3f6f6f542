package service

import (
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/service"
	"hyperkube/apiserver/registry"
)

// nodePorts gives each port of the service a port of the nodes, where its type has them: the one it asks for or any. What it no
// longer has, goes back.
func (t *transaction) nodePorts(s, old *v1.Service) (err error) {
	switch {
	case !service.MayHaveNodePort(s):
	case old.Name == "":
		err = t.firstNodePorts(s)
	default:
		err = t.changedNodePorts(s, old)
	}
	kept := nodePorts(s)
	for _, port := range nodePorts(old) {
		if n, ok := t.allocation.portOffset(port); ok && !slices.Contains(kept, port) {
			t.freePorts = append(t.freePorts, n)
		}
	}
	return err
}

// firstNodePorts: DNS over UDP and over TCP has one port outside, as it has inside.
func (t *transaction) firstNodePorts(s *v1.Service) error {
	given := map[int32]int32{} // by the number inside
	for i := range s.Spec.Ports {
		port := &s.Spec.Ports[i]
		if port.NodePort == 0 && !service.NeedsNodePort(s) {
			continue
		}
		shared, wanted := given[port.Port], port.NodePort
		if shared == 0 {
			wanted = wantedNodePort(s, port.Port)
		}
		switch {
		case shared != 0 && wanted == 0:
			port.NodePort = shared
		case shared == 0 && wanted == 0:
			n, err := t.nextPort()
			if err != nil {
				return unable("failed to allocate a nodePort: %w", err)
			}
			port.NodePort, given[port.Port] = n, n
		case shared != wanted:
			if err := t.takePort(wanted); err != nil {
				return invalid(s, field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), wanted, err.Error()))
			}
			if shared == 0 {
				port.NodePort, given[port.Port] = wanted, wanted
			}
		}
	}
	return nil
}

// wantedNodePort is the port outside that is asked for by any port of this number inside.
func wantedNodePort(s *v1.Service, number int32) int32 {
	for i := range s.Spec.Ports {
		if port := &s.Spec.Ports[i]; port.Port == number && port.NodePort != 0 {
			return port.NodePort
		}
	}
	return 0
}

// changedNodePorts takes those that the service did not have before.
func (t *transaction) changedNodePorts(s, old *v1.Service) error {
	held := map[int32]bool{}
	for _, port := range nodePorts(old) {
		held[port] = true
	}
	type outside struct {
		Protocol v1.Protocol
		NodePort int32
	}
	seen := map[outside]bool{}
	for i := range s.Spec.Ports {
		port := &s.Spec.Ports[i]
		switch {
		case port.NodePort == 0 && !service.NeedsNodePort(s):
			continue
		case port.NodePort == 0:
			n, err := t.nextPort()
			if err != nil {
				return unable("failed to allocate a nodePort: %w", err)
			}
			port.NodePort = n
		case !held[port.NodePort]:
			if err := t.takePort(port.NodePort); err != nil {
				return invalid(s, field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), port.NodePort, err.Error()))
			}
			held[port.NodePort] = true
		}
		at := outside{port.Protocol, port.NodePort}
		if seen[at] {
			return registry.Failure(fmt.Errorf("duplicate nodePort: %v", at))
		}
		seen[at] = true
	}
	return nil
}

// dryPort is what stands for the first port that would be given out, were it no dry run.
const dryPort = 32769

func (t *transaction) nextPort() (int32, error) {
	base := t.allocation.env.NodePortRange.Base
	if t.dryRun {
		n := dryPort - base
		if len(t.takenPorts) > 0 {
			n = slices.Max(t.takenPorts) + 1
		}
		t.takenPorts = append(t.takenPorts, n)
		return int32(n + base), nil
	}
	n, err := t.allocation.ports.next()
	if err != nil {
		return 0, err
	}
	t.takenPorts = append(t.takenPorts, n)
	return int32(n + base), nil
}

var errPortAllocated = errors.New("provided port is already allocated")

// takePort takes a port; in a dry run it only looks whether the port could be taken.
func (t *transaction) takePort(port int32) error {
	n, ok := t.allocation.portOffset(port)
	switch {
	case t.dryRun && (ok && t.allocation.ports.has(n) || slices.Contains(t.takenPorts, n)):
		return errPortAllocated
	case t.dryRun:
	case !ok:
		return fmt.Errorf("provided port is not in the valid range. The range of valid ports is %s", t.allocation.env.NodePortRange.String())
	case t.allocation.ports.reserved[n]:
		return errors.New("provided port is used by the control plane on this machine")
	case !t.allocation.ports.take(n):
		return errPortAllocated
	}
	t.takenPorts = append(t.takenPorts, n)
	return nil
}

// healthCheckNodePort gives a service the port at which nodes tell a load balancer of their endpoints.
func (t *transaction) healthCheckNodePort(s *v1.Service) error {
	port := s.Spec.HealthCheckNodePort
	if port == 0 {
		n, err := t.nextPort()
		if err != nil {
			return unable("failed to allocate a HealthCheck NodePort %v: %w", port, err)
		}
		s.Spec.HealthCheckNodePort = n
		return nil
	}
	if err := t.takePort(port); err != nil {
		return unable("failed to allocate requested HealthCheck NodePort %v: %w", port, err)
	}
	return nil
}
