package job

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/kubernetes"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	jobapi "hyperkube/api/batch/job"
	podutil "hyperkube/api/core/pod"
	"hyperkube/client/informers"
	"hyperkube/controllers/podcontrol"
	"hyperkube/reconcile"
)

var controllerKind = batchv1.SchemeGroupVersion.WithKind("Job")

// Controller is the loop over Jobs.
type Controller struct {
	*reconcile.Loop
	client        kubernetes.Interface
	eventRecorder record.EventRecorder
	jobLister     batchlisters.JobLister
	podLister     corelisters.PodLister
	podIndexer    cache.Indexer
	podControl    podcontrol.PodControl
	clock         clock.PassiveClock
	// expectations holds the pods that were asked for and are not in the cache yet.
	expectations *podcontrol.Expectations

	mu     sync.Mutex
	memory map[string]*memory // by key
}

// memory is what a Job's turns tell the next ones. It bridges the caches' lag and
// times the backoff: all of it may be lost.
type memory struct {
	// written is the resource version that the last turn's write got.
	written string
	// released are pods whose finalizer was removed, until the cache shows it.
	released sets.Set[types.UID]
	backoff  backoffRecord
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) (*Controller, error) {
	options = options.WithDefaults()
	jobs, pods := factory.Batch().V1().Jobs(), factory.Core().V1().Pods()
	if err := podcontrol.AddPodControllerIndexer(pods.Informer()); err != nil {
		return nil, err
	}
	jm := &Controller{
		client: client, eventRecorder: recorder, jobLister: jobs.Lister(), podLister: pods.Lister(),
		podIndexer: pods.Informer().GetIndexer(), podControl: podcontrol.PodControl{Client: client, Recorder: recorder},
		clock: options.Clock, expectations: podcontrol.NewExpectations(options.Clock), memory: map[string]*memory{},
	}
	jm.Loop = reconcile.New("job", jm.syncJob, options)
	jm.Watch(jobs.Informer(), reconcile.Self)
	jm.Watch(pods.Informer(), jm.podKeys)
	return jm, nil
}

// syncJob is one turn for one Job:
//
//  1. claim its pods and count them,
//  2. decide whether it has ended,
//  3. ended: delete what still runs; else: create or delete pods,
//  4. count the ended pods, let them go, write the status.
func (jm *Controller) syncJob(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	job, err := jm.jobLister.Jobs(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		jm.expectations.DeleteExpectations(key)
		jm.forget(key)
		return reconcile.Done, jm.releaseOrphans(ctx, name, "")
	}
	if err != nil {
		return reconcile.Done, err
	}
	if finished, _ := jobapi.IsFinished(job); finished {
		jm.forget(key)
		return reconcile.Done, jm.releaseOrphans(ctx, name, job.UID)
	}
	if by := job.Spec.ManagedBy; by != nil && *by != batchv1.JobControllerName {
		return reconcile.Done, nil // another controller's (KEP-4368)
	}
	m := jm.recall(key)
	if older(job.ResourceVersion, m.written) {
		return reconcile.Result{Retry: true}, nil // counts in the cache are those before our last write
	}
	mayAct := jm.expectations.SatisfiedExpectations(key)

	// Step 1: claim its pods and count them.
	pods, err := jm.getPodsForJob(ctx, job)
	if err != nil {
		return reconcile.Done, err
	}
	c := newSyncJobCtx(key, job, pods, m, jm.clock.Now())

	// Step 2: decide whether it has ended.
	c.finished = c.decideFinished()

	// Step 3: delete what still runs, or create or delete pods.
	var manageErr error
	if c.finished != nil {
		manageErr = jm.deleteActivePods(ctx, c)
	} else if mayAct && job.DeletionTimestamp == nil {
		manageErr = jm.manageJob(ctx, c)
		c.noteSuspension(jm.eventRecorder)
	}
	if c.finished == nil && c.completed() {
		c.finished = c.newCondition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
	}

	// Step 4: count the ended pods, let them go, write the status.
	if err := jm.trackJobStatusAndRemoveFinalizers(ctx, c); err != nil {
		return reconcile.Done, err
	}
	return reconcile.Result{After: c.nextWake()}, manageErr
}

// older compares resource versions, which are numbers in our store; what is not is
// taken as new.
func older(cached, written string) bool {
	a, errA := strconv.ParseUint(cached, 10, 64)
	b, errB := strconv.ParseUint(written, 10, 64)
	return errA == nil && errB == nil && a < b
}

func (jm *Controller) recall(key string) *memory {
	jm.mu.Lock()
	defer jm.mu.Unlock()
	m := jm.memory[key]
	if m == nil {
		m = &memory{released: sets.New[types.UID]()}
		jm.memory[key] = m
	}
	return m
}

