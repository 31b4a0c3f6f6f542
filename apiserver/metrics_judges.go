package apiserver

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"hyperkube/apiserver/admission"
	"hyperkube/apiserver/audit"
	"hyperkube/apiserver/request"
)

// judgeMetrics are of what decides about requests: authentication, authorization, admission, health checks, and of the audit log.
type judgeMetrics struct {
	authentications, users *prometheus.CounterVec
	authenticationTook     *prometheus.HistogramVec
	authorizations         *prometheus.CounterVec
	authorizationTook      *prometheus.HistogramVec
	plugins, steps         *prometheus.HistogramVec
	health                 *prometheus.GaugeVec
	healthTotal            *prometheus.CounterVec
	auditEvents            *prometheus.CounterVec
	auditErrors            *prometheus.CounterVec
	auditLevels            *prometheus.CounterVec

	// Of what happens in every request, the labels are looked up once.
	certificates           prometheus.Observer
	authenticated, refused judged
	allowed, denied        judged
}

// judged counts and times one outcome.
type judged struct {
	count prometheus.Counter
	took  prometheus.Observer
}

func (j judged) note(began time.Time) {
	j.count.Inc()
	j.took.Observe(time.Since(began).Seconds())
}

type (
	newCounter   func(name, help string, labels ...string) *prometheus.CounterVec
	newGauge     func(name, help string, labels ...string) *prometheus.GaugeVec
	newHistogram func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec
)

func newJudgeMetrics(counter newCounter, gauge newGauge, histogram newHistogram) judgeMetrics {
	quick := prometheus.ExponentialBuckets(0.001, 2, 15)
	admissionBuckets := []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5}
	j := judgeMetrics{
		authentications:    counter("authentication_attempts", "Attempts to authenticate, by outcome.", "result"),
		users:              counter("authenticated_user_requests", "Requests that were authenticated, by user; people are one.", "username"),
		authenticationTook: histogram("authentication_duration_seconds", "How long it took to authenticate, by outcome.", quick, "result"),
		authorizations:     counter("authorization_attempts_total", "Attempts to authorize, by outcome.", "result"),
		authorizationTook:  histogram("authorization_duration_seconds", "How long it took to authorize, by outcome.", quick, "result"),
		plugins:            histogram("apiserver_admission_controller_admission_duration_seconds", "How long each admission plugin took, by operation, kind of step, and whether it refused.", admissionBuckets, "name", "operation", "rejected", "type"),
		steps:              histogram("apiserver_admission_step_admission_duration_seconds", "How long all admission plugins took, by operation, kind of step, and whether they refused.", admissionBuckets, "operation", "rejected", "type"),
		health:             gauge("kubernetes_healthcheck", "The last result of a health check: 1 if it passed.", "name", "type"),
		healthTotal:        counter("kubernetes_healthchecks_total", "Results of health checks.", "name", "status", "type"),
		certificates: histogram("apiserver_client_certificate_expiration_seconds", "Remaining life of the certificate by which a request was authenticated.",
			[]float64{0, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 345600, 604800, 2592000, 7776000, 15552000, 31104000}).WithLabelValues(),
		auditEvents: counter("apiserver_audit_event_total", "Audit events written."),
		auditErrors: counter("apiserver_audit_error_total", "Audit events that could not be written.", "plugin"),
		auditLevels: counter("apiserver_audit_level_total", "Requests by the level that the audit policy asks for.", "level"),
	}
	// Without a log every request has this level; the count exists, as upstream's does, from the start.
	j.auditEvents.WithLabelValues()
	// Nobody is refused because of a log that cannot be written: it stays 0.
	counter("apiserver_audit_requests_rejected_total", "Requests refused because their audit event could not be written.").WithLabelValues()
	of := func(count *prometheus.CounterVec, took *prometheus.HistogramVec, result string) judged {
		return judged{count.WithLabelValues(result), took.WithLabelValues(result)}
	}
	j.authenticated, j.refused = of(j.authentications, j.authenticationTook, "success"), of(j.authentications, j.authenticationTook, "failure")
	j.allowed, j.denied = of(j.authorizations, j.authorizationTook, "allowed"), of(j.authorizations, j.authorizationTook, "denied")
	return j
}

// authentication notes how one ended, and for how long a certificate that was shown is still good.
func (j *judgeMetrics) authentication(r *http.Request, user *request.User, err error, began time.Time) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		j.certificates.Observe(r.TLS.PeerCertificates[0].NotAfter.Sub(began).Seconds())
	}
	switch {
	case err != nil:
		j.authentications.WithLabelValues("error").Inc()
		j.authenticationTook.WithLabelValues("error").Observe(time.Since(began).Seconds())
	case user == nil:
		j.refused.note(began)
	default:
		j.authenticated.note(began)
		j.users.WithLabelValues(userLabel(user.Name)).Inc()
	}
}

