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

// Route leads to the pods of another node.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// String is for the log, in the words of `ip route`.
func (r Route) String() string { return fmt.Sprintf("%s via %s", r.To, r.Via) }

// wantedRoutes are those that node in needs: to the pods of every other node of the network. The machine itself is
// reached over the bridge's address, whichever address its Node object tells. It is pure.
func wantedRoutes(network Network, nodes []*corev1.Node, host, in string) []Route {
	var routes []Route
	for _, node := range nodes {
		cidr, err := netip.ParsePrefix(node.Spec.PodCIDR)
		if node.Name == in || err != nil {
			continue // itself, or it has no pods yet
		}
		via := network.Gateway()
		if node.Name != host {
			var ok bool
			if via, ok = addressIn(network.CIDR, node); !ok {
				continue // no node of this machine
			}
		}
		routes = append(routes, Route{To: cidr.Masked(), Via: via})
	}
	slices.SortFunc(routes, func(a, b Route) int { return a.To.Addr().Compare(b.To.Addr()) })
	return routes
}

func addressIn(cidr netip.Prefix, node *corev1.Node) (netip.Addr, bool) {
	for _, a := range node.Status.Addresses {
		if address, err := netip.ParseAddr(a.Address); a.Type == corev1.NodeInternalIP && err == nil && cidr.Contains(address) {
			return address, true
		}
	}
	return netip.Addr{}, false
}
