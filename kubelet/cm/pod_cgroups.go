// Package cm makes the control groups that pods live in:
//
//	ROOT/kubepods                        all pods: what the node does not reserve
//	ROOT/kubepods/pod<uid>               Guaranteed
//	ROOT/kubepods/burstable/pod<uid>     Burstable
//	ROOT/kubepods/besteffort/pod<uid>    BestEffort
//
// The runtime makes the containers' cgroups below the pod's. The levels decide
// who gives way: under pressure the kernel shares CPU by weight, first among the
// levels (Burstable weighs what its pods request, BestEffort the least there is),
// then among pods, then among containers. What cgroup v2 has beside limits is in
// container_cgroup.go.
//
// Where cgroups cannot be used (no root, another system, a read-only /sys) pods
// run without limits, and the kubelet says so once.
//
// In Kubernetes: pkg/kubelet/cm. Left out: reserved CPUs, topology and device
// managers, the cgroup of system daemons.
package cm

import (
	"path"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
	"k8s.io/klog/v2"

	apipod "hyperkube/api/core/pod"
)

// PodCgroups makes and removes the cgroups of pods.
type PodCgroups interface {
	// Parent is the pod's cgroup, as the runtime names it; empty when cgroups are not used.
	Parent(pod *v1.Pod) string
	// EnsureExists makes the cgroup, and raises limits; it lowers none.
	EnsureExists(pod *v1.Pod) error
	// Shrink sets the limits as they should be, once the containers have no more than that.
	Shrink(pod *v1.Pod) error
	Destroy(uid types.UID) error
	// EnforceNodeAllocatable limits all pods together.
	EnforceNodeAllocatable(limits Limits)
	// UpdateQOSCgroups weighs the levels by the pods that are to run.
	UpdateQOSCgroups(active func() []*v1.Pod)
	// RemoveOrphans removes the cgroups of pods that are gone.
	RemoveOrphans(gone func(types.UID) bool)
	// RemoveRoot removes what is left when no pod is.
	RemoveRoot()
}

// NewPodCgroups makes the manager for root ("hyperkube/node1"); with root empty,
// one that does nothing. A pod may have podPids processes; -1: any number.
func NewPodCgroups(logger klog.Logger, root string, podPids int64) PodCgroups {
	if root == "" {
		return none{}
	}
	tree, err := openTree()
	if err != nil {
		logger.Info("Pods run without resource limits: cgroups cannot be used", "cause", err.Error())
		return none{}
	}
	return &podCgroups{logger: logger, root: path.Join("/", root, "kubepods"), tree: tree, podPids: podPids, applied: map[string]Limits{}}
}

// Limits are a cgroup's; zero means none.
type Limits struct {
	CPUShares uint64
	CPUQuota  int64 // microseconds of each 100,000
	Memory    int64 // bytes
	Pids      int64 // processes and threads
}

// tree is the kernel's cgroup file system.
type tree interface {
	exists(path string) bool
	ensure(path string, limits Limits) error
	remove(path string) error
	// removeEmpty removes a group that has neither processes nor groups below it.
	removeEmpty(path string)
	// children lists the names of the groups below path.
	children(path string) []string
}

type podCgroups struct {
	logger klog.Logger
	root   string
	tree   tree
	// podPids is how many processes and threads a pod may have; -1: any number.
	podPids int64

	mu     sync.Mutex
	failed bool // limits could not be set once, which was said and is not tried again; or all has been removed
	// applied is what was set last, by path; what an earlier kubelet set is not known.
	applied map[string]Limits
}

var qosLevels = map[v1.PodQOSClass]string{v1.PodQOSBurstable: "burstable", v1.PodQOSBestEffort: "besteffort", v1.PodQOSGuaranteed: ""}

func (c *podCgroups) Parent(pod *v1.Pod) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed {
		return ""
	}
	return c.path(pod)
}

func (c *podCgroups) path(pod *v1.Pod) string {
	return path.Join(c.root, qosLevels[apipod.GetPodQOS(pod)], "pod"+string(pod.UID))
}

func (c *podCgroups) EnsureExists(pod *v1.Pod) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed {
		return nil
	}
	group, wanted := c.path(pod), c.podLimits(pod)
	existed := c.tree.exists(group)
	if applied, known := c.applied[group]; known && existed {
		wanted = larger(applied, wanted)
	}
	err := c.set(group, wanted)
	if err != nil && existed {
		// A container still has more than its pod is to have: Shrink comes after it was resized.
		c.logger.V(2).Info("Raising the limits of a pod", "cgroup", group, "err", err)
		return nil
	}
	if err != nil {
		c.failed = true
		c.logger.Info("Pods run without resource limits: a pod's cgroup cannot be made", "cgroup", c.path(pod), "cause", err.Error())
	}
	return nil
}

// Shrink see PodCgroups.
func (c *podCgroups) Shrink(pod *v1.Pod) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	group, wanted := c.path(pod), c.podLimits(pod)
	if c.failed || !c.tree.exists(group) || c.applied[group] == wanted {
		return nil
	}
	return c.set(group, wanted)
}

func (c *podCgroups) podLimits(pod *v1.Pod) Limits {
	limits := podLimits(pod)
	limits.Pids = c.podPids
	return limits
}

// EnforceNodeAllocatable see PodCgroups. Pods that use more already have until the next time to give way.
func (c *podCgroups) EnforceNodeAllocatable(limits Limits) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed || c.applied[c.root] == limits && c.tree.exists(c.root) {
		return
	}
	if err := c.set(c.root, limits); err != nil {
		c.logger.V(2).Info("Limiting all pods together", "cgroup", c.root, "err", err)
	}
}

