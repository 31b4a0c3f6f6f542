package integration

import (
	"context"
	"encoding/json"
	"testing"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/openapi"
)

// /openapi/v2 and /openapi/v3 describe every group version (S0-26, S2-12), in JSON and in protobuf.
func TestOpenAPI(t *testing.T) {
	c := Start(t)
	client := discovery.NewDiscoveryClientForConfigOrDie(c.Config)
	v2, err := client.OpenAPISchema() // asks for protobuf
	if err != nil || len(v2.GetDefinitions().GetAdditionalProperties()) < 200 {
		t.Fatalf("v2: %d definitions, %v", len(v2.GetDefinitions().GetAdditionalProperties()), err)
	}
	paths, err := client.OpenAPIV3().Paths()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"api/v1", "apis/apps/v1", "apis/rbac.authorization.k8s.io/v1"} {
		group, ok := paths[path]
		if !ok {
			t.Errorf("v3: no %s", path)
			continue
		}
		for _, media := range []string{openapi.ContentTypeOpenAPIV3PB, "application/json"} {
			if data, err := group.Schema(media); err != nil || len(data) < 1000 {
				t.Errorf("v3: %s as %s: %d bytes, %v", path, media, len(data), err)
			}
		}
	}
	data, err := c.Client.CoreV1().RESTClient().Get().AbsPath("/openapi/v3/api/v1").DoRaw(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	get, _ := document.Paths["/api/v1/namespaces/{namespace}/pods/{name}"]["get"].(map[string]any)
	if get["operationId"] != "readCoreV1NamespacedPod" || get["x-kubernetes-action"] != "get" {
		t.Errorf("reading a pod: %v", get)
	}
}
