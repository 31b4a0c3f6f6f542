package endpoints

import (
	"net/http"
	"slices"
	"strings"

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
	ws.Consumes("*/*").Produces(mediaJSON, mediaYAML, mediaProtobuf, mediaCBOR, mediaCBORSequence)
	ws.ApiVersion(g.GroupVersion.String())
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

func (i *installer) crossNamespaces(s *Scope) {
	route := i.route(i.ws.GET("/"+s.Resource.Name).To(restfulFunc(s, ListResource)), "list", "list", "ForAllNamespaces", s)
	i.ws.Route(route.Returns(http.StatusOK, "OK", s.Resource.NewList()))
}

func (i *installer) collection(s *Scope, path string, namespaced bool) {
	r := s.Resource
	scope := scopeWord(namespaced)
	if s.serves("create") {
		post := i.route(i.ws.POST(path).To(restfulFunc(s, CreateResource)), "post", "create", scope, s)
		i.ws.Route(i.queryParams(post, &metav1.CreateOptions{}).Reads(r.New()).
			Returns(http.StatusOK, "OK", r.New()).Returns(http.StatusCreated, "Created", r.New()).Returns(http.StatusAccepted, "Accepted", r.New()))
	}
	if r.Answer != nil {
		return
	}
	list := i.route(i.ws.GET(path).To(restfulFunc(s, ListResource)), "list", "list", scope, s)
	i.ws.Route(i.queryParams(list, &metav1.ListOptions{}).Returns(http.StatusOK, "OK", r.NewList()))
	if !s.serves("deletecollection") {
		return
	}
	deletion := i.route(i.ws.DELETE(path).To(restfulFunc(s, DeleteCollection)), "deletecollection", "deleteCollection", scope, s)
	i.ws.Route(i.queryParams(deletion, &metav1.DeleteOptions{}).Reads(&metav1.DeleteOptions{}).Returns(http.StatusOK, "OK", &metav1.Status{}))
}

func (i *installer) object(s *Scope, path string) {
	r := s.Resource
	scope := scopeWord(!r.ClusterScoped)
	get := i.route(i.ws.GET(path).To(restfulFunc(s, GetResource)), "get", "read", scope, s)
	i.ws.Route(get.Returns(http.StatusOK, "OK", r.New()))
	i.write(s, path, scope, r.New())
	if !s.serves("delete") {
		return
	}
	deletion := i.route(i.ws.DELETE(path).To(restfulFunc(s, DeleteResource)), "delete", "delete", scope, s)
	i.ws.Route(i.queryParams(deletion, &metav1.DeleteOptions{}).Reads(&metav1.DeleteOptions{}).
		Returns(http.StatusOK, "OK", &metav1.Status{}).Returns(http.StatusAccepted, "Accepted", &metav1.Status{}))
}

// write adds PUT and PATCH.
func (i *installer) write(s *Scope, path, scope string, sample runtime.Object) {
	if s.serves("update") {
		put := i.route(i.ws.PUT(path).To(restfulFunc(s, UpdateResource)), "put", "replace", scope, s)
		i.ws.Route(i.queryParams(put, &metav1.UpdateOptions{}).Reads(sample).
			Returns(http.StatusOK, "OK", sample).Returns(http.StatusCreated, "Created", sample))
	}
	if !s.serves("patch") {
		return
	}
	patch := i.route(i.ws.PATCH(path).To(restfulFunc(s, PatchResource)), "patch", "patch", scope, s)
	patch.Consumes("application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml", "application/apply-patch+cbor")
	i.ws.Route(i.queryParams(patch, &metav1.PatchOptions{}).Reads(&metav1.Patch{}).
		Returns(http.StatusOK, "OK", sample).Returns(http.StatusCreated, "Created", sample))
}

func (i *installer) subresource(s *Scope, path string) {
	sub, scope := s.Sub, scopeWord(!s.Resource.ClusterScoped)
	sample := s.newObject()
	if (sub.View != nil && s.serves("get")) || sub.Get != nil {
		get := i.route(i.ws.GET(path).To(restfulFunc(s, GetResource)), "get", "read", scope, s)
		i.ws.Route(get.Returns(http.StatusOK, "OK", sample))
	}
	if sub.View != nil || sub.Update != nil {
		i.write(s, path, scope, sample)
	}
	if sub.Create != nil {
		post := i.route(i.ws.POST(path).To(restfulFunc(s, CreateResource)), "post", "create", scope, s)
		i.ws.Route(i.queryParams(post, &metav1.CreateOptions{}).Reads(sample).Returns(http.StatusCreated, "Created", sample))
	}
	if sub.Connect != nil {
		i.connect(s, path)
	}
}

var defaultConnectMethods = []string{http.MethodGet, http.MethodPost}

func (i *installer) connect(s *Scope, path string) {
	methods := s.Sub.ConnectMethods
	if methods == nil {
		methods = defaultConnectMethods
	}
	paths := []string{path}
	if s.Sub.ConnectSubpath {
		paths = append(paths, path+"/{path:*}")
	}
	for n, path := range paths {
		for _, method := range methods {
			operation := "connect" + strings.ToUpper(method[:1]) + strings.ToLower(method[1:])
			route := i.route(i.ws.Method(method).Path(path).To(restfulFunc(s, ConnectResource)), "connect", operation, scopeWord(!s.Resource.ClusterScoped), s)
			if n > 0 {
				route.Param(i.ws.PathParameter("path", "path to the resource").DataType("string"))
				route.Operation(operationID(s, i.group, operation, scopeWord(!s.Resource.ClusterScoped)) + "WithPath")
			}
			if s.Sub.ConnectOptions != nil {
				route = i.queryParams(route, s.Sub.ConnectOptions())
			}
			i.ws.Route(route.Produces("*/*").Returns(http.StatusOK, "OK", "string"))
		}
	}
}

// route names a route as /openapi knows it.
func (i *installer) route(b *restful.RouteBuilder, action, verb, scope string, s *Scope) *restful.RouteBuilder {
	kind := s.kind()
	if s.Sub != nil && s.Sub.Connect != nil && s.Sub.Kind.Empty() {
		kind = s.Resource.Kind
	}
	b.Operation(operationID(s, i.group, verb, scope)).Doc(describe(action, s)).
		Metadata("x-kubernetes-action", action).
		Metadata("x-kubernetes-group-version-kind", metav1.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind}).
		Param(i.ws.QueryParameter("pretty", "If 'true', then the output is pretty printed.").DataType("string"))
	if scope == "Namespaced" {
		b.Param(i.ws.PathParameter("namespace", "object name and auth scope, such as for teams and projects").DataType("string"))
	}
	if action != "list" && action != "deletecollection" && (verb != "create" || s.Sub != nil) {
		b.Param(i.ws.PathParameter("name", "name of the "+kind.Kind).DataType("string"))
	}
	return b
}

