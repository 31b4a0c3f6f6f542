package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"

	"hyperkube/flow"
	"hyperkube/reconcile"
	"hyperkube/scheduler/extender"
	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/framework/runtime"
)

const (
	// minFeasibleNodesToFind is how many nodes are always looked for, if there are so
	// many: a smaller sample would spread pods badly.
	minFeasibleNodesToFind int32 = 100
	// minFeasibleNodesPercentageToFind is the least share in percent.
	minFeasibleNodesPercentageToFind int32 = 5
)

// ErrNoNodesAvailable is the answer of a cluster without nodes.
var ErrNoNodesAvailable = errors.New("no nodes available to schedule pods")

// ScheduleResult is the outcome of a scheduling cycle.
type ScheduleResult struct {
	SuggestedHost  string
	EvaluatedNodes int
	FeasibleNodes  int
	// nominatingInfo is what preemption arranged, when no node was suggested.
	nominatingInfo *framework.NominatingInfo
}

// ScheduleOne is one turn of the loop: it takes a pod, finds its node, and starts
// the binding. It returns when the next pod may be taken.
func (sched *Scheduler) ScheduleOne(ctx context.Context) {
	podInfo := sched.SchedulingQueue.Pop(ctx)
	if podInfo == nil {
		return
	}
	pod := podInfo.Pod
	logger := klog.FromContext(ctx)
	if sched.skipPodSchedule(logger, pod) {
		sched.SchedulingQueue.Done(pod.UID)
		return
	}
	ctx = reconcile.BecauseOf(ctx, reconcile.Event{New: pod}, podInfo.MovedBy)
	klog.FromContext(ctx).V(3).Info("Attempting to schedule pod", "pod", klog.KObj(pod))
	start := sched.cfg.Clock.Now()
	attempt := sched.explanations.begin(podInfo, start)
	state := framework.NewCycleState()
	result, assumed, status := sched.schedulingCycle(ctx, state, podInfo, attempt)
	attempt.finishCycle(result, status, sched.cfg.Clock.Since(start))
	reportAttempt(ctx, attempt, result, status, sched.cfg.Clock.Since(start))
	if !status.IsSuccess() {
		sched.handleSchedulingFailure(ctx, assumed, status, result.nominatingInfo, start)
		return
	}

	// Binding waits for the apiserver; the next pod need not.
	sched.bindings.Go(func() {
		status := sched.bindingCycle(ctx, state, result, assumed, start)
		attempt.finishBinding(status, sched.cfg.Clock.Now())
		if !status.IsSuccess() {
			sched.handleBindingCycleError(ctx, state, assumed, status, start)
		}
	})
}

// reportAttempt tells the record of the cluster what a scheduling cycle decided; of a
// refusal, what each node had against the pod.
func reportAttempt(ctx context.Context, attempt *Attempt, result ScheduleResult, status *framework.Status, took time.Duration) {
	if flow.SinkFrom(ctx) == nil {
		return
	}
	effect := flow.Effect{What: flow.Scheduled, Kind: "Pod", Namespace: attempt.Namespace, Name: attempt.Name, Data: attempt.report(), Took: took, Depth: 1}
	if status.IsSuccess() {
		effect.Detail = fmt.Sprintf("chose %s, of %d nodes looked at %d fit", result.SuggestedHost, result.EvaluatedNodes, result.FeasibleNodes)
	} else {
		effect.Error = status.Message()
		effect.Lines = refusals(status.AsError())
	}
	if nominated := result.nominatingInfo; nominated != nil && nominated.NominatedNodeName != "" {
		effect.Detail = "makes room on " + nominated.NominatedNodeName
	}
	flow.Report(ctx, effect)
}

// refusals says in a line a node why it cannot take the pod, by which plugin.
func refusals(err error) []string {
	var fitError *framework.FitError
	if !errors.As(err, &fitError) {
		return nil
	}
	var lines []string
	fitError.Diagnosis.NodeToStatus.ForEachExplicitNode(func(node string, status *framework.Status) {
		lines = append(lines, fmt.Sprintf("%s: %s: %s", node, status.Plugin(), strings.Join(status.Reasons(), ", ")))
	})
	slices.Sort(lines)
	return lines
}

