package endpoints

import (
	"net/http"
	"slices"

	"github.com/emicklei/go-restful/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/registry"
)

// APIGroupVersion is the resources that are served under one path, /api/v1 or /apis/<group>/<version>.
type APIGroupVersion struct {
	GroupVersion schema.GroupVersion
	Scopes       []*Scope // of the main endpoints
}

// Root is the path of the group version.
func (g *APIGroupVersion) Root() string {
	if g.GroupVersion.Group == "" {
		return "/api/" + g.GroupVersion.Version
	}
	return "/apis/" + g.GroupVersion.Group + "/" + g.GroupVersion.Version
}

// Install binds the verbs to the routes of every resource of the group version.
// Routes carry what /openapi tells about them: operation, action, kind.
func (g *APIGroupVersion) Install() *restful.WebService {
	ws := new(restful.WebService)
	ws.Path(g.Root()).Doc("API at " + g.Root())
	ws.Consumes("*/*").Produces(append(slices.Clone(objectMedia), streamMedia...)...)
	ws.ApiVersion(g.GroupVersion.String())
	ws.Route(documented(ws.GET("/"), g.ServeResources, "get available resources").
		Operation("get"+operationGroup(g.GroupVersion)+"APIResources").Returns(http.StatusOK, "OK", metav1.APIResourceList{}))
	for _, scope := range g.Scopes {
		i := installer{ws: ws, group: g.GroupVersion, scope: scope}
		i.installResource()
	}
	return ws
}

// installer adds the routes of one resource.
type installer struct {
	ws    *restful.WebService
	group schema.GroupVersion
	scope *Scope
}

func (i *installer) installResource() {
	s := i.scope
	r := s.Resource
	if r.Answer != nil {
		i.collection(s, i.collectionPath(), !r.ClusterScoped)
		return
	}
	if !r.ClusterScoped {
		i.crossNamespaces(s)
	}
	i.watches(s)
	i.collection(s, i.collectionPath(), !r.ClusterScoped)
	i.object(s, i.collectionPath()+"/{name}")
	for _, sub := range s.subscopes() {
		i.subresource(sub, i.collectionPath()+"/{name}/"+sub.Subresource)
	}
}

func (i *installer) collectionPath() string {
	if i.scope.Resource.ClusterScoped {
		return "/" + i.scope.Resource.Name
	}
	return "/namespaces/{namespace}/" + i.scope.Resource.Name
}

// subscopes are the scopes of the resource's subresources, status first, the others by name.
func (s *Scope) subscopes() []*Scope {
	r := s.Resource
	var scopes []*Scope
	status := r.StatusStrategy
	if r.View != nil && s.Store != nil {
		status = s.Store.StatusStrategy
	}
	if status != nil {
		scopes = append(scopes, s.sub("status", &registry.Subresource{View: status}))
	}
	names := make([]string, 0, len(r.Subresources))
	for name := range r.Subresources {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		sub := r.Subresources[name]
		scopes = append(scopes, s.sub(name, &sub))
	}
	return scopes
}

func (s *Scope) sub(name string, sub *registry.Subresource) *Scope {
	scope := *s
	scope.Subresource, scope.Sub, scope.View = name, sub, sub.View
	return &scope
}

// crossNamespaces adds the list of all namespaces.
func (i *installer) crossNamespaces(s *Scope) {
	list := i.route(operation{s, http.MethodGet, "/" + s.Resource.Name, "list", "list", "ForAllNamespaces", ListResource})
	i.ws.Route(queryParams(list, &metav1.ListOptions{}).Produces(append(slices.Clone(objectMedia), streamMedia...)...).Returns(http.StatusOK, "OK", s.Resource.NewList()))
}

// watches adds the deprecated paths that only watch: /api/v1/watch/pods is /api/v1/pods?watch=1. Clients of before v1.11 know no other.
func (i *installer) watches(s *Scope) {
	if !s.serves("watch") {
		return
	}
	where := scopeWord(!s.Resource.ClusterScoped)
	watches := []operation{
		{s, http.MethodGet, i.collectionPath(), "watchlist", "watch", where, WatchResource},
		{s, http.MethodGet, i.collectionPath() + "/{name}", "watch", "watch", where, WatchResource},
	}
	if !s.Resource.ClusterScoped {
		watches = append(watches, operation{s, http.MethodGet, "/" + s.Resource.Name, "watchlist", "watch", "ForAllNamespaces", WatchResource})
	}
	for _, o := range watches {
		o.path = "/watch" + o.path
		route := queryParams(i.route(o), &metav1.ListOptions{}).Produces(append(slices.Clone(objectMedia), streamMedia...)...)
		i.ws.Route(route.Returns(http.StatusOK, "OK", &metav1.WatchEvent{}))
	}
}

