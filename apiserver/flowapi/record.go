// Package flowapi is where the apiserver meets package flow: it tells the record about
// requests, writes and watches, and serves what was recorded under /debug/flow.
//
//	handler chain ── Begin, Allowed ──┐
//	storage ──────── OnWrite ─────────┼──► flow.Record ◄── GET /debug/flow/trace, connections, status
//	watch streams ── Sent, Flushed ───┤
//	components ───── POST effects ────┘
//
// The paths are no resources: cluster-admin may read them, and components may post
// effects (the role hyperkube:flow-reporter). What is recorded of a request is filled
// in while it passes; it enters the record when it has been answered.
//
// Read first: `apiserver/flowapi/record.go:OnWrite`, `apiserver/flowapi/serve.go:Handler`.
//
// In Kubernetes: nothing has this job. Audit logs (k8s.io/apiserver/pkg/audit) have the
// requests, tracing (component-base/tracing) their durations; neither knows what made a component write.
package flowapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"hyperkube/apiserver/request"
	"hyperkube/apiserver/storage"
	"hyperkube/flow"
)

// unrecorded are paths that only look: to record them would push out what matters.
var unrecorded = []string{"/healthz", "/livez", "/readyz", "/metrics", "/debug/"}

// Begin starts the record of a request that ends by itself; nil: it is not recorded.
func Begin(record *flow.Record, r *http.Request, info *request.Info, auditID string, start time.Time) *flow.Request {
	for _, prefix := range unrecorded {
		if strings.HasPrefix(info.Path, prefix) {
			return nil
		}
	}
	q := record.Begin(r.Header, start)
	if q != nil {
		q.AuditID, q.Verb, q.Group, q.Resource, q.Subresource = auditID, info.Verb, info.APIGroup, info.Resource, info.Subresource
		q.Namespace, q.Name = info.Namespace, info.Name
		if !info.IsResourceRequest {
			q.Resource = info.Path
		}
		if flow.Connects(info.APIGroup, info.Resource, info.Subresource) {
			record.Opened(q)
		}
	}
	return q
}

// Allowed notes who may do the request and by what rule, and that a watch begins; the
// function it returns is called when the request has been answered.
func Allowed(record *flow.Record, r *http.Request, info *request.Info, user *request.User, reason string) (ended func()) {
	if user == nil {
		return func() {}
	}
	if reason == "" && user.InGroup(request.SystemPrivileged) {
		reason = "member of system:masters"
	}
	info.Flow.Allowed(reason)
	if info.Verb != "watch" || record == nil {
		return func() {}
	}
	query := r.URL.Query()
	info.Watch = record.Watching(&flow.Watch{
		User: user.Name, UserAgent: r.UserAgent(), Protocol: r.Proto, Resource: info.Resource, Namespace: info.Namespace,
		LabelSelector: info.LabelSelector, FieldSelector: info.FieldSelector, ResourceVersion: query.Get("resourceVersion"),
		Remote: r.RemoteAddr, Since: time.Now(),
	})
	return info.Watch.Ended
}

// OnWrite is what storage calls for every committed write: it belongs to the request in
// whose context it was made, or is the apiserver's own.
func OnWrite(record *flow.Record) func(context.Context, storage.Written) {
	if record == nil {
		return nil
	}
	return func(ctx context.Context, w storage.Written) {
		write := flow.Write{Kind: w.Kind, Key: w.Key, Prefix: w.Prefix, Revision: w.Revision, Time: time.Now(), Took: w.Took,
			Deleted: w.Deleted, Old: w.Old, New: w.New}
		if q := request.FlowFrom(ctx); q != nil {
			q.Wrote(write)
			return
		}
		record.Internal(write)
	}
}
