// Package status decides what a pod's status is, and carries it to the API.
//
//	runtime's view ─┐
//	probes ─────────┼─► GenerateAPIPodStatus ─► Manager.SetPodStatus ─► PATCH pods/status
//	start failures ─┘        (pure)                (newest wins)
//
// The manager keeps one status a pod and writes only what differs from what the
// API has. Writers never wait for the API: several changes in a row become one
// request. When a deleted pod has ended, the manager is the one that removes it
// from the API, after its last status has arrived there.
//
// Every ten seconds it also looks whether the API still has what it wrote.
//
// Invariants: a version is written at most once; a terminal phase never goes
// back; conditions that others own are never touched.
//
// Read first: GenerateAPIPodStatus, Manager.SetPodStatus, Manager.syncPod.
//
// In Kubernetes: pkg/kubelet/status and convertStatusToAPIStatus of
// pkg/kubelet/kubelet_pods.go. Upstream reads each pod from the API before it
// patches; here the last answer of the API is the base of the next patch.
package status

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"hyperkube/reconcile"
	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// syncPeriod is how long a failed write waits for the next try, and how often what others wrote is looked at.
const syncPeriod = 10 * time.Second

// Pods tells the manager about pods as the API has them.
type Pods interface {
	// GetPodByUID finds a pod, static or not.
	GetPodByUID(types.UID) (*v1.Pod, bool)
	// APIPod is the pod to write to: itself, or the mirror of a static one; nil if
	// the API has none.
	APIPod(*v1.Pod) *v1.Pod
}

// versioned is one pod's status and how far it has been carried.
type versioned struct {
	status  v1.PodStatus
	version uint64 // grows with each change
	written uint64 // the last version the API took
	base    *v1.PodStatus
	baseUID types.UID // of the API pod that base came from
	// writtenTo is the API pod that took the last version: a static pod's mirror may be replaced by a new one.
	writtenTo types.UID
	// finished: nothing of the pod runs any more and its volumes are gone, so that the API may forget it.
	finished bool
	name     string
	ns       string
	// cause is the pod as it was when its status was decided on; the write comes later, elsewhere.
	cause reconcile.Causes
}

// Manager holds the statuses of this node's pods. It is safe for concurrent use.
type Manager struct {
	client kubernetes.Interface // nil: standalone
	pods   Pods
	clock  clock.WithTicker

	terminations *prometheus.CounterVec

	mu       sync.Mutex
	statuses map[types.UID]*versioned
	wake     chan struct{} // holds one token when something is to be written
}

// NewManager makes a manager; with client nil it only remembers.
func NewManager(client kubernetes.Interface, pods Pods, c clock.WithTicker) *Manager {
	return &Manager{client: client, pods: pods, clock: c, terminations: newTerminations(), statuses: map[types.UID]*versioned{}, wake: make(chan struct{}, 1)}
}

// Run carries statuses to the API until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	ticker := m.clock.NewTicker(syncPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-ticker.C():
			m.reconcile()
		}
		m.syncBatch(ctx)
	}
}

// reconcile has written anew what others have changed in the API since. The node controller marks a node's pods not
// ready while the kubelet is silent; once it is heard again, what it says counts, and nothing has changed for it.
func (m *Manager) reconcile() {
	m.mu.Lock()
	written := map[types.UID]v1.PodStatus{}
	for uid, v := range m.statuses {
		if v.written == v.version {
			written[uid] = v.status
		}
	}
	m.mu.Unlock()
	for uid, status := range written {
		pod, known := m.pods.GetPodByUID(uid)
		if !known {
			continue
		}
		if api := m.pods.APIPod(pod); api == nil || !needsReconcile(api.Status, status) {
			continue
		}
		m.mu.Lock()
		if v := m.statuses[uid]; v != nil {
			v.base = nil // from what the API has now, which is not what it answered last
			v.version++
		}
		m.mu.Unlock()
	}
}

// needsReconcile: the API does not have what the kubelet decided on. What is not the kubelet's to decide on does not count.
func needsReconcile(api, decided v1.PodStatus) bool {
	api = *api.DeepCopy()
	normalize(&api)
	if api.Phase != decided.Phase || !apiequality.Semantic.DeepEqual(api.ContainerStatuses, decided.ContainerStatuses) {
		return true
	}
	for _, condition := range decided.Conditions {
		there := FindCondition(api.Conditions, condition.Type)
		if kubeletConditions[condition.Type] && (there == nil || !apiequality.Semantic.DeepEqual(*there, condition)) {
			return true
		}
	}
	return false
}

