package endpoints

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"hyperkube/reconcile"
)

func service(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7", Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http")}}},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func pod(i int, port int32, ready bool) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint(i)), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port, Protocol: corev1.ProtocolTCP}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.0.%d.%d", i/250, i%250),
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}},
	}
}

func summary(subsets []corev1.EndpointSubset) string {
	text := ""
	for _, s := range subsets {
		text += fmt.Sprintf("%d ready %d not", len(s.Addresses), len(s.NotReadyAddresses))
		for _, p := range s.Ports {
			text += fmt.Sprintf(" :%d", p.Port)
		}
		text += "; "
	}
	return text
}

// Addresses stand by their ports, ready and not ready apart (S0-08).
func TestDesiredSubsets(t *testing.T) {
	going := pod(9, 80, true)
	going.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	noPorts := func(s *corev1.Service) { s.Spec.Ports, s.Spec.ClusterIP = nil, corev1.ClusterIPNone }
	for _, test := range []struct {
		name    string
		service *corev1.Service
		pods    []*corev1.Pod
		want    string
	}{
		{"none", service(), nil, ""},
		{"ready and not", service(), []*corev1.Pod{pod(1, 80, true), pod(2, 80, false)}, "1 ready 1 not :80; "},
		{"different ports", service(), []*corev1.Pod{pod(1, 80, true), pod(2, 81, true)}, "1 ready 0 not :80; 1 ready 0 not :81; "},
		{"a going pod is not listed", service(), []*corev1.Pod{pod(1, 80, true), going}, "1 ready 0 not :80; "},
		{"but where all are published", service(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }),
			[]*corev1.Pod{pod(1, 80, false), going}, "2 ready 0 not :80; "},
		{"headless without ports", service(noPorts), []*corev1.Pod{pod(1, 80, true)}, "1 ready 0 not; "},
	} {
		if got := summary(desiredSubsets(test.service, test.pods)); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// Beyond a thousand addresses the rest is cut, not ready ones first, and an
// annotation says so.
func TestTruncate(t *testing.T) {
	var pods []*corev1.Pod
	for i := range 1100 {
		pods = append(pods, pod(i, 80, i%2 == 0))
	}
	got := desiredEndpoints(&corev1.Endpoints{}, service(), pods)
	if text := summary(got.Subsets); text != "550 ready 450 not :80; " || got.Annotations[corev1.EndpointsOverCapacity] != "truncated" {
		t.Errorf("%s annotations %v", text, got.Annotations)
	}
	if got := desiredEndpoints(got, service(), pods[:10]); got.Annotations[corev1.EndpointsOverCapacity] != "" {
		t.Error("the annotation stays when all fit again")
	}
}

// One turn: what is written.
func TestSyncService(t *testing.T) {
	right := desiredEndpoints(&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", ResourceVersion: "1"}}, service(), []*corev1.Pod{pod(1, 80, true)})
	wrong := right.DeepCopy()
	wrong.Subsets = nil
	for _, test := range []struct {
		name    string
		service *corev1.Service
		current *corev1.Endpoints
		want    string
	}{
		{"missing: created", service(), nil, "[create]"},
		{"wrong: updated", service(), wrong, "[update]"},
		{"right: nothing", service(), right, "[]"},
		{"Service is gone: deleted", nil, right, "[delete]"},
		{"no selector: left alone", service(func(s *corev1.Service) { s.Spec.Selector = nil }), wrong, "[]"},
	} {
		objects := []runtime.Object{}
		if test.current != nil {
			objects = append(objects, test.current)
		}
		client := fake.NewClientset(objects...)
		factory := informers.NewSharedInformerFactory(client, 0)
		c := New(client, factory, record.NewFakeRecorder(10), reconcile.Options{})
		if test.service != nil {
			_ = factory.Core().V1().Services().Informer().GetIndexer().Add(test.service)
		}
		if test.current != nil {
			_ = factory.Core().V1().Endpoints().Informer().GetIndexer().Add(test.current)
		}
		_ = factory.Core().V1().Pods().Informer().GetIndexer().Add(pod(1, 80, true))
		if _, err := c.syncService(t.Context(), "ns/web"); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		verbs := []string{}
		for _, action := range client.Actions() {
			verbs = append(verbs, action.GetVerb())
		}
		if got := fmt.Sprint(verbs); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}