func (jm *Controller) forget(key string) {
	jm.mu.Lock()
	defer jm.mu.Unlock()
	delete(jm.memory, key)
}

// podKeys names the Job of a pod, by its reference alone: pods of a Job that is
// gone may still wait for their finalizer to be removed.
func (jm *Controller) podKeys(e reconcile.Event) []string {
	pod := e.Object().(*corev1.Pod)
	var keys []string
	if !e.Added() && !e.Deleted() {
		if key, ok := jobKeyOf(e.Old.(*corev1.Pod)); ok {
			if now, _ := jobKeyOf(pod); now != key {
				keys = append(keys, key)
			}
		}
	}
	key, ok := jobKeyOf(pod)
	if !ok {
		return append(keys, jm.matching(pod)...)
	}
	switch {
	case e.Deleted() || pod.DeletionTimestamp != nil:
		jm.expectations.DeletionObserved(key, podcontrol.PodKey(pod))
	case e.Added():
		jm.expectations.CreationObserved(key)
	}
	return append(keys, key)
}

func jobKeyOf(pod *corev1.Pod) (string, bool) {
	ref := metav1.GetControllerOf(pod)
	if ref == nil || ref.Kind != controllerKind.Kind {
		return "", false
	}
	return pod.Namespace + "/" + ref.Name, true
}

// matching are the Jobs that might adopt the orphan.
func (jm *Controller) matching(pod *corev1.Pod) []string {
	if metav1.GetControllerOf(pod) != nil || len(pod.Labels) == 0 {
		return nil
	}
	jobs, err := jm.jobLister.GetPodJobs(pod)
	if err != nil {
		return nil // none selects it
	}
	var keys []string
	for i := range jobs {
		keys = append(keys, reconcile.KeyOf(&jobs[i]))
	}
	return keys
}

// getPodsForJob claims the Job's pods, ended ones too. An adopted pod gets the
// finalizer with its owner, a released one loses it.
func (jm *Controller) getPodsForJob(ctx context.Context, job *batchv1.Job) ([]*corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(job.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("couldn't convert Job selector: %w", err)
	}
	candidates, err := podcontrol.FilterPodsByOwner(jm.podIndexer, job, true)
	if err != nil {
		return nil, err
	}
	manager := podcontrol.ControllerRefManager[*corev1.Pod]{
		Controller: job, Kind: controllerKind, Selector: selector, Patch: jm.patchOwner,
		CanAdopt: podcontrol.RecheckDeletionTimestamp(job.UID, func(ctx context.Context) (metav1.Object, error) {
			return jm.client.BatchV1().Jobs(job.Namespace).Get(ctx, job.Name, metav1.GetOptions{})
		}),
	}
	return manager.ClaimObjects(ctx, candidates)
}

func (jm *Controller) patchOwner(ctx context.Context, pod *corev1.Pod, patch []byte) error {
	var object struct {
		Metadata map[string]any `json:"metadata"`
	}
	if err := json.Unmarshal(patch, &object); err != nil {
		return err
	}
	field := "finalizers"
	if bytes.Contains(patch, []byte(`"$patch"`)) {
		field = removeFinalizersField
	}
	object.Metadata[field] = []string{batchv1.JobTrackingFinalizer}
	patch, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return jm.podControl.PatchPod(ctx, pod, patch)
}

// releaseOrphans takes the finalizer off pods that name this Job and that nobody
// will count any more: the Job is gone, was replaced, or has ended.
func (jm *Controller) releaseOrphans(ctx context.Context, name cache.ObjectName, alive types.UID) error {
	pods, err := jm.podLister.Pods(name.Namespace).List(labels.Everything())
	if err != nil {
		return err
	}
	for _, pod := range pods {
		ref := metav1.GetControllerOf(pod)
		if ref == nil || ref.Kind != controllerKind.Kind || ref.Name != name.Name || !hasJobTrackingFinalizer(pod) {
			continue
		}
		// A pod of an ended Job may still be stopping; it was counted with the rest.
		if ref.UID == alive && pod.DeletionTimestamp == nil && podutil.IsPodActive(pod) {
			continue
		}
		if err := jm.removeFinalizer(ctx, pod); err != nil {
			return err
		}
	}
	return nil
}

