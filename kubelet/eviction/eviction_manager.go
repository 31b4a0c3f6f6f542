package eviction

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	corev1 "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/clock"

	apipod "hyperkube/api/core/pod"
	kubecontainer "hyperkube/kubelet/container"
)

// Reason is the pod's status.reason, and the event's.
const Reason = "Evicted"

// immediateEvictionGracePeriodSeconds is what a pod gets when the node cannot wait.
const immediateEvictionGracePeriodSeconds = 1

// Config of the manager.
type Config struct {
	Thresholds []Threshold
	// PressureTransitionPeriod is how long a pressure is told after its last
	// crossing: a node that swings around a threshold should not swing in the scheduler's eyes.
	PressureTransitionPeriod time.Duration
	// MaxPodGracePeriodSeconds is what pods get at most for a soft threshold.
	MaxPodGracePeriodSeconds int64
	// MonitoringInterval is the time between two turns.
	MonitoringInterval time.Duration
	// Summary measures the node and its pods.
	Summary func(ctx context.Context) (*statsapi.Summary, error)
	// ActivePods are those that may be evicted.
	ActivePods func() []*v1.Pod
	// Evict ends a pod and returns when nothing of it runs, or after a while.
	Evict func(ctx context.Context, pod *v1.Pod, gracePeriodSeconds int64, status func(*v1.PodStatus))
	// Reclaim frees disk that no pod needs: dead containers and unused images.
	Reclaim func(ctx context.Context) error
	// DedicatedImageFs: images and writable layers have a disk of their own.
	DedicatedImageFs func(ctx context.Context) bool
	// Paths are for messages.
	Paths func() Paths
	// Changed is called when the node's pressures are others than before.
	Changed  func()
	Recorder record.EventRecorder
	Node     *v1.ObjectReference
	Clock    clock.WithTicker
}

// Manager watches over what the node has left. It is safe for concurrent use.
type Manager struct {
	Config

	mu sync.Mutex
	// pressures are the node's, with when they were last observed and why.
	pressures map[v1.NodeConditionType]pressure
	// Only synchronize uses these.
	crossed map[key]time.Time // when first
	met     []Threshold       // acted on, and not over yet
}

type pressure struct {
	lastObserved time.Time
	message      string
}

// NewManager makes a manager.
func NewManager(cfg Config) *Manager {
	return &Manager{Config: cfg, pressures: map[v1.NodeConditionType]pressure{}, crossed: map[key]time.Time{}}
}

// Run takes a turn every MonitoringInterval until ctx ends; right after an eviction
// the next one follows at once, since one pod may not have been enough.
func (m *Manager) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if len(m.synchronize(ctx)) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-m.Clock.After(m.MonitoringInterval):
		}
	}
}

