package framework

import (
	"context"
	"math"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"

	"hyperkube/client/informers"
	"hyperkube/scheduler/extender"
)

const (
	// MaxNodeScore and MinNodeScore bound what NormalizeScore must leave behind.
	MaxNodeScore int64 = 100
	MinNodeScore int64 = 0
	// MaxTotalScore bounds a weighted sum.
	MaxTotalScore int64 = math.MaxInt64
)

// Plugin is anything with a name. Which extension points it takes part in is
// decided by which of the interfaces below it implements.
type Plugin interface {
	Name() string
}

// PreEnqueuePlugin may keep a pod out of the active queue: no attempt, no event.
type PreEnqueuePlugin interface {
	Plugin
	PreEnqueue(ctx context.Context, pod *v1.Pod) *Status
}

// LessFunc orders the active queue.
type LessFunc func(a, b *QueuedPodInfo) bool

// QueueSortPlugin orders the active queue; exactly one plugin must be one.
type QueueSortPlugin interface {
	Plugin
	Less(a, b *QueuedPodInfo) bool
}

// EnqueueExtensions names the events that could cure a rejection by this plugin.
// A plugin that rejects pods and has none is asked again on any event.
type EnqueueExtensions interface {
	Plugin
	EventsToRegister(ctx context.Context) ([]ClusterEventWithHint, error)
}

// PreFilterResult narrows the nodes to look at; nil NodeNames means all.
type PreFilterResult struct {
	NodeNames sets.Set[string]
}

// AllNodes tells whether nothing was narrowed.
func (r *PreFilterResult) AllNodes() bool { return r == nil || r.NodeNames == nil }

// Merge intersects two results.
func (r *PreFilterResult) Merge(other *PreFilterResult) *PreFilterResult {
	if r.AllNodes() {
		return other
	}
	if other.AllNodes() {
		return r
	}
	return &PreFilterResult{NodeNames: r.NodeNames.Intersection(other.NodeNames)}
}

// PreFilterPlugin looks at the pod once per cycle: computes state for Filter,
// rejects the pod for all nodes, narrows the nodes, or answers Skip.
type PreFilterPlugin interface {
	Plugin
	PreFilter(ctx context.Context, state *CycleState, pod *PodInfo, nodes []*NodeInfo) (*PreFilterResult, *Status)
}

// PreFilterExtensions keeps PreFilter's state right while preemption tries out
// nodes with pods added or removed. A PreFilterPlugin may implement it as well.
type PreFilterExtensions interface {
	AddPod(ctx context.Context, state *CycleState, podToSchedule, podToAdd *PodInfo, node *NodeInfo) *Status
	RemovePod(ctx context.Context, state *CycleState, podToSchedule, podToRemove *PodInfo, node *NodeInfo) *Status
}

// FilterPlugin says whether one node can take the pod. Called concurrently.
type FilterPlugin interface {
	Plugin
	Filter(ctx context.Context, state *CycleState, pod *PodInfo, node *NodeInfo) *Status
}

// NominatingInfo says what shall become of pod.status.nominatedNodeName.
type NominatingInfo struct {
	NominatedNodeName string
	// Override replaces what is there; otherwise it is left alone.
	Override bool
}

// PostFilterResult is what PostFilter arranged for.
type PostFilterResult struct {
	*NominatingInfo
}

// PostFilterPlugin is called when no node fits, to make room for a later attempt.
type PostFilterPlugin interface {
	Plugin
	PostFilter(ctx context.Context, state *CycleState, pod *PodInfo, filtered *NodeToStatus) (*PostFilterResult, *Status)
}

// PreScorePlugin computes state for Score, or answers Skip.
type PreScorePlugin interface {
	Plugin
	PreScore(ctx context.Context, state *CycleState, pod *PodInfo, nodes []*NodeInfo) *Status
}

// NodeScore is one node's score by one plugin.
type NodeScore struct {
	Name  string
	Score int64
}

// ScorePlugin ranks the nodes that passed. Called concurrently.
type ScorePlugin interface {
	Plugin
	Score(ctx context.Context, state *CycleState, pod *PodInfo, node *NodeInfo) (int64, *Status)
}

