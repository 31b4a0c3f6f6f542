package clients

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applyappsv1 "k8s.io/client-go/applyconfigurations/apps/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"

	"hyperkube/test/integration"
)

// fieldValidation on every way of writing: Strict refuses in upstream's words, Warn and Ignore write.
func TestFieldValidation(t *testing.T) {
	cluster := integration.Start(t)
	makeConfigMaps(t, cluster, "a", 1)
	client := cluster.Client.CoreV1().RESTClient()
	const unknown, twice = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"NAME"},"dta":{}}`, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"NAME"},"data":{"a":"b"},"data":{"a":"c"}}`
	for _, test := range []struct {
		name, verb, contentType, body, want string
	}{
		{"create, unknown", "POST", "application/json", unknown, `ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta"`},
		{"create, duplicate", "POST", "application/json", twice, `ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "data"`},
		{"create, YAML", "POST", "application/yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\ndta: {}\n", `ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta"`},
		{"update", "PUT", "application/json", unknown, `ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta"`},
		{"JSON patch", "PATCH", string(types.JSONPatchType), `[{"op":"add","path":"/dta","value":{},"x":1}]`, `strict decoding error: json patch unknown field "[0].x", unknown field "dta"`},
		{"merge patch", "PATCH", string(types.MergePatchType), `{"dta":{},"data":{"a":"b","a":"c"}}`, `strict decoding error: duplicate field "data.a", unknown field "dta"`},
		{"strategic merge patch", "PATCH", string(types.StrategicMergePatchType), `{"dta":{}}`, `patch: Invalid value: "map[dta:map[]]": strict decoding error: unknown field "dta"`},
		{"apply, duplicate", "PATCH", string(types.ApplyYAMLPatchType), "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: b\n  a: c\n", "error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:\n  line 5: key \"a\" already set in map"},
	} {
		for _, validation := range []string{"Strict", "Warn", "Ignore"} {
			r := client.Verb(test.verb).Namespace("default").Resource("configmaps").Param("fieldValidation", validation).Param("fieldManager", "m").SetHeader("Content-Type", test.contentType)
			name := strings.NewReplacer(" ", "-", ",", "").Replace(strings.ToLower(test.name + "-" + validation))
			if test.verb != "POST" {
				name = "a0000"
				r = r.Name(name)
			}
			if test.contentType == string(types.ApplyYAMLPatchType) {
				r = r.Param("force", "true")
			}
			result := r.Body([]byte(strings.ReplaceAll(test.body, "NAME", name))).Do(t.Context())
			switch err := result.Error(); {
			case validation == "Strict" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%s %s: %v, want %s", test.name, validation, err, test.want)
			case validation != "Strict" && err != nil:
				t.Errorf("%s %s: %v", test.name, validation, err)
			case validation == "Warn" && len(result.Warnings()) == 0, validation == "Ignore" && len(result.Warnings()) > 0:
				t.Errorf("%s %s: warnings %v", test.name, validation, result.Warnings())
			}
		}
	}
}

