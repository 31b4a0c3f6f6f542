package defaultpreemption

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"hyperkube/scheduler/framework"
)

// callExtenders lets each extender that knows of preemption take candidates away or change
// their victims.
func (pl *DefaultPreemption) callExtenders(ctx context.Context, pod *v1.Pod, candidates []candidate) ([]candidate, error) {
	offered := map[string]*extenderv1.Victims{}
	for _, c := range candidates {
		offered[c.node] = &extenderv1.Victims{Pods: c.pods, NumPDBViolations: int64(c.violations)}
	}
	asked := false
	for _, e := range pl.handle.Extenders() {
		if len(offered) == 0 {
			break
		}
		if !e.SupportsPreemption() || !e.IsInterested(pod) {
			continue
		}
		left, err := e.ProcessPreemption(ctx, pod, offered, pl.podsOn)
		if err != nil {
			if e.IsIgnorable() {
				pl.handle.Logger().Info("Skipped extender as it returned error", "extender", e.Name(), "err", err)
				continue
			}
			return nil, err
		}
		for node, v := range left {
			if len(v.Pods) > 0 {
				continue
			}
			if !e.IsIgnorable() {
				return nil, fmt.Errorf("expected at least one victim pod on node %q", node)
			}
			delete(left, node)
		}
		asked, offered = true, left
	}
	if !asked {
		return candidates, nil
	}
	var kept []candidate
	for node, v := range offered {
		kept = append(kept, candidate{node, victims{v.Pods, int(v.NumPDBViolations)}})
	}
	return kept, nil
}

func (pl *DefaultPreemption) podsOn(node string) ([]*v1.Pod, error) {
	info, err := pl.handle.SnapshotSharedLister().Get(node)
	if err != nil {
		return nil, err
	}
	pods := make([]*v1.Pod, len(info.Pods))
	for i, p := range info.Pods {
		pods[i] = p.Pod
	}
	return pods, nil
}

var _ framework.PostFilterPlugin = &DefaultPreemption{}
