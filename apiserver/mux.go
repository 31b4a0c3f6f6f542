package apiserver

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/emicklei/go-restful/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"hyperkube/apiserver/endpoints"
	"hyperkube/apiserver/flowapi"
	"hyperkube/apiserver/flowcontrol"
	"hyperkube/apiserver/openapi"
	"hyperkube/component"
)

// mux sends a request to the discovery document, the resource or the plain path that its URL names.
type mux struct {
	paths     map[string]http.Handler
	prefixes  map[string]http.Handler
	discovery *endpoints.Discovery
	resources *restful.Container
}

// buildMux binds every path the server answers.
func (s *Server) buildMux() (http.Handler, error) {
	m := &mux{paths: map[string]http.Handler{}, prefixes: map[string]http.Handler{}, discovery: endpoints.NewDiscovery(s.groups)}
	m.resources = restful.NewContainer()
	m.resources.ServiceErrorHandler(func(err restful.ServiceError, r *restful.Request, w *restful.Response) {
		endpoints.ServiceError(err, w.ResponseWriter, r.Request)
	})
	for _, group := range s.groups {
		m.resources.Add(group.Install())
	}
	m.resources.Router(endpoints.NewRouter(m.resources.RegisteredWebServices()))
	for _, name := range []string{"/healthz", "/livez", "/readyz"} {
		m.paths[name] = http.HandlerFunc(s.serveHealth)
		m.prefixes[name+"/"] = http.HandlerFunc(s.serveHealthCheck)
	}
	m.paths["/version"], m.paths["/version/"] = endpoints.GetOnly(serveVersion), endpoints.GetOnly(serveVersion)
	m.addProfiles()
	m.paths["/statusz"] = s.statusz([]string{"/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version"})
	m.paths["/flagz"] = s.flagz()
	if gatherer, ok := s.config.Metrics.(prometheus.Gatherer); ok {
		m.paths["/metrics"] = promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{})
		m.paths["/metrics/slis"] = promhttp.HandlerFor(slis(gatherer), promhttp.HandlerOpts{})
	}
	if s.record != nil {
		m.prefixes["/debug/flow/"] = flowapi.Handler(s.record, &flowapi.Access{Authorizer: s.env.Authorizer, Resource: s.resourceOf})
	}
	m.prefixes[flowcontrol.DebugPath] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.flowcontrol.Debug(w, r) })
	for path, handler := range s.issuer.DiscoveryHandlers("https://" + s.jwksHost()) {
		m.paths[path] = endpoints.GetOnly(handler.ServeHTTP)
	}
	m.resources.Handle("/", http.HandlerFunc(m.serveUnknown)) // a version that no group has
	m.paths["/debug/routes"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, endpoints.Routes(m.resources.RegisteredWebServices()))
	})
	m.paths["/"], m.paths["/index.html"] = http.HandlerFunc(m.serveIndex), http.HandlerFunc(m.serveIndex)
	services := slices.Concat(m.resources.RegisteredWebServices(), m.discovery.Services(), describePlain())
	documents, err := openapi.New(services, component.Version().GitVersion)
	if err != nil {
		return nil, err
	}
	m.paths["/openapi/v2"], m.paths["/openapi/v3"], m.prefixes["/openapi/v3/"] = documents, documents, documents
	return m, nil
}

// describePlain describes for /openapi the paths beside the API of which clients are made.
func describePlain() []*restful.WebService {
	describe := func(path, operation, doc string, sample any) *restful.WebService {
		ws := new(restful.WebService).Path(path).Produces("application/json")
		return ws.Route(ws.GET("/").To(func(*restful.Request, *restful.Response) {}).Doc(doc).Operation(operation).Returns(http.StatusOK, "OK", sample))
	}
	return []*restful.WebService{
		describe("/version", "getCodeVersion", "get the version information for this server", version.Info{}),
		describe("/.well-known/openid-configuration", "getServiceAccountIssuerOpenIDConfiguration", "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'", ""),
		describe("/openid/v1/jwks", "getServiceAccountIssuerOpenIDKeyset", "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)", ""),
	}
}

// addProfiles binds what `go tool pprof` reads. Authorization lets in who may get these paths: administrators.
func (m *mux) addProfiles() {
	m.paths["/debug/pprof"] = http.RedirectHandler("/debug/pprof/", http.StatusFound)
	m.prefixes["/debug/pprof/"] = http.HandlerFunc(pprof.Index)
	m.paths["/debug/pprof/profile"] = http.HandlerFunc(pprof.Profile)
	m.paths["/debug/pprof/symbol"] = http.HandlerFunc(pprof.Symbol)
	m.paths["/debug/pprof/trace"] = http.HandlerFunc(pprof.Trace)
}

// resourceOf is the resource of a kind; without a group, the first that has such a kind, of core first.
func (s *Server) resourceOf(kind schema.GroupKind) (schema.GroupResource, bool) {
	for _, group := range s.groups {
		for _, scope := range group.Scopes {
			if served := scope.Resource.Kind.GroupKind(); served == kind || kind.Group == "" && served.Kind == kind.Kind {
				return schema.GroupResource{Group: served.Group, Resource: scope.Resource.Name}, true
			}
		}
	}
	return schema.GroupResource{}, false
}

// ServeHTTP picks the handler.
func (m *mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if handler, ok := m.paths[path]; ok {
		handler.ServeHTTP(w, r)
		return
	}
	for prefix, handler := range m.prefixes {
		if strings.HasPrefix(path, prefix) {
			handler.ServeHTTP(w, r)
			return
		}
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) <= 2, parts[0] == "apis" && len(parts) <= 3:
		if m.serveDiscovery(w, r, parts) {
			return
		}
		m.serveUnknown(w, r)
	case parts[0] == "api", parts[0] == "apis":
		m.resources.ServeHTTP(w, r)
	default:
		http.Error(w, "404 page not found", http.StatusNotFound)
	}
}

// serveUnknown answers what is below /api or /apis and nobody's: with a Status if the group at least is known.
func (m *mux) serveUnknown(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if parts[0] == "apis" && len(parts) > 1 && !m.discovery.HasGroup(parts[1]) {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	endpoints.NotFound(w, r)
}

// serveDiscovery answers /api, /api/v1, /apis, /apis/<group> and /apis/<group>/<version>.
func (m *mux) serveDiscovery(w http.ResponseWriter, r *http.Request, parts []string) bool {
	switch {
	case len(parts) == 1:
		m.discovery.ServeRoot(w, r)
		return true
	case parts[0] == "api":
		return m.discovery.ServeVersion(w, r, schema.GroupVersion{Version: parts[1]})
	case len(parts) == 2:
		return m.discovery.ServeGroup(w, r, parts[1])
	}
	return m.discovery.ServeVersion(w, r, schema.GroupVersion{Group: parts[1], Version: parts[2]})
}

// serveIndex answers / with the paths there are.
func (m *mux) serveIndex(w http.ResponseWriter, r *http.Request) {
	paths := []string{"/api", "/apis"}
	for path := range m.paths {
		if path != "/" && path != "/version/" && path != "/index.html" {
			paths = append(paths, path)
		}
	}
	for _, ws := range m.resources.RegisteredWebServices() {
		paths = append(paths, ws.RootPath())
	}
	for _, name := range m.discovery.GroupNames() {
		paths = append(paths, "/apis/"+name)
	}
	slices.Sort(paths)
	writeJSON(w, map[string][]string{"paths": paths})
}

func writeJSON(w http.ResponseWriter, value any) {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}

func serveVersion(w http.ResponseWriter, r *http.Request) { writeJSON(w, component.Version()) }