// Server-side apply: fields are owned together, given up, taken by force, and owned apart in a subresource (KEP-555).
func TestServerSideApply(t *testing.T) {
	cluster := integration.Start(t)
	maps := cluster.Client.CoreV1().ConfigMaps("default")
	apply := func(manager string, data map[string]string, force bool) (*corev1.ConfigMap, error) {
		return maps.Apply(t.Context(), applycorev1.ConfigMap("m", "default").WithData(data), metav1.ApplyOptions{FieldManager: manager, Force: force})
	}
	steps := []struct {
		manager  string
		data     map[string]string
		force    bool
		want     string // a's value, "-" if it is gone
		conflict string
	}{
		{"one", map[string]string{"a": "1", "b": "1"}, false, "1", ""},
		{"two", map[string]string{"a": "1"}, false, "1", ""},              // owned by both
		{"one", map[string]string{"a": "2", "b": "1"}, false, "1", "two"}, // refused: two wants 1
		{"two", map[string]string{"a": "2"}, true, "2", ""},               // taken
		{"one", map[string]string{"b": "1"}, false, "2", ""},              // not one's any more: it stays
		{"two", map[string]string{}, false, "-", ""},                      // the last owner gives it up
		{"three", map[string]string{"b": "3"}, false, "-", "conflict with \"one\": .data.b"},
	}
	for i, step := range steps {
		_, err := apply(step.manager, step.data, step.force)
		if step.conflict == "" && err != nil || step.conflict != "" && (!apierrors.IsConflict(err) || !strings.Contains(err.Error(), step.conflict)) {
			t.Errorf("step %d: %v, want %q", i, err, step.conflict)
		}
		m, err := maps.Get(t.Context(), "m", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, there := m.Data["a"]; there != (step.want != "-") || there && got != step.want {
			t.Errorf("step %d: a is %q (%v), want %s", i, got, there, step.want)
		}
	}
	deployment := applyappsv1.Deployment("d", "default").WithSpec(applyappsv1.DeploymentSpec().WithReplicas(1).
		WithSelector(applymetav1.LabelSelector().WithMatchLabels(map[string]string{"a": "b"})).
		WithTemplate(applycorev1.PodTemplateSpec().WithLabels(map[string]string{"a": "b"}).WithSpec(applycorev1.PodSpec().WithContainers(applycorev1.Container().WithName("c").WithImage("i")))))
	deployments := cluster.Client.AppsV1().Deployments("default")
	if _, err := deployments.Apply(t.Context(), deployment, metav1.ApplyOptions{FieldManager: "one"}); err != nil {
		t.Fatal(err)
	}
	if _, err := deployments.Patch(t.Context(), "d", types.MergePatchType, []byte(`{"spec":{"replicas":5}}`), metav1.PatchOptions{FieldManager: "scaler"}, "scale"); err != nil {
		t.Fatal(err)
	}
	_, err := deployments.Apply(t.Context(), deployment, metav1.ApplyOptions{FieldManager: "one"})
	if want := `conflict with "scaler" with subresource "scale" using apps/v1: .spec.replicas`; !apierrors.IsConflict(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// dryRun=All answers as the write would, and nothing is kept: no object, no address, no port, no quota.
func TestDryRunKeepsNothing(t *testing.T) {
	cluster := integration.Start(t)
	dry, core := []string{metav1.DryRunAll}, cluster.Client.CoreV1()
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/services": *quantity("1")}}}
	if _, err := core.ResourceQuotas("default").Create(t.Context(), quota, metav1.CreateOptions{DryRun: dry}); err != nil {
		t.Fatal(err)
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.7.7", Ports: []corev1.ServicePort{{Port: 80, NodePort: 30077}}}}
	for range 2 {
		if made, err := core.Services("default").Create(t.Context(), service, metav1.CreateOptions{DryRun: dry}); err != nil || made.Spec.ClusterIP != "10.96.7.7" || made.UID == "" {
			t.Errorf("%v %v", made, err)
		}
	}
	if _, err := core.Services("default").Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Errorf("after dry runs: %v", err)
	}
	if err := core.Services("default").Delete(t.Context(), "s", metav1.DeleteOptions{DryRun: dry}); err != nil {
		t.Error(err)
	}
	if _, err := core.Services("default").Patch(t.Context(), "s", types.MergePatchType, []byte(`{"metadata":{"labels":{"x":"y"}}}`), metav1.PatchOptions{DryRun: dry}); err != nil {
		t.Error(err)
	}
	if s, err := core.Services("default").Get(t.Context(), "s", metav1.GetOptions{}); err != nil || s.Labels["x"] != "" {
		t.Errorf("%v %v", s, err)
	}
	_, err := core.Services("default").Create(t.Context(), service, metav1.CreateOptions{DryRun: []string{"Some"}})
	if want := `dryRun: Unsupported value: ["Some"]: supported values: "All"`; !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// What is too large is refused with 413, from the body's size and from the store's; a request that asks for an instant gets 504.
func TestLimits(t *testing.T) {
	cluster := integration.Start(t)
	maps := cluster.Client.CoreV1().ConfigMaps("default")
	_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m"}, BinaryData: map[string][]byte{"x": make([]byte, 4<<20)}}, metav1.CreateOptions{})
	if status := apierrors.APIStatus(nil); !errors.As(err, &status) || status.Status().Code != 413 {
		t.Errorf("4 MiB: %v", err)
	}
	err = cluster.Client.CoreV1().RESTClient().Get().Namespace("default").Resource("configmaps").MaxRetries(0).Param("timeout", "1ns").Do(t.Context()).Error()
	if !apierrors.IsTimeout(err) {
		t.Errorf("in 1 ns: %v, want 504", err)
	}
}

func quantity(text string) *resource.Quantity {
	q := resource.MustParse(text)
	return &q
}