func (i *installer) collection(s *Scope, path string, namespaced bool) {
	r := s.Resource
	where := scopeWord(namespaced)
	if s.serves("create") {
		i.post(s, path, where, r.New())
	}
	if r.Answer != nil {
		return
	}
	list := i.route(operation{s, http.MethodGet, path, "list", "list", where, ListResource})
	i.ws.Route(queryParams(list, &metav1.ListOptions{}).Produces(append(slices.Clone(objectMedia), streamMedia...)...).Returns(http.StatusOK, "OK", r.NewList()))
	if !s.serves("deletecollection") {
		return
	}
	deletion := i.route(operation{s, http.MethodDelete, path, "deletecollection", "deleteCollection", where, DeleteCollection})
	queryParams(queryParams(deletion, &metav1.DeleteOptions{}), &metav1.ListOptions{}, "watch", "allowWatchBookmarks")
	i.ws.Route(deleteBody(deletion).Returns(http.StatusOK, "OK", &metav1.Status{}))
}

// deleteBody says that options may come in the body of a deletion, and need not.
func deleteBody(b *restful.RouteBuilder) *restful.RouteBuilder {
	b.Reads(&metav1.DeleteOptions{})
	b.ParameterNamed("body").Required(false)
	return b
}

func (i *installer) object(s *Scope, path string) {
	r := s.Resource
	where := scopeWord(!r.ClusterScoped)
	get := i.route(operation{s, http.MethodGet, path, "get", "read", where, GetResource})
	i.ws.Route(get.Returns(http.StatusOK, "OK", r.New()))
	i.write(s, path, where, r.New())
	if !s.serves("delete") {
		return
	}
	answer := any(&metav1.Status{})
	if s.Store.ReturnDeletedObject {
		answer = r.New()
	}
	deletion := i.route(operation{s, http.MethodDelete, path, "delete", "delete", where, DeleteResource})
	i.ws.Route(deleteBody(queryParams(deletion, &metav1.DeleteOptions{})).
		Returns(http.StatusOK, "OK", answer).Returns(http.StatusAccepted, "Accepted", answer))
}

func (i *installer) post(s *Scope, path, where string, sample runtime.Object) {
	post := i.route(operation{s, http.MethodPost, path, "post", "create", where, CreateResource})
	i.ws.Route(queryParams(post, &metav1.CreateOptions{}).Reads(sample).
		Returns(http.StatusOK, "OK", sample).Returns(http.StatusCreated, "Created", sample).Returns(http.StatusAccepted, "Accepted", sample))
}

// write adds PUT and PATCH.
func (i *installer) write(s *Scope, path, where string, sample runtime.Object) {
	if s.serves("update") {
		put := i.route(operation{s, http.MethodPut, path, "put", "replace", where, UpdateResource})
		i.ws.Route(queryParams(put, &metav1.UpdateOptions{}).Reads(sample).
			Returns(http.StatusOK, "OK", sample).Returns(http.StatusCreated, "Created", sample))
	}
	if !s.serves("patch") {
		return
	}
	patch := i.route(operation{s, http.MethodPatch, path, "patch", "patch", where, PatchResource})
	patch.Consumes("application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml", "application/apply-patch+cbor")
	i.ws.Route(queryParams(patch, &metav1.PatchOptions{}).Reads(&metav1.Patch{}).
		Returns(http.StatusOK, "OK", sample).Returns(http.StatusCreated, "Created", sample))
}

func (i *installer) subresource(s *Scope, path string) {
	sub, where := s.Sub, scopeWord(!s.Resource.ClusterScoped)
	sample := s.newObject()
	if (sub.View != nil && s.serves("get")) || sub.Get != nil {
		get := i.route(operation{s, http.MethodGet, path, "get", "read", where, GetResource})
		i.ws.Route(get.Returns(http.StatusOK, "OK", sample))
	}
	if sub.View != nil || sub.Update != nil {
		i.write(s, path, where, sample)
	}
	if sub.Create != nil {
		i.post(s, path, where, sample)
	}
	if sub.Connect != nil {
		i.connect(s, path)
	}
}

var defaultConnectMethods = []string{http.MethodGet, http.MethodPost}

func (i *installer) connect(s *Scope, path string) {
	if s.Subresource == "log" {
		// A log is read as an object is, and clients made from the documents are to know it.
		get := i.route(operation{s, http.MethodGet, path, "get", "read", scopeWord(!s.Resource.ClusterScoped), ConnectResource})
		i.ws.Route(queryParams(get, s.Sub.ConnectOptions(), "pretty").Produces(append([]string{"text/plain"}, objectMedia...)...).Returns(http.StatusOK, "OK", "string"))
		return
	}
	methods := s.Sub.ConnectMethods
	if methods == nil {
		methods = defaultConnectMethods
	}
	paths := []string{path}
	if s.Sub.ConnectSubpath {
		paths = append(paths, path+"/{path:*}")
	}
	for _, path := range paths {
		for _, method := range methods {
			route := i.route(operation{s, method, path, "connect", "connect", scopeWord(!s.Resource.ClusterScoped), ConnectResource})
			if s.Sub.ConnectOptions != nil {
				queryParams(route, s.Sub.ConnectOptions())
			}
			i.ws.Route(route.Produces("*/*").Returns(http.StatusOK, "OK", "string"))
		}
	}
}
