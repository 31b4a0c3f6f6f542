package prober

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	apipod "hyperkube/api/core/pod"
	"hyperkube/flow"
	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/reconcile"
)

// maxProbeRetries: an error of the machinery, unlike a "no" of the container, is
// tried again at once.
const maxProbeRetries = 3

// worker probes one container with one of its probes.
type worker struct {
	manager   *Manager
	kind      Type
	pod       *v1.Pod
	container *v1.Container
	probe     *v1.Probe
	results   *Results

	stopOnce sync.Once
	stopped  chan struct{}
	now      chan struct{} // asks for a probe ahead of time

	// The rest belongs to run.
	containerID kubecontainer.ContainerID
	last        Result
	inARow      int
	onHold      bool // after a failure that ends the container: until there is a new one
}

func newWorker(m *Manager, kind Type, pod *v1.Pod, container *v1.Container, probe *v1.Probe) *worker {
	results := map[Type]*Results{Liveness: m.liveness, Readiness: m.readiness, Startup: m.startup}[kind]
	return &worker{manager: m, kind: kind, pod: pod, container: container, probe: probe, results: results,
		stopped: make(chan struct{}), now: make(chan struct{}, 1)}
}

func (w *worker) stop() { w.stopOnce.Do(func() { close(w.stopped) }) }

func (w *worker) probeNow() {
	select {
	case w.now <- struct{}{}:
	default:
	}
}

// run probes every period. The first tick is spread, so that a restarted kubelet
// does not ask all containers in one instant; a new pod's probes start at once.
func (w *worker) run(ctx context.Context) {
	defer func() {
		if w.containerID.ID != "" {
			w.results.Remove(w.containerID)
		}
	}()
	period := time.Duration(w.probe.PeriodSeconds) * time.Second
	if period <= 0 {
		period = 10 * time.Second
	}
	if status, ok := w.manager.Status(w.pod.UID); ok && status.StartTime != nil && w.manager.Clock.Since(status.StartTime.Time) > period {
		select {
		case <-w.manager.Clock.After(time.Duration(rand.Float64() * float64(period))):
		case <-ctx.Done():
			return
		case <-w.stopped:
			return
		}
	}
	ticker := w.manager.Clock.NewTicker(period)
	defer ticker.Stop()
	for w.doProbe(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-w.stopped:
			return
		case <-ticker.C():
		case <-w.now:
		}
	}
}

// doProbe is one turn. It returns false when there will never be anything to probe again.
func (w *worker) doProbe(ctx context.Context) (goOn bool) {
	status, ok := w.manager.Status(w.pod.UID)
	if !ok {
		return true // the pod is just being made
	}
	if status.Phase == v1.PodFailed || status.Phase == v1.PodSucceeded {
		return false
	}
	c := findStatus(&status, w.container.Name)
	if c == nil || c.ContainerID == "" {
		return true
	}
	w.follow(kubecontainer.ParseContainerID(c.ContainerID))
	if w.onHold {
		return true
	}
	if c.State.Running == nil {
		if w.kind != Startup { // a container that is about to start has not failed to
			w.results.Set(ctx, w.containerID, w.whenNotRunning(), w.pod.UID)
		}
		// A container that will not come back needs no probe.
		return c.State.Terminated == nil || apipod.ContainerShouldRestart(w.container, &w.pod.Spec, c.State.Terminated.ExitCode)
	}
	if w.manager.Clock.Since(c.State.Running.StartedAt.Time) < time.Duration(w.probe.InitialDelaySeconds)*time.Second {
		return true
	}
	started := c.Started != nil && *c.Started
	if started == (w.kind == Startup) {
		return true // a startup probe has done its work, or has not yet let this one begin
	}
	return w.ask(ctx, &status)
}

// follow starts anew when the container is another one than last time.
func (w *worker) follow(id kubecontainer.ContainerID) {
	if id == w.containerID {
		return
	}
	if w.containerID.ID != "" {
		w.results.Remove(w.containerID)
	}
	w.containerID, w.inARow, w.onHold = id, 0, false
	// Liveness is good and readiness bad until proven otherwise; startup is neither.
	switch w.kind {
	case Liveness:
		w.results.seed(id, Success)
	case Readiness:
		w.results.seed(id, Failure)
	}
}

