package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"hyperkube/controllers/podcontrol"
)

// maxPodCreateDeletePerSync is the most pods that one turn creates or deletes.
const maxPodCreateDeletePerSync = 500

// completionIndexEnvName tells a container the index of its pod.
const completionIndexEnvName = "JOB_COMPLETION_INDEX"

// manageJob creates or deletes pods, so that as many run as should:
//
//   - suspended: none,
//   - with completions: those missing, parallelism at once,
//   - without: parallelism, until the first has succeeded; then no new ones.
func (jm *Controller) manageJob(ctx context.Context, c *syncJobCtx) error {
	if c.suspended() {
		return jm.deleteJobPods(ctx, c, c.active[:min(len(c.active), maxPodCreateDeletePerSync)])
	}
	var surplus []*corev1.Pod
	if c.indexed() {
		surplus = c.surplusIndexPods()
	}
	wanted := c.wantedActive()
	if tooMany := len(c.active) - wanted; tooMany > len(surplus) {
		surplus = c.podsToDelete(surplus, tooMany)
	}
	if len(surplus) > 0 {
		return jm.deleteJobPods(ctx, c, surplus[:min(len(surplus), maxPodCreateDeletePerSync)])
	}
	missing := wanted - len(c.active)
	if c.onlyReplaceFailedPods() {
		missing -= int(c.terminating)
	}
	if missing <= 0 {
		return nil
	}
	if c.job.Spec.BackoffLimitPerIndex == nil {
		// Per index, each has its own pause.
		if wait := c.memory.backoff.remaining(c.now); wait > 0 {
			c.wakeAfter(wait)
			return nil
		}
	}
	return jm.createJobPods(ctx, c, min(missing, maxPodCreateDeletePerSync))
}

// wantedActive is how many pods should be running.
func (c *syncJobCtx) wantedActive() int {
	parallelism := int(ptr.Deref(c.job.Spec.Parallelism, 0))
	if c.job.Spec.Completions == nil {
		if c.succeeded > 0 {
			return min(len(c.active), parallelism)
		}
		return parallelism
	}
	left := int(*c.job.Spec.Completions) - int(c.succeeded) - c.failedIndexes.Len()
	return max(0, min(left, parallelism))
}

// podsToDelete adds to surplus until there are n: those first that have done least.
func (c *syncJobCtx) podsToDelete(surplus []*corev1.Pod, n int) []*corev1.Pod {
	var ranked []podcontrol.RankedPod
	for _, pod := range c.active {
		if !slices.Contains(surplus, pod) {
			ranked = append(ranked, podcontrol.RankedPod{Pod: pod})
		}
	}
	podcontrol.SortActivePodsWithRanks(ranked, c.now)
	for _, r := range ranked[:min(n-len(surplus), len(ranked))] {
		surplus = append(surplus, r.Pod)
	}
	return surplus
}

func (jm *Controller) createJobPods(ctx context.Context, c *syncJobCtx, count int) error {
	var indexes []int
	if c.indexed() {
		indexes = c.firstPendingIndexes(count)
		count = len(indexes)
	}
	if count == 0 {
		return nil
	}
	klog.FromContext(ctx).V(2).Info("Too few pods running", "creating", count)
	jm.expectations.ExpectCreations(c.key, count)
	var next sync.Mutex
	created, err := podcontrol.SlowStartBatch(count, podcontrol.SlowStartInitialBatchSize, func() error {
		index := unknownCompletionIndex
		if c.indexed() {
			next.Lock()
			index, indexes = indexes[0], indexes[1:]
			next.Unlock()
		}
		err := jm.podControl.CreatePod(ctx, c.job, c.newPod(index))
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil // all is about to go
		}
		return err
	})
	jm.expectations.CreationsSkipped(c.key, count-created)
	c.created += int32(created)
	return err
}

// newPod is the pod of that index, or of none.
func (c *syncJobCtx) newPod(index int) *corev1.Pod {
	pod := podcontrol.GetPodFromTemplate(&c.job.Spec.Template, c.job, metav1.NewControllerRef(c.job, controllerKind))
	if !slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer) {
		pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
	}
	if index == unknownCompletionIndex {
		return pod
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Annotations[batchv1.JobCompletionIndexAnnotation] = strconv.Itoa(index)
	pod.Labels[batchv1.JobCompletionIndexAnnotation] = strconv.Itoa(index)
	if c.job.Spec.BackoffLimitPerIndex != nil {
		pod.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(c.nextFailureCount(index))
	}
	pod.GenerateName = fmt.Sprintf("%s-%d-", c.job.Name, index)
	pod.Spec.Hostname = fmt.Sprintf("%s-%d", c.job.Name, index)
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			addCompletionIndexEnvVariable(&containers[i])
		}
	}
	return pod
}

func addCompletionIndexEnvVariable(container *corev1.Container) {
	if slices.ContainsFunc(container.Env, func(v corev1.EnvVar) bool { return v.Name == completionIndexEnvName }) {
		return
	}
	container.Env = append(container.Env, corev1.EnvVar{Name: completionIndexEnvName, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: fmt.Sprintf("metadata.labels['%s']", batchv1.JobCompletionIndexAnnotation)}}})
}

// deleteJobPods deletes pods that are not wanted any more. Their finalizer goes
// first: they count neither as succeeded nor as failed.
func (jm *Controller) deleteJobPods(ctx context.Context, c *syncJobCtx, pods []*corev1.Pod) error {
	return jm.deleteEach(ctx, c, pods, func(pod *corev1.Pod) error {
		if !c.tracked(pod) {
			return nil
		}
		if err := jm.removeFinalizer(ctx, pod); err != nil {
			return err
		}
		c.memory.released.Insert(pod.UID)
		return nil
	})
}

// deleteActivePods stops what still runs of a Job that has ended. They keep their
// finalizer until they are counted.
func (jm *Controller) deleteActivePods(ctx context.Context, c *syncJobCtx) error {
	return jm.deleteEach(ctx, c, c.active, func(*corev1.Pod) error { return nil })
}

func (jm *Controller) deleteEach(ctx context.Context, c *syncJobCtx, pods []*corev1.Pod, before func(*corev1.Pod) error) error {
	if len(pods) == 0 {
		return nil
	}
	keys := make([]string, len(pods))
	for i, pod := range pods {
		keys[i] = podcontrol.PodKey(pod)
	}
	jm.expectations.ExpectDeletions(c.key, keys)
	var errs []error
	gone := map[*corev1.Pod]bool{}
	for i, pod := range pods {
		err := before(pod)
		if err == nil {
			err = jm.podControl.DeletePod(ctx, pod.Namespace, pod.Name, c.job)
		}
		if err != nil {
			jm.expectations.DeletionObserved(c.key, keys[i])
			if !apierrors.IsNotFound(err) {
				errs = append(errs, err)
				continue
			}
		} else {
			// It is still there for as long as it takes to stop.
			c.terminating++
		}
		gone[pod] = true
	}
	c.active = slices.DeleteFunc(slices.Clone(c.active), func(pod *corev1.Pod) bool { return gone[pod] })
	c.ready = 0
	for _, pod := range c.active {
		if phaseRank(pod) == 2 {
			c.ready++
		}
	}
	return errors.Join(errs...)
}
