package endpoints

import (
	"slices"
	"strings"

	"github.com/emicklei/go-restful/v3"
)

// Route is one line of the API as go-restful knows it, and the function that answers it (R95).
type Route struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Operation string `json:"operation,omitempty"`
	// Handler is "FILE:LINE FUNCTION".
	Handler string `json:"handler"`
}

// Routes lists what services answer, by path and method.
func Routes(services []*restful.WebService) []Route {
	var routes []Route
	for _, service := range services {
		for _, r := range service.Routes() {
			handler, _ := r.Metadata[handlerKey].(string)
			routes = append(routes, Route{Method: r.Method, Path: r.Path, Operation: r.Operation, Handler: handler})
		}
	}
	slices.SortFunc(routes, func(a, b Route) int {
		if n := strings.Compare(a.Path, b.Path); n != 0 {
			return n
		}
		return strings.Compare(a.Method, b.Method)
	})
	return routes
}