// skipPodSchedule leaves out pods that are being deleted, and pods already on their
// way to a node (an update can queue one again just before it was assumed).
func (sched *Scheduler) skipPodSchedule(logger klog.Logger, pod *v1.Pod) bool {
	if pod.DeletionTimestamp != nil {
		sched.recorderFor(pod).Eventf(pod, nil, v1.EventTypeWarning, "FailedScheduling", "Scheduling", "skip schedule deleting pod: %v/%v", pod.Namespace, pod.Name)
		logger.V(3).Info("Skip schedule deleting pod", "pod", klog.KObj(pod))
		return true
	}
	return sched.Cache.IsAssumedPod(pod)
}

// schedulingCycle finds a node and claims it, in these steps:
//
//	1: find the node (schedulePod); if there is none, let PostFilter make room
//	2: assume the pod on it, so that the next cycle counts it
//	3: let Reserve plugins claim what is theirs
//	4: ask Permit plugins; Wait is settled in the binding cycle
//
// After a failure in 3 or 4 all of 2 and 3 is taken back.
func (sched *Scheduler) schedulingCycle(ctx context.Context, state *framework.CycleState, podInfo *framework.QueuedPodInfo, attempt *Attempt) (ScheduleResult, *framework.QueuedPodInfo, *framework.Status) {
	// Step 1: find the node (schedulePod); if there is none, let PostFilter make room
	result, err := sched.schedulePod(ctx, state, podInfo.PodInfo, attempt)
	if err != nil {
		nominating, status := sched.afterNoFit(ctx, state, podInfo, err)
		return ScheduleResult{nominatingInfo: nominating}, podInfo, status
	}

	// Step 2: assume the pod on it, so that the next cycle counts it
	assumed := podInfo.DeepCopy()
	if err := sched.assume(assumed, result.SuggestedHost); err != nil {
		return ScheduleResult{nominatingInfo: clearNominatedNode}, podInfo, framework.AsStatus(err)
	}

	// Step 3: let Reserve plugins claim what is theirs
	fw := sched.frameworkForPod(assumed.Pod)
	status := fw.RunReservePluginsReserve(ctx, state, assumed.Pod, result.SuggestedHost)
	if status.IsSuccess() {
		// Step 4: ask Permit plugins; Wait is settled in the binding cycle
		status = fw.RunPermitPlugins(ctx, state, assumed.Pod, result.SuggestedHost)
	}
	if !status.IsSuccess() && !status.IsWait() {
		sched.unreserveAndForget(ctx, state, assumed.Pod)
		return ScheduleResult{nominatingInfo: clearNominatedNode}, podInfo, rejectedOn(result.SuggestedHost, podInfo.Pod, status)
	}
	return result, assumed, nil
}

// clearNominatedNode takes back an earlier nomination.
var clearNominatedNode = &framework.NominatingInfo{Override: true}

// afterNoFit turns the error of schedulePod into a status. When nodes were refused,
// PostFilter plugins (preemption) may arrange for a later attempt.
func (sched *Scheduler) afterNoFit(ctx context.Context, state *framework.CycleState, podInfo *framework.QueuedPodInfo, err error) (*framework.NominatingInfo, *framework.Status) {
	if errors.Is(err, ErrNoNodesAvailable) {
		return clearNominatedNode, framework.NewStatus(framework.UnschedulableAndUnresolvable).WithError(err)
	}
	var fitError *framework.FitError
	if !errors.As(err, &fitError) {
		return clearNominatedNode, framework.AsStatus(err)
	}
	fw := sched.frameworkForPod(podInfo.Pod)
	if !fw.HasPostFilterPlugins() {
		return clearNominatedNode, framework.NewStatus(framework.Unschedulable).WithError(err)
	}
	result, status := fw.RunPostFilterPlugins(ctx, state, podInfo.PodInfo, fitError.Diagnosis.NodeToStatus)
	fitError.Diagnosis.PostFilterMsg = status.Message()
	if status.Code() == framework.Error {
		klog.FromContext(ctx).Error(status.AsError(), "PostFilter failed", "pod", klog.KObj(podInfo.Pod))
	}
	var nominating *framework.NominatingInfo
	if result != nil {
		nominating = result.NominatingInfo
	}
	return nominating, framework.NewStatus(framework.Unschedulable).WithError(err)
}

