package endpoints

import (
	"net/http"
	"strings"

	"github.com/emicklei/go-restful/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/flow"
)

// objectMedia are the forms of one object and of a list, streamMedia those of a watch.
var (
	objectMedia = []string{mediaJSON, mediaYAML, mediaProtobuf, mediaCBOR}
	streamMedia = []string{mediaJSON + ";stream=watch", mediaProtobuf + ";stream=watch", mediaCBORSequence}
)

// operation is one route of a resource, with what /openapi tells of it.
type operation struct {
	scope        *Scope
	method, path string
	// action is upstream's word for what is done (x-kubernetes-action), verb the word in the operation's id.
	action, verb string
	// where is "Namespaced", "ForAllNamespaces" or "".
	where string
	do    verb
}

// handlerKey is under which a route says which function answers it; only what begins with "x-" goes into documents.
const handlerKey = "handler"

// route binds an operation, and names it as /openapi knows it.
func (i *installer) route(o operation) *restful.RouteBuilder {
	s := o.scope
	kind := s.kind()
	b := i.ws.Method(o.method).Path(o.path).To(restfulFunc(s, o.do)).Produces(objectMedia...)
	b.Operation(o.id(i.group)).Doc(o.describe()).
		Metadata(handlerKey, flow.Position(o.do)).
		Metadata("x-kubernetes-action", o.action).
		Metadata("x-kubernetes-group-version-kind", metav1.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind})
	if o.action != "connect" {
		b.Param(restful.QueryParameter("pretty", "If 'true', then the output is pretty printed. Defaults to 'false' unless the user-agent indicates a browser or command-line HTTP tool (curl and wget).").DataType("string"))
	}
	if o.where == "Namespaced" {
		b.Param(restful.PathParameter("namespace", "object name and auth scope, such as for teams and projects").DataType("string"))
	}
	if strings.Contains(o.path, "{name}") {
		b.Param(restful.PathParameter("name", "name of the "+kind.Kind).DataType("string"))
	}
	if strings.HasSuffix(o.path, "{path:*}") {
		b.Param(restful.PathParameter("path", "path to the resource").DataType("string"))
	}
	return b
}

// id is readAppsV1NamespacedDeploymentScale, deleteCoreV1CollectionNamespacedPod, connectCoreV1GetNamespacedPodExec: clients
// that are generated from the documents take the names of their methods from it.
func (o *operation) id(group schema.GroupVersion) string {
	verb, what := o.verb, title(o.scope.Resource.Kind.Kind)+title(o.scope.Subresource)
	if o.action == "watchlist" {
		what += "List"
	}
	switch {
	case o.where == "ForAllNamespaces":
		return verb + operationGroup(group) + what + o.where
	case verb == "deleteCollection":
		return "delete" + operationGroup(group) + "Collection" + o.where + what
	case o.action == "connect":
		what = o.where + what
		if strings.HasSuffix(o.path, "{path:*}") {
			what += "WithPath"
		}
		return verb + operationGroup(group) + title(strings.ToLower(o.method)) + what
	}
	return verb + operationGroup(group) + o.where + what
}

// operationGroup is AppsV1 for apps/v1, and CoreV1 for v1.
func operationGroup(gv schema.GroupVersion) string {
	return title(GroupWord(gv.Group)) + title(gv.Version)
}

// GroupWord is a group as a word: "core", "apps", "rbacAuthorization" for rbac.authorization.k8s.io.
func GroupWord(group string) string {
	if group == "" {
		return "core"
	}
	word, rest, _ := strings.Cut(strings.TrimSuffix(group, ".k8s.io"), ".")
	for part := range strings.SplitSeq(rest, ".") {
		word += title(part)
	}
	return word
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

func (o *operation) describe() string {
	kind, sub := o.scope.Resource.Kind.Kind, ""
	if o.scope.Subresource != "" {
		sub = o.scope.Subresource + " of "
	}
	switch o.action {
	case "list":
		return "list or watch objects of kind " + kind
	case "watch":
		return "watch changes to an object of kind " + kind + ". deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter."
	case "watchlist":
		return "watch individual changes to a list of " + kind + ". deprecated: use the 'watch' parameter with a list operation instead."
	case "get":
		return "read " + sub + "the specified " + kind
	case "post":
		return "create " + sub + article(kind)
	case "put":
		return "replace " + sub + "the specified " + kind
	case "patch":
		return "partially update " + sub + "the specified " + kind
	case "delete":
		return "delete " + article(kind)
	case "deletecollection":
		return "delete collection of " + kind
	}
	return "connect " + o.method + " requests to " + sub + kind
}

// article is "a Pod", "an Ingress", "Endpoints".
func article(kind string) string {
	switch {
	case strings.HasSuffix(kind, "s") && !strings.HasSuffix(kind, "ss"):
		return kind
	case strings.ContainsRune("AEIOU", rune(kind[0])):
		return "an " + kind
	}
	return "a " + kind
}

func restfulFunc(s *Scope, do verb) restful.RouteFunction {
	return restfulHandler(s.Handle(do))
}

func restfulHandler(handle http.HandlerFunc) restful.RouteFunction {
	return func(request *restful.Request, response *restful.Response) {
		handle(response.ResponseWriter, request.Request)
	}
}

// documented is a route that is no verb of a resource.
func documented(b *restful.RouteBuilder, handle http.HandlerFunc, doc string) *restful.RouteBuilder {
	return b.To(restfulHandler(handle)).Doc(doc).Metadata(handlerKey, flow.Position(handle)).Produces(objectMedia...)
}
