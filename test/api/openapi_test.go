package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/openapi/openapitest"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubectl/pkg/explain/v2"

	"hyperkube/test/integration"
)

// openAPIDifferences are what upstream's documents said some releases ago (client-go carries those) and ours, of the types of
// v1.37, do not say: each with its reason.
var openAPIDifferences = map[string]string{
	"io.k8s.api.core.v1.ClaimSource":                                    "folded into PodResourceClaim in v1.31",
	"io.k8s.api.core.v1.PodResourceClaim source":                        "as above",
	"io.k8s.api.core.v1.PersistentVolumeClaimStatus resizeStatus":       "allocatedResourceStatuses since v1.28",
	"io.k8s.api.core.v1.PersistentVolumeClaimSpec resources":            "VolumeResourceRequirements since v1.29",
	"io.k8s.api.core.v1.ResourceRequirements claims":                    "a list by name since v1.27",
	"io.k8s.api.core.v1.PersistentVolumeClaimStatus allocatedResources": "a map of its own since v1.28",
	"io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement key": "its merge key was a mistake, gone in v1.27",
}

// What upstream publishes is published: each path and operation by its id, action, kind and parameters; each field with its type,
// format, list type, merge key and patch strategy. Upstream's documents are those that client-go embeds for its tests.
func TestOpenAPIIsUpstreams(t *testing.T) {
	cluster := integration.Start(t)
	theirs, err := openapitest.NewEmbeddedFileClient().Paths()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := cluster.Client.Discovery().OpenAPIV3().Paths()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"api/v1", "apis/apps/v1", "apis/batch/v1", "apis/discovery.k8s.io/v1"} {
		want, got := document(t, theirs[path]), document(t, ours[path])
		for route, item := range want.Paths.Paths {
			if got.Paths.Paths[route] == nil {
				t.Errorf("%s is not described", route)
				continue
			}
			comparePath(t, route, item, got.Paths.Paths[route])
		}
		for name, model := range want.Components.Schemas {
			if mine := got.Components.Schemas[name]; mine != nil {
				compareModel(t, name, model, mine)
			} else if openAPIDifferences[name] == "" {
				t.Errorf("%s: no model %s", path, name)
			}
		}
		if got.Components.SecuritySchemes["BearerToken"] == nil {
			t.Errorf("%s does not say how to authenticate", path)
		}
	}
	for _, path := range []string{"api", "apis", "apis/apps", "version", "openid/v1/jwks", ".well-known/openid-configuration"} {
		if ours[path] == nil {
			t.Errorf("/openapi/v3 has no %s", path)
		}
	}
}

func document(t *testing.T, of openapi.GroupVersion) *spec3.OpenAPI {
	t.Helper()
	if of == nil {
		t.Fatal("no such document")
	}
	data, err := of.Schema("application/json")
	if err != nil {
		t.Fatal(err)
	}
	doc := &spec3.OpenAPI{}
	if err := json.Unmarshal(data, doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func operations(item *spec3.Path) map[string]*spec3.Operation {
	all := map[string]*spec3.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete, "HEAD": item.Head, "OPTIONS": item.Options}
	for method, operation := range all {
		if operation == nil {
			delete(all, method)
		}
	}
	return all
}

func comparePath(t *testing.T, route string, want, got *spec3.Path) {
	t.Helper()
	mine := operations(got)
	for method, operation := range operations(want) {
		if mine[method] == nil {
			t.Errorf("%s %s is not described", method, route)
			continue
		}
		if w, g := tell(operation, want.Parameters), tell(mine[method], got.Parameters); !holdsAll(g, w) {
			t.Errorf("%s %s:\nours      %s\nupstream's %s", method, route, g, w)
		}
	}
	if len(mine) != len(operations(want)) {
		t.Errorf("%s has %d operations, upstream %d", route, len(mine), len(operations(want)))
	}
}

// tell is what of an operation a client can go by.
func tell(o *spec3.Operation, shared []*spec3.Parameter) []string {
	said := []string{"id " + o.OperationId}
	for _, key := range []string{"x-kubernetes-action", "x-kubernetes-group-version-kind"} {
		said = append(said, fmt.Sprint(key, " ", o.Extensions[key]))
	}
	for _, p := range slices.Concat(shared, o.Parameters) {
		said = append(said, fmt.Sprintf("%s %s %v required %v", p.In, p.Name, p.Schema.Type, p.Required))
	}
	for code, response := range o.Responses.StatusCodeResponses {
		for media, content := range response.Content {
			said = append(said, fmt.Sprintf("answers %d %s %v", code, media, references(content.Schema)))
		}
	}
	if o.RequestBody != nil {
		for media, content := range o.RequestBody.Content {
			said = append(said, fmt.Sprintf("takes %s %v", media, references(content.Schema)))
		}
	}
	slices.Sort(said)
	return said
}

func holdsAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(s string) bool { return !slices.Contains(have, s) })
}

