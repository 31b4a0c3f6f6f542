package clients

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"hyperkube/test/integration"
)

// rawRequest is sent as it stands.
func rawRequest(client rest.Interface, request, contentType, body string) *rest.Request {
	verb, uri, _ := strings.Cut(request, " ")
	r := client.Verb(verb).RequestURI(uri).MaxRetries(0)
	if contentType != "" {
		r = r.SetHeader("Content-Type", contentType)
	}
	if body != "" {
		r = r.Body([]byte(body))
	}
	return r
}

// What the endpoints themselves refuse, whatever the kind, is refused in v1.37.1's words.
func TestRefusedByEveryEndpoint(t *testing.T) {
	cluster := integration.Start(t)
	makeConfigMaps(t, cluster, "a", 1)
	client := cluster.Client.CoreV1().RESTClient()
	present, err := cluster.Client.CoreV1().ConfigMaps("default").Get(t.Context(), "a0000", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const maps, one = "/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/configmaps/a0000"
	const merge, strategic, jsonPatch, apply = "application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json", "application/apply-patch+yaml"
	for _, test := range []struct{ request, contentType, body, want string }{
		// A patch must be one before anything is looked up; whether it suits is asked of an object that is there.
		{"PATCH " + one, merge, "{", "400 invalid JSON patch"},
		{"PATCH " + maps + "/none", strategic, "{", "400 invalid JSON patch"},
		{"PATCH " + maps + "/none", merge, "[]", `404 configmaps "none" not found`},
		{"PATCH " + one, merge, "[]", "400 error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"},
		{"PATCH " + one + "?fieldManager=m", apply, "a: b: c", "400 error encoding patch: yaml: mapping values are not allowed in this context"},
		{"PATCH " + one + "?fieldManager=m", apply, "- a", "400 error decoding patch: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}"},
		{"PATCH " + one + "?fieldManager=m", apply, "{}", "400 invalid object type: /, Kind="},
		{"PATCH " + one + "?fieldManager=m", apply, "{apiVersion: v1, kind: Secret}", "400 invalid object type: /v1, Kind=Secret"},
		{"PATCH " + maps + "/new?fieldManager=m", apply, "{apiVersion: v1, kind: ConfigMap, metadata: {name: new, uid: x}}",
			`409 Operation cannot be fulfilled on configmaps "new": uid mismatch: the provided object specified uid x, and no existing object was found`},
		// A body of another kind; of another version of the kind.
		{"POST " + maps, "application/json", `{"apiVersion":"v1","kind":"Secret"}`, `400 Secret in version "v1" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion`},
		{"POST " + maps, "application/json", `{"apiVersion":"apps/v1","kind":"Deployment"}`, `400 Deployment in version "v1" cannot be handled as a ConfigMap: converting (v1.Deployment) to (core.ConfigMap): unknown conversion`},
		{"POST /apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers", "application/json", `{"apiVersion":"autoscaling/v1","kind":"HorizontalPodAutoscaler"}`,
			"400 the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)"},
		// Options of deletions.
		{"DELETE " + one, "application/json", `{"gracePeriodSeconds":"x"}`, "400 json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64"},
		{"DELETE " + one, "application/json", `{"kind":"Status","apiVersion":"v1"}`, "400 converting (v1.Status) to (v1.DeleteOptions): unknown conversion"},
		{"DELETE " + one, "application/json", "a", "400 couldn't get version/kind; json parse error: invalid character 'a' looking for beginning of value"},
		{"DELETE " + one, "application/json", `{"preconditions":{"resourceVersion":"x"}}`, `409 Operation cannot be fulfilled on ConfigMap "a0000": the ResourceVersion in the precondition (x) does not match the ResourceVersion in record (` + present.ResourceVersion + `). The object might have been modified`},
		{"DELETE " + maps + "?ignoreStoreReadErrorWithClusterBreakingPotential=true", "", "", `422 DeleteOptions.meta.k8s.io "" is invalid: ignoreStoreReadErrorWithClusterBreakingPotential: Invalid value: true: is not allowed with DELETECOLLECTION, try again after removing the option`},
		{"DELETE " + one + "?ignoreStoreReadErrorWithClusterBreakingPotential=true", "", "", `409 Operation cannot be fulfilled on configmaps "a0000": StorageError: invalid object, Code: 4, Key: /registry/configmaps/default/a0000, ResourceVersion: 0, AdditionalErrorMsg: unsafe deletion is not allowed because the object is decodable from storage`},
		// What is nobody's, and what only GET reads.
		{"GET /apis/batch/v1beta1/cronjobs", "", "", "404 the server could not find the requested resource"},
		{"POST /api/v1", "application/json", "{}", "405 the server does not allow this method on the requested resource"},
		{"POST /version", "application/json", "{}", "405 the server does not allow this method on the requested resource"},
		// Reads.
		{"GET " + one + "?export=true", "", "", "400 the export parameter, deprecated since v1.14, is no longer supported"},
		{"GET /apis/apps/v1/replicasets?fieldSelector=status.replicas=1", "", "", `400 "status.replicas" is not a known field selector: only "metadata.name", "metadata.namespace"`},
		{"GET /apis/events.k8s.io/v1/events?fieldSelector=source=x", "", "", "400 field label not supported: source"},
	} {
		err := rawRequest(client, test.request, test.contentType, test.body).Do(t.Context()).Error()
		if got := answered(err); got != test.want {
			t.Errorf("%s %s\n got %s\nwant %s", test.request, test.body, got, test.want)
		}
	}
	for accept, want := range map[string]string{
		"application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io": "406 you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)",
		"application/json;as=Table;v=v1;g=meta.k8s.io":                 "400 Unable to convert to Table as requested: includeObject: Invalid value: \"all\": must be 'Metadata', 'Object', 'None', or empty",
	} {
		if got := answered(rawRequest(client, "GET "+maps+"?includeObject=all", "", "").SetHeader("Accept", accept).Do(t.Context()).Error()); got != want {
			t.Errorf("%s: %s, want %s", accept, got, want)
		}
	}
}

func answered(err error) string {
	status, _ := err.(interface{ Status() metav1.Status })
	if status == nil {
		return "no refusal"
	}
	return strconv.Itoa(int(status.Status().Code)) + " " + status.Status().Message
}

// A Table comes in the version that was asked for; what is said of a deletion, and what it shows.
func TestAnswersOfEveryEndpoint(t *testing.T) {
	cluster := integration.Start(t)
	client := cluster.Client.CoreV1().RESTClient()
	ok := func(request, contentType, body string) map[string]any {
		t.Helper()
		raw, err := rawRequest(client, request, contentType, body).DoRaw(t.Context())
		var answer map[string]any
		if err == nil {
			err = json.Unmarshal(raw, &answer)
		}
		if err != nil {
			t.Fatalf("%s: %v %s", request, err, raw)
		}
		return answer
	}
	const base = "/api/v1/namespaces/default/"
	raw, err := rawRequest(client, "GET "+base+"serviceaccounts", "", "").SetHeader("Accept", "application/json;as=Table;v=v1beta1;g=meta.k8s.io").DoRaw(t.Context())
	var table metav1.Table
	if err == nil {
		err = json.Unmarshal(raw, &table)
	}
	columns := slices.Collect(func(yield func(string) bool) {
		for _, c := range table.ColumnDefinitions {
			yield(c.Name)
		}
	})
	if err != nil || table.APIVersion != "meta.k8s.io/v1beta1" || !slices.Equal(columns, []string{"Name", "Age"}) {
		t.Errorf("service accounts: %v %s %v", err, table.APIVersion, columns)
	}
	// Of a pod that goes at once the answer, too, shows that it was marked.
	ok("POST "+base+"serviceaccounts", "application/json", `{"metadata":{"name":"default"}}`)
	ok("POST "+base+"pods", "application/json", `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}`)
	pod := ok("DELETE "+base+"pods/p", "", "")["metadata"].(map[string]any)
	if pod["deletionTimestamp"] == nil || pod["deletionGracePeriodSeconds"] != 0.0 || pod["generation"] != 2.0 {
		t.Errorf("the pod is %v", pod)
	}
	// A negative grace period is one second, however often it is said.
	ok("POST "+base+"pods", "application/json", `{"metadata":{"name":"q"},"spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]}}`)
	for range 2 {
		if waits := ok("DELETE "+base+"pods/q?gracePeriodSeconds=-1", "", "")["metadata"].(map[string]any); waits["deletionGracePeriodSeconds"] != 1.0 {
			t.Errorf("the pod is %v", waits)
		}
	}
	// Nothing has an Event for its owner: no policy makes it wait.
	ok("POST "+base+"events", "application/json", `{"metadata":{"name":"e"},"involvedObject":{"namespace":"default"}}`)
	if gone := ok("DELETE "+base+"events/e?propagationPolicy=Foreground", "", ""); gone["status"] != "Success" {
		t.Errorf("the event is %v", gone)
	}
	// ?watch on one object is a plain read.
	makeConfigMaps(t, cluster, "a", 2)
	if one := ok("GET "+base+"configmaps/a0000?watch=true", "", ""); one["kind"] != "ConfigMap" {
		t.Errorf("?watch of one: %v", one)
	}
	// A collection's answer shows the objects as they were.
	for _, item := range ok("DELETE "+base+"configmaps?propagationPolicy=Foreground", "", "")["items"].([]any) {
		if metadata := item.(map[string]any)["metadata"].(map[string]any); metadata["finalizers"] != nil {
			t.Errorf("deleted: %v", metadata)
		}
	}
	job := `{"metadata":{"name":"j"},"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}`
	const jobs = "/apis/batch/v1/namespaces/default/jobs"
	ok("POST "+jobs, "application/json", job)
	warned := rawRequest(client, "DELETE "+jobs+"/j?dryRun=All", "", "").Do(t.Context())
	silent := rawRequest(client, "DELETE "+jobs+"/j?dryRun=All&propagationPolicy=Orphan", "", "").Do(t.Context())
	if w := warned.Warnings(); len(w) != 1 || !strings.HasPrefix(w[0].Text, "child pods are preserved by default when jobs are deleted;") || len(silent.Warnings()) > 0 {
		t.Errorf("deleting a job: %v, with a policy %v", w, silent.Warnings())
	}
}

// Who applies a Scale owns the workload's number (KEP-555), and the other way round.
func TestApplyOfScale(t *testing.T) {
	cluster := integration.Start(t)
	client := cluster.Client.CoreV1().RESTClient()
	const web = "/apis/apps/v1/namespaces/default/deployments/web"
	deployment := `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}`
	scale := func(n string) string {
		return "{apiVersion: autoscaling/v1, kind: Scale, metadata: {name: web}, spec: {replicas: " + n + "}}"
	}
	const apply = "application/apply-patch+yaml"
	for _, step := range []struct{ request, body, want string }{
		{"PATCH " + web + "?fieldManager=owner", deployment, "no refusal"},
		{"PATCH " + web + "/scale?fieldManager=scaler", scale("2"), `409 Apply failed with 1 conflict: conflict with "owner": .spec.replicas`},
		{"PATCH " + web + "/scale?fieldManager=scaler&force=true", scale("2"), "no refusal"},
		{"PATCH " + web + "/scale?fieldManager=other", scale("3"), `409 Apply failed with 1 conflict: conflict with "scaler" with subresource "scale": .spec.replicas`},
		{"PATCH " + web + "?fieldManager=owner", deployment, `409 Apply failed with 1 conflict: conflict with "scaler" with subresource "scale": .spec.replicas`},
		{"PATCH " + web + "/scale?fieldManager=scaler", scale("x"), `400 failed to create typed patch object (/web; autoscaling/v1, Kind=Scale): .spec.replicas: expected numeric (int or float), got string`},
	} {
		err := rawRequest(client, step.request, apply, step.body).Do(t.Context()).Error()
		if got := answered(err); got != step.want {
			t.Errorf("%s\n got %s\nwant %s", step.request, got, step.want)
		}
	}
	d, err := cluster.Client.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if *d.Spec.Replicas != 2 || !slices.ContainsFunc(d.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == "scaler" && e.Subresource == "scale" && e.Operation == metav1.ManagedFieldsOperationApply && e.APIVersion == "apps/v1"
	}) {
		t.Errorf("%d replicas, %v", *d.Spec.Replicas, d.ManagedFields)
	}
}
