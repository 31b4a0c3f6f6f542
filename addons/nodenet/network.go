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
	// CIDR is where the nodes' addresses are from: the first is the machine's, the second node-2's, and so on.
	CIDR netip.Prefix
	// Pods is where the pods' addresses are from, which are not masqueraded.
	Pods netip.Prefix
}

// errNotPlugged: the namespace is not there.
var errNotPlugged = errors.New("the node is not plugged in")

// Gateway is the machine's own address in the network.
func (n Network) Gateway() netip.Addr { return n.Address(1) }

// Address is that of the node with a number, counted from 1.
func (n Network) Address(number int) netip.Addr {
	address := n.CIDR.Masked().Addr()
	for range number {
		address = address.Next()
	}
	return address
}

// Room is how many nodes have an address in the network.
func (n Network) Room() int {
	if bits := 32 - n.CIDR.Bits(); bits < 16 {
		return max(0, 1<<bits-2)
	}
	return 1<<16 - 2
}

// Namespace is the name of a node's network namespace, for `ip netns`.
func (n Network) Namespace(node string) string { return n.ID + "-" + node }

// Bridge is the name of the bridge between the nodes.
func (n Network) Bridge() string { return "hkn" + n.short() }

// link is the machine's end of the link to a node; at most 15 letters are allowed.
func (n Network) link(number int) string { return fmt.Sprintf("%s-%d", n.Bridge(), number) }

func (n Network) short() string { return fmt.Sprintf("%x", sha256.Sum256([]byte(n.ID)))[:6] }