// references is what a schema is: its type, or the model it refers to, be it alone or in an allOf (which a default needs beside).
func references(s *spec.Schema) string {
	switch {
	case s == nil:
		return ""
	case len(s.AllOf) == 1:
		return s.AllOf[0].Ref.String()
	case s.Ref.String() != "":
		return s.Ref.String()
	case s.Items != nil:
		return "list of " + references(s.Items.Schema)
	case s.AdditionalProperties != nil:
		return "map of " + references(s.AdditionalProperties.Schema)
	}
	return fmt.Sprint(s.Type, s.Format)
}

func compareModel(t *testing.T, name string, want, got *spec.Schema) {
	t.Helper()
	if got.Description == "" && want.Description != "" {
		t.Errorf("%s has no description", name)
	}
	for field, w := range want.Properties {
		if openAPIDifferences[name+" "+field] != "" {
			continue
		}
		g, there := got.Properties[field]
		if !there {
			t.Errorf("%s: no field %s", name, field)
			continue
		}
		if references(&w) != references(&g) {
			t.Errorf("%s %s: %s, upstream has %s", name, field, references(&g), references(&w))
		}
		if g.Description == "" && w.Description != "" {
			t.Errorf("%s %s has no description", name, field)
		}
		for key, value := range w.Extensions {
			if fmt.Sprint(g.Extensions[key]) != fmt.Sprint(value) {
				t.Errorf("%s %s: %s is %v, upstream has %v", name, field, key, g.Extensions[key], value)
			}
		}
		for _, value := range w.Enum {
			if !slices.Contains(g.Enum, value) {
				t.Errorf("%s %s: %v is not among %v", name, field, value, g.Enum)
			}
		}
	}
}

// Facts about v1.37's documents that those of client-go are too old for: enums, defaults and what is required.
func TestOpenAPISaysWhatIsAllowed(t *testing.T) {
	cluster := integration.Start(t)
	paths, err := cluster.Client.Discovery().OpenAPIV3().Paths()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ path, model, field, want string }{
		{"api/v1", "io.k8s.api.core.v1.Container", "imagePullPolicy", "enum [Always IfNotPresent Never]"},
		{"api/v1", "io.k8s.api.core.v1.ContainerPort", "protocol", "default TCP enum [SCTP TCP UDP]"},
		{"api/v1", "io.k8s.api.core.v1.PodSpec", "restartPolicy", "enum [Always Never OnFailure]"},
		{"api/v1", "io.k8s.api.core.v1.Pod", "metadata", "default map[]"},
		{"api/v1", "io.k8s.api.core.v1.Service", "spec", "default map[]"},
		{"api/v1", "io.k8s.api.core.v1.ServiceSpec", "ports", "x-kubernetes-list-map-keys [port protocol] x-kubernetes-list-type map x-kubernetes-patch-merge-key port x-kubernetes-patch-strategy merge"},
		{"api/v1", "io.k8s.api.core.v1.PodSpec", "tolerations", "x-kubernetes-list-type atomic"},
		{"api/v1", "io.k8s.api.core.v1.PodSpec", "topologySpreadConstraints", "x-kubernetes-list-map-keys [topologyKey whenUnsatisfiable] x-kubernetes-list-type map x-kubernetes-patch-merge-key topologyKey x-kubernetes-patch-strategy merge"},
		{"api/v1", "io.k8s.api.core.v1.PodSpec", "nodeSelector", "x-kubernetes-map-type atomic"},
		{"api/v1", "io.k8s.api.core.v1.ObjectReference", "", "x-kubernetes-map-type atomic"},
		{"apis/apps/v1", "io.k8s.api.apps.v1.DeploymentStrategy", "type", "enum [Recreate RollingUpdate]"},
		{"apis/apps/v1", "io.k8s.api.apps.v1.DeploymentSpec", "", "required [selector template]"},
		{"apis/networking.k8s.io/v1", "io.k8s.api.networking.v1.NetworkPolicySpec", "policyTypes", "x-kubernetes-list-type atomic"},
		{"apis/resource.k8s.io/v1", "io.k8s.api.resource.v1.ResourceSlice", "spec", "default map[]"},
	} {
		model := document(t, paths[test.path]).Components.Schemas[test.model]
		if model == nil {
			t.Errorf("%s has no %s", test.path, test.model)
			continue
		}
		s := *model
		if test.field != "" {
			s = model.Properties[test.field]
		}
		if got := rules(&s); got != test.want {
			t.Errorf("%s %s: %q, want %q", test.model, test.field, got, test.want)
		}
	}
}

