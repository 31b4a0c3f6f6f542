package admission

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	testclock "k8s.io/utils/clock/testing"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

func newChain(t *testing.T, change ...func(*Config)) *Chain {
	t.Helper()
	none := schema.GroupResource{Resource: "x"}
	namespaces := lister.Slice(none, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}})
	cfg := Config{
		Namespaces: namespaces, LiveNamespaces: namespaces,
		ServiceAccounts: lister.Slice(none, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "default"}}),
		Pods:            lister.Slice[*corev1.Pod](none), Nodes: lister.Slice[*corev1.Node](none),
		PriorityClasses: lister.Slice[*schedulingv1.PriorityClass](none), LimitRanges: lister.Slice[*corev1.LimitRange](none),
		StorageClasses: lister.Slice[*storagev1.StorageClass](none), RuntimeClasses: lister.Slice[*nodev1.RuntimeClass](none),
		IngressClasses: lister.Slice[*networkingv1.IngressClass](none), ResourceQuotas: lister.Slice[*corev1.ResourceQuota](none),
		Clock: testclock.NewFakeClock(time.Unix(1e9, 0)),
	}
	for _, c := range change {
		c(&cfg)
	}
	chain, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

// Later plugins rely on earlier ones; a dropped or moved line shows here.
func TestOrder(t *testing.T) {
	var names []string
	for _, p := range newChain(t).Plugins {
		names = append(names, p.Name)
	}
	if got, want := strings.Join(names, " "), "NamespaceLifecycle LimitRanger ServiceAccount NodeRestriction TaintNodesByCondition PodSecurity Priority "+
		"DefaultTolerationSeconds DefaultStorageClass StorageObjectInUseProtection PersistentVolumeClaimResize RuntimeClass CertificateApproval "+
		"CertificateSigning ClusterTrustBundleAttest CertificateSubjectRestriction DefaultIngressClass PodTopologyLabels ResourceQuota"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// What a bare pod has when it reaches etcd.
func TestBarePod(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	a := &request.AdmissionAttributes{
		User: &request.User{Name: "jane"}, Operation: request.Create, Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Namespace: "ns", Name: "web", Object: pod,
	}
	chain := newChain(t)
	if err := chain.Admit(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := chain.Validate(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if pod.Spec.ServiceAccountName != "default" || *pod.Spec.Priority != 0 || len(pod.Spec.Tolerations) != 2 || len(pod.Spec.Volumes) != 1 {
		t.Errorf("%+v", pod.Spec)
	}
	for _, toleration := range pod.Spec.Tolerations {
		if *toleration.TolerationSeconds != 300 || toleration.Effect != corev1.TaintEffectNoExecute {
			t.Errorf("%+v", toleration)
		}
	}
	own := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}}}
	a.Object = own
	if err := chain.Admit(t.Context(), a); err != nil || len(own.Spec.Tolerations) != 1 {
		t.Errorf("a pod that tolerates everything: %v %+v", err, own.Spec.Tolerations)
	}
}

func TestNewNodeIsTainted(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	a := &request.AdmissionAttributes{User: &request.User{Name: "jane"}, Operation: request.Create, Resource: schema.GroupVersionResource{Version: "v1", Resource: "nodes"}, Object: node}
	for range 2 {
		if err := newChain(t).Admit(t.Context(), a); err != nil || len(node.Spec.Taints) != 1 || node.Spec.Taints[0].Key != "node.kubernetes.io/not-ready" {
			t.Errorf("%v %+v", err, node.Spec.Taints)
		}
	}
}

// The first refusal ends the chain, and plugins see only the operations they asked for.
func TestChain(t *testing.T) {
	var seen []string
	step := func(name string, op request.Operation, err error) plugin.Plugin {
		see := func(context.Context, *request.AdmissionAttributes) error { seen = append(seen, name); return err }
		return plugin.Plugin{Name: name, Operations: []request.Operation{op}, Admit: see, Validate: see}
	}
	refusal := errors.New("no")
	chain := &Chain{Plugins: []plugin.Plugin{
		step("deletes", request.Delete, nil), step("a", request.Create, nil), step("b", request.Create, refusal), step("c", request.Create, nil), {Name: "nothing", Operations: []request.Operation{request.Create}},
	}}
	a := &request.AdmissionAttributes{Operation: request.Create}
	if err := chain.Admit(t.Context(), a); err != refusal {
		t.Error(err)
	}
	if err := chain.Validate(t.Context(), a); err != refusal {
		t.Error(err)
	}
	if strings.Join(seen, " ") != "a b a b" {
		t.Error(seen)
	}
}
