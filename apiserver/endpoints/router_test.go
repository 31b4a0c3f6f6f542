package endpoints

import (
	"net/http/httptest"
	"testing"

	"github.com/emicklei/go-restful/v3"
)

func routerServices() []*restful.WebService {
	ignore := func(*restful.Request, *restful.Response) {}
	core := new(restful.WebService).Path("/api/v1").Consumes("*/*").Produces(mediaJSON, mediaYAML, mediaProtobuf)
	for _, path := range []string{"/pods", "/namespaces/{namespace}/pods", "/namespaces", "/namespaces/{name}", "/namespaces/{name}/status",
		"/namespaces/{namespace}/pods/{name}", "/namespaces/{namespace}/pods/{name}/log"} {
		core.Route(core.GET(path).To(ignore))
	}
	core.Route(core.POST("/namespaces/{namespace}/pods").To(ignore))
	core.Route(core.PATCH("/namespaces/{namespace}/pods/{name}").Consumes("application/merge-patch+json").To(ignore))
	core.Route(core.GET("/namespaces/{namespace}/pods/{name}/proxy/{path:*}").Produces("*/*").To(ignore))
	apps := new(restful.WebService).Path("/apis/apps/v1").Consumes("*/*").Produces(mediaJSON, mediaYAML, mediaProtobuf)
	apps.Route(apps.GET("/namespaces/{namespace}/deployments").To(ignore))
	return []*restful.WebService{core, apps}
}

// Router is a faster CurlyRouter: it takes the same route, or refuses in the same way.
func TestRouterSelectsAsCurlyRouter(t *testing.T) {
	services := routerServices()
	router := NewRouter(services)
	for _, method := range []string{"GET", "POST", "PATCH", "DELETE"} {
		for _, path := range []string{"/api/v1/pods", "/api/v1/pods/", "/api/v1/namespaces/a/pods", "/api/v1/namespaces", "/api/v1/namespaces/a",
			"/api/v1/namespaces/status/status", "/api/v1/namespaces/pods/pods/pods", "/api/v1/namespaces/a/pods/b/log", "/api/v1/namespaces/a/pods/b/exec",
			"/api/v1/namespaces/a/pods/b/proxy/c/d", "/api/v1//pods", "/api/v1/nothing", "/apis/apps/v1/namespaces/a/deployments", "/apis/none/v1/x"} {
			for _, accept := range []string{"", "*/*", mediaJSON + ";as=Table;v=v1;g=meta.k8s.io," + mediaJSON, mediaProtobuf + "," + mediaJSON, mediaYAML, "text/html"} {
				for _, contentType := range []string{"", mediaJSON, "application/merge-patch+json"} {
					r := httptest.NewRequest(method, path, nil)
					r.Header.Set("Accept", accept)
					r.Header.Set("Content-Type", contentType)
					wantService, wantRoute, wantErr := restful.CurlyRouter{}.SelectRoute(services, r)
					service, route, err := router.SelectRoute(services, r)
					if (wantErr == nil) != (err == nil) || wantErr != nil && wantErr.Error() != err.Error() {
						t.Fatalf("%s %s %q: %v, want %v", method, path, accept, err, wantErr)
					}
					if err == nil && (service != wantService || route.Path != wantRoute.Path || route.Method != wantRoute.Method) {
						t.Fatalf("%s %s: %s %s, want %s %s", method, path, route.Method, route.Path, wantRoute.Method, wantRoute.Path)
					}
				}
			}
		}
	}
	if f := router.root.find("api/v1/namespaces/a/pods/b", "GET"); f == nil {
		t.Error("it finds nothing itself")
	}
}
