package clients

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"

	"hyperkube/test/integration"
)

// A deletion says what it expects to find, and what becomes of the dependents; contradictions are refused (API concepts).
func TestDeleteOptions(t *testing.T) {
	cluster := integration.Start(t)
	maps := cluster.Client.CoreV1().ConfigMaps("default")
	makeConfigMaps(t, cluster, "a", 6)
	now, err := maps.Get(t.Context(), "a0000", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	policy := func(p metav1.DeletionPropagation) *metav1.DeletionPropagation { return &p }
	for _, test := range []struct {
		name    string
		options metav1.DeleteOptions
		want    string // the refusal, or the finalizers of what waits; "" when it is gone
	}{
		{"a0000", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(types.UID("x"))}},
			`Operation cannot be fulfilled on ConfigMap "a0000": the UID in the precondition (x) does not match the UID in record (` + string(now.UID) + `). The object might have been deleted and then recreated`},
		{"a0000", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: ptr.To("1")}},
			`Operation cannot be fulfilled on ConfigMap "a0000": the ResourceVersion in the precondition (1) does not match the ResourceVersion in record (` + now.ResourceVersion + `). The object might have been modified`},
		{"a0000", metav1.DeleteOptions{PropagationPolicy: policy("Nope")},
			`DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Nope": supported values: "Foreground", "Background", "Orphan", "nil"`},
		{"a0000", metav1.DeleteOptions{PropagationPolicy: policy("Orphan"), OrphanDependents: ptr.To(true)},
			`DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Invalid value: "Orphan": orphanDependents and deletionPropagation cannot be both set`},
		{"a0000", metav1.DeleteOptions{DryRun: []string{"x"}},
			`DeleteOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["x"]: supported values: "All"`},
		{"a0000", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &now.UID, ResourceVersion: &now.ResourceVersion}}, ""},
		{"a0001", metav1.DeleteOptions{PropagationPolicy: policy("Background")}, ""},
		{"a0002", metav1.DeleteOptions{PropagationPolicy: policy("Orphan")}, "orphan"},
		{"a0003", metav1.DeleteOptions{PropagationPolicy: policy("Foreground")}, "foregroundDeletion"},
		{"a0003", metav1.DeleteOptions{PropagationPolicy: policy("Orphan")}, "orphan"}, // a second thought counts
		{"a0003", metav1.DeleteOptions{PropagationPolicy: policy("Background")}, ""},
		{"a0004", metav1.DeleteOptions{OrphanDependents: ptr.To(true)}, "orphan"},
		{"a0005", metav1.DeleteOptions{OrphanDependents: ptr.To(false)}, ""},
	} {
		err := maps.Delete(t.Context(), test.name, test.options)
		got := ""
		if err != nil {
			got = message(err)
		} else if left, err := maps.Get(t.Context(), test.name, metav1.GetOptions{}); err == nil {
			if got = strings.Join(left.Finalizers, ","); left.DeletionTimestamp == nil {
				got += " and not marked"
			}
		}
		if got != test.want {
			t.Errorf("%s, %+v:\n%s\nwant %s", test.name, test.options, got, test.want)
		}
	}
}

