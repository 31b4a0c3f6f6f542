package openapi

import (
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"

	"github.com/emicklei/go-restful/v3"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"hyperkube/apiserver/endpoints"
)

// Service serves /openapi/v2 and /openapi/v3, made of the routes of the API's web
// services.
//
// Invariants:
//   - No document is made before it is asked for; of a made one only its bytes are kept.
//   - A document's hash is known without making it: the documents are a function of the binary
//     (definitions, version) and of the routes.
type Service struct {
	services  []*restful.WebService
	info      *spec.Info
	documents map[string]*document // by path: "/openapi/v2", "/openapi/v3/apis/apps/v1"
}

// New describes services; version is the server's.
func New(services []*restful.WebService, version string) (*Service, error) {
	s := &Service{
		services: services, documents: map[string]*document{},
		info: &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: version}},
	}
	s.documents["/openapi/v2"] = &document{
		hash: hashOf(version, services...), protobuf: "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
		json:  func() ([]byte, error) { return marshal(s.buildV2()) },
		proto: handler.ToProtoBinary,
	}
	paths := map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}
	for _, service := range services {
		d := &document{
			hash: hashOf(version, service), hashed: true, protobuf: "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
			json:  func() ([]byte, error) { return marshal(s.buildV3(service)) },
			proto: handler3.ToV3ProtoBinary,
		}
		s.documents["/openapi/v3"+service.RootPath()] = d
		// The document of a group version is named by its path: "api/v1", "apis/apps/v1".
		paths[strings.TrimPrefix(service.RootPath(), "/")] = handler3.OpenAPIV3DiscoveryGroupVersion{
			ServerRelativeURL: "/openapi/v3" + service.RootPath() + "?hash=" + d.hash,
		}
	}
	index, err := json.Marshal(handler3.OpenAPIV3Discovery{Paths: paths})
	s.documents["/openapi/v3"] = &document{hash: fmt.Sprintf("%X", sha512.Sum512(index)), json: func() ([]byte, error) { return index, nil }}
	return s, err
}

// ServeHTTP answers /openapi/v2, /openapi/v3 and what is below.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if !strings.HasPrefix(path, "/openapi/v3") {
		path = strings.TrimSuffix(path, "/")
	}
	switch d := s.documents[path]; {
	case d != nil:
		d.ServeHTTP(w, r)
	case strings.HasPrefix(path, "/openapi/v3/"):
		w.WriteHeader(http.StatusNotFound) // of what there is not, upstream's says no more than that
	default:
		endpoints.NotFound(w, r)
	}
}

func (s *Service) buildV2() (*spec.Swagger, error) {
	definitions, err := withDependencies("#/definitions/")
	if err != nil {
		return nil, err
	}
	for model, definition := range definitions {
		withoutDefaults(&definition.Schema) // version 2 of the document never had them
		definitions[model] = definition
	}
	for model, simple := range v2Types {
		definition := definitions[model]
		definition.Schema.OneOf = nil
		definition.Schema.Type = simple
		definitions[model] = definition
	}
	return builder.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(s.services), &common.Config{
		ProtocolList: []string{"https"}, Info: s.info,
		GetDefinitions:                 func(common.ReferenceCallback) map[string]common.OpenAPIDefinition { return definitions },
		SecurityDefinitions:            &spec.SecurityDefinitions{"BearerToken": &spec.SecurityScheme{SecuritySchemeProps: bearerToken}},
		DefaultSecurity:                []map[string][]string{{"BearerToken": {}}},
		CommonResponses:                map[int]spec.Response{http.StatusUnauthorized: {ResponseProps: spec.ResponseProps{Description: "Unauthorized"}}},
		GetOperationIDAndTagsFromRoute: operation, GetDefinitionName: sameName,
	})
}

func withoutDefaults(schema *spec.Schema) {
	schema.Default = nil
	for name, property := range schema.Properties {
		withoutDefaults(&property)
		schema.Properties[name] = property
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		withoutDefaults(schema.Items.Schema)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		withoutDefaults(schema.AdditionalProperties.Schema)
	}
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
		SecuritySchemes:                spec3.SecuritySchemes{"BearerToken": {SecuritySchemeProps: spec3.SecuritySchemeProps{Type: bearerToken.Type, Description: bearerToken.Description, Name: bearerToken.Name, In: bearerToken.In}}},
		CommonResponses:                map[int]*spec3.Response{http.StatusUnauthorized: {ResponseProps: spec3.ResponseProps{Description: "Unauthorized"}}},
		GetOperationIDAndTagsFromRoute: operation, GetDefinitionName: sameName,
	})
}

func sameName(name string) (string, spec.Extensions) { return name, nil }

// bearerToken is how clients that are made from the documents say who they are.
var bearerToken = spec.SecuritySchemeProps{Description: "Bearer Token authentication", Type: "apiKey", Name: "authorization", In: "header"}

// operation returns a route's id and its tag: "apps_v1", "apps" of what tells of a group, "version" of /version.
func operation(route common.Route) (string, []string, error) {
	parts := strings.Split(strings.Trim(route.Path(), "/"), "/")
	switch {
	case len(parts) >= 2 && parts[0] == "api":
		return route.OperationName(), []string{"core_" + parts[1]}, nil
	case parts[0] == "api":
		return route.OperationName(), []string{"core"}, nil
	case len(parts) >= 2 && parts[0] == "apis":
		tag := endpoints.GroupWord(parts[1])
		if len(parts) > 2 {
			tag += "_" + parts[2]
		}
		return route.OperationName(), []string{tag}, nil
	case parts[0] == ".well-known":
		return route.OperationName(), []string{"WellKnown"}, nil
	}
	return route.OperationName(), []string{parts[0]}, nil
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
