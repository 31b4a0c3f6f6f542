package podautoscaler

import (
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/utils/ptr"

	hpaapi "hyperkube/api/autoscaling/horizontalpodautoscaler"
)

func behavior(change func(*autoscalingv2.HorizontalPodAutoscalerBehavior)) *autoscalingv2.HorizontalPodAutoscalerBehavior {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	hpa.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{}, ScaleDown: &autoscalingv2.HPAScalingRules{}}
	change(hpa.Spec.Behavior)
	hpaapi.SetDefaults(hpa)
	return hpa.Spec.Behavior
}

func policy(kind autoscalingv2.HPAScalingPolicyType, value, period int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: kind, Value: value, PeriodSeconds: period}
}

// Each case is a history: at so many seconds the metrics want so many; then what is done, and
// why. The size follows what is done.
func TestNormalizeThroughTime(t *testing.T) {
	const pods, percent = autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy
	type look struct {
		at, wanted, want int32
		reasons          string // AbleToScale, ScalingLimited
	}
	for name, test := range map[string]struct {
		begin    int32
		behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
		looks    []look
	}{
		"up at once, down after five minutes": {4, nil, []look{
			{0, 6, 6, "ReadyForNewScale DesiredWithinRange"},
			{15, 2, 6, "ScaleDownStabilized DesiredWithinRange"},
			{300, 2, 6, "ScaleDownStabilized DesiredWithinRange"},
			{301, 2, 2, "ReadyForNewScale DesiredWithinRange"},
		}},
		"doubled at most, four at least": {1, nil, []look{
			{0, 50, 4, "ReadyForNewScale ScaleUpLimit"},
			{15, 50, 8, "ReadyForNewScale ScaleUpLimit"},
			{30, 50, 16, "ReadyForNewScale ScaleUpLimit"},
			{45, 50, 20, "ReadyForNewScale TooManyReplicas"},
		}},
		"never below the least": {4, nil, []look{{301, 0, 1, "ReadyForNewScale TooFewReplicas"}}},
		"down at once, one a minute": {10, behavior(func(b *autoscalingv2.HorizontalPodAutoscalerBehavior) {
			b.ScaleDown.StabilizationWindowSeconds = ptr.To[int32](0)
			b.ScaleDown.Policies = []autoscalingv2.HPAScalingPolicy{policy(pods, 1, 60)}
		}), []look{
			{1, 5, 9, "ReadyForNewScale ScaleDownLimit"},
			{16, 5, 9, "ReadyForNewScale ScaleDownLimit"},
			{60, 5, 9, "ReadyForNewScale ScaleDownLimit"},
			{61, 5, 8, "ReadyForNewScale ScaleDownLimit"},
		}},
		"never down": {10, behavior(func(b *autoscalingv2.HorizontalPodAutoscalerBehavior) {
			b.ScaleDown.StabilizationWindowSeconds = ptr.To[int32](0)
			b.ScaleDown.SelectPolicy = ptr.To(autoscalingv2.DisabledPolicySelect)
		}), []look{{1, 5, 10, "ReadyForNewScale ScaleDownLimit"}}},
		"the larger of ten percent and two": {10, behavior(func(b *autoscalingv2.HorizontalPodAutoscalerBehavior) {
			b.ScaleUp.Policies = []autoscalingv2.HPAScalingPolicy{policy(percent, 10, 60), policy(pods, 2, 60)}
		}), []look{
			{0, 20, 12, "ReadyForNewScale ScaleUpLimit"}, {30, 20, 12, "ReadyForNewScale ScaleUpLimit"}, {61, 20, 14, "ReadyForNewScale ScaleUpLimit"}}},
		"the smaller": {10, behavior(func(b *autoscalingv2.HorizontalPodAutoscalerBehavior) {
			b.ScaleUp.SelectPolicy = ptr.To(autoscalingv2.MinChangePolicySelect)
			b.ScaleUp.Policies = []autoscalingv2.HPAScalingPolicy{policy(percent, 5, 60), policy(pods, 2, 60)}
		}), []look{{0, 20, 11, "ReadyForNewScale ScaleUpLimit"}}},
		"up only when wanted for a minute": {4, behavior(func(b *autoscalingv2.HorizontalPodAutoscalerBehavior) {
			b.ScaleUp.StabilizationWindowSeconds = ptr.To[int32](60)
		}), []look{
			{15, 8, 4, "ScaleUpStabilized DesiredWithinRange"},
			{30, 6, 4, "ScaleUpStabilized DesiredWithinRange"},
			{74, 8, 6, "ScaleUpStabilized DesiredWithinRange"},
			{91, 8, 8, "ReadyForNewScale DesiredWithinRange"},
		}},
		"the default window for down holds with behavior": {4, behavior(func(*autoscalingv2.HorizontalPodAutoscalerBehavior) {}), []look{
			{299, 1, 4, "ScaleDownStabilized DesiredWithinRange"}, {301, 1, 1, "ReadyForNewScale DesiredWithinRange"}}},
	} {
		h, size := &history{}, test.begin
		h.begin(size, testTime)
		for _, look := range test.looks {
			now := testTime.Add(seconds(look.at))
			got, conditions := normalize(look.wanted, limits{min: 1, max: 20, current: size, behavior: test.behavior, downWindow: 5 * time.Minute, now: now}, h)
			reasons := conditions[0].Reason + " " + conditions[1].Reason
			if got != look.want || reasons != look.reasons {
				t.Errorf("%s: at %d s %d of wanted %d (%s), want %d (%s)", name, look.at, got, look.wanted, reasons, look.want, look.reasons)
			}
			limited := conditions[1].Status == "True"
			if limited == strings.HasSuffix(reasons, withinRange) {
				t.Errorf("%s: at %d s limited %v for %s", name, look.at, limited, reasons)
			}
			if got != size {
				h.stepped(test.behavior, size, got, now)
			}
			size = got
		}
	}
}