// rejectedOn wraps the refusal of a plugin that knew the node, so that the event
// reads like any other; failures stay as they are.
func rejectedOn(node string, pod *v1.Pod, status *framework.Status) *framework.Status {
	if !status.IsRejected() {
		return status
	}
	fitError := &framework.FitError{NumAllNodes: 1, Pod: pod, Diagnosis: framework.Diagnosis{NodeToStatus: framework.NewNodeToStatus()}}
	fitError.Diagnosis.NodeToStatus.Set(node, status)
	fitError.Diagnosis.AddPluginStatus(status)
	return framework.NewStatus(status.Code()).WithError(fitError)
}

// schedulePod finds the best node: ErrNoNodesAvailable without nodes, a FitError
// when all refuse.
func (sched *Scheduler) schedulePod(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, attempt *Attempt) (ScheduleResult, error) {
	sched.Cache.UpdateSnapshot(sched.nodeInfoSnapshot)
	total := sched.nodeInfoSnapshot.NumNodes()
	if total == 0 {
		return ScheduleResult{}, ErrNoNodesAvailable
	}
	feasible, diagnosis, err := sched.findNodesThatFitPod(ctx, state, pod)
	attempt.noteFilter(total, len(feasible), diagnosis)
	if err != nil {
		return ScheduleResult{}, err
	}
	if len(feasible) == 0 {
		return ScheduleResult{}, &framework.FitError{Pod: pod.Pod, NumAllNodes: total, Diagnosis: diagnosis}
	}
	result := ScheduleResult{EvaluatedNodes: len(feasible) + diagnosis.NodeToStatus.Len(), FeasibleNodes: len(feasible)}
	if len(feasible) == 1 {
		result.SuggestedHost = feasible[0].Node().Name // nothing to choose
		return result, nil
	}
	scores, err := sched.prioritizeNodes(ctx, state, pod, feasible)
	if err != nil {
		return ScheduleResult{}, err
	}
	result.SuggestedHost = sched.selectHost(scores)
	attempt.noteScores(scores, result.SuggestedHost)
	return result, nil
}

// findNodesThatFitPod filters the nodes. A node nominated by an earlier preemption
// is tried first, alone: it is most likely the one.
func (sched *Scheduler) findNodesThatFitPod(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo) ([]*framework.NodeInfo, framework.Diagnosis, error) {
	diagnosis := framework.Diagnosis{NodeToStatus: framework.NewNodeToStatus()}
	all := sched.nodeInfoSnapshot.List()
	fw := sched.frameworkForPod(pod.Pod)
	narrowed, narrowing, status := fw.RunPreFilterPlugins(ctx, state, pod, all)
	diagnosis.UnschedulablePlugins = narrowing
	if !status.IsSuccess() {
		if !status.IsRejected() {
			return nil, diagnosis, status.AsError()
		}
		diagnosis.NodeToStatus.SetAbsentNodesStatus(status)
		diagnosis.PreFilterMsg = status.Message()
		diagnosis.AddPluginStatus(status)
		return nil, diagnosis, nil
	}
	if name := pod.Pod.Status.NominatedNodeName; name != "" {
		if node, err := sched.nodeInfoSnapshot.Get(name); err == nil {
			if fw.RunFilterPluginsWithNominatedPods(ctx, state, pod, node).IsSuccess() {
				feasible, err := sched.findNodesThatPassExtenders(ctx, pod.Pod, []*framework.NodeInfo{node}, &diagnosis)
				if err == nil && len(feasible) > 0 {
					return feasible, diagnosis, nil
				}
			}
		}
	}
	nodes := all
	if !narrowed.AllNodes() {
		nodes = sched.existingNodes(narrowed.NodeNames)
		absent := fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", sets.List(narrowing))
		diagnosis.NodeToStatus.SetAbsentNodesStatus(framework.NewStatus(framework.UnschedulableAndUnresolvable, absent))
	}
	feasible, err := sched.findNodesThatPassFilters(ctx, state, pod, &diagnosis, nodes)
	// Also after an error, so that one bad node does not hold up the rest for ever.
	processed := len(feasible) + diagnosis.NodeToStatus.Len()
	sched.nextStartNodeIndex = (sched.nextStartNodeIndex + processed) % len(all)
	if err != nil {
		return nil, diagnosis, err
	}
	feasible, err = sched.findNodesThatPassExtenders(ctx, pod.Pod, feasible, &diagnosis)
	return feasible, diagnosis, err
}

