package nodelifecycle

import (
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
)

// nodeHealth is what was last seen of a node, and when.
type nodeHealth struct {
	// renewed and heartbeat are times of the node's clock. They are compared with
	// themselves only.
	renewed, heartbeat time.Time
	// ready is the Ready condition's status as last seen.
	ready corev1.ConditionStatus
	// probe is a time of our clock: when one of the above last changed.
	probe time.Time
}

// healthMap remembers the nodes' signs of life.
type healthMap struct {
	config Config
	clock  clock.PassiveClock
	mu     sync.Mutex
	nodes  map[string]*nodeHealth
	// lastTurn is when any node was last looked at.
	lastTurn time.Time
}

func newHealthMap(config Config, clock clock.PassiveClock) *healthMap {
	return &healthMap{config: config, clock: clock, nodes: map[string]*nodeHealth{}, lastTurn: clock.Now()}
}

// observe notes what is new of the node and reports whether it has been silent
// for too long.
func (m *healthMap) observe(node *corev1.Node, lease *coordinationv1.Lease) (silent bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	m.forgiveOwnSleep(now)

	seen := nodeHealth{ready: corev1.ConditionUnknown}
	grace := m.config.NodeStartupGracePeriod
	if condition := getNodeCondition(node, corev1.NodeReady); condition != nil {
		seen.ready, seen.heartbeat = condition.Status, condition.LastHeartbeatTime.Time
		grace = m.config.NodeMonitorGracePeriod
	}
	if lease != nil && lease.Spec.RenewTime != nil {
		seen.renewed = lease.Spec.RenewTime.Time
	}
	known, ok := m.nodes[node.Name]
	switch {
	case !ok:
		// We do not know how long it has been like this: the count begins now.
		known = &nodeHealth{probe: now}
		m.nodes[node.Name] = known
	case seen.renewed.After(known.renewed), !seen.heartbeat.Equal(known.heartbeat), seen.ready != known.ready && seen.ready != corev1.ConditionUnknown:
		// That Ready became Unknown is our own doing, and no sign of life.
		known.probe = now
	}
	known.renewed, known.heartbeat, known.ready = seen.renewed, seen.heartbeat, seen.ready
	return now.Sub(known.probe) > grace
}

// silence is how long nothing new has been seen of a node, and how long that may be.
func (m *healthMap) silence(node string) (silence, grace time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.nodes[node]
	if known == nil {
		return 0, m.config.NodeStartupGracePeriod
	}
	grace = m.config.NodeMonitorGracePeriod
	if known.heartbeat.IsZero() {
		grace = m.config.NodeStartupGracePeriod
	}
	return m.clock.Now().Sub(known.probe), grace
}

// forgiveOwnSleep starts every count anew when we were not there to listen: after
// a SIGSTOP, a debugger's breakpoint, or the machine's sleep. A turn happens at
// least every NodeMonitorPeriod, as long as there is a node.
func (m *healthMap) forgiveOwnSleep(now time.Time) {
	if now.Sub(m.lastTurn) > 3*m.config.NodeMonitorPeriod {
		for _, health := range m.nodes {
			health.probe = now
		}
	}
	m.lastTurn = now
}

func (m *healthMap) forget(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nodes, node)
}
