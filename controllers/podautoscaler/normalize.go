package podautoscaler

import (
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/utils/ptr"
)

// history is what an autoscaler wanted and did lately, oldest first. It is not stored: after
// a restart the first recommendation is the present size.
type history struct {
	recommendations []recommendation
	// ups and downs are the steps taken; kept only where there are policies to limit them.
	ups, downs []step
}

type recommendation struct {
	replicas int32
	at       time.Time
}

type step struct {
	by int32 // positive, in both directions
	at time.Time
}

// begin notes the present size as the first recommendation. Without it the first low metric
// after a restart would take the workload down at once.
func (h *history) begin(current int32, now time.Time) {
	if len(h.recommendations) == 0 {
		h.recommendations = []recommendation{{current, now}}
	}
}

// recommended notes a recommendation and forgets those older than both windows.
func (h *history) recommended(replicas int32, now time.Time, longest time.Duration) {
	kept := h.recommendations[:0]
	for _, r := range h.recommendations {
		if !r.at.Before(now.Add(-longest)) {
			kept = append(kept, r)
		}
	}
	h.recommendations = append(kept, recommendation{replicas, now})
}

// stepped notes a step, and forgets those of the same direction that no policy looks back to.
func (h *history) stepped(behavior *autoscalingv2.HorizontalPodAutoscalerBehavior, from, to int32, now time.Time) {
	if behavior == nil {
		return
	}
	steps, rules, by := &h.ups, behavior.ScaleUp, to-from
	if to < from {
		steps, rules, by = &h.downs, behavior.ScaleDown, from-to
	}
	longest := time.Duration(0)
	if rules != nil {
		for _, p := range rules.Policies {
			longest = max(longest, seconds(p.PeriodSeconds))
		}
	}
	kept := (*steps)[:0]
	for _, s := range *steps {
		if !s.at.Before(now.Add(-longest)) {
			kept = append(kept, s)
		}
	}
	*steps = append(kept, step{by, now})
}

// limits are what normalize needs to know of an autoscaler.
type limits struct {
	min, max, current int32
	behavior          *autoscalingv2.HorizontalPodAutoscalerBehavior
	// downWindow is how far back recommendations count against going down, by default.
	downWindow time.Duration
	now        time.Time
}

