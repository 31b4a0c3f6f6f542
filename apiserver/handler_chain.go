package apiserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/klog/v2"

	"log"

	"hyperkube/apiserver/audit"
	"hyperkube/apiserver/authn"
	"hyperkube/apiserver/authz"
	"hyperkube/apiserver/endpoints"
	"hyperkube/apiserver/flowapi"
	"hyperkube/apiserver/request"
	"hyperkube/flow"
)

// buildHandlerChain puts around next what happens to every request, outermost first:
//
//	withPanicRecovery  a bug answers 500 and is logged; the server goes on
//	withRequest        what is asked for, an audit id, warnings, the counting writer, metrics
//	withTimeout        a deadline, except for watches and connections, which end when the server stops
//	withAuthentication who asks, else 401
//	audit              is written down, by policy
//	withImpersonation  as whom they ask
//	flowcontrol        a seat for the request: priority and fairness, else 429
//	withAuthorization  may they, else 403
func (s *Server) buildHandlerChain(next http.Handler) http.Handler {
	next = s.flowcontrol.Handler(s.withAuthorization(next))
	next = s.auditor.Handler(s.withImpersonation(next))
	return s.withPanicRecovery(s.withRequest(s.withTimeout(s.withAuthentication(next))))
}

func (s *Server) withPanicRecovery(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.inflight.Add(1)
		defer s.inflight.Add(-1)
		defer func() {
			problem := recover()
			if problem == nil {
				return
			}
			if problem == http.ErrAbortHandler {
				panic(problem) // net/http's own way to cut a connection
			}
			klog.FromContext(r.Context()).Error(fmt.Errorf("panic: %v", problem), "A request's handler failed",
				"method", r.Method, "path", r.URL.Path, "stack", string(debug.Stack()))
			endpoints.WriteError(w, r, apierrors.NewInternalError(fmt.Errorf("a panic in the apiserver: see its log")))
		}()
		next.ServeHTTP(w, r)
	})
}

func (s *Server) withRequest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		info := request.NewInfo(r)
		id := r.Header.Get("Audit-Id")
		if id == "" || len(id) > 64 {
			id = string(uuid.NewUUID())
		}
		info.AuditID, info.TraceParent = id, r.Header.Get(flow.TraceParentHeader)
		ctx := request.WithAuditID(request.WithInfo(r.Context(), info), id)
		ctx, warnings := request.WithWarnings(ctx)
		w.Header().Set("Audit-Id", id)
		w.Header().Set("Cache-Control", "no-cache, private")
		answer := &answerWriter{ResponseWriter: w, warnings: warnings}
		longRunning := isLongRunning(info, r)
		figures := s.metrics.begin(info, r, longRunning)
		if !longRunning || flow.Connects(info.APIGroup, info.Resource, info.Subresource) {
			info.Flow = flowapi.Begin(s.record, r, info, id, start)
		}
		next.ServeHTTP(answer, r.WithContext(ctx))
		took := time.Since(start)
		figures.end(info, answer.code, answer.size, took)
		s.record.End(info.Flow, answer.code, took)
		if klog.FromContext(r.Context()).V(3).Enabled() {
			klog.FromContext(ctx).V(3).Info("Request", "verb", info.Verb, "URI", loggable(r, info), "code", answer.code,
				"latency", took, "userAgent", r.UserAgent(), "remote", r.RemoteAddr, "auditID", id)
		}
	})
}

// loggable is the URI of a request without what its client passes on to somebody else: the
// command of an exec, the query of a proxied request.
func loggable(r *http.Request, info *request.Info) string {
	switch {
	case r.URL.RawQuery == "":
		return r.URL.Path
	case info.Subresource == "exec" || info.Subresource == "attach" || info.Subresource == "proxy" || info.Verb == "proxy":
		return r.URL.Path + "?(redacted)"
	}
	return r.URL.RequestURI()
}

// isLongRunning tells requests that stay open from those that must end in time.
func isLongRunning(info *request.Info, _ *http.Request) bool {
	if info.Verb == "watch" || info.Verb == "proxy" {
		return true
	}
	switch info.Subresource {
	case "exec", "attach", "portforward", "proxy":
		return true
	case "log":
		return true
	}
	return strings.HasPrefix(info.Path, "/debug/")
}