// deletecollection deletes what the options of a list choose: by label, by field, a page of it; or only says so.
func TestDeleteCollection(t *testing.T) {
	cluster := integration.Start(t)
	maps := cluster.Client.CoreV1().ConfigMaps("default")
	makeConfigMaps(t, cluster, "a", 4)
	makeConfigMaps(t, cluster, "b", 4)
	for _, test := range []struct {
		name    string
		options metav1.DeleteOptions
		list    metav1.ListOptions
		left    int
	}{
		{"dry run", metav1.DeleteOptions{DryRun: []string{"All"}}, metav1.ListOptions{}, 8},
		{"by field", metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "metadata.name=a0001"}, 7},
		{"not these", metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app!=a,app!=b"}, 7},
		{"a page of a label", metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=a", Limit: 2}, 5},
		{"a label", metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}, metav1.ListOptions{LabelSelector: "app in (a)"}, 4},
		{"all that is as old", metav1.DeleteOptions{}, metav1.ListOptions{}, 0},
	} {
		if err := maps.DeleteCollection(t.Context(), test.options, test.list); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if list, err := maps.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) != test.left {
			t.Errorf("%s: %d are left, want %d, %v", test.name, len(list.Items), test.left, err)
		}
	}
	// The answer is the list of what went, a page like any other.
	makeConfigMaps(t, cluster, "c", 3)
	gone := &corev1.ConfigMapList{}
	err := cluster.Client.CoreV1().RESTClient().Delete().Namespace("default").Resource("configmaps").
		VersionedParams(&metav1.ListOptions{Limit: 2}, scheme.ParameterCodec).Do(t.Context()).Into(gone)
	if err != nil || len(gone.Items) != 2 || gone.Continue == "" || gone.ResourceVersion == "" || gone.ResourceVersion == "0" || gone.RemainingItemCount == nil || *gone.RemainingItemCount != 1 {
		t.Errorf("%+v, %d items, %v", gone.ListMeta, len(gone.Items), err)
	}
}

// dryRun=All on subresources: the answer is given, admission and validation are asked, and nothing is kept.
func TestDryRunOfSubresources(t *testing.T) {
	cluster := integration.Start(t)
	core, apps := cluster.Client.CoreV1(), cluster.Client.AppsV1()
	dry := []string{metav1.DryRunAll}
	if _, err := core.ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}
	pod, err := core.Pods("default").Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: spec}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template}}
	if deployment, err = apps.Deployments("default").Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	changed := pod.DeepCopy()
	changed.Status.Phase = corev1.PodRunning
	debugged := pod.DeepCopy()
	debugged.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Image: "i"}}}
	for name, write := range map[string]func(dry []string) error{
		"binding": func(dry []string) error {
			return core.Pods("default").Bind(t.Context(), &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}, metav1.CreateOptions{DryRun: dry})
		},
		"eviction": func(dry []string) error {
			return cluster.Client.PolicyV1().Evictions("default").Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, DeleteOptions: &metav1.DeleteOptions{DryRun: dry}})
		},
		"status": func(dry []string) error {
			got, err := core.Pods("default").UpdateStatus(t.Context(), changed, metav1.UpdateOptions{DryRun: dry})
			if err == nil && got.Status.Phase != corev1.PodRunning {
				err = fmt.Errorf("answered with phase %s", got.Status.Phase)
			}
			return err
		},
		"ephemeral containers": func(dry []string) error {
			got, err := core.Pods("default").UpdateEphemeralContainers(t.Context(), "p", debugged, metav1.UpdateOptions{DryRun: dry})
			if err == nil && len(got.Spec.EphemeralContainers) != 1 {
				err = fmt.Errorf("answered without it")
			}
			return err
		},
		"scale": func(dry []string) error {
			got, err := apps.Deployments("default").UpdateScale(t.Context(), "d", &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "default"}, Spec: autoscalingv1.ScaleSpec{Replicas: 7}}, metav1.UpdateOptions{DryRun: dry})
			if err == nil && got.Spec.Replicas != 7 {
				err = fmt.Errorf("answered with %d", got.Spec.Replicas)
			}
			return err
		},
		"patch of scale": func(dry []string) error {
			_, err := apps.Deployments("default").Patch(t.Context(), "d", types.MergePatchType, []byte(`{"spec":{"replicas":9}}`), metav1.PatchOptions{DryRun: dry}, "scale")
			return err
		},
		"token": func(dry []string) error {
			_, err := core.ServiceAccounts("default").CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{DryRun: dry})
			return err
		},
		"namespace's finalize": func(dry []string) error {
			namespace, err := core.Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
			if err != nil {
				return err
			}
			return cluster.Client.CoreV1().RESTClient().Put().Resource("namespaces").Name("default").SubResource("finalize").
				VersionedParams(&metav1.UpdateOptions{DryRun: dry}, scheme.ParameterCodec).Body(namespace).Do(t.Context()).Error()
		},
	} {
		if err := write(dry); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "eviction" {
			continue // its options are its body's, which are refused like any other's
		}
		if err := write([]string{"some"}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), `dryRun: Unsupported value: ["some"]: supported values: "All"`) {
			t.Errorf("%s, some: %v", name, err)
		}
	}
	if p, err := core.Pods("default").Get(t.Context(), "p", metav1.GetOptions{}); err != nil || p.ResourceVersion != pod.ResourceVersion {
		t.Errorf("the pod was written: %+v %v", p, err)
	}
	if d, err := apps.Deployments("default").Get(t.Context(), "d", metav1.GetOptions{}); err != nil || d.ResourceVersion != deployment.ResourceVersion {
		t.Errorf("the deployment was written: %+v %v", d, err)
	}
}

