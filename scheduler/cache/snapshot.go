package cache

import (
	"fmt"
	"sort"

	v1 "k8s.io/api/core/v1"

	"hyperkube/scheduler/framework"
)

// Snapshot is the nodes as they were when the cycle began. Only UpdateSnapshot
// changes it, and only between cycles.
type Snapshot struct {
	nodeInfoMap                      map[string]*framework.NodeInfo
	nodeInfoList                     []*framework.NodeInfo
	havePodsWithAffinity             []*framework.NodeInfo
	havePodsWithRequiredAntiAffinity []*framework.NodeInfo
	// generation is the newest one the snapshot contains.
	generation int64
}

// NewSnapshot returns an empty snapshot; nodes are for tests.
func NewSnapshot(nodes ...*framework.NodeInfo) *Snapshot {
	s := &Snapshot{nodeInfoMap: map[string]*framework.NodeInfo{}}
	for _, info := range nodes {
		s.nodeInfoMap[info.Node().Name] = info
		s.nodeInfoList = append(s.nodeInfoList, info)
	}
	return s
}

// List returns all nodes, zone by zone in turn.
func (s *Snapshot) List() []*framework.NodeInfo { return s.nodeInfoList }

// NumNodes counts them.
func (s *Snapshot) NumNodes() int { return len(s.nodeInfoList) }

// Get returns one node.
func (s *Snapshot) Get(name string) (*framework.NodeInfo, error) {
	if info, ok := s.nodeInfoMap[name]; ok && info.Node() != nil {
		return info, nil
	}
	return nil, fmt.Errorf("nodeinfo not found for node name %q", name)
}

// HavePodsWithAffinity lists the nodes that hold pods with affinity terms.
func (s *Snapshot) HavePodsWithAffinity() []*framework.NodeInfo { return s.havePodsWithAffinity }

// HavePodsWithRequiredAntiAffinity lists those with required anti-affinity.
func (s *Snapshot) HavePodsWithRequiredAntiAffinity() []*framework.NodeInfo {
	return s.havePodsWithRequiredAntiAffinity
}

// zoneByZone orders node names: the first of each zone, then the second of each...
// Zones and names are sorted, so that the order is the same from run to run.
func zoneByZone(nodes map[string]*nodeInfoListItem) []string {
	byZone := map[string][]string{}
	total := 0
	for name, item := range nodes {
		if node := item.info.Node(); node != nil {
			byZone[zoneOf(node)] = append(byZone[zoneOf(node)], name)
			total++
		}
	}
	zones := make([]string, 0, len(byZone))
	for zone, names := range byZone {
		zones = append(zones, zone)
		sort.Strings(names)
	}
	sort.Strings(zones)
	order := make([]string, 0, total)
	for turn := 0; len(order) < total; turn++ {
		for _, zone := range zones {
			if turn < len(byZone[zone]) {
				order = append(order, byZone[zone][turn])
			}
		}
	}
	return order
}

// zoneOf is region and zone of a node; "" when it has neither.
func zoneOf(node *v1.Node) string {
	region, zone := node.Labels[v1.LabelTopologyRegion], node.Labels[v1.LabelTopologyZone]
	if region == "" && zone == "" {
		return ""
	}
	return region + ":\x00:" + zone
}
