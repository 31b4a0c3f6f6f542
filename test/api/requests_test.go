package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"hyperkube/test/integration"
)

// What kube-apiserver v1.37.1 was seen to answer to requests that no client library of today makes, or makes only by mistake.
func TestAnswersToOddRequests(t *testing.T) {
	cluster := integration.Start(t)
	ctx, core := t.Context(), cluster.Client.CoreV1()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	if _, err := core.ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := core.Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"a": "b"}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: pod.Spec.Containers}},
	}}
	if _, err := cluster.Client.AppsV1().Deployments("default").Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	const (
		ns    = "/api/v1/namespaces/default/"
		scale = "/apis/apps/v1/namespaces/default/deployments/d/scale?dryRun=All"
		token = `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{`
	)
	for _, test := range []struct {
		method, path, media, body string // media is what the body is, or of GET what is accepted
		code                      int
		want                      string
	}{
		{"POST", ns + "pods/p/eviction?dryRun=All", "application/json", `{"apiVersion":"policy/v1beta1","kind":"Eviction","metadata":{"name":"p"}}`, 201, `"Success"`},
		{"POST", ns + "pods/p/eviction?dryRun=All", "application/yaml", "apiVersion: policy/v1beta1\nkind: Eviction\nmetadata: {name: p}\n", 201, `"Success"`},
		{"POST", ns + "pods/p/eviction?dryRun=All", "application/json", `{"apiVersion":"policy/v1beta2","kind":"Eviction","metadata":{"name":"p"}}`, 400, "Eviction"},
		{"PUT", scale, "application/json", `{"apiVersion":"extensions/v1beta1","kind":"Scale","metadata":{"name":"d"},"spec":{"replicas":3}}`, 400,
			"the API version in the data (extensions/v1beta1) does not match the expected API version (autoscaling/v1)"},
		{"PATCH", scale, "application/merge-patch+json", `{"metadata":{"name":"x"}}`, 400, "the name of the object (x) does not match the name on the URL (d)"},
		{"POST", ns + "bindings", "application/json", `{"target":{"name":"n1"}}`, 400, "Name parameter required."},
		{"POST", ns + "serviceaccounts/default/token", "application/json", token + `"attestations":{"a":["b"]}}}`, 422, "attestations may only be specified with a webhook bound object reference"},
		{"POST", ns + "serviceaccounts/default/token", "application/json", token + `"boundObjectRef":{"kind":"Pod"}}}`, 400, "Name parameter required."},
		{"POST", ns + "serviceaccounts/none/token", "application/json", token + `"expirationSeconds":1}}`, 404, `serviceaccounts \"none\" not found`},
		{"POST", ns + "serviceaccounts/default/token", "application/json", token + `}}`, 201, `"uid":"`},
		// An error that has no form that was asked for is JSON for people.
		{"GET", ns + "configmaps/none", "application/json;as=Table;v=v1;g=meta.k8s.io", "", 404, "{\n  \"kind\": \"Status\""},
		{"GET", ns + "configmaps", "application/json;v=v1", "", 406, "only the following media types are accepted"},
		{"GET", ns + "configmaps?watch=1&includeObject=x", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "", 400, "Unable to convert to Table as requested: includeObject"},
		{"GET", ns + "secrets", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "", 200, `"items":null`},
		{"GET", "/openapi/v3/none", "application/json", "", 404, ""},
		{"DELETE", "/api/v1/namespaces/kube-public", "application/json", `{"preconditions":{"uid":"x"}}`, 409, `namespaces \"kube-public\": Precondition failed: UID in precondition: x, UID in object meta: `},
	} {
		header := "Content-Type"
		if test.method == "GET" {
			header = "Accept"
		}
		request, err := http.NewRequestWithContext(ctx, test.method, cluster.Config.Host+test.path, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(header, test.media)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != test.code || !strings.Contains(string(body), test.want) || test.want == "" && len(body) > 0 {
			t.Errorf("%s %s %s: %d %s (%v), want %d %s", test.method, test.path, test.body, response.StatusCode, body, err, test.code, test.want)
		}
	}
}
