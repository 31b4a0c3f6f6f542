package request

import (
	"net/http/httptest"
	"testing"
)

// What a request asks for is read from method and path alone, as the authorizer must see it.
func TestNewInfo(t *testing.T) {
	for _, test := range []struct {
		method, url                                         string
		verb, group, namespace, resource, subresource, name string
		isResource                                          bool
	}{
		{"GET", "/api/v1/pods", "list", "", "", "pods", "", "", true},
		{"GET", "/api/v1/pods?watch=1", "watch", "", "", "pods", "", "", true},
		{"GET", "/api/v1/pods?watch=false", "list", "", "", "pods", "", "", true},
		{"GET", "/api/v1/pods?fieldSelector=metadata.name=x", "list", "", "", "pods", "", "x", true},
		{"GET", "/api/v1/namespaces/a/pods/b", "get", "", "a", "pods", "", "b", true},
		{"GET", "/api/v1/namespaces/a/pods/b/log", "get", "", "a", "pods", "log", "b", true},
		{"POST", "/api/v1/namespaces/a/pods/b/exec", "create", "", "a", "pods", "exec", "b", true},
		{"GET", "/api/v1/namespaces/a", "get", "", "a", "namespaces", "", "a", true},
		{"PUT", "/api/v1/namespaces/a/finalize", "update", "", "a", "namespaces", "finalize", "a", true},
		{"GET", "/api/v1/namespaces", "list", "", "", "namespaces", "", "", true},
		{"DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection", "apps", "a", "deployments", "", "", true},
		{"PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", "patch", "apps", "a", "deployments", "scale", "d", true},
		{"GET", "/api/v1/nodes/n/proxy/metrics/x", "get", "", "", "nodes", "proxy", "n", true},
		{"GET", "/apis/apps/v1", "get", "", "", "", "", "", false},
		{"GET", "/api", "get", "", "", "", "", "", false},
		{"GET", "/healthz", "get", "", "", "", "", "", false},
	} {
		got := NewInfo(httptest.NewRequest(test.method, test.url, nil))
		want := Info{
			IsResourceRequest: test.isResource, Path: got.Path, Verb: test.verb, APIPrefix: got.APIPrefix, APIGroup: test.group,
			APIVersion: got.APIVersion, Namespace: test.namespace, Resource: test.resource, Subresource: test.subresource, Name: test.name,
		}
		have := *got
		have.Parts, have.FieldSelector, have.LabelSelector = nil, "", ""
		want.Parts = nil
		if have.Verb != want.Verb || have.APIGroup != want.APIGroup || have.Namespace != want.Namespace || have.Resource != want.Resource ||
			have.Subresource != want.Subresource || have.Name != want.Name || have.IsResourceRequest != want.IsResourceRequest {
			t.Errorf("%s %s:\ngot  %+v\nwant %+v", test.method, test.url, have, want)
		}
	}
}
