package framework

import (
	"errors"
	"fmt"

	configv1 "k8s.io/kube-scheduler/config/v1"
)

// BrokenLine is the line through the points of a shape, level before the first and after
// the last: how good it is that so much of something is used. Scores are 0 to 10 there,
// tenths of ours. Its errors begin after the field's name.
func BrokenLine(points []configv1.UtilizationShapePoint) (func(used, allocatable int64) int64, error) {
	if len(points) == 0 {
		return nil, errors.New(": Required value: at least one point must be specified")
	}
	for i, p := range points {
		switch {
		case p.Utilization < 0 || p.Utilization > 100:
			return nil, fmt.Errorf("[%d].utilization: Invalid value: %d: not in valid range [0, 100]", i, p.Utilization)
		case p.Score < 0 || p.Score > 10:
			return nil, fmt.Errorf("[%d].score: Invalid value: %d: not in valid range [0, 10]", i, p.Score)
		case i > 0 && p.Utilization <= points[i-1].Utilization:
			return nil, fmt.Errorf("[%d].utilization: Invalid value: %d: utilization values must be sorted in increasing order", i, p.Utilization)
		}
	}
	scale := MaxNodeScore / 10
	return func(used, allocatable int64) int64 {
		share := int64(100)
		if allocatable > 0 && used <= allocatable {
			share = used * 100 / allocatable
		}
		for i, p := range points {
			at, score := int64(p.Utilization), int64(p.Score)*scale
			if share > at {
				continue
			}
			if i == 0 {
				return score
			}
			before, below := int64(points[i-1].Utilization), int64(points[i-1].Score)*scale
			return below + (score-below)*(share-before)/(at-before)
		}
		return int64(points[len(points)-1].Score) * scale
	}, nil
}
