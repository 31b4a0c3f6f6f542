package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"hyperkube/test/integration"
)

// What is true of metadata of every kind, as upstream's server judges it.
func TestMetadata(t *testing.T) {
	cluster := integration.Start(t)
	ctx := t.Context()
	client := cluster.Client.CoreV1().ConfigMaps("default")
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "u", Controller: ptr.To(true)}

	// A reference that is given twice is taken once, so that there is one controller.
	made, err := client.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owned", OwnerReferences: []metav1.OwnerReference{owner, owner}}}, metav1.CreateOptions{})
	if err != nil || len(made.OwnerReferences) != 1 {
		t.Fatalf("owners given twice: %v, %v", made.OwnerReferences, err)
	}
	// A resource version that is no number is nobody's.
	if _, err := client.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "odd", ResourceVersion: "x"}}, metav1.CreateOptions{}); err != nil {
		t.Errorf("a resource version without meaning: %v", err)
	}

	for what, test := range map[string]struct {
		change func(m *corev1.ConfigMap)
		code   int32
		want   string
	}{
		"a finalizer without a domain": {func(m *corev1.ConfigMap) { m.Finalizers = []string{"a"} }, 422,
			`metadata.finalizers[0]: Invalid value: "a": name is neither a standard finalizer name nor is it fully qualified`},
		"a grace period": {func(m *corev1.ConfigMap) { m.DeletionGracePeriodSeconds = ptr.To[int64](1) }, 422,
			"metadata.deletionGracePeriodSeconds: Invalid value: 1: field is immutable"},
		"a prefix that makes no names":           {func(m *corev1.ConfigMap) { m.GenerateName = "A_b!" }, 422, `metadata.generateName: Invalid value: "A_b!"`},
		"no name":                                {func(m *corev1.ConfigMap) { m.Name = "" }, 400, "the name of the object (owned based on URL) was undeterminable: name must be provided"},
		"a resource version that is no number":   {func(m *corev1.ConfigMap) { m.ResourceVersion = "x" }, 400, `strconv.ParseUint: parsing "x": invalid syntax`},
		"another incarnation":                    {func(m *corev1.ConfigMap) { m.UID = "other" }, 409, "Key: /registry/configmaps/default/owned, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: other"},
		"another namespace than the request has": {func(m *corev1.ConfigMap) { m.Namespace = "kube-system" }, 400, "the namespace of the provided object does not match the namespace sent on the request"},
	} {
		changed := made.DeepCopy()
		test.change(changed)
		body, _ := json.Marshal(changed)
		err := cluster.Client.CoreV1().RESTClient().Put().AbsPath("/api/v1/namespaces/default/configmaps/owned").Body(body).Do(ctx).Error()
		status, ok := err.(apierrors.APIStatus)
		if !ok || status.Status().Code != test.code || !strings.Contains(status.Status().Message, test.want) {
			t.Errorf("%s: %v, want %d %q", what, err, test.code, test.want)
		}
	}
}

// Addresses are given out before all else is validated; a dry run takes none.
func TestServiceAddressesInOrder(t *testing.T) {
	cluster := integration.Start(t)
	ctx := t.Context()
	services := cluster.Client.CoreV1().Services("default")
	service := func(name, ip string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80}}}}
	}
	first, err := services.Create(ctx, service("first", ""), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ip := first.Spec.ClusterIP
	_, err = services.Create(ctx, service("A!", ip), metav1.CreateOptions{})
	refusedWith(t, "an address that is taken, of a Service with a bad name", err, "provided IP is already allocated")
	if _, err := services.Create(ctx, service("second", ip), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("a dry run of an address that may be free by then: %v", err)
	}
	changed := first.DeepCopy()
	changed.Spec.ClusterIP, changed.Spec.ClusterIPs = "10.1.2.3", nil
	_, err = services.Update(ctx, changed, metav1.UpdateOptions{})
	refusedWith(t, "another address", err, "may not change once set")
}
