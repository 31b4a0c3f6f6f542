package defaultpreemption

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"hyperkube/scheduler/framework"
)

// candidate is a node, and whom preemption would cost there.
type candidate struct {
	node string
	victims
}

// victims are the pods to evict, the most important first.
type victims struct {
	pods []*v1.Pod
	// violations counts those whose disruption budget allows no more.
	violations int
}

// trial is a copy of a node and of the cycle's state, on which pods can be taken off and
// put back.
type trial struct {
	framework framework.Handle
	state     *framework.CycleState
	pod       *framework.PodInfo
	node      *framework.NodeInfo
}

func (t *trial) remove(ctx context.Context, p *framework.PodInfo) *framework.Status {
	if err := t.node.RemovePod(p.Pod); err != nil {
		return framework.AsStatus(err)
	}
	return t.framework.RunPreFilterExtensionRemovePod(ctx, t.state, t.pod, p, t.node)
}

func (t *trial) add(ctx context.Context, p *framework.PodInfo) *framework.Status {
	t.node.AddPod(p)
	return t.framework.RunPreFilterExtensionAddPod(ctx, t.state, t.pod, p, t.node)
}

func (t *trial) fits(ctx context.Context) *framework.Status {
	return t.framework.RunFilterPluginsWithNominatedPods(ctx, t.state, t.pod, t.node)
}

// selectVictimsOnNode finds the fewest pods of least importance whose eviction lets the
// pod fit: first all of lower priority are taken off; if it then fits, they are put
// back one by one, the most important first and those with an exhausted budget before
// the others, as long as it still does. Who cannot be put back is a victim.
func (t *trial) selectVictimsOnNode(ctx context.Context, budgets []*policyv1.PodDisruptionBudget) (victims, *framework.Status) {
	var lower []*framework.PodInfo
	for _, p := range t.node.Pods {
		if corev1helpers.PodPriority(p.Pod) < corev1helpers.PodPriority(t.pod.Pod) {
			lower = append(lower, p)
		}
	}
	if len(lower) == 0 {
		return victims{}, framework.NewStatus(framework.UnschedulableAndUnresolvable, "No preemption victims found for incoming pod")
	}
	for _, p := range lower {
		if status := t.remove(ctx, p); !status.IsSuccess() {
			return victims{}, status
		}
	}
	if status := t.fits(ctx); !status.IsSuccess() {
		return victims{}, status
	}
	slices.SortStableFunc(lower, func(a, b *framework.PodInfo) int { return byImportance(a.Pod, b.Pod) })
	violating, others := splitByBudgets(lower, budgets)
	var chosen victims
	for i, p := range slices.Concat(violating, others) {
		if status := t.add(ctx, p); !status.IsSuccess() {
			return victims{}, status
		}
		if t.fits(ctx).IsSuccess() {
			continue // reprieved
		}
		if status := t.remove(ctx, p); !status.IsSuccess() {
			return victims{}, status
		}
		chosen.pods = append(chosen.pods, p.Pod)
		if i < len(violating) {
			chosen.violations++
		}
	}
	slices.SortStableFunc(chosen.pods, byImportance)
	return chosen, nil
}

// byImportance puts higher priority first, and among equals who has run longer.
func byImportance(a, b *v1.Pod) int {
	return cmp.Or(cmp.Compare(corev1helpers.PodPriority(b), corev1helpers.PodPriority(a)), startTime(a).Compare(startTime(b)))
}

// startTime is when the pod began; one that has not begins now.
func startTime(pod *v1.Pod) time.Time {
	if pod.Status.StartTime == nil {
		return time.Now()
	}
	return pod.Status.StartTime.Time
}

// splitByBudgets separates the pods whose eviction would break a disruption budget, in
// the order given: each budget lets so many go and no more.
func splitByBudgets(pods []*framework.PodInfo, budgets []*policyv1.PodDisruptionBudget) (violating, others []*framework.PodInfo) {
	allowed := make([]int32, len(budgets))
	for i, budget := range budgets {
		allowed[i] = budget.Status.DisruptionsAllowed
	}
	for _, p := range pods {
		breaks := false
		for i, budget := range budgets {
			if !protects(budget, p.Pod) {
				continue
			}
			allowed[i]--
			breaks = breaks || allowed[i] < 0
		}
		if breaks {
			violating = append(violating, p)
		} else {
			others = append(others, p)
		}
	}
	return violating, others
}

// protects says whether a budget counts the pod. One that is being evicted already has
// been counted.
func protects(budget *policyv1.PodDisruptionBudget, pod *v1.Pod) bool {
	if budget.Namespace != pod.Namespace || len(pod.Labels) == 0 {
		return false
	}
	selector := framework.ParseSelector(budget.Spec.Selector)
	_, going := budget.Status.DisruptedPods[pod.Name]
	return !going && !selector.Empty() && selector.Matches(labels.Set(pod.Labels))
}

// selectCandidate takes the node where preemption costs least; of each line the smaller
// decides, and only among equals the next:
//
//	budgets broken
//	priority of the most important victim
//	sum of the victims' priorities
//	number of victims
//	how long the most important victims have run: those who began last go
func selectCandidate(candidates []candidate) candidate {
	return slices.MinFunc(candidates, func(a, b candidate) int {
		return cmp.Or(
			cmp.Compare(a.violations, b.violations),
			cmp.Compare(a.highestPriority(), b.highestPriority()),
			cmp.Compare(a.sumOfPriorities(), b.sumOfPriorities()),
			cmp.Compare(len(a.pods), len(b.pods)),
			b.earliestStart().Compare(a.earliestStart()),
		)
	})
}

func (v *victims) highestPriority() int32 {
	if len(v.pods) == 0 {
		return math.MinInt32
	}
	return corev1helpers.PodPriority(v.pods[0])
}

// sumOfPriorities counts from the least priority: else two of priority -1 would cost
// less than one.
func (v *victims) sumOfPriorities() (sum int64) {
	for _, pod := range v.pods {
		sum += int64(corev1helpers.PodPriority(pod)) - math.MinInt32
	}
	return sum
}

// earliestStart is when the first of the most important victims began.
func (v *victims) earliestStart() time.Time {
	if len(v.pods) == 0 {
		return time.Time{}
	}
	return startTime(v.pods[0]) // byImportance puts it first
}
