package endpoints

import (
	"net/http"
	"strings"

	"github.com/emicklei/go-restful/v3"
)

// Router finds the route of a request by walking its path, a segment a step. go-restful's own
// CurlyRouter compares the path with every route of the group version: for core/v1 that costs
// more than to read an object from the cache.
//
// It decides only what is plain: one route of this path, whose method it is, and which takes and
// gives JSON or protobuf as nearly every client asks for. All else, refusals too, is CurlyRouter's.
type Router struct {
	restful.CurlyRouter
	root *segment
}

// segment is where one has come to on a path.
type segment struct {
	fixed  map[string]*segment
	param  *segment          // {name}, {namespace}
	routes map[string]*found // by method
}

type found struct {
	service *restful.WebService
	route   *restful.Route
}

// NewRouter makes the router of services, which may not change afterwards.
func NewRouter(services []*restful.WebService) *Router {
	router := &Router{root: &segment{}}
	for _, service := range services {
		routes := service.Routes()
		for i := range routes {
			router.add(service, &routes[i])
		}
	}
	return router
}

func (r *Router) add(service *restful.WebService, route *restful.Route) {
	at := r.root
	for _, part := range strings.Split(strings.Trim(route.Path, "/"), "/") {
		if strings.Contains(part, ":") {
			return // {path:*} takes any number of segments
		}
		at = at.step(part)
	}
	if at.routes == nil {
		at.routes = map[string]*found{}
	}
	if _, twice := at.routes[route.Method]; twice {
		at.routes[route.Method] = nil // which of them is meant is not ours to say
		return
	}
	at.routes[route.Method] = &found{service, route}
}

func (s *segment) step(part string) *segment {
	if strings.HasPrefix(part, "{") {
		if s.param == nil {
			s.param = &segment{}
		}
		return s.param
	}
	if s.fixed == nil {
		s.fixed = map[string]*segment{}
	}
	if s.fixed[part] == nil {
		s.fixed[part] = &segment{}
	}
	return s.fixed[part]
}

// SelectRoute implements restful.RouteSelector.
func (r *Router) SelectRoute(services []*restful.WebService, request *http.Request) (*restful.WebService, *restful.Route, error) {
	if f := r.root.find(strings.Trim(request.URL.Path, "/"), request.Method); f != nil && plain(request) {
		return f.service, f.route, nil
	}
	return r.CurlyRouter.SelectRoute(services, request)
}

// find walks down path; where a fixed segment leads nowhere, the parameter beside it may.
func (s *segment) find(path, method string) *found {
	if path == "" {
		return s.routes[method]
	}
	part, rest, _ := strings.Cut(path, "/")
	if part == "" {
		return nil
	}
	if next := s.fixed[part]; next != nil {
		if f := next.find(rest, method); f != nil {
			return f
		}
	}
	if s.param == nil {
		return nil
	}
	return s.param.find(rest, method)
}

// plain says that no route of ours can refuse the media types of a request.
func plain(r *http.Request) bool {
	if r.Method == http.MethodPatch {
		return false // the routes differ in what they consume
	}
	accept, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	accept, _, _ = strings.Cut(accept, ";")
	switch strings.TrimSpace(accept) {
	case "", "*/*", mediaJSON, mediaProtobuf:
		return true
	}
	return false
}

// ExtractParameters implements restful.PathProcessor: our functions take names from request.Info.
func (r *Router) ExtractParameters(*restful.Route, *restful.WebService, string) map[string]string {
	return nil
}
