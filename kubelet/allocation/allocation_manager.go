// Package allocation decides what a pod is given of the node, as against what its
// spec asks for, and remembers it: a pod may ask for more while it runs (KEP-1287).
//
//	spec (desired) ──canResize──► allocated ──kuberuntime──► the kernel's limits (actual)
//	     PATCH pods/resize        checkpoint                 status.containerStatuses[].resources
//
// A wish that the node can never fulfil is Infeasible, one that it cannot fulfil
// now is Deferred and asked again when room may have become free. Until then the
// pod goes on with what it has: everything that runs a pod is given
// UpdatePodFromAllocation's copy, and the sums of the node count allocations.
//
// Invariants: what pods are allocated never exceeds the node's allocatable; an
// allocation is on disk before anything acts on it. Otherwise a kubelet that was
// killed in between would take a wish that it refused for one that it granted.
//
// Read first: Manager.Resize, canResize.
//
// # In Kubernetes
//
// pkg/kubelet/allocation: allocation_manager.go (handlePodResourcesResize,
// UpdatePodFromAllocation), state/. Left out: the queue that asks deferred pods in
// order of priority (here all are asked again, and the first to ask has it), and
// the second checkpoint of what was actuated: the runtime's own word is compared.
package allocation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"sync"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"

	apipod "hyperkube/api/core/pod"
	"hyperkube/component/durable"
	"hyperkube/kubelet/lifecycle"
)

// Resources are what one pod has been given.
type Resources struct {
	// Pod is the pod's own share, if it asked for one as a whole (KEP-2837).
	Pod *v1.ResourceRequirements `json:"pod,omitempty"`
	// Containers are those of its containers and init containers, by name.
	Containers map[string]v1.ResourceRequirements `json:"containers"`
}

// Manager holds the allocations of this node's pods. It is safe for concurrent use.
type Manager struct {
	path string // the checkpoint

	mu        sync.Mutex
	allocated map[types.UID]Resources
	// pending is why a wish was not granted, and inProgress that a granted one is being carried out.
	pending    map[types.UID]v1.PodCondition
	inProgress map[types.UID]v1.PodCondition
}

// NewManager reads the checkpoint at path, if there is one.
func NewManager(path string) (*Manager, error) {
	m := &Manager{path: path, allocated: map[types.UID]Resources{}, pending: map[types.UID]v1.PodCondition{}, inProgress: map[types.UID]v1.PodCondition{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &m.allocated)
	}
	if err != nil {
		return nil, fmt.Errorf("reading what pods were allocated, %s: %w; remove the file to allocate anew what their specs ask for", path, err)
	}
	return m, nil
}

// AddPod admits a pod and allocates what it asks for; one that has an allocation
// already, from before a restart, keeps it. others may be as the API has them.
func (m *Manager) AddPod(pod *v1.Pod, others []*v1.Pod, admit func(pod *v1.Pod, others []*v1.Pod) *lifecycle.Rejection) (*lifecycle.Rejection, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	pod = m.fromAllocation(pod)
	if rejection := admit(pod, m.allFromAllocation(others)); rejection != nil {
		return rejection, nil
	}
	return nil, m.set(pod)
}

// Decision is what became of a pod's wish for other resources.
type Decision struct {
	// Allocated: it was granted just now.
	Allocated bool
	// Reason is v1.PodReasonDeferred or v1.PodReasonInfeasible if it was not, Message why.
	Reason, Message string
	// News is true if Reason or Message are others than the last time.
	News bool
	// Freed is true if the pod gave something back: others may have it.
	Freed bool
}

// Resize grants the pod what its spec asks for, if the node has it.
func (m *Manager) Resize(pod *v1.Pod, others []*v1.Pod, node *v1.Node) (Decision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.fromAllocation(pod)
	if _, known := m.allocated[pod.UID]; !known || before == pod {
		delete(m.pending, pod.UID)
		return Decision{}, nil
	}
	decision := canResize(pod, node, m.allFromAllocation(others))
	if decision.Reason != "" {
		old := m.pending[pod.UID]
		decision.News = old.Reason != decision.Reason || old.Message != decision.Message
		m.pending[pod.UID] = v1.PodCondition{Type: v1.PodResizePending, Status: v1.ConditionTrue, Reason: decision.Reason, Message: decision.Message, ObservedGeneration: pod.Generation}
		return decision, nil
	}
	if err := m.set(pod); err != nil {
		return Decision{}, err
	}
	delete(m.pending, pod.UID)
	m.inProgress[pod.UID] = v1.PodCondition{Type: v1.PodResizeInProgress, Status: v1.ConditionTrue, ObservedGeneration: pod.Generation}
	decision.Allocated, decision.Freed = true, asksForLess(pod, before)
	return decision, nil
}

