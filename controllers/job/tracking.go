package job

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/ptr"

	podutil "hyperkube/api/core/pod"
)

// maxUncountedPods bounds the list of uids in the status, and so its size.
const maxUncountedPods = 500

// removeFinalizersField, in a strategic merge patch, takes single values off the list.
const removeFinalizersField = "$deleteFromPrimitiveList/finalizers"

func hasJobTrackingFinalizer(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

// trackJobStatusAndRemoveFinalizers counts each pod that has ended exactly once:
//
//  1. count those noted in an earlier turn whose finalizer is gone,
//  2. note the newly ended, and write the notes,
//  3. take their finalizers off,
//  4. count those, and when none is left of a Job that has ended, say so.
func (jm *Controller) trackJobStatusAndRemoveFinalizers(ctx context.Context, c *syncJobCtx) error {
	// Step 1: count those noted in an earlier turn whose finalizer is gone.
	held := sets.New[types.UID]()
	for _, pod := range c.pods {
		if c.tracked(pod) {
			held.Insert(pod.UID)
		}
	}
	c.countNoted(held)

	// Step 2: note the newly ended, and write the notes.
	release, more := c.noteTerminated()
	c.reportCounts()
	if c.finished != nil && c.condition(c.finished.Type) == nil {
		c.setCondition(*c.finished)
	}
	if len(release) > 0 && c.needsUpdate {
		if err := jm.updateStatus(ctx, c); err != nil {
			return err
		}
	}

	// Step 3: take their finalizers off.
	err := jm.releasePods(ctx, c, release, held)

	// Step 4: count those; end the Job when none is left.
	c.countNoted(held)
	if c.finished != nil && err == nil && !more && held.Len() == 0 && len(c.active) == 0 && c.terminating == 0 {
		c.enactJobFinished(jm.eventRecorder)
	}
	if more {
		c.wakeAfter(1)
	}
	if !c.needsUpdate {
		return err
	}
	return errors.Join(err, jm.updateStatus(ctx, c))
}

// countNoted moves the uids of pods that hold no finalizer from the notes into the counts.
func (c *syncJobCtx) countNoted(held sets.Set[types.UID]) {
	uncounted := c.job.Status.UncountedTerminatedPods
	take := func(noted *[]types.UID, count *int32) {
		var left []types.UID
		for _, uid := range *noted {
			if held.Has(uid) {
				left = append(left, uid)
				continue
			}
			*count++
			c.needsUpdate = true
		}
		*noted = left
	}
	take(&uncounted.Succeeded, &c.job.Status.Succeeded)
	take(&uncounted.Failed, &c.job.Status.Failed)
}

// noteTerminated puts the ended pods into the notes (successes of indexes into their
// list), and returns the pods to let go, and whether there are more for another turn.
func (c *syncJobCtx) noteTerminated() (release []*corev1.Pod, more bool) {
	uncounted := c.job.Status.UncountedTerminatedPods
	noted := sets.New(uncounted.Succeeded...).Union(sets.New(uncounted.Failed...))
	failing := c.finished != nil && c.finished.Type == batchv1.JobFailureTarget
	stopping := c.finished != nil || c.job.DeletionTimestamp != nil
	for _, pod := range c.pods {
		failed := c.isPodFailed(pod)
		if !c.tracked(pod) || !podutil.IsPodTerminal(pod) && !failed && !stopping {
			continue
		}
		if c.keepsFailureCount(pod) {
			continue
		}
		if len(release) >= maxUncountedPods {
			return release, true
		}
		release = append(release, pod)
		switch {
		case noted.Has(pod.UID):
		case pod.Status.Phase == corev1.PodSucceeded:
			if !c.indexed() {
				uncounted.Succeeded = append(uncounted.Succeeded, pod.UID)
				c.needsUpdate = true
			}
		case failed || failing:
			if c.matchFailure(pod).counts && c.countsIndex(pod) {
				uncounted.Failed = append(uncounted.Failed, pod.UID)
				c.needsUpdate = true
			}
		}
	}
	return release, false
}

func (c *syncJobCtx) countsIndex(pod *corev1.Pod) bool {
	i := getCompletionIndex(pod.Annotations)
	return !c.indexed() || i != unknownCompletionIndex && i < int(ptr.Deref(c.job.Spec.Completions, 0))
}

// reportCounts fills the numbers of the status that say how things are now.
func (c *syncJobCtx) reportCounts() {
	status := &c.job.Status
	active := int32(len(c.active)) + c.created
	if status.Active != active || ptr.Deref(status.Ready, -1) != c.ready || ptr.Deref(status.Terminating, -1) != c.terminating {
		status.Active, status.Ready, status.Terminating, c.needsUpdate = active, &c.ready, &c.terminating, true
	}
	if !c.indexed() {
		return
	}
	if text := formatIndexes(c.succeededIndexes); text != status.CompletedIndexes || status.Succeeded != c.succeeded {
		status.CompletedIndexes, status.Succeeded, c.needsUpdate = text, c.succeeded, true
	}
	if c.failedIndexes != nil {
		if text := formatIndexes(c.failedIndexes); status.FailedIndexes == nil || text != *status.FailedIndexes {
			status.FailedIndexes, c.needsUpdate = &text, true
		}
	}
}

// releasePods removes the pods' finalizers, and from held whose removal was seen to work.
func (jm *Controller) releasePods(ctx context.Context, c *syncJobCtx, pods []*corev1.Pod, held sets.Set[types.UID]) error {
	const parallel = 16
	errs := make([]error, len(pods))
	for start := 0; start < len(pods); start += parallel {
		var step sync.WaitGroup
		for i := start; i < min(start+parallel, len(pods)); i++ {
			step.Go(func() { errs[i] = jm.removeFinalizer(ctx, pods[i]) })
		}
		step.Wait()
	}
	for i, pod := range pods {
		if errs[i] == nil {
			held.Delete(pod.UID)
			c.memory.released.Insert(pod.UID)
		}
	}
	return errors.Join(errs...)
}

func (jm *Controller) removeFinalizer(ctx context.Context, pod *corev1.Pod) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": pod.UID, removeFinalizersField: []string{batchv1.JobTrackingFinalizer},
	}})
	if err != nil {
		return err
	}
	err = jm.podControl.PatchPod(ctx, pod, patch)
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsConflict(err) && goneUID(err) {
		return nil // gone, or another of its name
	}
	return err
}

// goneUID tells the conflict of a uid that is not the pod's any more.
func goneUID(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, func(cause metav1.StatusCause) bool { return cause.Field == "metadata.uid" })
}

// updateStatus writes, and goes on with what was written.
func (jm *Controller) updateStatus(ctx context.Context, c *syncJobCtx) error {
	updated, err := jm.client.BatchV1().Jobs(c.job.Namespace).UpdateStatus(ctx, c.job, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	c.memory.written = updated.ResourceVersion
	c.job = updated.DeepCopy()
	if c.job.Status.UncountedTerminatedPods == nil {
		c.job.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	c.needsUpdate = false
	return nil
}
