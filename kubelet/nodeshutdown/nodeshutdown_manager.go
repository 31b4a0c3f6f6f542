package nodeshutdown

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	apipod "hyperkube/api/core/pod"
)

// What a pod and the API are told.
const (
	reason          = "Terminated"
	message         = "Pod was terminated in response to imminent node shutdown."
	RejectedReason  = "NodeShutdown"
	RejectedMessage = "Pod was rejected as the node is shutting down."
)

// systemCriticalPriority is from where on pods are critical.
const systemCriticalPriority int32 = 2000000000

const (
	reconnectPeriod = time.Second
	// logind reads its configuration a moment after it is told to.
	reloadTries, reloadPeriod = 20, 100 * time.Millisecond
)

// GracePeriod is how long pods of a priority, and of those up to the next, may take to end.
type GracePeriod struct {
	Priority int32
	Period   time.Duration
}

// GracePeriods makes groups of two times: all pods share total, of which the last
// part, critical, is for critical pods only. Zero: none.
func GracePeriods(total, critical time.Duration) ([]GracePeriod, error) {
	switch {
	case total < 0 || critical < 0 || total > 0 && total < time.Second || critical > 0 && critical < time.Second:
		return nil, errors.New("shutdown grace periods must be 0, or at least a second")
	case critical > total:
		return nil, fmt.Errorf("of %v for all pods, %v cannot be for critical ones", total, critical)
	case total == 0:
		return nil, nil
	}
	return []GracePeriod{{0, total - critical}, {systemCriticalPriority, critical}}, nil
}

// Inhibitor is what the manager asks of logind; tests have another.
type Inhibitor interface {
	// MaxDelay is the longest time for which logind lets itself be delayed; RaiseMaxDelay asks for more.
	MaxDelay() (time.Duration, error)
	RaiseMaxDelay(time.Duration) error
	// Inhibit delays a shutdown until release is called.
	Inhibit() (release func(), err error)
	// Shutdowns says true when the machine is about to shut down, false when it is
	// not any more. It is closed when logind is gone.
	Shutdowns() (<-chan bool, error)
	Close()
}

// Config of the manager.
type Config struct {
	// GracePeriods, one a group of priorities; none: nothing is done.
	GracePeriods []GracePeriod
	// Connect reaches logind.
	Connect func(ctx context.Context) (Inhibitor, error)
	// ActivePods are those to end; Kill ends one, and returns when nothing of it is left.
	ActivePods func() []*v1.Pod
	Kill       func(ctx context.Context, pod *v1.Pod, gracePeriodSeconds int64, status func(*v1.PodStatus))
	// Changed is called when Err answers otherwise than before.
	Changed  func()
	Recorder record.EventRecorder
	Node     *v1.ObjectReference
	Clock    clock.WithTicker
}

// Manager waits for the machine's shutdown. It is safe for concurrent use.
type Manager struct {
	Config

	mu           sync.Mutex
	shuttingDown bool
}

// NewManager makes a manager.
func NewManager(cfg Config) *Manager {
	cfg.GracePeriods = slices.Clone(cfg.GracePeriods)
	slices.SortFunc(cfg.GracePeriods, func(a, b GracePeriod) int { return int(a.Priority) - int(b.Priority) })
	return &Manager{Config: cfg}
}

// Run watches for shutdowns until ctx ends. A logind that was never there is not
// waited for; one that is restarted is.
func (m *Manager) Run(ctx context.Context) {
	logger := klog.FromContext(ctx)
	if len(m.GracePeriods) == 0 {
		return
	}
	for watched := false; ; {
		began, err := m.watch(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case !watched && !began:
			logger.Error(err, "Pods will not be ended in order when this machine shuts down: systemd-logind cannot be asked to wait")
			return
		}
		logger.Info("Watching for the machine's shutdown again", "cause", err)
		watched = true
		select {
		case <-ctx.Done():
			return
		case <-m.Clock.After(reconnectPeriod):
		}
	}
}

// Err says that the node is shutting down; nil if it is not.
func (m *Manager) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shuttingDown {
		return errors.New("node is shutting down")
	}
	return nil
}