func (s *Server) withTimeout(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isLongRunning(request.InfoFrom(r.Context()), r) {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			// They would otherwise outlast the stop: a watch ends only when somebody ends it.
			end := make(chan struct{})
			defer close(end)
			go func() {
				select {
				case <-s.stopping:
					cancel()
				case <-end:
				}
			}()
			next.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		timeout := s.config.RequestTimeout
		if text := r.URL.Query().Get("timeout"); text != "" {
			asked, err := time.ParseDuration(text)
			if err != nil {
				endpoints.WriteError(w, r, apierrors.NewBadRequest("invalid timeout specified in the request URL - "+err.Error()))
				return
			}
			if asked > 0 && asked < timeout {
				timeout = asked
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (s *Server) withAuthentication(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		user, ok, err := s.env.Authenticator.AuthenticateRequest(r)
		if !ok {
			user = nil
		}
		s.metrics.judges.authentication(r, user, err, began)
		if err != nil || !ok {
			if err != nil {
				klog.FromContext(r.Context()).V(2).Info("Unable to authenticate the request", "err", err, "path", r.URL.Path)
			}
			s.auditor.Unauthenticated(r)
			endpoints.WriteError(w, r, apierrors.NewUnauthorized("Unauthorized"))
			return
		}
		r.Header.Del("Authorization")
		next.ServeHTTP(w, r.WithContext(request.WithUser(r.Context(), user)))
	})
}

func (s *Server) withImpersonation(next http.Handler) http.Handler {
	impersonator := authn.NewImpersonator(func() request.Authorizer { return s.env.Authorizer }, authz.Forbidden)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asking := request.UserFrom(r.Context())
		user, constraint, err := impersonator.Impersonate(r, request.InfoFrom(r.Context()).Attributes(asking))
		if err != nil {
			w.Header().Set("X-Content-Type-Options", "nosniff")
			endpoints.WriteError(w, r, err)
			return
		}
		if user != asking {
			audit.Impersonated(w, user, constraint)
			r = r.WithContext(request.WithUser(r.Context(), user))
		}
		request.FlowFrom(r.Context()).Known(user.Name, user.Authn)
		next.ServeHTTP(w, r)
	})
}

func (s *Server) withAuthorization(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		info := request.InfoFrom(ctx)
		attributes := info.Attributes(request.UserFrom(ctx))
		began := time.Now()
		decision, reason, err := s.env.Authorizer.Authorize(ctx, attributes)
		s.metrics.judges.authorization(decision, err, began)
		if decision == request.Allow {
			annotateDecision(ctx, "allow", reason)
			defer flowapi.Allowed(s.record, r, info, attributes.User, reason)()
			next.ServeHTTP(w, r)
			return
		}
		if err != nil {
			klog.FromContext(ctx).Info("Authorization with an error", "err", err, "path", r.URL.Path)
		}
		annotateDecision(ctx, "forbid", reason)
		w.Header().Set("X-Content-Type-Options", "nosniff") // a refusal repeats what the client sent: no browser may take it for a page
		endpoints.WriteError(w, r, authz.Forbidden(attributes, reason))
	})
}

// annotateDecision tells the audit log what was decided, and why.
func annotateDecision(ctx context.Context, decision, reason string) {
	request.AddAuditAnnotation(ctx, "authorization.k8s.io/decision", decision)
	request.AddAuditAnnotation(ctx, "authorization.k8s.io/reason", reason)
}

// answerWriter remembers the code of an answer and puts the warnings collected so far into its
// header. It passes on what net/http's writer can do besides: flush, and hand over the connection.
type answerWriter struct {
	http.ResponseWriter
	warnings *request.Warnings
	code     int
	size     int // bytes written
}

func (a *answerWriter) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
		for _, text := range a.warnings.List() {
			a.Header().Add("Warning", warningHeader(text))
		}
	}
	a.ResponseWriter.WriteHeader(code)
}

func (a *answerWriter) Write(p []byte) (int, error) {
	if a.code == 0 {
		a.WriteHeader(http.StatusOK)
	}
	n, err := a.ResponseWriter.Write(p)
	a.size += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (a *answerWriter) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush implements http.Flusher, which older libraries look for.
func (a *answerWriter) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// Hijack implements http.Hijacker: SPDY and WebSocket take over the connection.
func (a *answerWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	hijacker, ok := a.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("this connection cannot be taken over: it is HTTP/2")
	}
	a.code = http.StatusSwitchingProtocols
	return hijacker.Hijack()
}

// warningHeader is the form of RFC 7234, section 5.5, with which kubectl finds the text.
func warningHeader(text string) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, text)
	return "299 - " + strconv.Quote(text)
}

// tlsErrorLog sends net/http's complaints (clients that drop the handshake) to the log, where nobody needs to see them, and
// counts failed handshakes, of which there is no other word.
func tlsErrorLog(logger logr.Logger, handshakes prometheus.Counter) *log.Logger {
	return log.New(logWriter{logger, handshakes}, "", 0)
}

type logWriter struct {
	logger     logr.Logger
	handshakes prometheus.Counter
}

func (l logWriter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("TLS handshake error")) {
		l.handshakes.Inc()
	}
	l.logger.V(3).Info("HTTP server", "message", strings.TrimSpace(string(p)))
	return len(p), nil
}
