package nodenet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/klog/v2"

	"hyperkube/client/informers"
	"hyperkube/component"
	"hyperkube/reconcile"
)

// Config is the router's configuration.
type Config struct {
	Client  kubernetes.Interface
	Network Network
	// Host is the name of the first node, which is the machine itself; Further are the others' names.
	Host    string
	Further []string
	// Gate holds keys; Metrics and Health may be nil.
	Gate    reconcile.Gate
	Metrics prometheus.Registerer
	Health  *component.Health
}

// Router keeps the routes between the nodes of a machine.
type Router struct {
	*reconcile.Loop
	Config
	informers informers.SharedInformerFactory
	nodes     corelisters.NodeLister
}

// New makes a router.
func New(config Config) (*Router, error) {
	if config.Client == nil || config.Host == "" {
		return nil, errors.New("nodenet needs a client and the machine's name")
	}
	factory := informers.NewSharedInformerFactory(config.Client, 0)
	nodes := factory.Core().V1().Nodes()
	r := &Router{Config: config, informers: factory, nodes: nodes.Lister()}
	r.Loop = reconcile.New("nodenet", r.sync, reconcile.Options{Gate: config.Gate, Metrics: config.Metrics})
	r.Watch(nodes.Informer(), r.keys)
	// Last: whoever asks for health asks from now on, and asks the loop.
	config.Health.Add("caches", func(context.Context) error {
		if !r.Status().Synced {
			return errors.New("the first lists are not here yet")
		}
		return nil
	})
	return r, nil
}

// keys: whatever happens to a node of this machine concerns the routes in all namespaces, so there is one key.
func (r *Router) keys(e reconcile.Event) []string {
	node := e.Object().(*corev1.Node)
	if node.Name == r.Host || slices.Contains(r.Further, node.Name) {
		return []string{"routes"}
	}
	return nil
}

// Run keeps the routes until ctx ends. They stay: what is stopped alone takes nothing along.
func (r *Router) Run(ctx context.Context) error {
	r.informers.StartWithContext(ctx)
	defer r.informers.Shutdown()
	return r.Loop.Run(ctx)
}

// sync makes the routes of all namespaces right.
func (r *Router) sync(ctx context.Context, _ string) (reconcile.Result, error) {
	// Step 1: who is where.
	nodes, err := r.nodes.List(labels.Everything())
	if err != nil {
		return reconcile.Done, err
	}
	var missing error
	for _, in := range append([]string{r.Host}, r.Further...) {
		// Step 2: the routes of this namespace.
		wanted := wantedRoutes(r.Network, nodes, r.Host, in)
		// Step 3: make them so.
		namespace := "" // the machine's own
		if in != r.Host {
			namespace = r.Network.Namespace(in)
		}
		switch changed, err := r.Network.setRoutes(namespace, wanted); {
		case errors.Is(err, errNotPlugged):
			missing = err
		case err != nil:
			return reconcile.Done, fmt.Errorf("routes of %s: %w", in, err)
		case changed > 0:
			klog.FromContext(ctx).V(1).Info("Routes to the pods of other nodes", "node", in, "routes", wanted, "changed", changed)
		}
	}
	// A node that is not plugged in yet will be: its Node object is from an earlier run.
	return reconcile.Result{Retry: missing != nil}, nil
}

// Route leads to the pods of another node, or to the nodes themselves.
type Route struct {
	To netip.Prefix
	// Via is the node behind which To is; none: To is the network between the nodes.
	Via netip.Addr
	// From is the address that the machine itself has on this way; none: that of the link.
	From netip.Addr
}

// String is for the log, in the words of `ip route`.
func (r Route) String() string {
	text := r.To.String()
	if r.Via.IsValid() {
		text += " via " + r.Via.String()
	}
	if r.From.IsValid() {
		text += " src " + r.From.String()
	}
	return text
}

// wantedRoutes are those that node in needs: to the pods of every other node of the network. The machine itself is
// reached over the bridge's address, whichever address its Node object tells. But it speaks from that one: a pod that
// is asked by a node sees the address by which the cluster knows the node, not the bridge's. It is pure.
func wantedRoutes(network Network, nodes []*corev1.Node, host, in string) []Route {
	var routes []Route
	for _, r := range network.Ranges {
		var from netip.Addr
		if in == host {
			from = ownAddress(r, nodes, host)
			routes = append(routes, Route{To: r.Nodes.Masked(), From: from})
		}
		for _, node := range nodes {
			cidr, ok := podsIn(r, node)
			if node.Name == in || !ok {
				continue // itself, or it has no pods yet
			}
			via := r.Address(1)
			if node.Name != host {
				if via, ok = addressIn(r, node); !ok {
					continue // no node of this machine
				}
			}
			routes = append(routes, Route{To: cidr, Via: via, From: from})
		}
	}
	slices.SortFunc(routes, func(a, b Route) int { return a.To.Addr().Compare(b.To.Addr()) })
	return routes
}

// podsIn is a node's share of the pods' addresses, of the range's family.
func podsIn(r Range, node *corev1.Node) (netip.Prefix, bool) {
	for _, text := range append([]string{node.Spec.PodCIDR}, node.Spec.PodCIDRs...) {
		if cidr, err := netip.ParsePrefix(text); err == nil && cidr.Addr().Is4() == r.Nodes.Addr().Is4() {
			return cidr.Masked(), true
		}
	}
	return netip.Prefix{}, false
}

// ownAddress is the first node's, of the range's family: what its Node object tells, or else the one on the bridge.
func ownAddress(r Range, nodes []*corev1.Node, host string) netip.Addr {
	for _, node := range nodes {
		for _, address := range internalIPs(node) {
			if node.Name == host && address.Is4() == r.Nodes.Addr().Is4() {
				return address
			}
		}
	}
	return r.Address(1)
}

func addressIn(r Range, node *corev1.Node) (netip.Addr, bool) {
	for _, address := range internalIPs(node) {
		if r.Nodes.Contains(address) {
			return address, true
		}
	}
	return netip.Addr{}, false
}

func internalIPs(node *corev1.Node) []netip.Addr {
	var addresses []netip.Addr
	for _, a := range node.Status.Addresses {
		if address, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			addresses = append(addresses, address)
		}
	}
	return addresses
}
