package nodenet

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
)

// Network is the network between the nodes of one machine. Everything it makes is named after ID.
type Network struct {
	// ID tells clusters on one machine apart: "hyperkube", or "hyperkube-a1b2c3" for a cluster beside it.
	ID string
	// Ranges are one of IPv4, and one of IPv6 in a cluster of two families.
	Ranges []Range
}

// Range is where addresses of one family are from.
type Range struct {
	// Nodes are the nodes' addresses: the first is the machine's, the second node-2's, and so on.
	Nodes netip.Prefix
	// Pods are the pods' addresses, which are not masqueraded.
	Pods netip.Prefix
}

// Address is that of the node with a number, counted from 1; the first is the machine's own.
func (r Range) Address(number int) netip.Addr {
	address := r.Nodes.Masked().Addr()
	for range number {
		address = address.Next()
	}
	return address
}

// errNotPlugged: the namespace is not there.
var errNotPlugged = errors.New("the node is not plugged in")

// Addresses are those of the node with a number, one of each family.
func (n Network) Addresses(number int) []netip.Addr {
	var addresses []netip.Addr
	for _, r := range n.Ranges {
		addresses = append(addresses, r.Address(number))
	}
	return addresses
}

// Gateway is the machine's own address in the network, where the further nodes find the apiserver.
func (n Network) Gateway() netip.Addr { return n.Ranges[0].Address(1) }

// Room is how many nodes have an address in the network.
func (n Network) Room() int {
	room := 1<<16 - 2
	for _, r := range n.Ranges {
		if bits := r.Nodes.Addr().BitLen() - r.Nodes.Bits(); bits < 16 {
			room = min(room, max(0, 1<<bits-2))
		}
	}
	return room
}

// Namespace is the name of a node's network namespace, for `ip netns`.
func (n Network) Namespace(node string) string { return n.ID + "-" + node }

// Bridge is the name of the bridge between the nodes.
func (n Network) Bridge() string { return "hkn" + n.short() }

// link is the machine's end of the link to a node; at most 15 letters are allowed.
func (n Network) link(number int) string { return fmt.Sprintf("%s-%d", n.Bridge(), number) }

func (n Network) short() string { return fmt.Sprintf("%x", sha256.Sum256([]byte(n.ID)))[:6] }
