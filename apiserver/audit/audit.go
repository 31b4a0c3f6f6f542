package audit

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"hyperkube/apiserver/request"
)

// Auditor writes events by a policy. A nil one writes none.
type Auditor struct {
	policy *Policy
	// longRunning tells the requests that have a stage ResponseStarted.
	longRunning func(*request.Info, *http.Request) bool
	// Judged is called with the level of each request, Written at each event; nil: nobody counts.
	Judged  func(level Level)
	Written func(err error)

	mu  sync.Mutex
	out io.WriteCloser
}

// New makes an Auditor that appends to the file at logPath; "-" is standard output.
func New(policyPath, logPath string, longRunning func(*request.Info, *http.Request) bool) (*Auditor, error) {
	policy, err := LoadPolicy(policyPath)
	if err != nil {
		return nil, err
	}
	a := &Auditor{policy: policy, longRunning: longRunning, out: os.Stdout}
	if logPath != "-" {
		if a.out, err = os.OpenFile(logPath, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Close closes the log.
func (a *Auditor) Close() {
	if a != nil && a.out != os.Stdout {
		a.out.Close()
	}
}

// Handler is next, audited. It stands behind authentication, so that it knows who asks, and before impersonation, so that it
// tells the one from the other:
//
//	Step 1: the policy decides; most requests end here.
//	Step 2: RequestReceived is written before anything is done.
//	Step 3: next runs, and what the level asks for is kept of the bodies.
//	Step 4: ResponseComplete, or Panic.
func (a *Auditor) Handler(next http.Handler) http.Handler {
	if a == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Step 1
		info, user := request.InfoFrom(r.Context()), request.UserFrom(r.Context())
		verdict := a.policy.evaluate(user, info)
		a.judged(verdict.level)
		if verdict.level == LevelNone {
			next.ServeHTTP(w, r)
			return
		}
		t := a.begin(r, info, user, verdict)
		// Step 2
		a.write(t, StageRequestReceived)
		// Step 3
		r = t.record(w, r)
		defer func() {
			problem := recover()
			// Step 4
			if problem != nil {
				t.event.ResponseStatus = &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError}
				a.write(t, StagePanic)
				panic(problem)
			}
			t.complete()
			a.write(t, StageResponseComplete)
		}()
		next.ServeHTTP(t.answer, r)
	})
}

func (a *Auditor) judged(level Level) {
	if a.Judged != nil {
		a.Judged(level)
	}
}

// Unauthenticated writes of a request that nobody could be found for.
func (a *Auditor) Unauthenticated(r *http.Request) {
	if a == nil {
		return
	}
	info := request.InfoFrom(r.Context())
	verdict := a.policy.evaluate(nil, info)
	a.judged(verdict.level)
	if verdict.level == LevelNone {
		return
	}
	t := a.begin(r, info, nil, verdict)
	t.event.ResponseStatus = &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusUnauthorized, Reason: metav1.StatusReasonUnauthorized, Message: "Authentication failed"}
	a.write(t, StageResponseComplete)
}

// trail is what is known of one request so far.
type trail struct {
	event       Event
	verdict     verdict
	annotations *request.Annotations
	body        *kept
	answer      *answerWriter
	started     func()
}

func (a *Auditor) begin(r *http.Request, info *request.Info, user *request.User, v verdict) *trail {
	t := &trail{verdict: v, event: Event{
		TypeMeta: metav1.TypeMeta{Kind: "Event", APIVersion: "audit.k8s.io/v1"}, Level: v.level,
		AuditID: request.AuditIDFrom(r.Context()), RequestURI: r.URL.RequestURI(), Verb: info.Verb, User: userInfo(user),
		SourceIPs: sourceIPs(r), UserAgent: r.UserAgent(), RequestReceivedTimestamp: metav1.NewMicroTime(time.Now()),
	}}
	if info.IsResourceRequest {
		t.event.ObjectRef = &ObjectReference{Resource: info.Resource, Namespace: info.Namespace, Name: info.Name,
			APIGroup: info.APIGroup, APIVersion: info.APIVersion, Subresource: info.Subresource}
	}
	t.started = func() {}
	if a.longRunning(info, r) {
		t.started = func() { a.write(t, StageResponseStarted) }
	}
	return t
}

// sourceIPs are where a request came from: proxies say whom they forward for, and are themselves last.
func sourceIPs(r *http.Request) []string {
	var ips []string
	for _, hop := range strings.Split(r.Header.Get("X-Forwarded-For"), ",") {
		if ip := net.ParseIP(strings.TrimSpace(hop)); ip != nil {
			ips = append(ips, ip.String())
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if host != "" && !slices.Contains(ips, host) {
		ips = append(ips, host)
	}
	return ips
}

// Impersonated notes as whom the request is done, and by which verb that is allowed, if it is not the one that allows all.
func Impersonated(w http.ResponseWriter, user *request.User, constraint string) {
	answer, ok := w.(*answerWriter)
	if !ok {
		return
	}
	info := userInfo(user)
	answer.trail.event.ImpersonatedUser = &info
	if constraint != "" {
		answer.trail.event.AuthenticationMetadata = &AuthenticationMetadata{ImpersonationConstraint: constraint}
	}
}

// write appends the event at a stage, unless the policy leaves that out.
func (a *Auditor) write(t *trail, stage Stage) {
	if slices.Contains(t.verdict.omitStages, stage) {
		return
	}
	event := t.event
	event.Stage, event.StageTimestamp, event.Annotations = stage, metav1.NewMicroTime(time.Now()), t.annotations.Values()
	line, err := json.Marshal(event)
	if err == nil {
		a.mu.Lock()
		_, err = a.out.Write(append(line, '\n'))
		a.mu.Unlock()
	}
	if a.Written != nil {
		a.Written(err)
	}
	if err != nil {
		klog.Background().Error(err, "An audit event could not be written", "auditID", event.AuditID, "stage", stage)
	}
}