// A patch that names no version lands on whatever is there; one that names an old version is refused, as a PUT is.
func TestConflictsOfPatches(t *testing.T) {
	cluster := integration.Start(t)
	maps := cluster.Client.CoreV1().ConfigMaps("default")
	old := makeConfigMaps(t, cluster, "a", 1)
	const workers, each = 8, 15
	failed := make(chan error, workers)
	for w := range workers {
		go func() {
			for i := range each {
				patch := fmt.Sprintf(`{"data":{"w%d-%d":"x"}}`, w, i)
				kind := []types.PatchType{types.MergePatchType, types.StrategicMergePatchType}[i%2]
				if _, err := maps.Patch(t.Context(), "a0000", kind, []byte(patch), metav1.PatchOptions{}); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range workers {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	m, err := maps.Get(t.Context(), "a0000", metav1.GetOptions{})
	if err != nil || len(m.Data) != workers*each {
		t.Errorf("%d of %d patches landed, %v", len(m.Data), workers*each, err)
	}
	want := `Operation cannot be fulfilled on configmaps "a0000": the object has been modified; please apply your changes to the latest version and try again`
	for kind, patch := range map[types.PatchType]string{
		types.MergePatchType:          `{"metadata":{"resourceVersion":"` + old + `"},"data":{"x":"y"}}`,
		types.StrategicMergePatchType: `{"metadata":{"resourceVersion":"` + old + `"},"data":{"x":"y"}}`,
		types.JSONPatchType:           `[{"op":"replace","path":"/metadata/resourceVersion","value":"` + old + `"},{"op":"add","path":"/data/x","value":"y"}]`,
		types.ApplyYAMLPatchType:      `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"resourceVersion":"` + old + `"},"data":{"x":"y"}}`,
	} {
		options := metav1.PatchOptions{FieldManager: "m"}
		if _, err := maps.Patch(t.Context(), "a0000", kind, []byte(patch), options); !apierrors.IsConflict(err) || message(err) != want {
			t.Errorf("%s of an old version: %v", kind, err)
		}
	}
	m.ResourceVersion = old
	if _, err := maps.Update(t.Context(), m, metav1.UpdateOptions{}); !apierrors.IsConflict(err) || message(err) != want {
		t.Errorf("an update of an old version: %v", err)
	}
	m.ResourceVersion, m.UID = "", "other"
	want = `Operation cannot be fulfilled on configmaps "a0000": StorageError: invalid object, Code: 4, Key: /registry/configmaps/default/a0000, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: other, UID in object meta: `
	if _, err := maps.Update(t.Context(), m, metav1.UpdateOptions{}); !apierrors.IsConflict(err) || !strings.HasPrefix(message(err), want) {
		t.Errorf("an update of another incarnation: %v", err)
	}
}
