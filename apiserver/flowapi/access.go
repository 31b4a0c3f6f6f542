package flowapi

import (
	"net/http"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/request"
	"hyperkube/flow"
)

// Access decides what a reader of the record sees. To read it at all takes a right on the
// path (the role hyperkube:flow-reader, which `view` includes); to see what was inside of an object, the
// right to get that object, now. Otherwise the record would be a way around RBAC. The data
// of Secrets nobody sees.
type Access struct {
	Authorizer request.Authorizer
	// Resource is the plural name of a kind; an empty group stands for the one group that has the kind.
	Resource func(schema.GroupKind) (resource schema.GroupResource, found bool)
}

// of returns the question whether the sender of r may see an object; the answers are
// remembered, since a story asks about few objects often.
func (x *Access) of(r *http.Request) func(flow.About) bool {
	user := request.UserFrom(r.Context())
	if user.InGroup(request.SystemPrivileged) {
		return func(flow.About) bool { return true }
	}
	known := map[flow.About]bool{}
	return func(about flow.About) bool {
		may, found := known[about]
		if !found {
			may = x.may(r, user, about)
			known[about] = may
		}
		return may
	}
}

func (x *Access) may(r *http.Request, user *request.User, about flow.About) bool {
	resource, found := schema.GroupResource{Group: about.Group, Resource: about.Resource}, about.Kind == ""
	if about.Kind != "" {
		resource, found = x.Resource(schema.GroupKind{Group: about.Group, Kind: about.Kind})
	}
	if !found || user == nil {
		return false
	}
	decision, _, _ := x.Authorizer.Authorize(r.Context(), request.Attributes{
		User: user, Verb: "get", APIGroup: resource.Group, APIVersion: "*", Resource: resource.Resource, ResourceRequest: true,
		Namespace: about.Namespace, Name: about.Name,
	})
	return decision == request.Allow
}