func (sched *Scheduler) existingNodes(names sets.Set[string]) []*framework.NodeInfo {
	nodes := make([]*framework.NodeInfo, 0, len(names))
	for name := range names {
		if node, err := sched.nodeInfoSnapshot.Get(name); err == nil {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// findNodesThatPassFilters asks the Filter plugins about the nodes, several at a
// time, beginning where the last search ended, until enough have passed.
func (sched *Scheduler) findNodesThatPassFilters(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, diagnosis *framework.Diagnosis, nodes []*framework.NodeInfo) ([]*framework.NodeInfo, error) {
	fw := sched.frameworkForPod(pod.Pod)
	enough := sched.numFeasibleNodesToFind(fw.PercentageOfNodesToScore(), int32(len(nodes)))
	if !fw.HasScorePlugins() && !sched.anyExtender((*extender.Extender).IsPrioritizer) && !sched.anyExtender((*extender.Extender).IsFilter) {
		enough = 1 // nobody will choose
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	feasible := make([]*framework.NodeInfo, enough)
	statuses := make([]*framework.Status, len(nodes))
	var found atomic.Int32
	var failure atomic.Pointer[framework.Status]
	at := func(i int) *framework.NodeInfo { return nodes[(sched.nextStartNodeIndex+i)%len(nodes)] }

	start := time.Now()
	runtime.Until(ctx, len(nodes), func(i int) {
		status := fw.RunFilterPluginsWithNominatedPods(ctx, state, pod, at(i))
		switch {
		case status.Code() == framework.Error:
			failure.CompareAndSwap(nil, status)
			cancel()
		case !status.IsSuccess():
			statuses[i] = status
		default:
			if n := found.Add(1); n > enough {
				found.Add(-1)
				cancel()
			} else {
				feasible[n-1] = at(i)
			}
		}
	})
	sched.metrics.observeExtensionPoint(fw.ProfileName(), "Filter", failure.Load().Code(), time.Since(start))

	for i, status := range statuses {
		if status != nil {
			diagnosis.NodeToStatus.Set(at(i).Node().Name, status)
			diagnosis.AddPluginStatus(status)
		}
	}
	return feasible[:min(found.Load(), enough)], failure.Load().AsError()
}

// numFeasibleNodesToFind is when to stop: all of a small cluster; of a large one a
// share that falls with its size, since the best of 500 nodes is good enough. profiles is
// the share that the pod's profile wants; may be nil.
func (sched *Scheduler) numFeasibleNodesToFind(profiles *int32, numAllNodes int32) int32 {
	if numAllNodes < minFeasibleNodesToFind {
		return numAllNodes
	}
	percentage := sched.cfg.PercentageOfNodesToScore
	if profiles != nil {
		percentage = *profiles
	}
	if percentage == 0 {
		percentage = max(50-numAllNodes/125, minFeasibleNodesPercentageToFind)
	}
	return max(numAllNodes*percentage/100, minFeasibleNodesToFind)
}

// prioritizeNodes scores the nodes that passed; plugins first, then extenders.
func (sched *Scheduler) prioritizeNodes(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) ([]runtime.NodePluginScores, error) {
	fw := sched.frameworkForPod(pod.Pod)
	if status := fw.RunPreScorePlugins(ctx, state, pod, nodes); !status.IsSuccess() {
		return nil, status.AsError()
	}
	scores, status := fw.RunScorePlugins(ctx, state, pod, nodes)
	if !status.IsSuccess() {
		return nil, status.AsError()
	}
	sched.addExtenderScores(ctx, pod.Pod, nodes, scores)
	return scores, nil
}

// selectHost takes the best score; among equals each has the same chance (the k-th
// replaces the choice with probability 1/k).
func (sched *Scheduler) selectHost(scores []runtime.NodePluginScores) string {
	best, equals := 0, 1
	for i := 1; i < len(scores); i++ {
		switch {
		case scores[i].TotalScore > scores[best].TotalScore:
			best, equals = i, 1
		case scores[i].TotalScore == scores[best].TotalScore:
			equals++
			if sched.intn(equals) == 0 {
				best = i
			}
		}
	}
	return scores[best].Name
}

// assume counts the pod on the node from now on.
func (sched *Scheduler) assume(assumed *framework.QueuedPodInfo, host string) error {
	assumed.Pod.Spec.NodeName = host
	if err := sched.Cache.AssumePod(assumed.PodInfo); err != nil {
		return err
	}
	sched.nominator.DeleteNominatedPodIfExists(assumed.Pod.UID) // from here on it counts as being there
	return nil
}

// bindingCycle makes the decision real: waits for Permit, prepares, binds.
func (sched *Scheduler) bindingCycle(ctx context.Context, state *framework.CycleState, result ScheduleResult, assumed *framework.QueuedPodInfo, start time.Time) *framework.Status {
	pod := assumed.Pod
	fw := sched.frameworkForPod(pod)
	if status := fw.WaitOnPermit(ctx, pod); !status.IsSuccess() {
		return rejectedOn(result.SuggestedHost, pod, status)
	}
	// A failure from here on is an error, no refusal: no event can cure it, so the
	// events that came since the pod was popped need not be kept any longer.
	sched.SchedulingQueue.Done(pod.UID)

	if status := fw.RunPreBindPlugins(ctx, state, pod, result.SuggestedHost); !status.IsSuccess() {
		return status
	}
	if status := sched.bind(ctx, state, pod, result.SuggestedHost); !status.IsSuccess() {
		return status
	}
	sched.Cache.FinishBinding(pod)
	sched.recorderFor(pod).Eventf(pod, nil, v1.EventTypeNormal, "Scheduled", "Binding", "Successfully assigned %v/%v to %v", pod.Namespace, pod.Name, result.SuggestedHost)
	klog.FromContext(ctx).V(2).Info("Successfully bound pod to node", "pod", klog.KObj(pod), "node", result.SuggestedHost,
		"evaluatedNodes", result.EvaluatedNodes, "feasibleNodes", result.FeasibleNodes)
	sched.metrics.podScheduled(assumed, sched.cfg.Clock.Now(), start)
	fw.RunPostBindPlugins(ctx, state, pod, result.SuggestedHost)
	return nil
}

// unreserveAndForget takes back what the scheduling cycle claimed.
func (sched *Scheduler) unreserveAndForget(ctx context.Context, state *framework.CycleState, pod *v1.Pod) {
	sched.frameworkForPod(pod).RunReservePluginsUnreserve(ctx, state, pod, pod.Spec.NodeName)
	if err := sched.Cache.ForgetPod(pod); err != nil {
		klog.FromContext(ctx).Error(err, "Forgetting an assumed pod", "pod", klog.KObj(pod))
	}
}

// handleBindingCycleError takes the claim back. For other pods that is as if the
// pod had been deleted from the node, so the event is put to their hints; not to the
// pod's own, which would otherwise wake itself.
func (sched *Scheduler) handleBindingCycleError(ctx context.Context, state *framework.CycleState, assumed *framework.QueuedPodInfo, status *framework.Status, start time.Time) {
	pod := assumed.Pod
	sched.unreserveAndForget(ctx, state, pod)
	move := func() {
		sched.SchedulingQueue.MoveAllToActiveOrBackoffQueue(framework.EventAssignedPodDelete, pod, nil,
			func(other *v1.Pod) bool { return other.UID != pod.UID })
	}
	if status.IsRejected() {
		defer move() // after the pod is back: it is still in flight, and would be asked too
	} else {
		move()
	}
	sched.handleSchedulingFailure(ctx, assumed, status, clearNominatedNode, start)
}