// operationID is an operation's id: readAppsV1NamespacedDeploymentScale.
func operationID(s *Scope, gv schema.GroupVersion, verb, scope string) string {
	group, _, _ := strings.Cut(gv.Group, ".")
	if group == "" {
		group = "core"
	}
	if scope == "ForAllNamespaces" {
		return verb + title(group) + title(gv.Version) + s.Resource.Kind.Kind + title(s.Subresource) + scope
	}
	prefix := scope
	if verb == "deleteCollection" {
		verb, prefix = "delete", "Collection"+scope
	}
	return verb + title(group) + title(gv.Version) + prefix + s.Resource.Kind.Kind + title(s.Subresource)
}

func title(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func scopeWord(namespaced bool) string {
	if namespaced {
		return "Namespaced"
	}
	return ""
}

func describe(action string, s *Scope) string {
	what := s.Resource.Kind.Kind
	if s.Subresource != "" {
		what = s.Subresource + " of the specified " + what
	}
	switch action {
	case "list":
		return "list or watch objects of kind " + what
	case "get":
		return "read the specified " + what
	case "post":
		return "create a " + what
	case "put":
		return "replace the specified " + what
	case "patch":
		return "partially update the specified " + what
	case "delete":
		return "delete a " + what
	case "deletecollection":
		return "delete collection of " + what
	}
	return action + " requests to " + what
}

func restfulFunc(s *Scope, do verb) restful.RouteFunction {
	handle := s.Handle(do)
	return func(request *restful.Request, response *restful.Response) {
		handle(response.ResponseWriter, request.Request)
	}
}
