package scheduler

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"

	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/queue"
)

// schedulerMetrics are kube-scheduler's, under its names, so that its dashboards
// and alerts work.
type schedulerMetrics struct {
	attempts         *prometheus.CounterVec
	attemptDuration  *prometheus.HistogramVec
	extensionPoint   *prometheus.HistogramVec
	podAttempts      prometheus.Histogram
	podSLIDuration   *prometheus.HistogramVec
	queueIncoming    *prometheus.CounterVec
	observeFramework bool
}

func newSchedulerMetrics(reg prometheus.Registerer, sched *Scheduler) *schedulerMetrics {
	buckets := prometheus.ExponentialBuckets(0.001, 2, 15)
	m := &schedulerMetrics{
		observeFramework: reg != nil,
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "scheduler_schedule_attempts_total",
			Help: "Number of attempts to schedule pods, by the result."}, []string{"result", "profile"}),
		attemptDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_scheduling_attempt_duration_seconds",
			Help: "Scheduling attempt latency in seconds (scheduling algorithm + binding).", Buckets: buckets}, []string{"result", "profile"}),
		extensionPoint: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_framework_extension_point_duration_seconds",
			Help: "Latency for running all plugins of a specific extension point.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 12)}, []string{"extension_point", "status", "profile"}),
		podAttempts: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "scheduler_pod_scheduling_attempts",
			Help: "Number of attempts to successfully schedule a pod.", Buckets: prometheus.ExponentialBuckets(1, 2, 5)}),
		podSLIDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_pod_scheduling_sli_duration_seconds",
			Help: "E2e latency for a pod being scheduled, from the time it enters the scheduling queue.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 20)}, []string{"attempts"}),
		queueIncoming: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "scheduler_queue_incoming_pods_total",
			Help: "Number of pods added to scheduling queues by event and queue type."}, []string{"queue", "event"}),
	}
	m.attempts = register(reg, m.attempts)
	m.attemptDuration = register(reg, m.attemptDuration)
	m.extensionPoint = register(reg, m.extensionPoint)
	m.podAttempts = register(reg, m.podAttempts)
	m.podSLIDuration = register(reg, m.podSLIDuration)
	m.queueIncoming = register(reg, m.queueIncoming)
	if reg != nil {
		pending := &pendingPods{sched: sched, desc: prometheus.NewDesc("scheduler_pending_pods",
			"Number of pending pods, by the queue type.", []string{"queue"}, nil)}
		// A collector that reads a scheduler must not outlive it in the registry.
		reg.Unregister(pending)
		register[prometheus.Collector](reg, pending)
	}
	return m
}

// register enters a collector. After a stop and start in one process the registry
// still has the former one: that goes on counting.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	var already prometheus.AlreadyRegisteredError
	if err := reg.Register(c); errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing
		}
	}
	return c
}

// pendingPods counts the queue when it is asked, not when the queue changes.
type pendingPods struct {
	sched *Scheduler
	desc  *prometheus.Desc
}

func (p *pendingPods) Describe(ch chan<- *prometheus.Desc) { ch <- p.desc }

func (p *pendingPods) Collect(ch chan<- prometheus.Metric) {
	var counts queue.Counts
	if p.sched.built.Load() {
		counts = p.sched.SchedulingQueue.Counts()
	}
	for name, n := range map[string]int{"active": counts.Active, "backoff": counts.Backoff, "unschedulable": counts.Unschedulable, "gated": counts.Gated} {
		ch <- prometheus.MustNewConstMetric(p.desc, prometheus.GaugeValue, float64(n), name)
	}
}

func (m *schedulerMetrics) observeExtensionPoint(profile, point string, code framework.Code, d time.Duration) {
	if m.observeFramework {
		m.extensionPoint.WithLabelValues(point, code.String(), profile).Observe(d.Seconds())
	}
}

func (m *schedulerMetrics) incomingPod(queue, event string) {
	m.queueIncoming.WithLabelValues(queue, event).Inc()
}

func (m *schedulerMetrics) attempt(result, profile string, d time.Duration) {
	m.attempts.WithLabelValues(result, profile).Inc()
	m.attemptDuration.WithLabelValues(result, profile).Observe(d.Seconds())
}

func (m *schedulerMetrics) podScheduled(pod *framework.QueuedPodInfo, now, start time.Time) {
	m.attempt("scheduled", pod.Pod.Spec.SchedulerName, now.Sub(start))
	m.podAttempts.Observe(float64(pod.Attempts))
	if pod.InitialAttemptTimestamp == nil {
		return
	}
	label := strconv.Itoa(pod.Attempts)
	if pod.Attempts > 15 {
		label = "16+"
	}
	m.podSLIDuration.WithLabelValues(label).Observe(now.Sub(*pod.InitialAttemptTimestamp).Seconds())
}

func (m *schedulerMetrics) podFailed(pod *v1.Pod, reason string, d time.Duration) {
	if reason == v1.PodReasonUnschedulable {
		m.attempt("unschedulable", pod.Spec.SchedulerName, d)
	} else {
		m.attempt("error", pod.Spec.SchedulerName, d)
	}
}
