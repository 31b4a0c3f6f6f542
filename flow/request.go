package flow

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The headers by which a component says why it writes, and which line does.
const (
	CauseHeader  = "Flow-Cause"
	SourceHeader = "Flow-Source"
)

// Write is one change in the store.
type Write struct {
	Kind schema.GroupVersionKind
	// Key is "namespace/name", or "name".
	Key      string
	Revision int64
	Time     time.Time
	Deleted  bool
	// Old and New are the values as stored, JSON or protobuf; nil where there is
	// none. They belong to the store: read only. Keeping them costs no copy, and
	// comparing them is left to whoever reads the trace.
	Old, New []byte
}

// Request is one request to the apiserver, filled in by those it passes.
type Request struct {
	Start time.Time
	Took  time.Duration
	// User is who asked, after authentication and impersonation.
	User, UserAgent string
	// Verb, Group, Resource, Subresource, Namespace and Name are what was asked for.
	Verb, Group, Resource, Subresource, Namespace, Name string
	Code                                                int
	// Reason is why it was allowed.
	Reason string
	// AuditID, TraceParent, Cause and Source are the request's headers as they came:
	// nobody is decided upon by them.
	AuditID, TraceParent, Cause, Source string

	admission  [12]string // the plugins asked, in order
	admissions int

	mu     sync.Mutex
	write  Write // the first; nearly every request has one at most
	writes int
	others []Write
}

// Begin returns the entry of a request that has come, or nil if the record is off.
// The caller fills in what it asks for.
func (r *Record) Begin(h http.Header, start time.Time) *Request {
	if r == nil {
		return nil
	}
	return &Request{Start: start, UserAgent: h.Get("User-Agent"), TraceParent: h.Get("Traceparent"),
		Cause: bounded(h.Get(CauseHeader)), Source: bounded(h.Get(SourceHeader))}
}

// maxHeader bounds what a client can make us remember of one header.
const maxHeader = 2048

func bounded(header string) string {
	if len(header) > maxHeader {
		return header[:maxHeader]
	}
	return header
}

// End puts the request into the record.
func (r *Record) End(q *Request, code int, took time.Duration) {
	if q == nil {
		return
	}
	q.Code, q.Took = code, took
	r.add(q)
}

// Allowed notes who asks; reason says by which rule they may.
func (q *Request) Allowed(user, reason string) {
	if q != nil {
		q.User, q.Reason = user, reason
	}
}

// Admitted notes that an admission plugin was asked.
func (q *Request) Admitted(plugin string) {
	if q != nil && q.admissions < len(q.admission) {
		q.admission[q.admissions] = plugin
		q.admissions++
	}
}

// Wrote notes a change in the store. Requests on collections call it from many
// goroutines.
func (q *Request) Wrote(w Write) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.writes++; q.writes == 1 {
		q.write = w
		return
	}
	q.others = append(q.others, w)
}

// Internal records a write of the apiserver's own: bootstrap, allocations.
func (r *Record) Internal(w Write) {
	if r == nil {
		return
	}
	q := &Request{Start: w.Time, User: "system:apiserver", UserAgent: "apiserver/hyperkube", Verb: "write", Code: http.StatusOK}
	q.Wrote(w)
	r.add(q)
}

// Writes are the changes the request made.
func (q *Request) Writes() []Write {
	if q.writes == 0 {
		return nil
	}
	return append([]Write{q.write}, q.others...)
}

// Admission names the plugins that were asked, in order.
func (q *Request) Admission() []string { return q.admission[:q.admissions] }

const requestSize = 800 // the struct, and its slot

func (q *Request) size() int {
	n := requestSize + len(q.UserAgent) + len(q.Cause) + len(q.Source) + len(q.Reason) + len(q.Resource) + len(q.Namespace) + 2*len(q.Name) +
		len(q.write.Old) + len(q.write.New)
	for i := range q.others {
		n += 200 + len(q.others[i].Old) + len(q.others[i].New)
	}
	return n
}

func (q *Request) when() time.Time { return q.Start }

// ProgramOf is the short name of the program that asked, from its User-Agent.
func ProgramOf(userAgent string) string {
	product, _, _ := strings.Cut(userAgent, " ")
	name, _, _ := strings.Cut(product, "/")
	if name == "" {
		return "unknown"
	}
	return name
}

// components are the users by which components run, and so those whose headers say
// what made them write. Anybody else's headers are shown as what they are: claims.
func isComponent(user string) bool {
	switch user {
	case "system:kube-scheduler", "system:kube-controller-manager", "system:kube-proxy", "system:kube-dns", "system:apiserver":
		return true
	}
	return strings.HasPrefix(user, "system:node:")
}

// ComponentOf is the name under which the effects of a user are shown: the component
// that runs as this user; anybody else's claim is shown with their name.
func ComponentOf(user, claimed string) string {
	switch user {
	case "system:kube-scheduler":
		return "scheduler"
	case "system:kube-controller-manager":
		return "controller-manager"
	case "system:kube-proxy":
		return "proxy"
	case "system:kube-dns":
		return "dns"
	}
	if node, found := strings.CutPrefix(user, "system:node:"); found && (claimed == "kubelet" || claimed == "cri") {
		return claimed + "-" + node
	}
	return claimed + " (says " + user + ")"
}
