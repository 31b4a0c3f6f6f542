package flow

import (
	"net/http"
	"strings"
	"sync"
	"time"
	"unsafe"

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
	// Key is "namespace/name", or "name"; after Prefix it is the key in etcd.
	Key, Prefix string
	Revision    int64
	// Time is when it had been committed, Took how long etcd took.
	Time    time.Time
	Took    time.Duration
	Deleted bool
	// Old and New are the values as stored, JSON or protobuf; nil where there is
	// none. They belong to the store: read only. Keeping them costs no copy, and
	// comparing them is left to whoever reads the trace.
	Old, New []byte
}

// Request is one request to the apiserver, filled in by those it passes.
type Request struct {
	Start time.Time
	Took  time.Duration
	// User is who asked, after authentication and impersonation; Authn is how that is known.
	User, Authn, UserAgent string
	// Verb, Group, Resource, Subresource, Namespace and Name are what was asked for.
	Verb, Group, Resource, Subresource, Namespace, Name string
	Code                                                int
	// Reason is why it was allowed: the rule.
	Reason string
	// AuditID, TraceParent, Cause and Source are the request's headers as they came:
	// nobody is decided upon by them.
	AuditID, TraceParent, Cause, Source string

	refusal string // what was answered to a write that was refused

	// came is the object as the client sent it, kept where admission may have changed it.
	came struct {
		media  string
		body   []byte
		reader Reader
	}

	mu        sync.Mutex // guards what follows
	admission Admission
	write     Write // the first; nearly every request has one at most
	writes    int
	others    []Write
}

// Begin returns the entry of a request that has come, or nil if the record is off.
// The caller fills in what it asks for.
func (r *Record) Begin(h http.Header, start time.Time) *Request {
	if r == nil {
		return nil
	}
	return &Request{Start: start, UserAgent: bounded(h.Get("User-Agent")), TraceParent: traceParent(h.Get(TraceParentHeader)),
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
	q.settle()
	if q.connects() {
		r.mu.Lock()
		delete(r.open, q)
		r.mu.Unlock()
	}
	if q.Verb == "deletecollection" && q.writes == 0 && code < http.StatusBadRequest {
		return // it found nothing: the namespace controller asks again and again while it waits
	}
	r.add(q)
}

// Refused notes with which message a write was refused. An exec's may quote its command, and is not kept.
func (q *Request) Refused(message string) {
	if q != nil && isWriteVerb(q.Verb) && !passesThrough(q.Subresource) {
		q.refusal = message[:min(len(message), maxRefusal)]
	}
}

// maxRefusal bounds what is kept of a message.
const maxRefusal = 512

// Known notes who asks, and how that is known.
func (q *Request) Known(user, authn string) {
	if q != nil {
		q.User, q.Authn = user, authn
	}
}

// Allowed notes by which rule they may.
func (q *Request) Allowed(reason string) {
	if q != nil {
		q.Reason = reason
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

// claimed names the headers about itself of a request that did not come from a component:
// they are shown, as what its client says.
func (q *Request) claimed() []string {
	if isComponent(q.User) {
		return nil
	}
	var names []string
	for _, header := range []struct{ name, value string }{{CauseHeader, q.Cause}, {SourceHeader, q.Source}, {TraceParentHeader, q.TraceParent}} {
		if header.value != "" {
			names = append(names, header.name)
		}
	}
	return names
}

// isConfidential says whether the values of what was asked for are not to be shown; w may be nil.
func (q *Request) isConfidential(w *Write) bool {
	return w != nil && isConfidential(w.Kind.Kind) || q.Resource == "secrets" || q.Resource == "tokenreviews" || q.Subresource == "token"
}

// Internal records a write of the apiserver's own: bootstrap, allocations.
func (r *Record) Internal(w Write) {
	if r == nil {
		return
	}
	q := &Request{Start: w.Time, User: "system:apiserver", Authn: "the apiserver itself", UserAgent: "apiserver/hyperkube", Verb: "write", Code: http.StatusOK}
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

const requestSize = int(unsafe.Sizeof(Request{})) + 16 // the struct, and its slot

func (q *Request) size() int {
	n := requestSize + len(q.User) + len(q.Authn) + len(q.UserAgent) + len(q.AuditID) + len(q.TraceParent) + len(q.Cause) + len(q.Source) +
		len(q.Resource) + len(q.Namespace) + 2*len(q.Name) + len(q.refusal) + len(q.came.body) + len(q.write.Old) + len(q.write.New)
	for i := range q.others {
		n += int(unsafe.Sizeof(Write{})) + len(q.others[i].Key) + len(q.others[i].Old) + len(q.others[i].New)
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
	case "system:kube-scheduler", "system:kube-controller-manager", "system:kube-proxy", "system:kube-dns", "system:hyperkube-storage", "system:hyperkube-nodenet", "system:hyperkube-fakenodes", "system:apiserver":
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
		if strings.HasPrefix(claimed, "proxy-") { // the proxies of all nodes are one user; those of further ones bear their node's name
			return claimed
		}
		return "proxy"
	case "system:kube-dns":
		return "dns"
	case "system:hyperkube-storage":
		return "storage"
	case "system:hyperkube-nodenet":
		return "nodenet"
	case "system:hyperkube-fakenodes":
		return "fakenodes"
	}
	if node, found := strings.CutPrefix(user, "system:node:"); found {
		// Those of a further node bear its name already.
		if program := strings.TrimSuffix(claimed, "-"+node); program == "kubelet" || program == "cri" {
			return program + "-" + node
		}
	}
	return claimed + " (says " + user + ")"
}