// syncJobCtx is what one turn knows.
type syncJobCtx struct {
	key    string
	job    *batchv1.Job // ours to change
	now    time.Time
	memory *memory
	pods   []*corev1.Pod
	// active are the pods that may still succeed. The turn takes out what it deletes
	// and counts what it creates.
	active                    []*corev1.Pod
	created, ready            int32
	terminating               int32
	succeeded, failed         int32 // counted, noted, and newly ended
	newSucceeded, newFailed   []*corev1.Pod
	succeededIndexes          sets.Set[int]
	failedIndexes             sets.Set[int] // nil without a backoff limit per index
	lastFailed                map[int]*corev1.Pod
	finished                  *batchv1.JobCondition
	needsUpdate, backoffPause bool
	wake                      time.Duration
}

// newSyncJobCtx counts the pods.
func newSyncJobCtx(key string, cached *batchv1.Job, pods []*corev1.Pod, m *memory, now time.Time) *syncJobCtx {
	c := &syncJobCtx{key: key, job: cached.DeepCopy(), pods: pods, memory: m, now: now}
	status := &c.job.Status
	if status.UncountedTerminatedPods == nil {
		status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	uncounted := status.UncountedTerminatedPods
	noted := sets.New(uncounted.Succeeded...).Union(sets.New(uncounted.Failed...))
	for _, pod := range pods {
		if !hasJobTrackingFinalizer(pod) {
			m.released.Delete(pod.UID)
		}
		switch {
		case podutil.IsPodActive(pod):
			c.active = append(c.active, pod)
			if podutil.IsPodReady(pod) {
				c.ready++
			}
		case pod.DeletionTimestamp != nil && !podutil.IsPodTerminal(pod):
			c.terminating++
		}
		if !c.tracked(pod) || noted.Has(pod.UID) {
			continue
		}
		if pod.Status.Phase == corev1.PodSucceeded {
			c.newSucceeded = append(c.newSucceeded, pod)
		} else if c.isPodFailed(pod) {
			c.newFailed = append(c.newFailed, pod)
		}
	}
	c.succeeded = status.Succeeded + int32(len(uncounted.Succeeded)+len(c.newSucceeded))
	c.failed = status.Failed + int32(len(uncounted.Failed))
	for _, pod := range c.newFailed {
		if match := c.matchFailure(pod); match.counts {
			c.failed++
		}
	}
	if c.indexed() {
		c.countIndexes()
	}
	m.backoff.observe(c.newSucceeded, c.newFailed, now)
	if status.StartTime == nil && !c.suspended() {
		status.StartTime, c.needsUpdate = &metav1.Time{Time: now}, true
	}
	return c
}

// tracked reports whether the pod is still to be counted.
func (c *syncJobCtx) tracked(pod *corev1.Pod) bool {
	return hasJobTrackingFinalizer(pod) && !c.memory.released.Has(pod.UID)
}

// isPodFailed: one that is deleted counts, because it may never get to say how it
// ended; but with a failure policy or when only failed pods are replaced, how it
// ended is what matters, and is waited for.
func (c *syncJobCtx) isPodFailed(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodFailed {
		return true
	}
	if c.onlyReplaceFailedPods() {
		return false
	}
	return pod.DeletionTimestamp != nil && pod.Status.Phase != corev1.PodSucceeded
}

func (c *syncJobCtx) onlyReplaceFailedPods() bool {
	return c.job.Spec.PodFailurePolicy != nil || ptr.Deref(c.job.Spec.PodReplacementPolicy, "") == batchv1.Failed
}

func (c *syncJobCtx) suspended() bool { return ptr.Deref(c.job.Spec.Suspend, false) }

func (c *syncJobCtx) indexed() bool {
	return ptr.Deref(c.job.Spec.CompletionMode, "") == batchv1.IndexedCompletion
}

// completed: enough have succeeded, and nothing runs any more. Without a number of
// completions, the pods agree among themselves: the first success ends it.
func (c *syncJobCtx) completed() bool {
	if len(c.active) > 0 || c.created > 0 {
		return false
	}
	if c.job.Spec.Completions == nil {
		return c.succeeded > 0
	}
	return c.succeeded >= *c.job.Spec.Completions && (!c.suspended() || *c.job.Spec.Completions > 0)
}

// wakeAfter asks for a turn at that time, unless an earlier one is asked for.
func (c *syncJobCtx) wakeAfter(d time.Duration) {
	if d > 0 && (c.wake == 0 || d < c.wake) {
		c.wake = d
	}
}

// nextWake is when time alone changes something: the end of a backoff, the deadline.
func (c *syncJobCtx) nextWake() time.Duration {
	if limit := c.job.Spec.ActiveDeadlineSeconds; limit != nil && c.finished == nil && !c.suspended() && c.job.Status.StartTime != nil {
		left := c.job.Status.StartTime.Add(time.Duration(*limit) * time.Second).Sub(c.now)
		c.wakeAfter(max(left, time.Millisecond))
	}
	return c.wake
}