// synchronize is one turn, in the steps of the package documentation. It returns the pods it evicted.
func (m *Manager) synchronize(ctx context.Context) []*v1.Pod {
	logger := klog.FromContext(ctx)
	// Step 1: observe.
	summary, err := m.Summary(ctx)
	if err != nil {
		logger.V(1).Info("Eviction: the node cannot be measured", "err", err)
		return nil
	}
	seen, stats := observe(summary), podStats(summary)
	dedicated := m.DedicatedImageFs(ctx)
	// Step 2: which thresholds are crossed.
	now := m.Clock.Now()
	crossed := merge(thresholdsMet(m.Thresholds, seen, false), thresholdsMet(m.met, seen, true))
	m.crossed = since(crossed, m.crossed, now)
	m.met = due(crossed, m.crossed, now)
	// Step 3: the node's pressures.
	m.setPressures(crossed, seen, now)
	// Step 4: local storage.
	pods := m.ActivePods()
	if evicted := m.evictForLocalStorage(ctx, pods, stats, dedicated); len(evicted) > 0 || len(m.met) == 0 {
		return evicted
	}
	// Step 5: what no pod needs.
	short := m.met[0]
	name := signals[short.Signal].resource
	m.Recorder.Eventf(m.Node, v1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim %s", name)
	logger.Info("Eviction: the node is short", "why", explain(short, seen[short.Signal], m.Paths()))
	if m.reclaimed(ctx, short, dedicated) {
		logger.Info("Eviction: what no pod needs was enough", "resource", name)
		return nil
	}
	// Step 6: one pod.
	rank(pods, name, func(pod *v1.Pod) usage { return usageOf(pod, stats[string(pod.UID)], short, dedicated) })
	for _, pod := range pods {
		grace := int64(immediateEvictionGracePeriodSeconds)
		if !short.hard() {
			grace = m.MaxPodGracePeriodSeconds
		}
		if m.evict(ctx, pod, grace, evictionMessage(pod, stats[string(pod.UID)], short, seen[short.Signal])) {
			return []*v1.Pod{pod}
		}
	}
	logger.Info("Eviction: no pod can be evicted", "resource", name)
	return nil
}

// podStats are the figures by UID.
func podStats(summary *statsapi.Summary) map[string]*statsapi.PodStats {
	stats := map[string]*statsapi.PodStats{}
	for i := range summary.Pods {
		stats[summary.Pods[i].PodRef.UID] = &summary.Pods[i]
	}
	return stats
}

func (m *Manager) setPressures(crossed []Threshold, seen map[Signal]observation, now time.Time) {
	m.mu.Lock()
	changed := false
	for kind := range conditions(crossed) {
		_, known := m.pressures[kind]
		changed = changed || !known
		why := ""
		for _, t := range crossed {
			if why == "" && signals[t.Signal].condition == kind {
				why = explain(t, seen[t.Signal], m.Paths())
			}
		}
		m.pressures[kind] = pressure{now, why}
	}
	for kind, p := range m.pressures {
		if now.Sub(p.lastObserved) > m.PressureTransitionPeriod {
			delete(m.pressures, kind)
			changed = true
		}
	}
	m.mu.Unlock()
	if changed {
		m.Changed()
	}
}

// Pressure tells whether the node has one, and why.
func (m *Manager) Pressure(kind v1.NodeConditionType) (message string, under bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, under := m.pressures[kind]
	return p.message, under
}

// reclaimed frees what no pod needs of the disk, and tells whether all thresholds are cleared by that.
func (m *Manager) reclaimed(ctx context.Context, short Threshold, dedicatedImageFs bool) bool {
	onNodeFs := short.Signal == SignalNodeFsAvailable || short.Signal == SignalNodeFsInodesFree
	if signals[short.Signal].condition != v1.NodeDiskPressure || onNodeFs && dedicatedImageFs {
		return false
	}
	if err := m.Reclaim(ctx); err != nil {
		klog.FromContext(ctx).Info("Eviction: freeing what no pod needs", "err", err)
	}
	summary, err := m.Summary(ctx)
	return err == nil && len(thresholdsMet(m.Thresholds, observe(summary), true)) == 0
}

// evictForLocalStorage ends every pod that uses more than its limits.
func (m *Manager) evictForLocalStorage(ctx context.Context, pods []*v1.Pod, stats map[string]*statsapi.PodStats, dedicated bool) (evicted []*v1.Pod) {
	for _, pod := range pods {
		s := stats[string(pod.UID)]
		if s == nil {
			continue
		}
		if why := localStorageExcess(pod, s, dedicated); why != "" && m.evict(ctx, pod, immediateEvictionGracePeriodSeconds, why) {
			evicted = append(evicted, pod)
		}
	}
	return evicted
}

// evict ends a pod, unless it is critical.
func (m *Manager) evict(ctx context.Context, pod *v1.Pod, grace int64, message string) bool {
	logger := klog.FromContext(ctx)
	if IsCriticalPod(pod) {
		logger.Info("Eviction: a critical pod stays", "pod", klog.KObj(pod))
		return false
	}
	logger.Info("Eviction: evicting a pod", "pod", klog.KObj(pod), "message", message)
	m.Recorder.Event(kubecontainer.GeneratePodRef(pod), v1.EventTypeWarning, Reason, message)
	m.Evict(ctx, pod, grace, func(s *v1.PodStatus) {
		s.Phase, s.Reason, s.Message = v1.PodFailed, Reason, message
		apipod.UpdatePodCondition(s, &v1.PodCondition{Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: v1.PodReasonTerminationByKubelet,
			Message: message, ObservedGeneration: pod.Generation})
	})
	return true
}

// Admit tells why a pod may not come while the node is short; "" if it may. Under
// memory pressure only those are refused that asked for none; a disk has no room for any.
func (m *Manager) Admit(logger klog.Logger, pod *v1.Pod) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.pressures) == 0 || IsCriticalPod(pod) {
		return ""
	}
	if _, memory := m.pressures[v1.NodeMemoryPressure]; memory && len(m.pressures) == 1 {
		taint := &v1.Taint{Key: v1.TaintNodeMemoryPressure, Effect: v1.TaintEffectNoSchedule}
		if apipod.GetPodQOS(pod) != v1.PodQOSBestEffort || corev1.TolerationsTolerateTaint(logger, pod.Spec.Tolerations, taint, true) {
			return ""
		}
	}
	var kinds []v1.NodeConditionType
	for kind := range m.pressures {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	return fmt.Sprintf("The node had condition: %v. ", kinds)
}