// canResize is pure. others are the node's other pods with their allocations.
func canResize(pod *v1.Pod, node *v1.Node, others []*v1.Pod) Decision {
	if apipod.IsStaticPod(pod) {
		return Decision{Reason: v1.PodReasonInfeasible, Message: "In-place resize of static-pods is not supported"}
	}
	if node == nil {
		return Decision{}
	}
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
		wanted, capacity := requests[name], node.Status.Allocatable[name]
		if wanted.Cmp(capacity) > 0 {
			w, c := wanted.Value(), capacity.Value()
			if name == v1.ResourceCPU {
				w, c = wanted.MilliValue(), capacity.MilliValue()
			}
			return Decision{Reason: v1.PodReasonInfeasible, Message: fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", name, w, c)}
		}
	}
	if rejection := lifecycle.AdmitResources(pod, node, others); rejection != nil {
		return Decision{Reason: v1.PodReasonDeferred, Message: rejection.Message}
	}
	return Decision{}
}

func asksForLess(now, before *v1.Pod) bool {
	a, b := resource.PodRequests(now, resource.PodResourcesOptions{}), resource.PodRequests(before, resource.PodResourcesOptions{})
	return a.Cpu().Cmp(*b.Cpu()) < 0 || a.Memory().Cmp(*b.Memory()) < 0
}

// UpdatePodFromAllocation is the pod with what it was allocated: itself where that
// is what it asks for, else a copy.
func (m *Manager) UpdatePodFromAllocation(pod *v1.Pod) *v1.Pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fromAllocation(pod)
}

func (m *Manager) allFromAllocation(pods []*v1.Pod) []*v1.Pod {
	result := make([]*v1.Pod, len(pods))
	for i, pod := range pods {
		result[i] = m.fromAllocation(pod)
	}
	return result
}

func (m *Manager) fromAllocation(pod *v1.Pod) *v1.Pod {
	given, known := m.allocated[pod.UID]
	if !known || apiequality.Semantic.DeepEqual(given, resourcesOf(pod)) {
		return pod
	}
	pod = pod.DeepCopy()
	pod.Spec.Resources = given.Pod.DeepCopy()
	apipod.VisitContainers(&pod.Spec, apipod.Containers|apipod.InitContainers, func(c *v1.Container, _ apipod.ContainerType) bool {
		if own, ok := given.Containers[c.Name]; ok {
			c.Resources = *own.DeepCopy()
		}
		return true
	})
	return pod
}

// resourcesOf are those that a resize can change: of ordinary init containers too, before and while they run.
func resourcesOf(pod *v1.Pod) Resources {
	r := Resources{Pod: pod.Spec.Resources.DeepCopy(), Containers: map[string]v1.ResourceRequirements{}}
	apipod.VisitContainers(&pod.Spec, apipod.Containers|apipod.InitContainers, func(c *v1.Container, _ apipod.ContainerType) bool {
		r.Containers[c.Name] = *c.Resources.DeepCopy()
		return true
	})
	return r
}

// Conditions are the pod's PodResizePending and PodResizeInProgress, where they hold.
func (m *Manager) Conditions(uid types.UID) []v1.PodCondition {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []v1.PodCondition
	if c, ok := m.pending[uid]; ok {
		list = append(list, c)
	}
	if c, ok := m.inProgress[uid]; ok {
		list = append(list, c)
	}
	return list
}

// Progress says how carrying out the allocation goes: done, or an error that will
// be tried again. It returns whether that is news.
func (m *Manager) Progress(pod *v1.Pod, done bool, err error) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, under := m.inProgress[pod.UID]
	switch {
	case err != nil:
		if !under {
			old = v1.PodCondition{Type: v1.PodResizeInProgress, Status: v1.ConditionTrue, ObservedGeneration: pod.Generation}
		}
		news = old.Message != err.Error()
		old.Reason, old.Message = v1.PodReasonError, err.Error()
		m.inProgress[pod.UID] = old
	case done:
		news = under
		delete(m.inProgress, pod.UID)
	}
	return news
}

// Deferred are the pods whose wish may be granted once there is room.
func (m *Manager) Deferred() []types.UID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var uids []types.UID
	for uid, condition := range m.pending {
		if condition.Reason == v1.PodReasonDeferred {
			uids = append(uids, uid)
		}
	}
	sort.Slice(uids, func(i, j int) bool { return uids[i] < uids[j] })
	return uids
}

// RemoveOrphanedPods forgets pods that are gone.
func (m *Manager) RemoveOrphanedPods(gone func(types.UID) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := false
	for uid := range m.allocated {
		if gone(uid) {
			changed = true
			delete(m.allocated, uid)
			delete(m.pending, uid)
			delete(m.inProgress, uid)
		}
	}
	if !changed {
		return nil
	}
	return m.save()
}

// set allocates what the pod asks for, on disk first.
func (m *Manager) set(pod *v1.Pod) error {
	old, known := m.allocated[pod.UID]
	now := resourcesOf(pod)
	if known && apiequality.Semantic.DeepEqual(old, now) {
		return nil
	}
	m.allocated[pod.UID] = now
	if err := m.save(); err != nil {
		if delete(m.allocated, pod.UID); known {
			m.allocated[pod.UID] = old
		}
		return err
	}
	return nil
}

// save replaces the checkpoint in one step: a reader finds the old one or the new one.
func (m *Manager) save() error {
	data, err := json.Marshal(m.allocated)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(m.path, data, 0o600); err != nil {
		return fmt.Errorf("writing down what pods were allocated: %w", err)
	}
	return nil
}
