// Package defaultpreemption makes room for a pod that fits nowhere, by evicting pods of
// lower priority.
//
//	PostFilter: no node fits
//	   │ 1 may this pod preempt at all?
//	   │ 2 on which nodes would it help?         only where the refusal was Unschedulable
//	   │ 3 whom would it cost there?             dry run: all lower ones off, then back as many as fit
//	   │ 4 where does it cost least?             a table of five criteria
//	   │ 5 evict them
//	   ▼
//	nominated node: the pod waits there; others of no higher priority leave it the room
//
// The pod is not placed now: its victims have a grace period. Their deletion wakes
// it, and then it goes the ordinary way, its nominated node first.
//
//	default_preemption.go  the five steps
//	candidates.go          steps 3 and 4, pure
//	eviction.go            step 5
//
// In Kubernetes: pkg/scheduler/framework/plugins/defaultpreemption and
// pkg/scheduler/framework/preemption. There step 6 runs beside the next scheduling
// cycles (KEP-4832); here the scheduler waits for it, which is two requests for each victim.
package defaultpreemption

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	policylisters "k8s.io/client-go/listers/policy/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/framework/runtime"
)

// Name of the plugin.
const Name = "DefaultPreemption"

// DefaultPreemption is a PostFilter plugin.
type DefaultPreemption struct {
	// args say when enough candidates have been found: the best of a hundred is good enough.
	args    configv1.DefaultPreemptionArgs
	handle  framework.Handle
	budgets policylisters.PodDisruptionBudgetLister
	// intn chooses where among the nodes the search begins; replaced in tests.
	intn func(n int) int
}

// New makes the plugin; it reads PodDisruptionBudgets.
func New(_ context.Context, h framework.Handle, args framework.Args) (framework.Plugin, error) {
	pl := &DefaultPreemption{handle: h, budgets: h.SharedInformerFactory().Policy().V1().PodDisruptionBudgets().Lister(), intn: rand.IntN}
	pl.args.MinCandidateNodesPercentage, pl.args.MinCandidateNodesAbsolute = new(int32(10)), new(int32(100))
	if err := args.Into(&pl.args); err != nil {
		return nil, err
	}
	if p := *pl.args.MinCandidateNodesPercentage; p < 0 || p > 100 {
		return nil, fmt.Errorf("minCandidateNodesPercentage: Invalid value: %d: not in valid range [0, 100]", p)
	}
	if n := *pl.args.MinCandidateNodesAbsolute; n < 0 {
		return nil, fmt.Errorf("minCandidateNodesAbsolute: Invalid value: %d: not in valid range [0, inf)", n)
	}
	if *pl.args.MinCandidateNodesPercentage == 0 && *pl.args.MinCandidateNodesAbsolute == 0 {
		return nil, errors.New("minCandidateNodesPercentage: Invalid value: 0: cannot be zero at the same time as minCandidateNodesAbsolute")
	}
	return pl, nil
}

// Name returns the plugin's name.
func (*DefaultPreemption) Name() string { return Name }

// PostFilter evicts whom it must for the pod to fit somewhere, and nominates that node:
//
//	1: may this pod preempt at all?
//	2: on which nodes would it help?
//	3: whom would it cost there?
//	4: what do extenders say to that?
//	5: where does it cost least?
//	6: evict them
func (pl *DefaultPreemption) PostFilter(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, filtered *framework.NodeToStatus) (*framework.PostFilterResult, *framework.Status) {
	// Step 1: may this pod preempt at all?
	if why := pl.notEligible(pod.Pod, filtered); why != "" {
		return nil, framework.NewStatus(framework.Unschedulable, "preemption: "+why)
	}
	// Step 2: on which nodes would it help?
	all := pl.handle.SnapshotSharedLister().List()
	var helpful []*framework.NodeInfo
	for _, node := range all {
		if filtered.Get(node.Node().Name).Code() == framework.Unschedulable {
			helpful = append(helpful, node)
		}
	}
	// Step 3: whom would it cost there?
	budgets, err := pl.budgets.List(labels.Everything())
	if err != nil {
		return nil, framework.AsStatus(err)
	}
	candidates, refusals := pl.dryRunPreemption(ctx, state, pod, helpful, budgets)
	if len(candidates) == 0 {
		return nominated(""), noCandidates(pod.Pod, len(all), refusals)
	}
	// Step 4: what do extenders say to that?
	if candidates, err = pl.callExtenders(ctx, pod.Pod, candidates); err != nil {
		return nil, framework.AsStatus(err)
	}
	if len(candidates) == 0 {
		return nil, framework.NewStatus(framework.Unschedulable, "no candidate node for preemption")
	}
	// Step 5: where does it cost least?
	best := selectCandidate(candidates)
	// Step 6: evict them
	if err := pl.evict(ctx, pod.Pod, best); err != nil {
		return nil, framework.AsStatus(fmt.Errorf("preemption on node %s: %w", best.node, err))
	}
	return nominated(best.node), nil
}

