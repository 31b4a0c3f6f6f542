package framework

// DefaultNormalizeScore scales scores so that the largest becomes maxPriority;
// reverse turns them round, for plugins that count what is bad.
func DefaultNormalizeScore(maxPriority int64, reverse bool, scores []NodeScore) {
	var maxCount int64
	for i := range scores {
		maxCount = max(maxCount, scores[i].Score)
	}
	for i := range scores {
		score := scores[i].Score
		if maxCount > 0 {
			score = maxPriority * score / maxCount
		}
		if reverse {
			score = maxPriority - score
		}
		scores[i].Score = score
	}
}
