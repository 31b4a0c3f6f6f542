package scheduler

import (
	"context"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"hyperkube/scheduler/extender"
	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/framework/runtime"
)

// anyExtender says whether one of the extenders takes part in a step.
func (sched *Scheduler) anyExtender(takesPart func(*extender.Extender) bool) bool {
	for _, e := range sched.cfg.Extenders {
		if takesPart(e) {
			return true
		}
	}
	return false
}

// findNodesThatPassExtenders lets the extenders refuse more of the nodes, each what the one
// before has left over.
func (sched *Scheduler) findNodesThatPassExtenders(ctx context.Context, pod *v1.Pod, feasible []*framework.NodeInfo, diagnosis *framework.Diagnosis) ([]*framework.NodeInfo, error) {
	for _, e := range sched.cfg.Extenders {
		if len(feasible) == 0 {
			break
		}
		if !e.IsFilter() || !e.IsInterested(pod) {
			continue
		}
		judgement, err := e.Filter(ctx, pod, nodesOf(feasible))
		if err != nil {
			if e.IsIgnorable() {
				klog.FromContext(ctx).Info("Skipping extender as it returned error and has ignorable flag set", "extender", e.Name(), "err", err)
				continue
			}
			return nil, err
		}
		refuse := func(node, why string, code framework.Code) {
			status := framework.NewStatus(code, why).WithPlugin(extender.Name)
			diagnosis.NodeToStatus.Set(node, status)
			diagnosis.AddPluginStatus(status)
		}
		for node, why := range judgement.Failed {
			refuse(node, why, framework.Unschedulable)
		}
		for node, why := range judgement.Unresolvable {
			refuse(node, why, framework.UnschedulableAndUnresolvable)
		}
		var left []*framework.NodeInfo
		for _, node := range feasible {
			name := node.Node().Name
			if judgement.Fit.Has(name) {
				left = append(left, node)
			} else if judgement.Failed[name] == "" && judgement.Unresolvable[name] == "" {
				refuse(name, "node(s) didn't satisfy extender "+e.Name(), framework.UnschedulableAndUnresolvable)
			}
		}
		feasible = left
	}
	return feasible, nil
}

func nodesOf(infos []*framework.NodeInfo) []*v1.Node {
	nodes := make([]*v1.Node, len(infos))
	for i, info := range infos {
		nodes[i] = info.Node()
	}
	return nodes
}

// addExtenderScores adds what the extenders think of the nodes, on the scale of the plugins. All
// are asked at once; one that fails is left out: a worse node is better than none.
func (sched *Scheduler) addExtenderScores(ctx context.Context, pod *v1.Pod, nodes []*framework.NodeInfo, scores []runtime.NodePluginScores) {
	answers := make([]map[string]int64, len(sched.cfg.Extenders))
	var asked sync.WaitGroup
	for i, e := range sched.cfg.Extenders {
		if !e.IsPrioritizer() || !e.IsInterested(pod) {
			continue
		}
		asked.Go(func() {
			var err error
			if answers[i], err = e.Prioritize(ctx, pod, nodesOf(nodes)); err != nil {
				klog.FromContext(ctx).Error(err, "An extender has no scores; going on without", "extender", e.Name(), "pod", klog.KObj(pod))
			}
		})
	}
	asked.Wait()
	for i, e := range sched.cfg.Extenders {
		if answers[i] == nil {
			continue
		}
		for n := range scores {
			score := answers[i][scores[n].Name] * (framework.MaxNodeScore / extenderv1.MaxExtenderPriority)
			scores[n].TotalScore += score
			// A new slice: those of all nodes share one array.
			scores[n].Scores = append(scores[n].Scores[:len(scores[n].Scores):len(scores[n].Scores)], runtime.PluginScore{Name: extender.Name + " " + e.Name(), Score: score})
		}
	}
}

// bind lets an extender bind the pod, or the Bind plugins.
func (sched *Scheduler) bind(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) *framework.Status {
	for _, e := range sched.cfg.Extenders {
		if !e.IsBinder() || !e.IsInterested(pod) {
			continue
		}
		err := e.Bind(ctx, pod, node)
		if err != nil && e.IsIgnorable() {
			klog.FromContext(ctx).Info("Skipping extender in bind as it returned error and has ignorable flag set", "extender", e.Name(), "err", err)
			continue
		}
		return framework.AsStatus(err)
	}
	return sched.frameworkForPod(pod).RunBindPlugins(ctx, state, pod, node)
}