// Flush carries what is still to be carried, on an orderly stop.
func (m *Manager) Flush(ctx context.Context) { m.syncBatch(ctx) }

// GetPodStatus returns the status last decided on.
func (m *Manager) GetPodStatus(uid types.UID) (v1.PodStatus, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.statuses[uid]; v != nil {
		return *v.status.DeepCopy(), true
	}
	return v1.PodStatus{}, false
}

// SetPodStatus takes a newly generated status.
func (m *Manager) SetPodStatus(pod *v1.Pod, status v1.PodStatus) {
	m.update(pod, func(old v1.PodStatus, known bool) v1.PodStatus {
		if known && old.StartTime != nil {
			status.StartTime = old.StartTime
		}
		return status
	}, false)
}

// SetContainerReadiness takes the result of a readiness probe at once, ahead of
// the next sync: traffic should not wait for it.
func (m *Manager) SetContainerReadiness(pod *v1.Pod, containerID string, ready bool) {
	m.updateContainer(pod, containerID, func(s *v1.ContainerStatus) { s.Ready = ready })
}

// SetContainerStartup likewise for a startup probe.
func (m *Manager) SetContainerStartup(pod *v1.Pod, containerID string, started bool) {
	m.updateContainer(pod, containerID, func(s *v1.ContainerStatus) { s.Started = &started })
}

func (m *Manager) updateContainer(pod *v1.Pod, containerID string, change func(*v1.ContainerStatus)) {
	if _, known := m.GetPodStatus(pod.UID); !known {
		return // the sync that is under way will ask the prober
	}
	m.update(pod, func(old v1.PodStatus, _ bool) v1.PodStatus {
		status := *old.DeepCopy()
		for _, list := range [][]v1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses} {
			for i := range list {
				if list[i].ContainerID == containerID {
					change(&list[i])
				}
			}
		}
		now := metav1.NewTime(m.clock.Now())
		for _, condition := range []v1.PodCondition{readyCondition(pod, &status), containersReadyCondition(pod, &status)} {
			condition.ObservedGeneration = pod.Generation
			status.Conditions = setCondition(status.Conditions, condition, now)
		}
		return status
	}, false)
}

// SetPodFinished says that the kubelet is done with the pod: if it was deleted,
// the API may forget it.
func (m *Manager) SetPodFinished(pod *v1.Pod) {
	m.update(pod, func(old v1.PodStatus, _ bool) v1.PodStatus { return old }, true)
}

// update changes the status under the lock, and has it written if it differs.
func (m *Manager) update(pod *v1.Pod, change func(old v1.PodStatus, known bool) v1.PodStatus, finished bool) {
	api := m.pods.APIPod(pod)
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.statuses[pod.UID]
	if v == nil {
		v = &versioned{status: *pod.Status.DeepCopy(), name: pod.Name, ns: pod.Namespace}
	}
	next := change(v.status, m.statuses[pod.UID] != nil)
	normalize(&next)
	v.cause = reconcile.CausesFrom(reconcile.Because(context.Background(), "MODIFIED", pod))
	same := m.statuses[pod.UID] != nil && apiequality.Semantic.DeepEqual(v.status, next)
	m.statuses[pod.UID] = v
	// A new mirror has no status, however little changed. Otherwise it would be Pending until something does.
	newMirror := api != nil && v.writtenTo != "" && v.writtenTo != api.UID
	if same && v.finished == (v.finished || finished) && !newMirror {
		return
	}
	m.countTerminations(&v.status, &next)
	v.status, v.finished = next, v.finished || finished
	v.version++
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// normalize cuts times to what the API keeps, so that equal statuses compare equal.
func normalize(status *v1.PodStatus) {
	cut := func(t *metav1.Time) { *t = metav1.NewTime(t.Rfc3339Copy().Time) }
	for i := range status.Conditions {
		if !status.Conditions[i].LastTransitionTime.IsZero() {
			cut(&status.Conditions[i].LastTransitionTime)
		}
	}
	if status.StartTime != nil {
		start := *status.StartTime
		cut(&start)
		status.StartTime = &start
	}
	for _, list := range [][]v1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses, status.EphemeralContainerStatuses} {
		for i := range list {
			for _, state := range []*v1.ContainerState{&list[i].State, &list[i].LastTerminationState} {
				if state.Running != nil {
					running := *state.Running
					cut(&running.StartedAt)
					state.Running = &running
				}
				if state.Terminated != nil {
					terminated := *state.Terminated
					cut(&terminated.StartedAt)
					cut(&terminated.FinishedAt)
					state.Terminated = &terminated
				}
			}
		}
	}
}