// userLabel keeps people apart from components only: their names are nobody's business, and endless.
func userLabel(name string) string {
	switch {
	case strings.HasPrefix(name, "system:node:"):
		return "system:node"
	case strings.HasPrefix(name, "system:serviceaccount:kube-system:"):
		return name
	case strings.HasPrefix(name, "system:serviceaccount:"):
		return "system:serviceaccount"
	case strings.HasPrefix(name, "system:bootstrap:"):
		return "system:bootstrap"
	case strings.HasPrefix(name, "system:"), name == "admin", name == "client", name == "kube_proxy", name == "kubelet":
		return name
	case strings.Contains(name, "@"):
		return "email_id"
	}
	return "other"
}

// authorization notes how one ended.
func (j *judgeMetrics) authorization(decision request.Decision, err error, began time.Time) {
	switch {
	case decision == request.Allow:
		j.allowed.note(began)
	case err != nil:
		j.authorizations.WithLabelValues("error").Inc()
		j.authorizationTook.WithLabelValues("error").Observe(time.Since(began).Seconds())
	case decision == request.Deny:
		j.denied.note(began)
	default:
		j.authorizations.WithLabelValues("no-opinion").Inc()
		j.authorizationTook.WithLabelValues("no-opinion").Observe(time.Since(began).Seconds())
	}
}

// checked notes the result of a health check.
func (j *judgeMetrics) checked(name, kind string, err error) {
	status, value := "success", 1.0
	if err != nil {
		status, value = "error", 0
	}
	j.health.WithLabelValues(name, kind).Set(value)
	j.healthTotal.WithLabelValues(name, status, kind).Inc()
}

// slis are the figures of which a service level is told, few enough to be read every few seconds (KEP-3466).
func slis(all prometheus.Gatherer) prometheus.GathererFunc {
	return func() ([]*dto.MetricFamily, error) {
		families, err := all.Gather()
		return slices.DeleteFunc(families, func(family *dto.MetricFamily) bool {
			return !strings.HasPrefix(family.GetName(), "kubernetes_healthcheck") && family.GetName() != "process_start_time_seconds"
		}), err
	}
}

// watchAudit counts what the audit log does.
func (j *judgeMetrics) watchAudit(a *audit.Auditor) {
	if a == nil {
		return
	}
	events, failed := j.auditEvents.WithLabelValues(), j.auditErrors.WithLabelValues("log")
	a.Judged = func(level audit.Level) { j.auditLevels.WithLabelValues(string(level)).Inc() }
	a.Written = func(err error) {
		events.Inc()
		if err != nil {
			failed.Inc()
		}
	}
}

// timed observes how long a step of some operations takes. The labels of what happens in every write are looked up here; those of a
// refusal when there is one, so that what never happens is no series.
func timed(step func(context.Context, *request.AdmissionAttributes) error, observer func(labels ...string) prometheus.Observer, kind string, operations []request.Operation) func(context.Context, *request.AdmissionAttributes) error {
	passed := map[request.Operation]prometheus.Observer{}
	for _, operation := range operations {
		passed[operation] = observer(string(operation), "false", kind)
	}
	return func(ctx context.Context, a *request.AdmissionAttributes) error {
		began := time.Now()
		err := step(ctx, a)
		outcome := passed[a.Operation]
		if err != nil || outcome == nil {
			outcome = observer(string(a.Operation), strconv.FormatBool(err != nil), kind)
		}
		outcome.Observe(time.Since(began).Seconds())
		return err
	}
}

// watchAdmission times each plugin of a chain, and returns the chain, timed as a whole.
func (j *judgeMetrics) watchAdmission(chain *admission.Chain) request.Admission {
	for i := range chain.Plugins {
		p := &chain.Plugins[i]
		observer := func(labels ...string) prometheus.Observer {
			return j.plugins.WithLabelValues(append([]string{p.Name}, labels...)...)
		}
		if p.Admit != nil {
			p.Admit = timed(p.Admit, observer, "admit", p.Operations)
		}
		if p.Validate != nil {
			p.Validate = timed(p.Validate, observer, "validate", p.Operations)
		}
	}
	all := []request.Operation{request.Create, request.Update, request.Delete, request.Connect}
	return &timedAdmission{
		admit:    timed(chain.Admit, j.steps.WithLabelValues, "admit", all),
		validate: timed(chain.Validate, j.steps.WithLabelValues, "validate", all),
	}
}

type timedAdmission struct {
	admit, validate func(context.Context, *request.AdmissionAttributes) error
}

// Admit implements request.Admission.
func (t *timedAdmission) Admit(ctx context.Context, a *request.AdmissionAttributes) error {
	return t.admit(ctx, a)
}

// Validate implements request.Admission.
func (t *timedAdmission) Validate(ctx context.Context, a *request.AdmissionAttributes) error {
	return t.validate(ctx, a)
}
