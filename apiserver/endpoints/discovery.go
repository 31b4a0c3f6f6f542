package endpoints

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/emicklei/go-restful/v3"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/registry"
)

// Discovery answers what there is: /api and /apis (the groups), /api/v1 and
// /apis/<group>/<version> (the resources of one), and both in one document for
// clients that know how to ask (aggregated discovery).
//
// Invariant: groups are in order of priority: kubectl takes a short name's first owner.
type Discovery struct {
	mu     sync.RWMutex
	groups []*APIGroupVersion
	cached map[string]*document // of aggregated discovery, by path
}

type document struct {
	object *apidiscoveryv2.APIGroupDiscoveryList
	etag   string
}

// NewDiscovery makes the documents of groups.
func NewDiscovery(groups []*APIGroupVersion) *Discovery { return &Discovery{groups: groups} }

// ServeRoot answers /api and /apis.
func (d *Discovery) ServeRoot(w http.ResponseWriter, r *http.Request) {
	root := strings.Trim(r.URL.Path, "/")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		WriteError(w, r, methodNotAllowed())
		return
	}
	if f, ok := wantsAggregated(r); ok {
		d.serveAggregated(w, r, f, root)
		return
	}
	if root == "api" {
		versions := &metav1.APIVersions{
			Versions:                   []string{"v1"},
			ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: r.Host}},
		}
		WriteObject(w, r, http.StatusOK, versions, schema.GroupVersionKind{Kind: "APIVersions"}) // of no version, for the oldest clients
		return
	}
	list := &metav1.APIGroupList{Groups: d.groupList()}
	WriteObject(w, r, http.StatusOK, list, schema.GroupVersionKind{Version: "v1", Kind: "APIGroupList"})
}

// groupList is /apis: each group with its versions, the first being preferred.
func (d *Discovery) groupList() []metav1.APIGroup {
	d.mu.RLock()
	defer d.mu.RUnlock()
	groups := []metav1.APIGroup{}
	for _, g := range d.groups {
		if g.GroupVersion.Group == "" {
			continue
		}
		version := metav1.GroupVersionForDiscovery{GroupVersion: g.GroupVersion.String(), Version: g.GroupVersion.Version}
		at := slices.IndexFunc(groups, func(x metav1.APIGroup) bool { return x.Name == g.GroupVersion.Group })
		if at < 0 {
			groups = append(groups, metav1.APIGroup{Name: g.GroupVersion.Group, PreferredVersion: version})
			at = len(groups) - 1
		}
		groups[at].Versions = append(groups[at].Versions, version)
	}
	return groups
}

// ServeGroup answers /apis/<group>; false when there is none of that name.
func (d *Discovery) ServeGroup(w http.ResponseWriter, r *http.Request, name string) bool {
	for _, group := range d.groupList() {
		if group.Name == name {
			WriteObject(w, r, http.StatusOK, &group, schema.GroupVersionKind{Version: "v1", Kind: "APIGroup"})
			return true
		}
	}
	return false
}

// GetOnly refuses all but GET for a document that only that asks for.
func GetOnly(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			WriteError(w, r, methodNotAllowed())
			return
		}
		serve(w, r)
	}
}

// HasGroup says whether there is a group of that name.
func (d *Discovery) HasGroup(name string) bool { return slices.Contains(d.GroupNames(), name) }

// GroupNames are the groups' names, without the core group.
func (d *Discovery) GroupNames() []string {
	var names []string
	for _, group := range d.groupList() {
		names = append(names, group.Name)
	}
	return names
}

// ServeVersion answers /api/v1 and /apis/<group>/<version>; false when it is not served.
func (d *Discovery) ServeVersion(w http.ResponseWriter, r *http.Request, gv schema.GroupVersion) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, g := range d.groups {
		if g.GroupVersion == gv {
			GetOnly(g.ServeResources)(w, r)
			return true
		}
	}
	return false
}

// ServeResources answers /api/v1 or /apis/<group>/<version>.
func (g *APIGroupVersion) ServeResources(w http.ResponseWriter, r *http.Request) {
	list := &metav1.APIResourceList{GroupVersion: g.GroupVersion.String(), APIResources: g.resources()}
	kind := schema.GroupVersionKind{Kind: "APIResourceList"}
	if g.GroupVersion.Group != "" {
		kind.Version = "v1" // the core group's list is older than versions of such documents
	}
	WriteObject(w, r, http.StatusOK, list, kind)
}