func rules(s *spec.Schema) string {
	var said []string
	if s.Default != nil {
		said = append(said, fmt.Sprint("default ", s.Default))
	}
	if len(s.Enum) > 0 {
		said = append(said, fmt.Sprint("enum ", s.Enum))
	}
	if len(s.Required) > 0 {
		said = append(said, fmt.Sprint("required ", s.Required))
	}
	keys := []string{}
	for key := range s.Extensions {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if key != "x-kubernetes-group-version-kind" && key != "x-kubernetes-unions" {
			said = append(said, fmt.Sprint(key, " ", s.Extensions[key]))
		}
	}
	return strings.Join(said, " ")
}

// `kubectl explain` describes every served kind, and each of its fields by a type (kubectl's own code, on our documents).
func TestExplainKnowsEveryKind(t *testing.T) {
	cluster := integration.Start(t)
	client := &openapiCache{Client: cluster.Client.Discovery().OpenAPIV3()}
	_, lists, err := cluster.Client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	explained := 0
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			if !strings.Contains(r.Name, "/") {
				explain(t, client, gv.WithResource(r.Name), r)
				explained++
			}
		}
	}
	if explained < 65 {
		t.Errorf("only %d kinds were explained", explained)
	}
}

func explain(t *testing.T, client openapi.Client, resource schema.GroupVersionResource, r metav1.APIResource) {
	t.Helper()
	var out bytes.Buffer
	if err := v2.PrintModelDescription(nil, &out, client, resource, true, 0, "plaintext"); err != nil {
		t.Errorf("%s: %v", resource, err)
		return
	}
	_, fields, found := strings.Cut(out.String(), "FIELDS:\n")
	if !found || !strings.Contains(out.String(), "KIND:       "+r.Kind+"\n") || strings.Contains(out.String(), "DESCRIPTION:\n    <empty>") {
		t.Errorf("%s: %.300s", resource, out.String())
	}
	for _, line := range strings.Split(strings.TrimSpace(fields), "\n") {
		if line != "" && !strings.HasPrefix(strings.TrimSpace(line), "enum:") && !strings.Contains(line, "\t<") {
			t.Errorf("%s: a field without a type: %q", resource, line)
		}
	}
}

// openapiCache asks for each document once.
type openapiCache struct {
	openapi.Client
	paths map[string]openapi.GroupVersion
}

func (c *openapiCache) Paths() (map[string]openapi.GroupVersion, error) {
	if c.paths != nil {
		return c.paths, nil
	}
	paths, err := c.Client.Paths()
	c.paths = map[string]openapi.GroupVersion{}
	for path, of := range paths {
		c.paths[path] = &cachedDocument{GroupVersion: of}
	}
	return c.paths, err
}

type cachedDocument struct {
	openapi.GroupVersion
	data []byte
}

func (d *cachedDocument) Schema(media string) (data []byte, err error) {
	if d.data == nil {
		d.data, err = d.GroupVersion.Schema(media)
	}
	return d.data, err
}