// ScoreExtensions brings a plugin's raw scores into MinNodeScore..MaxNodeScore. A
// ScorePlugin may implement it as well; others must score in that range.
type ScoreExtensions interface {
	NormalizeScore(ctx context.Context, state *CycleState, pod *PodInfo, scores []NodeScore) *Status
}

// ReservePlugin keeps state of its own per pod. Unreserve is called for every
// failure after Reserve, also of other plugins, and must be idempotent.
type ReservePlugin interface {
	Plugin
	Reserve(ctx context.Context, state *CycleState, pod *v1.Pod, nodeName string) *Status
	Unreserve(ctx context.Context, state *CycleState, pod *v1.Pod, nodeName string)
}

// PermitPlugin allows, rejects, or (Wait) holds back the binding, at most for the
// returned time.
type PermitPlugin interface {
	Plugin
	Permit(ctx context.Context, state *CycleState, pod *v1.Pod, nodeName string) (*Status, time.Duration)
}

// PreBindPlugin does what must be done before the Binding, such as provisioning.
type PreBindPlugin interface {
	Plugin
	PreBind(ctx context.Context, state *CycleState, pod *v1.Pod, nodeName string) *Status
}

// BindPlugin writes the Binding, or answers Skip to leave it to the next one.
type BindPlugin interface {
	Plugin
	Bind(ctx context.Context, state *CycleState, pod *v1.Pod, nodeName string) *Status
}

// PostBindPlugin is told of success.
type PostBindPlugin interface {
	Plugin
	PostBind(ctx context.Context, state *CycleState, pod *v1.Pod, nodeName string)
}

// PodNominator knows which pods wait for room on a node.
type PodNominator interface {
	NominatedPodsForNode(node string) []*PodInfo
}

// SharedLister is the snapshot of this cycle.
type SharedLister interface {
	// List returns all nodes that have an object.
	List() []*NodeInfo
	// Get returns one of them.
	Get(nodeName string) (*NodeInfo, error)
	// HavePodsWithAffinity lists the nodes that hold such pods.
	HavePodsWithAffinity() []*NodeInfo
	// HavePodsWithRequiredAntiAffinity lists the nodes that hold such pods.
	HavePodsWithRequiredAntiAffinity() []*NodeInfo
}

// WaitingPod is a pod that Permit holds back.
type WaitingPod interface {
	GetPod() *v1.Pod
	// GetPendingPlugins names the plugins that have not yet allowed it.
	GetPendingPlugins() []string
	// Allow takes back one plugin's objection.
	Allow(pluginName string)
	// Reject ends the wait with a rejection.
	Reject(pluginName, msg string)
}

// Handle is what a plugin gets from the scheduler when it is made.
type Handle interface {
	SnapshotSharedLister() SharedLister
	ClientSet() kubernetes.Interface
	EventRecorder() events.EventRecorder
	// SharedInformerFactory: informers asked for in a plugin's New are started and
	// synced before the first pod is scheduled.
	SharedInformerFactory() informers.SharedInformerFactory
	IterateOverWaitingPods(visit func(WaitingPod))
	GetWaitingPod(uid types.UID) WaitingPod
	// RejectWaitingPod tells whether there was one.
	RejectWaitingPod(uid types.UID) bool
	// What lets a PostFilter plugin ask "what if": the filters with the nominated pods of the
	// node, and the changes of PreFilter's state that go with pods put on and taken off.
	RunFilterPluginsWithNominatedPods(ctx context.Context, state *CycleState, pod *PodInfo, node *NodeInfo) *Status
	RunPreFilterExtensionAddPod(ctx context.Context, state *CycleState, pod, added *PodInfo, node *NodeInfo) *Status
	RunPreFilterExtensionRemovePod(ctx context.Context, state *CycleState, pod, removed *PodInfo, node *NodeInfo) *Status
	// NominatedPodsForNode are the pods that wait for room on a node.
	NominatedPodsForNode(node string) []*PodInfo
	// Extenders are asked about preemptions too.
	Extenders() []*extender.Extender
	Logger() klog.Logger
}