// Services describe the discovery documents themselves for /openapi; requests for them come straight to Discovery.
func (d *Discovery) Services() []*restful.WebService {
	describe := func(path, operation, doc string, handle http.HandlerFunc, sample any) *restful.WebService {
		ws := new(restful.WebService).Path(path).Consumes(objectMedia...)
		return ws.Route(documented(ws.GET("/"), handle, doc).Operation(operation).Returns(http.StatusOK, "OK", sample))
	}
	services := []*restful.WebService{
		describe("/api", "getCoreAPIVersions", "get available API versions", d.ServeRoot, metav1.APIVersions{}),
		describe("/apis", "getAPIVersions", "get available API versions", d.ServeRoot, metav1.APIGroupList{}),
	}
	for _, group := range d.groupList() {
		word, _, _ := strings.Cut(group.Name, ".")
		handle := func(w http.ResponseWriter, r *http.Request) { d.ServeGroup(w, r, group.Name) }
		services = append(services, describe("/apis/"+group.Name, "get"+title(word)+"APIGroup", "get information of a group", handle, metav1.APIGroup{}))
	}
	return services
}

// resources lists the group version's resources and their subresources.
func (g *APIGroupVersion) resources() []metav1.APIResource {
	list := []metav1.APIResource{}
	for _, s := range g.Scopes {
		r := s.Resource
		main := metav1.APIResource{
			Name: r.Name, SingularName: r.Singular, Namespaced: !r.ClusterScoped, Kind: r.Kind.Kind,
			Verbs: s.verbs(), ShortNames: r.ShortNames, Categories: r.Categories,
		}
		if r.Answer == nil && s.Store.Computed == nil {
			main.StorageVersionHash = storageVersionHash(s.Store.Resource)
		}
		list = append(list, main)
		for _, sub := range s.subscopes() {
			entry := metav1.APIResource{
				Name: r.Name + "/" + sub.Subresource, Namespaced: !r.ClusterScoped, Kind: sub.kind().Kind, Verbs: sub.verbs(),
			}
			if kind := sub.kind(); kind.GroupVersion() != g.GroupVersion {
				entry.Group, entry.Version = kind.Group, kind.Version
			}
			list = append(list, entry)
		}
	}
	slices.SortStableFunc(list, func(a, b metav1.APIResource) int { return strings.Compare(a.Name, b.Name) })
	return list
}

var mainVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// verbs are what this endpoint serves, in upstream's words and order.
func (s *Scope) verbs() []string {
	switch {
	case s.Sub == nil && s.Resource.Answer != nil:
		return []string{"create"}
	case s.Sub == nil:
		return slices.DeleteFunc(slices.Clone(mainVerbs), func(verb string) bool { return !s.serves(verb) })
	}
	var verbs []string
	add := func(yes bool, names ...string) {
		for _, name := range names {
			if yes && !slices.Contains(verbs, name) {
				verbs = append(verbs, name)
			}
		}
	}
	add(s.Sub.Create != nil, "create")
	add(s.Sub.View != nil || s.Sub.Get != nil, "get")
	add(s.Sub.View != nil || s.Sub.Update != nil, "patch", "update")
	if s.Sub.Connect != nil {
		methods := s.Sub.ConnectMethods
		if methods == nil {
			methods = defaultConnectMethods
		}
		for _, method := range methods {
			add(true, connectVerbs[method])
		}
	}
	slices.Sort(verbs)
	return slices.DeleteFunc(verbs, func(verb string) bool { return !s.serves(verb) })
}

// serves says that this endpoint has not opted out of verb.
func (s *Scope) serves(verb string) bool {
	if s.Sub != nil {
		return !slices.Contains(s.Sub.Without, verb)
	}
	return !slices.Contains(s.Resource.Without, verb)
}

var connectVerbs = map[string]string{
	http.MethodGet: "get", http.MethodHead: "get", http.MethodPost: "create", http.MethodPut: "update",
	http.MethodPatch: "patch", http.MethodDelete: "delete", http.MethodOptions: "get",
}