// RemoveOrphanedStatuses forgets pods that the kubelet no longer has.
func (m *Manager) RemoveOrphanedStatuses(known map[types.UID]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for uid := range m.statuses {
		if !known[uid] {
			delete(m.statuses, uid)
		}
	}
}

// syncBatch writes every status that the API does not have yet.
func (m *Manager) syncBatch(ctx context.Context) {
	if m.client == nil {
		return
	}
	m.mu.Lock()
	var due []types.UID
	for uid, v := range m.statuses {
		if v.written < v.version {
			due = append(due, uid)
		}
	}
	m.mu.Unlock()
	for _, uid := range due {
		if ctx.Err() != nil {
			return
		}
		m.syncPod(ctx, uid)
	}
}

// syncPod writes one status, and then removes the pod from the API if that was the last.
func (m *Manager) syncPod(ctx context.Context, uid types.UID) {
	logger := klog.FromContext(ctx)
	pod, ok := m.pods.GetPodByUID(uid)
	if !ok {
		return // it is gone; RemoveOrphanedStatuses follows
	}
	api := m.pods.APIPod(pod)
	if api == nil {
		return // a static pod whose mirror is not there yet
	}
	m.mu.Lock()
	v := m.statuses[uid]
	if v == nil {
		m.mu.Unlock()
		return
	}
	ctx = reconcile.WithCauses(ctx, v.cause)
	logger = klog.FromContext(ctx)
	snapshot, version, finished := *v.status.DeepCopy(), v.version, v.finished
	base := api.Status
	if v.base != nil && v.baseUID == api.UID {
		base = *v.base
	}
	m.mu.Unlock()

	snapshot.Conditions = mergeConditions(base.Conditions, snapshot.Conditions)
	snapshot.NominatedNodeName = base.NominatedNodeName
	written, err := m.patch(ctx, api, base, snapshot)
	switch {
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err) && pod.DeletionTimestamp != nil:
		logger.V(3).Info("Pod is gone from the API, its status was not written", "pod", klog.KObj(pod), "err", err)
	case err != nil:
		logger.Error(err, "Writing the status of the pod", "pod", klog.KObj(pod))
		return
	default:
		logger.V(2).Info("Wrote the status of the pod", "pod", klog.KObj(pod), "phase", snapshot.Phase, "version", version)
	}
	m.mu.Lock()
	v.written, v.writtenTo = version, api.UID
	if written != nil {
		v.base, v.baseUID = &written.Status, written.UID
	}
	m.mu.Unlock()
	if finished && pod.DeletionTimestamp != nil && api.UID == pod.UID {
		m.deleteFromAPI(ctx, pod)
	}
}

// patch sends the difference, if there is one.
func (m *Manager) patch(ctx context.Context, api *v1.Pod, base, wanted v1.PodStatus) (*v1.Pod, error) {
	before, err := json.Marshal(v1.Pod{ObjectMeta: metav1.ObjectMeta{}, Status: base})
	if err != nil {
		return nil, err
	}
	// The UID in the patch is a precondition: a new pod of the same name is left alone.
	after, err := json.Marshal(v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: api.UID}, Status: wanted})
	if err != nil {
		return nil, err
	}
	if apiequality.Semantic.DeepEqual(base, wanted) {
		return nil, nil
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, v1.Pod{})
	if err != nil {
		return nil, err
	}
	return m.client.CoreV1().Pods(api.Namespace).Patch(ctx, api.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
}

// deleteFromAPI ends a pod's graceful deletion.
func (m *Manager) deleteFromAPI(ctx context.Context, pod *v1.Pod) {
	now := int64(0)
	err := m.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		klog.FromContext(ctx).Error(err, "Removing the ended pod from the API", "pod", klog.KObj(pod))
		m.mu.Lock()
		if v := m.statuses[pod.UID]; v != nil {
			v.version++ // the next tick tries again
		}
		m.mu.Unlock()
		return
	}
	klog.FromContext(ctx).V(1).Info("Removed the ended pod from the API", "pod", klog.KObj(pod))
}

// mergeConditions takes the kubelet's conditions from wanted and all others from
// base. PodScheduled is taken from wanted only where base has none.
func mergeConditions(base, wanted []v1.PodCondition) []v1.PodCondition {
	var merged []v1.PodCondition
	for _, condition := range base {
		if !kubeletConditions[condition.Type] {
			merged = append(merged, condition)
		}
	}
	for _, condition := range wanted {
		if kubeletConditions[condition.Type] || FindCondition(merged, condition.Type) == nil {
			merged = append(merged, condition)
		}
	}
	return merged
}