// watch takes the inhibitor and deals with what logind tells, until it tells nothing
// any more. began: the inhibitor could be taken.
func (m *Manager) watch(ctx context.Context) (began bool, err error) {
	logind, err := m.Connect(ctx)
	if err != nil {
		return false, fmt.Errorf("connecting to the system's D-Bus: %w", err)
	}
	defer logind.Close()
	if err := m.ensureDelay(ctx, logind); err != nil {
		return false, err
	}
	shutdowns, err := logind.Shutdowns()
	if err != nil {
		return false, fmt.Errorf("asking to be told of shutdowns: %w", err)
	}
	release, err := logind.Inhibit()
	if err != nil {
		return false, fmt.Errorf("asking for an inhibitor: %w", err)
	}
	release = sync.OnceFunc(release)
	defer func() { release() }()
	klog.FromContext(ctx).Info("The machine's shutdown waits for pods to end", "periods", m.GracePeriods)
	for {
		select {
		case <-ctx.Done():
			return true, ctx.Err()
		case now, ok := <-shutdowns:
			if !ok {
				return true, errors.New("the connection to logind has ended")
			}
			m.turn(now)
			if now {
				m.killPods(ctx, m.ActivePods())
				release()
				continue
			}
			again, err := logind.Inhibit()
			if err != nil {
				return true, fmt.Errorf("asking for an inhibitor after a shutdown was cancelled: %w", err)
			}
			release()
			release = sync.OnceFunc(again)
		}
	}
}

// ensureDelay has logind wait as long as all groups together may take.
func (m *Manager) ensureDelay(ctx context.Context, logind Inhibitor) error {
	var wanted time.Duration
	for _, group := range m.GracePeriods {
		wanted += group.Period
	}
	most, err := logind.MaxDelay()
	if err != nil || most >= wanted {
		return err
	}
	if err := logind.RaiseMaxDelay(wanted); err != nil {
		return fmt.Errorf("raising logind's InhibitDelayMaxSec from %v to %v: %w", most, wanted, err)
	}
	for range reloadTries {
		if most, err = logind.MaxDelay(); err != nil || most >= wanted {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.Clock.After(reloadPeriod):
		}
	}
	return fmt.Errorf("logind's InhibitDelayMaxSec stays at %v, pods may need %v", most, wanted)
}

// turn notes that a shutdown began or was cancelled, and tells of it.
func (m *Manager) turn(now bool) {
	m.mu.Lock()
	m.shuttingDown = now
	m.mu.Unlock()
	what := "Shutdown manager detected shutdown cancellation"
	if now {
		what = "Shutdown manager detected shutdown event"
	}
	m.Recorder.Event(m.Node, v1.EventTypeNormal, "NodeShutdown", what)
	m.Changed()
}

// killPods ends one group after another. A pod that takes longer than its group
// has goes on ending while the next group's turn comes.
func (m *Manager) killPods(ctx context.Context, pods []*v1.Pod) {
	logger := klog.FromContext(ctx)
	for _, group := range groupByPriority(m.GracePeriods, pods) {
		if len(group.pods) == 0 {
			continue
		}
		logger.Info("Shutdown: ending pods", "pods", klog.KObjSlice(group.pods), "priority", group.Priority, "within", group.Period)
		var ending sync.WaitGroup
		for _, pod := range group.pods {
			ending.Go(func() { m.Kill(ctx, pod, gracePeriodSeconds(pod, group.Period), statusOf(pod)) })
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			ending.Wait()
		}()
		timer := m.Clock.NewTimer(group.Period)
		select {
		case <-ended:
		case <-timer.C():
			logger.Info("Shutdown: time is up for pods", "priority", group.Priority, "after", group.Period)
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// gracePeriodSeconds is the pod's own, if it is less than what the shutdown leaves.
func gracePeriodSeconds(pod *v1.Pod, most time.Duration) int64 {
	seconds := int64(most / time.Second)
	if own := pod.Spec.TerminationGracePeriodSeconds; own != nil {
		seconds = min(seconds, *own)
	}
	return seconds
}

// statusOf says in the pod's status why it has ended. One that succeeded on its last steps has succeeded.
func statusOf(pod *v1.Pod) func(*v1.PodStatus) {
	return func(s *v1.PodStatus) {
		if s.Phase != v1.PodSucceeded {
			s.Phase = v1.PodFailed
		}
		s.Reason, s.Message = reason, message
		apipod.UpdatePodCondition(s, &v1.PodCondition{Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: v1.PodReasonTerminationByKubelet,
			Message: message, ObservedGeneration: pod.Generation})
	}
}

// podGroup is a group and its pods.
type podGroup struct {
	GracePeriod
	pods []*v1.Pod
}

// groupByPriority puts each pod into the last group whose priority is not above its
// own, and what is below all groups into the first. periods are in rising order.
func groupByPriority(periods []GracePeriod, pods []*v1.Pod) []podGroup {
	groups := make([]podGroup, len(periods))
	for i, period := range periods {
		groups[i].GracePeriod = period
	}
	for _, pod := range pods {
		priority := int32(0)
		if pod.Spec.Priority != nil {
			priority = *pod.Spec.Priority
		}
		i := len(groups) - 1
		for i > 0 && groups[i].Priority > priority {
			i--
		}
		groups[i].pods = append(groups[i].pods, pod)
	}
	return groups
}