func (w *worker) whenNotRunning() Result {
	// A dead container is not ready; but it must not be killed for being dead.
	if w.kind == Liveness {
		return Success
	}
	return Failure
}

// ask performs the probe and counts.
func (w *worker) ask(ctx context.Context, status *v1.PodStatus) bool {
	result, message, err := w.perform(ctx, status)
	if ctx.Err() != nil {
		return false
	}
	ref := kubecontainer.GenerateContainerRef(w.pod, w.container)
	if err != nil {
		// Nobody was asked, so nobody has answered: it counts neither way.
		w.manager.Recorder.Eventf(ref, v1.EventTypeWarning, "Unhealthy", "%s probe errored and resulted in unknown state: %s", w.kind, err)
		klog.FromContext(ctx).V(1).Info("Probe errored", "probe", w.kind, "pod", klog.KObj(w.pod), "container", w.container.Name, "err", err)
		return true
	}
	if result != Success {
		w.manager.Recorder.Eventf(ref, v1.EventTypeWarning, "Unhealthy", "%s probe failed: %s", w.kind, message)
		klog.FromContext(ctx).V(2).Info("Probe failed", "probe", w.kind, "pod", klog.KObj(w.pod), "container", w.container.Name, "output", message)
	}
	if result == w.last && w.inARow > 0 {
		w.inARow++
	} else {
		w.last, w.inARow = result, 1
	}
	if w.inARow == 1 {
		w.tell(ctx, result, message, err)
	}
	if result == Failure && w.inARow < threshold(w.probe.FailureThreshold, 3) || result == Success && w.inARow < threshold(w.probe.SuccessThreshold, 1) {
		return true
	}
	w.results.Set(ctx, w.containerID, result, w.pod.UID)
	if w.kind != Readiness && result == Failure {
		// The container will be ended: asking it further would only count again.
		w.onHold, w.inARow = true, 0
	}
	return true
}

// tell lets the record of the cluster know the first answer of a container, and each
// answer that differs from the one before. What a command printed may be a secret.
func (w *worker) tell(ctx context.Context, result Result, message string, err error) {
	if flow.SinkFrom(ctx) == nil {
		return
	}
	effect := flow.Effect{What: strings.ToLower(string(w.kind)) + " probe", Depth: 1, Detail: w.container.Name + ": " + describe(w.probe) + ": success"}
	if err != nil || result != Success {
		effect.Detail = w.container.Name + ": " + describe(w.probe)
		switch {
		case w.probe.Exec != nil:
			effect.Error = "the command failed"
		case err != nil:
			effect.Error = err.Error()
		default:
			effect.Error, _, _ = strings.Cut(message, "\n")
		}
	}
	flow.Report(reconcile.Because(ctx, "MODIFIED", w.pod), effect)
}

// describe says in a few words what a probe asks.
func describe(probe *v1.Probe) string {
	switch {
	case probe.HTTPGet != nil:
		return fmt.Sprintf("HTTP GET :%s%s", probe.HTTPGet.Port.String(), probe.HTTPGet.Path)
	case probe.TCPSocket != nil:
		return "TCP :" + probe.TCPSocket.Port.String()
	case probe.GRPC != nil:
		return fmt.Sprintf("gRPC :%d", probe.GRPC.Port)
	}
	return "exec"
}

func threshold(value, fallback int32) int {
	if value <= 0 {
		return int(fallback)
	}
	return int(value)
}

func (w *worker) perform(ctx context.Context, status *v1.PodStatus) (result Result, message string, err error) {
	timeout := time.Duration(w.probe.TimeoutSeconds) * time.Second
	if timeout <= 0 {
		timeout = time.Second
	}
	target := Target{Pod: w.pod, Container: w.container, ContainerID: w.containerID, PodIP: status.PodIP, Timeout: timeout}
	for try := 0; try < maxProbeRetries; try++ {
		if result, message, err = w.manager.Prober.Probe(ctx, w.probe, target); err == nil {
			w.manager.count(w.kind, w.pod, w.container.Name, result, nil)
			return result, message, nil
		}
	}
	w.manager.count(w.kind, w.pod, w.container.Name, Failure, err)
	return Failure, message, err
}

func findStatus(status *v1.PodStatus, name string) *v1.ContainerStatus {
	for _, list := range [][]v1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