func nominated(node string) *framework.PostFilterResult {
	return &framework.PostFilterResult{NominatingInfo: &framework.NominatingInfo{NominatedNodeName: node, Override: true}}
}

// noCandidates says why no node became one, in the words of FailedScheduling events.
func noCandidates(pod *v1.Pod, nodes int, refusals *framework.NodeToStatus) *framework.Status {
	refusals.SetAbsentNodesStatus(framework.NewStatus(framework.UnschedulableAndUnresolvable, "Preemption is not helpful for scheduling"))
	fit := &framework.FitError{Pod: pod, NumAllNodes: nodes, Diagnosis: framework.Diagnosis{NodeToStatus: refusals}}
	return framework.NewStatus(framework.Unschedulable, "preemption: "+fit.Error())
}

// notEligible says why the pod must not preempt; "": it may. One whose victims are still
// on their way out waits for them, unless its node has become impossible.
func (pl *DefaultPreemption) notEligible(pod *v1.Pod, filtered *framework.NodeToStatus) string {
	if policy := pod.Spec.PreemptionPolicy; policy != nil && *policy == v1.PreemptNever {
		return "not eligible due to preemptionPolicy=Never."
	}
	name := pod.Status.NominatedNodeName
	if name == "" || filtered.Get(name).Code() == framework.UnschedulableAndUnresolvable {
		return ""
	}
	node, err := pl.handle.SnapshotSharedLister().Get(name)
	if err != nil {
		return ""
	}
	for _, other := range node.Pods {
		if corev1helpers.PodPriority(other.Pod) < corev1helpers.PodPriority(pod) && terminatingByPreemption(other.Pod) {
			return "not eligible due to a terminating pod on the nominated node."
		}
	}
	return ""
}

func terminatingByPreemption(pod *v1.Pod) bool {
	return pod.DeletionTimestamp != nil && slices.ContainsFunc(pod.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.DisruptionTarget && c.Status == v1.ConditionTrue && c.Reason == v1.PodReasonPreemptionByScheduler
	})
}

// dryRunPreemption finds candidates, beginning anywhere, until there are enough, of which
// one at least breaks no budget. It also returns why the other nodes are none.
func (pl *DefaultPreemption) dryRunPreemption(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo, budgets []*policyv1.PodDisruptionBudget) ([]candidate, *framework.NodeToStatus) {
	refusals := framework.NewNodeToStatus()
	if len(nodes) == 0 {
		return nil, refusals
	}
	enough := max(len(nodes)*int(*pl.args.MinCandidateNodesPercentage)/100, int(*pl.args.MinCandidateNodesAbsolute), 1)
	offset := pl.intn(len(nodes))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var found []candidate
	harmless := false
	runtime.Until(ctx, len(nodes), func(i int) {
		node := nodes[(offset+i)%len(nodes)]
		trial := trial{framework: pl.handle, state: state.Clone(), pod: pod, node: node.Snapshot()}
		victims, status := trial.selectVictimsOnNode(ctx, budgets)
		mu.Lock()
		defer mu.Unlock()
		if !status.IsSuccess() {
			refusals.Set(node.Node().Name, status)
			return
		}
		found = append(found, candidate{node.Node().Name, victims})
		harmless = harmless || victims.violations == 0
		if len(found) >= enough && harmless {
			cancel()
		}
	})
	return found, refusals
}