// normalize makes of what the metrics want what is to be done, and says why:
//
//  1. stabilize: not lower than what was recommended within the window for going down, not
//     higher than what was within the one for going up,
//  2. bound: within the range, and not faster than the policies allow.
func normalize(wanted int32, l limits, h *history) (int32, []autoscalingv2.HorizontalPodAutoscalerCondition) {
	// Step 1: stabilize.
	stable := stabilize(wanted, l, h)
	able := yes(autoscalingv2.AbleToScale, "ReadyForNewScale", "recommended size matches current size")
	switch {
	case stable == wanted:
	case l.behavior != nil && wanted >= l.current:
		able = yes(autoscalingv2.AbleToScale, "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation")
	default:
		able = yes(autoscalingv2.AbleToScale, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation")
	}
	// Step 2: bound.
	replicas, reason, message := bound(stable, l, h)
	limited := no(autoscalingv2.ScalingLimited, reason, "%s", message)
	if replicas != stable {
		limited = yes(autoscalingv2.ScalingLimited, reason, "%s", message)
	}
	return replicas, []autoscalingv2.HorizontalPodAutoscalerCondition{able, limited}
}

func stabilize(wanted int32, l limits, h *history) int32 {
	up, down := windows(l)
	lowest, highest := wanted, wanted
	for _, r := range h.recommendations {
		if l.behavior != nil && r.at.After(l.now.Add(-up)) {
			lowest = min(lowest, r.replicas)
		}
		// Without behavior the edge of the window is still in it.
		if r.at.After(l.now.Add(-down)) || l.behavior == nil && r.at.Equal(l.now.Add(-down)) {
			highest = max(highest, r.replicas)
		}
	}
	h.recommended(wanted, l.now, max(up, down))
	if l.behavior == nil {
		return highest
	}
	return min(max(l.current, lowest), highest)
}

// windows are the times over which recommendations are looked back to, for up and for down.
func windows(l limits) (up, down time.Duration) {
	down = l.downWindow
	if b := l.behavior; b != nil {
		if b.ScaleUp != nil {
			up = seconds(ptr.Deref(b.ScaleUp.StabilizationWindowSeconds, 0))
		}
		if b.ScaleDown != nil && b.ScaleDown.StabilizationWindowSeconds != nil {
			down = seconds(*b.ScaleDown.StabilizationWindowSeconds)
		}
	}
	return up, down
}

// withinRange is the reason of a number that no limit changed.
const withinRange, withinRangeMessage = "DesiredWithinRange", "the desired count is within the acceptable range"

// bound keeps the number within the range and the rates, and names the limit that held it.
func bound(wanted int32, l limits, h *history) (replicas int32, reason, message string) {
	highest, reason, message := l.max, "TooManyReplicas", "the desired replica count is more than the maximum replica count"
	lowest := l.min
	if l.behavior == nil {
		if wanted < lowest {
			return lowest, "TooFewReplicas", "the desired replica count is less than the minimum replica count"
		}
		// Doubled at most, but four at least: a mistaken metric must not fill the cluster at once.
		if fastest := max(saturating(2*int64(l.current)), 4); fastest < highest {
			highest, reason, message = fastest, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"
		}
		if wanted > highest {
			return highest, reason, message
		}
		return wanted, withinRange, withinRangeMessage
	}
	if wanted > l.current {
		if fastest := max(scaleUpLimit(l, h), l.current); fastest < highest {
			highest, reason, message = fastest, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"
		}
		if wanted > highest {
			return highest, reason, message
		}
	}
	if wanted < l.current {
		reason, message = "TooFewReplicas", "the desired replica count is less than the minimum replica count"
		if fastest := min(scaleDownLimit(l, h), l.current); fastest > lowest {
			lowest, reason, message = fastest, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"
		}
		if wanted < lowest {
			return lowest, reason, message
		}
	}
	return wanted, withinRange, withinRangeMessage
}

// scaleUpLimit is the number that the policies for going up allow now. Each policy counts
// from what there was at the beginning of its period.
func scaleUpLimit(l limits, h *history) int32 {
	rules := l.behavior.ScaleUp
	if rules == nil || selects(rules, autoscalingv2.DisabledPolicySelect) {
		return l.current
	}
	var proposals []int32
	for _, p := range rules.Policies {
		start := float64(periodStart(p, l, h))
		if p.Type == autoscalingv2.PercentScalingPolicy {
			// Rounded up: ten percent of one would never be a pod.
			proposals = append(proposals, ceil32(start*(1+float64(p.Value)/100)))
		} else {
			proposals = append(proposals, ceil32(start+float64(p.Value)))
		}
	}
	return choose(proposals, l.current, !selects(rules, autoscalingv2.MinChangePolicySelect))
}

// scaleDownLimit is the same for going down; the largest change is the smallest number.
func scaleDownLimit(l limits, h *history) int32 {
	rules := l.behavior.ScaleDown
	if rules == nil || selects(rules, autoscalingv2.DisabledPolicySelect) {
		return l.current
	}
	var proposals []int32
	for _, p := range rules.Policies {
		start := periodStart(p, l, h)
		if p.Type == autoscalingv2.PercentScalingPolicy {
			proposals = append(proposals, int32(float64(start)*(1-float64(p.Value)/100)))
		} else {
			proposals = append(proposals, start-p.Value)
		}
	}
	return choose(proposals, l.current, selects(rules, autoscalingv2.MinChangePolicySelect))
}

func selects(rules *autoscalingv2.HPAScalingRules, policy autoscalingv2.ScalingPolicySelect) bool {
	return ptr.Deref(rules.SelectPolicy, autoscalingv2.MaxChangePolicySelect) == policy
}

// choose is the largest or smallest proposal; without any, what there is.
func choose(proposals []int32, none int32, largest bool) int32 {
	if len(proposals) == 0 {
		return none
	}
	chosen := proposals[0]
	for _, p := range proposals[1:] {
		if largest == (p > chosen) {
			chosen = p
		}
	}
	return chosen
}

// periodStart is the number that there was before the steps of the policy's period.
func periodStart(p autoscalingv2.HPAScalingPolicy, l limits, h *history) int32 {
	since := l.now.Add(-seconds(p.PeriodSeconds))
	start := l.current
	for _, s := range h.ups {
		if s.at.After(since) {
			start -= s.by
		}
	}
	for _, s := range h.downs {
		if s.at.After(since) {
			start += s.by
		}
	}
	return start
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

func saturating(n int64) int32 { return int32(min(n, math.MaxInt32)) }
