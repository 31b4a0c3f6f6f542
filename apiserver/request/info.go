package request

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"hyperkube/flow"
)

// Info is what a request asks for, read from its method, path and query alone.
//
//	/api/v1/namespaces/default/pods/web/log
//	 │   │             │       │    │   └ Subresource
//	 │   └ APIVersion  │       │    └ Name
//	 └ APIPrefix       │       └ Resource
//	                   └ Namespace
type Info struct {
	IsResourceRequest bool
	Path              string
	// Verb is get, list, watch, create, update, patch, delete, deletecollection, or for
	// paths that are no resources the HTTP method in lower case.
	Verb string

	APIPrefix   string // "api" or "apis"
	APIGroup    string
	APIVersion  string
	Namespace   string
	Resource    string
	Subresource string
	Name        string
	// Parts are the path's segments from the resource on.
	Parts []string

	FieldSelector string
	LabelSelector string

	// AuditID and TraceParent are the request's ids: its log lines and its record bear them.
	AuditID, TraceParent string

	// Flow is what is recorded of the request; nil when nothing is. Its methods may be
	// called on nil.
	Flow *flow.Request
	// Watch is what is recorded of a watch; likewise.
	Watch *flow.Watch
	// Started is to be called when a watch has sent what it begins with: until then it holds a seat. May be nil.
	Started func()
	// Figures counts what a watch sends; nil: nobody does.
	Figures *WatchFigures
	// Waited is for how long the request had no seat.
	Waited time.Duration
	// Terminated: the server ended it to protect itself, as there was no seat or no time left.
	Terminated bool
}

// WatchFigures are the metrics of one kind of watch.
type WatchFigures struct {
	Events       prometheus.Counter
	Sizes, Lists prometheus.Observer // of events, in bytes; of the lists that watches began with, in seconds
}

// Sent counts an event.
func (f *WatchFigures) Sent(bytes int) {
	if f != nil {
		f.Events.Inc()
		f.Sizes.Observe(float64(bytes))
	}
}

// Listed notes that a watch has sent its list, and since when.
func (f *WatchFigures) Listed(began time.Time) {
	if f != nil {
		f.Lists.Observe(time.Since(began).Seconds())
	}
}

// FlowFrom returns what is recorded of the request that ctx belongs to, or nil.
func FlowFrom(ctx context.Context) *flow.Request {
	if info := InfoFrom(ctx); info != nil {
		return info.Flow
	}
	return nil
}

// namespaceSubresources follow /namespaces/NAME directly, where otherwise a namespaced resource stands.
var namespaceSubresources = map[string]bool{"status": true, "finalize": true}

// NewInfo reads what r asks for. It never fails: what is no resource is a path.
func NewInfo(r *http.Request) *Info {
	info := &Info{Path: r.URL.Path, Verb: strings.ToLower(r.Method)}
	parts := splitPath(r.URL.Path)
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		info.APIPrefix, info.APIVersion = parts[0], parts[1]
		parts = parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		info.APIPrefix, info.APIGroup, info.APIVersion = parts[0], parts[1], parts[2]
		parts = parts[3:]
	default:
		return info
	}
	info.IsResourceRequest = true
	info.Verb = verbOf(r.Method)
	query := r.URL.Query()
	// The old prefix form of watch and proxy: /api/v1/watch/namespaces/x/pods.
	if len(parts) > 1 && (parts[0] == "watch" || parts[0] == "proxy") {
		info.Verb = parts[0]
		parts = parts[1:]
	}
	if parts[0] == "namespaces" {
		if len(parts) > 1 {
			info.Namespace = parts[1]
			if len(parts) > 2 && !namespaceSubresources[parts[2]] {
				parts = parts[2:]
			}
		}
	}
	info.Parts = parts
	info.Resource = parts[0]
	if len(parts) > 1 {
		info.Name = parts[1]
	}
	if len(parts) > 2 {
		info.Subresource = parts[2]
	}
	info.refineVerb(query)
	return info
}

// refineVerb tells the collection verbs from those of one object.
func (info *Info) refineVerb(query url.Values) {
	if info.Name != "" {
		return
	}
	switch info.Verb {
	case "get":
		info.Verb = "list"
		if isTrue(query, "watch") {
			info.Verb = "watch"
		}
	case "delete":
		info.Verb = "deletecollection"
	}
	switch info.Verb {
	case "list", "watch", "deletecollection":
		info.FieldSelector = query.Get("fieldSelector")
		info.LabelSelector = query.Get("labelSelector")
		// A list of exactly one name may be allowed by a rule with resourceNames.
		if info.FieldSelector != "" {
			if sel, err := fields.ParseSelector(info.FieldSelector); err == nil {
				if name, ok := sel.RequiresExactMatch("metadata.name"); ok && isPathSegment(name) {
					info.Name = name
				}
			}
		}
	}
}

// Attributes are what the authorizer is asked about this request.
func (info *Info) Attributes(u *User) Attributes {
	a := Attributes{
		User: u, Verb: info.Verb, Namespace: info.Namespace,
		APIGroup: info.APIGroup, APIVersion: info.APIVersion,
		Resource: info.Resource, Subresource: info.Subresource, Name: info.Name,
		ResourceRequest: info.IsResourceRequest, Path: info.Path,
	}
	if info.FieldSelector != "" {
		if sel, err := fields.ParseSelector(info.FieldSelector); err == nil {
			a.FieldSelector = sel
		}
	}
	if info.LabelSelector != "" {
		if sel, err := labels.Parse(info.LabelSelector); err == nil {
			a.LabelSelector = sel
		}
	}
	return a
}

func verbOf(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodGet, http.MethodHead:
		return "get"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return ""
}

// isTrue reads a boolean query parameter as the API does: present and neither "0" nor "false".
func isTrue(query url.Values, key string) bool {
	values, ok := query[key]
	if !ok || len(values) == 0 {
		return false
	}
	return values[0] != "0" && !strings.EqualFold(values[0], "false")
}

func isPathSegment(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/%")
}

func splitPath(path string) []string {
	path = strings.Trim(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}
