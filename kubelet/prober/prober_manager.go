// Package prober asks containers how they are.
//
//	container with a probe ─► worker (a goroutine) ─► exec │ http │ tcp │ grpc
//	                              │ every periodSeconds
//	                              ▼ after failureThreshold / successThreshold in a row
//	                          Results ─► Updates ─► the kubelet's syncLoop
//
// A liveness or startup result that fails makes computePodActions kill the
// container; a readiness result changes the pod's Ready condition. A container's
// startup probe holds the other two back until it has succeeded.
//
// Invariants: a worker never acts on a container itself; a result belongs to one
// container ID, so a restarted container starts without history.
//
// Read first: Manager.AddPod, worker.doProbe, Results.Set.
//
// In Kubernetes: pkg/kubelet/prober and pkg/probe.
package prober

import (
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	kubecontainer "hyperkube/kubelet/container"
)

// Type is which of a container's three probes.
type Type string

const (
	Liveness  Type = "Liveness"
	Readiness Type = "Readiness"
	Startup   Type = "Startup"
)

// Result is what a probe found out.
type Result bool

const (
	Success Result = true
	Failure Result = false
)

// Update is a result that changed.
type Update struct {
	Type        Type
	ContainerID kubecontainer.ContainerID
	Result      Result
	PodUID      types.UID
}

// Results holds the last result of each container, for one type of probe.
type Results struct {
	kind    Type
	updates chan<- Update

	mu    sync.RWMutex
	cache map[kubecontainer.ContainerID]Result
}

// Get returns the last result, if there is one.
func (r *Results) Get(id kubecontainer.ContainerID) (Result, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	result, ok := r.cache[id]
	return result, ok
}

// Set records a result, and tells the kubelet if it changed anything.
func (r *Results) Set(ctx context.Context, id kubecontainer.ContainerID, result Result, pod types.UID) {
	r.mu.Lock()
	old, known := r.cache[id]
	r.cache[id] = result
	r.mu.Unlock()
	if known && old == result {
		return
	}
	select {
	case r.updates <- Update{r.kind, id, result, pod}:
	case <-ctx.Done():
	}
}

// seed records a starting value without telling anyone.
func (r *Results) seed(id kubecontainer.ContainerID, result Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.cache[id]; !known {
		r.cache[id] = result
	}
}

// Remove forgets a container.
func (r *Results) Remove(id kubecontainer.ContainerID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.cache, id)
}

// Config of the manager.
type Config struct {
	// Status finds the status of a pod that workers read the container's ID and state from.
	Status func(types.UID) (v1.PodStatus, bool)
	// Prober performs one probe; tests put a fake here.
	Prober   Prober
	Recorder record.EventRecorder
	Clock    clock.WithTicker
}

// Manager runs a worker for each probe of each container.
type Manager struct {
	Config
	updates   chan Update
	liveness  *Results
	readiness *Results
	startup   *Results
	totals    *prometheus.CounterVec

	mu      sync.Mutex
	workers map[probeKey]*worker
	group   sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
}

type probeKey struct {
	pod       types.UID
	container string
	kind      Type
}

// NewManager makes a manager whose workers all end with ctx.
func NewManager(ctx context.Context, cfg Config) *Manager {
	m := &Manager{Config: cfg, updates: make(chan Update, 20), totals: newTotals(), workers: map[probeKey]*worker{}}
	results := func(kind Type) *Results {
		return &Results{kind: kind, updates: m.updates, cache: map[kubecontainer.ContainerID]Result{}}
	}
	m.liveness, m.readiness, m.startup = results(Liveness), results(Readiness), results(Startup)
	m.ctx, m.cancel = context.WithCancel(ctx)
	return m
}

// Updates is where changed results come out.
func (m *Manager) Updates() <-chan Update { return m.updates }

// Stop ends all workers and waits for them.
func (m *Manager) Stop() {
	m.cancel()
	m.group.Wait()
}

// AddPod starts the workers of a pod; those that run already go on.
func (m *Manager) AddPod(pod *v1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return
	}
	for _, container := range probedContainers(pod) {
		for kind, probe := range probesOf(container) {
			key := probeKey{pod.UID, container.Name, kind}
			if probe == nil || m.workers[key] != nil {
				continue
			}
			w := newWorker(m, kind, pod, container, probe)
			m.workers[key] = w
			m.group.Go(func() {
				w.run(m.ctx)
				m.mu.Lock()
				if m.workers[key] == w {
					delete(m.workers, key)
				}
				m.mu.Unlock()
			})
		}
	}
}

