package job

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/ptr"

	podutil "hyperkube/api/core/pod"
)

const unknownCompletionIndex = -1

func getCompletionIndex(annotations map[string]string) int {
	index, err := strconv.Atoi(annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || index < 0 {
		return unknownCompletionIndex
	}
	return index
}

// countIndexes finds which indexes have succeeded and which have failed for good.
func (c *syncJobCtx) countIndexes() {
	completions := int(ptr.Deref(c.job.Spec.Completions, 0))
	c.succeededIndexes = parseIndexes(c.job.Status.CompletedIndexes, completions)
	for _, pod := range c.newSucceeded {
		if i := getCompletionIndex(pod.Annotations); i != unknownCompletionIndex && i < completions {
			c.succeededIndexes.Insert(i)
		}
	}
	c.succeeded = int32(c.succeededIndexes.Len())
	limit := c.job.Spec.BackoffLimitPerIndex
	if limit == nil {
		return
	}
	c.failedIndexes = parseIndexes(ptr.Deref(c.job.Status.FailedIndexes, ""), completions).Difference(c.succeededIndexes)
	c.lastFailed = map[int]*corev1.Pod{}
	for _, pod := range c.newFailed {
		i := getCompletionIndex(pod.Annotations)
		if i == unknownCompletionIndex || i >= completions || c.succeededIndexes.Has(i) || c.failedIndexes.Has(i) {
			continue
		}
		match := c.matchFailure(pod)
		if match.action == batchv1.PodFailurePolicyActionFailIndex || match.counts && indexFailureCount(pod) >= int(*limit) {
			c.failedIndexes.Insert(i)
			delete(c.lastFailed, i)
		} else if known := c.lastFailed[i]; known == nil || indexFailureCount(pod) >= indexFailureCount(known) {
			c.lastFailed[i] = pod
		}
	}
}

// indexFailureCount is how many pods of this one's index failed before it.
func indexFailureCount(pod *corev1.Pod) int {
	n, err := strconv.Atoi(pod.Annotations[batchv1.JobIndexFailureCountAnnotation])
	if err != nil {
		return 0
	}
	return n
}

// nextFailureCount is the count that the successor of the index's last failed pod carries.
func (c *syncJobCtx) nextFailureCount(index int) int {
	last := c.lastFailed[index]
	if last == nil {
		return 0
	}
	if !c.matchFailure(last).counts {
		return indexFailureCount(last)
	}
	return indexFailureCount(last) + 1
}

// keepsFailureCount: the last failed pod of an index is kept until its successor
// exists, for it holds the number of failures.
func (c *syncJobCtx) keepsFailureCount(pod *corev1.Pod) bool {
	if c.finished != nil || c.job.DeletionTimestamp != nil || c.failedIndexes == nil {
		return false
	}
	index := getCompletionIndex(pod.Annotations)
	if last := c.lastFailed[index]; last == nil || last.UID != pod.UID {
		return false
	}
	return !slices.ContainsFunc(c.pods, func(other *corev1.Pod) bool {
		return other.UID != pod.UID && getCompletionIndex(other.Annotations) == index && podutil.IsPodActive(other)
	})
}

// firstPendingIndexes returns up to count indexes that need a pod, lowest first.
func (c *syncJobCtx) firstPendingIndexes(count int) []int {
	taken := c.succeededIndexes.Union(c.failedIndexes)
	for _, pod := range c.pods {
		terminating := pod.DeletionTimestamp != nil && !podutil.IsPodTerminal(pod)
		if podutil.IsPodActive(pod) || terminating && c.onlyReplaceFailedPods() {
			taken.Insert(getCompletionIndex(pod.Annotations))
		}
	}
	var pending []int
	for i := 0; i < int(ptr.Deref(c.job.Spec.Completions, 0)) && len(pending) < count; i++ {
		if taken.Has(i) {
			continue
		}
		if last := c.lastFailed[i]; last != nil {
			wait := remainingBackoff(c.nextFailureCount(i), finishTime(last, c.now), c.now)
			if wait > 0 {
				c.wakeAfter(wait)
				continue
			}
		}
		pending = append(pending, i)
	}
	return pending
}

// surplusIndexPods are active pods of no, of a finished, or of an already taken index.
func (c *syncJobCtx) surplusIndexPods() []*corev1.Pod {
	var surplus []*corev1.Pod
	taken := c.succeededIndexes.Union(c.failedIndexes)
	byAge := slices.Clone(c.active)
	slices.SortStableFunc(byAge, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(phaseRank(b), phaseRank(a)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time))
	})
	for _, pod := range byAge {
		i := getCompletionIndex(pod.Annotations)
		if i == unknownCompletionIndex || i >= int(ptr.Deref(c.job.Spec.Completions, 0)) || taken.Has(i) {
			surplus = append(surplus, pod)
			continue
		}
		taken.Insert(i)
	}
	return surplus
}

func phaseRank(pod *corev1.Pod) int {
	switch {
	case podutil.IsPodReady(pod):
		return 2
	case pod.Spec.NodeName != "":
		return 1
	}
	return 0
}

// parseIndexes reads "0-2,5". Indexes from limit on are dropped: the Job was made smaller.
func parseIndexes(text string, limit int) sets.Set[int] {
	indexes := sets.New[int]()
	for _, piece := range strings.Split(text, ",") {
		firstText, lastText, ranged := strings.Cut(piece, "-")
		first, err := strconv.Atoi(firstText)
		if err != nil {
			continue
		}
		last := first
		if ranged {
			if last, err = strconv.Atoi(lastText); err != nil {
				continue
			}
		}
		for i := first; i <= last && i < limit; i++ {
			indexes.Insert(i)
		}
	}
	return indexes
}

// formatIndexes writes "0-2,5". Two neighbours are a list ("0,1"), three a range.
func formatIndexes(indexes sets.Set[int]) string {
	sorted := sets.List(indexes)
	var pieces []string
	for start := 0; start < len(sorted); {
		end := start
		for end+1 < len(sorted) && sorted[end+1] == sorted[end]+1 {
			end++
		}
		switch {
		case end == start:
			pieces = append(pieces, strconv.Itoa(sorted[start]))
		case end == start+1:
			pieces = append(pieces, strconv.Itoa(sorted[start]), strconv.Itoa(sorted[end]))
		default:
			pieces = append(pieces, fmt.Sprintf("%d-%d", sorted[start], sorted[end]))
		}
		start = end + 1
	}
	return strings.Join(pieces, ",")
}
