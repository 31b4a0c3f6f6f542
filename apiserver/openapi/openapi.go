package openapi

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"

	"github.com/emicklei/go-restful/v3"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/cached"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Service serves /openapi/v2 and /openapi/v3, made of the routes of the API's web
// services. Nothing is made before it is asked for.
type Service struct {
	services []*restful.WebService
	info     *spec.Info
	v2       *handler.OpenAPIService
	v3       *handler3.OpenAPIService
}

// New describes services; version is the server's.
func New(services []*restful.WebService, version string) *Service {
	s := &Service{
		services: services, v3: handler3.NewOpenAPIService(),
		info: &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: version}},
	}
	s.v2 = handler.NewOpenAPIServiceLazy(cached.Once(cached.Func(func() (*spec.Swagger, string, error) {
		document, err := s.buildV2()
		return document, "", err
	})))
	for _, service := range services {
		// The document of a group version is named by its path: "api/v1", "apis/apps/v1".
		s.v3.UpdateGroupVersionLazy(strings.TrimPrefix(service.RootPath(), "/"), cached.Once(cached.Func(func() (*spec3.OpenAPI, string, error) {
			document, err := s.buildV3(service)
			return document, "", err
		})))
	}
	return s
}

// Install binds the handlers.
func (s *Service) Install(paths common.PathHandlerByGroupVersion) error {
	s.v2.RegisterOpenAPIVersionedService("/openapi/v2", paths)
	return s.v3.RegisterOpenAPIV3VersionedService("/openapi/v3", paths)
}

func (s *Service) buildV2() (*spec.Swagger, error) {
	definitions, err := withDependencies("#/definitions/")
	if err != nil {
		return nil, err
	}
	for model, simple := range v2Types {
		definition := definitions[model]
		definition.Schema.OneOf = nil
		definition.Schema.Type = simple
		definitions[model] = definition
	}
	return builder.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(s.services), &common.Config{
		ProtocolList: []string{"https"}, Info: s.info, Definitions: definitions,
		CommonResponses:                map[int]spec.Response{http.StatusUnauthorized: {ResponseProps: spec.ResponseProps{Description: "Unauthorized"}}},
		GetOperationIDAndTagsFromRoute: operation, GetDefinitionName: sameName,
	})
}

// v2Types are the types of which version 2 cannot say "one of": it calls them strings.
var v2Types = map[string]spec.StringOrArray{
	"io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"string"},
	"io.k8s.apimachinery.pkg.api.resource.Quantity":   {"string"},
}

func (s *Service) buildV3(service *restful.WebService) (*spec3.OpenAPI, error) {
	definitions, err := withDependencies("#/components/schemas/")
	if err != nil {
		return nil, err
	}
	return builder3.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices([]*restful.WebService{service}), &common.OpenAPIV3Config{
		Info: s.info, Definitions: definitions,
		CommonResponses:                map[int]*spec3.Response{http.StatusUnauthorized: {ResponseProps: spec3.ResponseProps{Description: "Unauthorized"}}},
		GetOperationIDAndTagsFromRoute: operation, GetDefinitionName: sameName,
	})
}

func sameName(name string) (string, spec.Extensions) { return name, nil }

// operation returns a route's id and its tag, "apps_v1".
func operation(route common.Route) (string, []string, error) {
	parts := strings.Split(strings.Trim(route.Path(), "/"), "/")
	switch {
	case len(parts) >= 2 && parts[0] == "api":
		return route.OperationName(), []string{"core_" + parts[1]}, nil
	case len(parts) >= 3 && parts[0] == "apis":
		group, _, _ := strings.Cut(parts[1], ".")
		return route.OperationName(), []string{group + "_" + parts[2]}, nil
	}
	return "", nil, fmt.Errorf("route %s is of no API group", route.Path())
}

var reference = regexp.MustCompile(`"\$ref":"#/definitions/([^"]+)"`)

// withDependencies are the definitions with references as a version of OpenAPI writes them, and with what each refers to: a
// document has only those that its routes lead to.
func withDependencies(prefix string) (map[string]common.OpenAPIDefinition, error) {
	raw, err := unpack()
	if err != nil {
		return nil, err
	}
	kinds := kindsOf()
	definitions := map[string]common.OpenAPIDefinition{}
	for name, data := range raw {
		found := map[string]bool{}
		for _, match := range reference.FindAllSubmatch(data, -1) {
			found[string(match[1])] = true
		}
		text := reference.ReplaceAll(data, []byte(`"$$ref":"`+prefix+`$1"`))
		var definition common.OpenAPIDefinition
		if err := definition.Schema.UnmarshalJSON(text); err != nil {
			return nil, fmt.Errorf("definition of %s: %w", name, err)
		}
		if of := kinds[name]; of != nil {
			definition.Schema.AddExtension(gvkExtension, of)
		}
		for dependency := range maps.Keys(found) {
			definition.Dependencies = append(definition.Dependencies, dependency)
		}
		definitions[name] = definition
	}
	return definitions, nil
}