// probedContainers are those whose probes count: ordinary ones and sidecars.
func probedContainers(pod *v1.Pod) []*v1.Container {
	var list []*v1.Container
	for i := range pod.Spec.Containers {
		list = append(list, &pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if kubecontainer.IsRestartableInitContainer(&pod.Spec.InitContainers[i]) {
			list = append(list, &pod.Spec.InitContainers[i])
		}
	}
	return list
}

func probesOf(container *v1.Container) map[Type]*v1.Probe {
	return map[Type]*v1.Probe{Startup: container.StartupProbe, Readiness: container.ReadinessProbe, Liveness: container.LivenessProbe}
}

// StopLivenessAndStartup ends the probes that could restart a container of a pod
// that is being ended; readiness goes on, so that traffic stops when it does.
func (m *Manager) StopLivenessAndStartup(pod *v1.Pod) { m.stop(pod.UID, Liveness, Startup) }

// RemovePod ends all probes of a pod.
func (m *Manager) RemovePod(uid types.UID) {
	m.stop(uid, Liveness, Startup, Readiness)
	m.forgetTotals(uid)
}

func (m *Manager) stop(uid types.UID, kinds ...Type) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, w := range m.workers {
		for _, kind := range kinds {
			if key.pod == uid && key.kind == kind {
				w.stop()
			}
		}
	}
}

// CleanupPods ends the probes of pods that the kubelet no longer wants.
func (m *Manager) CleanupPods(wanted map[types.UID]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, w := range m.workers {
		if !wanted[key.pod] {
			w.stop()
		}
	}
}

// UpdatePodStatus fills in Started and Ready of the pod's containers.
func (m *Manager) UpdatePodStatus(pod *v1.Pod, status *v1.PodStatus) {
	for i := range status.ContainerStatuses {
		m.updateContainer(pod, &status.ContainerStatuses[i])
	}
	for i := range status.InitContainerStatuses {
		s := &status.InitContainerStatuses[i]
		spec := kubecontainer.GetContainerSpec(pod, s.Name)
		if spec != nil && kubecontainer.IsRestartableInitContainer(spec) {
			m.updateContainer(pod, s)
			continue
		}
		started := false
		s.Started = &started
		if s.State.Terminated != nil && s.State.Terminated.ExitCode == 0 {
			s.Ready = true
		} else if s.State.Running != nil {
			started = true
		}
	}
}

func (m *Manager) updateContainer(pod *v1.Pod, s *v1.ContainerStatus) {
	started, ready := false, false
	if s.State.Running != nil {
		id := kubecontainer.ParseContainerID(s.ContainerID)
		spec := kubecontainer.GetContainerSpec(pod, s.Name)
		started = spec == nil || spec.StartupProbe == nil || m.StartupSucceeded(id)
		if started {
			ready = m.isReady(pod.UID, spec, id)
		}
	}
	s.Started, s.Ready = &started, ready
}

func (m *Manager) isReady(pod types.UID, spec *v1.Container, id kubecontainer.ContainerID) bool {
	if result, known := m.readiness.Get(id); known {
		return result == Success
	}
	if spec == nil || spec.ReadinessProbe == nil {
		return true
	}
	m.mu.Lock()
	w := m.workers[probeKey{pod, spec.Name, Readiness}]
	m.mu.Unlock()
	if w != nil {
		w.probeNow()
	}
	return false
}

// LivenessFailed, StartupFailed and StartupSucceeded are `kubelet/kuberuntime/pod_actions.go:ProbeResults`.
func (m *Manager) LivenessFailed(id kubecontainer.ContainerID) bool {
	result, known := m.liveness.Get(id)
	return known && result == Failure
}

// StartupFailed tells whether the startup probe has given up.
func (m *Manager) StartupFailed(id kubecontainer.ContainerID) bool {
	m.startup.mu.RLock()
	defer m.startup.mu.RUnlock()
	result, known := m.startup.cache[id]
	return known && result == Failure
}

// StartupSucceeded tells whether the startup probe has succeeded once.
func (m *Manager) StartupSucceeded(id kubecontainer.ContainerID) bool {
	result, known := m.startup.Get(id)
	return known && result == Success
}