// storageVersionHash changes when a resource is stored as another version: storage migrators watch it.
func storageVersionHash(r *registry.Resource) string {
	sum := sha256.Sum256([]byte(r.Kind.Group + "/" + r.Kind.Version + "/" + r.Kind.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}

// wantsAggregated says whether the client asks for one document of everything, and in which form.
func wantsAggregated(r *http.Request) (form, bool) {
	for _, clause := range parseAccept(strings.Join(r.Header.Values("Accept"), ",")) {
		media := mediaOf(clause.media, false)
		if media == "" {
			continue
		}
		if clause.params["as"] == "" {
			return form{}, false // the plain document is preferred
		}
		if clause.params["as"] == "APIGroupDiscoveryList" && clause.params["g"] == "apidiscovery.k8s.io" && clause.params["v"] == "v2" {
			return form{media: media}, true
		}
	}
	return form{}, false
}

func (d *Discovery) serveAggregated(w http.ResponseWriter, r *http.Request, f form, root string) {
	doc, err := d.aggregated(root)
	if err != nil {
		WriteError(w, r, err)
		return
	}
	w.Header().Set("Vary", "Accept")
	w.Header().Set("Cache-Control", "public")
	if NotModified(w, r, doc.etag) {
		return
	}
	kind := schema.GroupVersionKind{Group: "apidiscovery.k8s.io", Version: "v2", Kind: "APIGroupDiscoveryList"}
	data, err := appendAny(nil, doc.object.DeepCopy(), kind, f)
	if err == nil {
		body := newBody(w, r, f.media+";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", http.StatusOK)
		body.Write(data)
		body.Close()
		return
	}
	WriteError(w, r, err)
}

// NotModified names an answer by etag, and answers 304 to who has that one already (RFC 9110, If-None-Match).
func NotModified(w http.ResponseWriter, r *http.Request, etag string) bool {
	w.Header().Set("ETag", etag)
	for _, known := range strings.Split(strings.Join(r.Header.Values("If-None-Match"), ","), ",") {
		if known = strings.TrimPrefix(strings.TrimSpace(known), "W/"); known == etag || known == "*" {
			w.Header().Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}

// aggregated makes a document once, until the groups change.
func (d *Discovery) aggregated(root string) (*document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if doc := d.cached[root]; doc != nil {
		return doc, nil
	}
	list := &apidiscoveryv2.APIGroupDiscoveryList{Items: []apidiscoveryv2.APIGroupDiscovery{}}
	for _, g := range d.groups {
		if (g.GroupVersion.Group == "") != (root == "api") {
			continue
		}
		name := g.GroupVersion.Group
		at := slices.IndexFunc(list.Items, func(x apidiscoveryv2.APIGroupDiscovery) bool { return x.Name == name })
		if at < 0 {
			list.Items = append(list.Items, apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: name}})
			at = len(list.Items) - 1
		}
		list.Items[at].Versions = append(list.Items[at].Versions, g.aggregated())
	}
	data, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	sum := sha512.Sum512(data)
	doc := &document{object: list, etag: fmt.Sprintf("\"%X\"", sum)}
	if d.cached == nil {
		d.cached = map[string]*document{}
	}
	d.cached[root] = doc
	return doc, nil
}

func (g *APIGroupVersion) aggregated() apidiscoveryv2.APIVersionDiscovery {
	version := apidiscoveryv2.APIVersionDiscovery{Version: g.GroupVersion.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
	for _, s := range g.Scopes {
		r := s.Resource
		scope := apidiscoveryv2.ScopeNamespace
		if r.ClusterScoped {
			scope = apidiscoveryv2.ScopeCluster
		}
		entry := apidiscoveryv2.APIResourceDiscovery{
			Resource: r.Name, SingularResource: r.Singular, Scope: scope, Verbs: s.verbs(), ShortNames: r.ShortNames,
			Categories: r.Categories, ResponseKind: g.responseKind(r.Kind),
		}
		for _, sub := range s.subscopes() {
			entry.Subresources = append(entry.Subresources, apidiscoveryv2.APISubresourceDiscovery{
				Subresource: sub.Subresource, ResponseKind: g.responseKind(sub.kind()), Verbs: sub.verbs(),
			})
		}
		slices.SortFunc(entry.Subresources, func(a, b apidiscoveryv2.APISubresourceDiscovery) int {
			return strings.Compare(a.Subresource, b.Subresource)
		})
		version.Resources = append(version.Resources, entry)
	}
	slices.SortStableFunc(version.Resources, func(a, b apidiscoveryv2.APIResourceDiscovery) int { return strings.Compare(a.Resource, b.Resource) })
	return version
}

// responseKind is a kind as this document names it: those of its own group version go without one.
func (g *APIGroupVersion) responseKind(kind schema.GroupVersionKind) *metav1.GroupVersionKind {
	if kind.GroupVersion() == g.GroupVersion {
		kind = schema.GroupVersionKind{Kind: kind.Kind}
	}
	return &metav1.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind}
}