// UpdateQOSCgroups see PodCgroups. A level competes as a whole: without its weight all BestEffort pods together would get as
// much of a busy CPU as a Guaranteed pod that asked for one.
func (c *podCgroups) UpdateQOSCgroups(active func() []*v1.Pod) {
	wanted := qosLimits(active())
	c.mu.Lock()
	defer c.mu.Unlock()
	for class, limits := range wanted {
		group := path.Join(c.root, qosLevels[class])
		if c.failed || c.applied[group] == limits && c.tree.exists(group) {
			continue
		}
		if err := c.set(group, limits); err != nil {
			c.logger.V(2).Info("Weighing a QoS level", "cgroup", group, "err", err)
		}
	}
}

// qosLimits are the levels' weights: Burstable pods bring what they request, BestEffort has the least there is. It is pure.
func qosLimits(active []*v1.Pod) map[v1.PodQOSClass]Limits {
	milli := int64(0)
	for _, pod := range active {
		if apipod.GetPodQOS(pod) == v1.PodQOSBurstable {
			requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
			milli += requests.Cpu().MilliValue()
		}
	}
	return map[v1.PodQOSClass]Limits{v1.PodQOSBurstable: {CPUShares: shares(milli)}, v1.PodQOSBestEffort: {CPUShares: shares(0)}}
}

// shares are a weight in cgroup v1's terms, 1024 for one CPU, within the kernel's bounds.
func shares(milli int64) uint64 { return uint64(min(max(milli*1024/1000, 2), 262144)) }

// set applies limits, and says so where one was taken away: zero alone would leave it.
func (c *podCgroups) set(group string, wanted Limits) error {
	write, old := wanted, c.applied[group]
	if wanted.CPUQuota == 0 && old.CPUQuota > 0 {
		write.CPUQuota = -1
	}
	if wanted.Memory == 0 && old.Memory > 0 {
		write.Memory = -1
	}
	if err := c.tree.ensure(group, write); err != nil {
		return err
	}
	c.applied[group] = wanted
	return nil
}

// larger is, for each limit, the one that allows more; zero is none and allows all. It is pure.
func larger(a, b Limits) Limits {
	more := func(x, y int64) int64 {
		if x == 0 || y == 0 {
			return 0
		}
		return max(x, y)
	}
	return Limits{CPUShares: max(a.CPUShares, b.CPUShares), CPUQuota: more(a.CPUQuota, b.CPUQuota), Memory: more(a.Memory, b.Memory), Pids: b.Pids}
}

// podLimits are the sums of the pod's containers. A limit counts for the pod only
// if each container has one. It is pure.
func podLimits(pod *v1.Pod) Limits {
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	limits := resource.PodLimits(pod, resource.PodResourcesOptions{})
	result := Limits{CPUShares: shares(requests.Cpu().MilliValue())}
	cpu, memory := true, true
	for _, container := range pod.Spec.Containers {
		cpu = cpu && !container.Resources.Limits.Cpu().IsZero()
		memory = memory && !container.Resources.Limits.Memory().IsZero()
	}
	if whole := pod.Spec.Resources; whole != nil { // a limit of the pod itself needs none of its containers'
		cpu, memory = cpu || !whole.Limits.Cpu().IsZero(), memory || !whole.Limits.Memory().IsZero()
	}
	if cpu {
		result.CPUQuota = max(limits.Cpu().MilliValue()*100, 1000)
	}
	if memory {
		result.Memory = limits.Memory().Value()
	}
	return result
}

func (c *podCgroups) Destroy(uid types.UID) error {
	for _, level := range qosLevels {
		c.mu.Lock()
		delete(c.applied, path.Join(c.root, level, "pod"+string(uid)))
		c.mu.Unlock()
		if err := c.tree.remove(path.Join(c.root, level, "pod"+string(uid))); err != nil {
			return err
		}
	}
	return nil
}

func (c *podCgroups) RemoveOrphans(gone func(types.UID) bool) {
	for _, level := range qosLevels {
		for _, name := range c.tree.children(path.Join(c.root, level)) {
			uid, ok := strings.CutPrefix(name, "pod")
			if !ok || !gone(types.UID(uid)) {
				continue
			}
			if err := c.tree.remove(path.Join(c.root, level, name)); err != nil {
				c.logger.V(2).Info("Removing the cgroup of a pod that is gone", "cgroup", name, "err", err)
			}
		}
	}
}

func (c *podCgroups) RemoveRoot() {
	c.mu.Lock()
	c.failed = true // otherwise who still runs would make them again
	c.mu.Unlock()
	for _, name := range []string{"burstable", "besteffort", ""} {
		if err := c.tree.remove(path.Join(c.root, name)); err != nil {
			c.logger.V(2).Info("Removing a cgroup", "cgroup", name, "err", err)
		}
	}
	// The groups above are shared with the runtime: they go if they are empty.
	for above := path.Dir(c.root); above != "/"; above = path.Dir(above) {
		c.tree.removeEmpty(above)
	}
}

// none is used where there are no cgroups.
type none struct{}

func (none) Parent(*v1.Pod) string              { return "" }
func (none) EnsureExists(*v1.Pod) error         { return nil }
func (none) Shrink(*v1.Pod) error               { return nil }
func (none) Destroy(types.UID) error            { return nil }
func (none) RemoveOrphans(func(types.UID) bool) {}
func (none) RemoveRoot()                        {}
func (none) EnforceNodeAllocatable(Limits)      {}
func (none) UpdateQOSCgroups(func() []*v1.Pod)  {}
