package ttl

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// A boundary is left later than it was entered, in both directions.
func TestDesiredTTL(t *testing.T) {
	c := &Controller{}
	for i, step := range []struct{ nodes, want int }{
		{1, 0}, {100, 0}, {101, 15}, {95, 15}, {90, 15}, {89, 0}, {100, 0}, {5000, 300}, {1800, 300}, {1799, 60}, {900, 60}, {1, 0},
	} {
		if got, _ := c.desiredTTL(step.nodes); got != step.want {
			t.Errorf("step %d: %d nodes give %d s, want %d", i, step.nodes, got, step.want)
		}
	}
}

// A node gets its annotation once; a wrong one is mended.
func TestAnnotation(t *testing.T) {
	right := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "right", Annotations: map[string]string{corev1.ObjectTTLAnnotationKey: "0"}}}
	wrong := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "wrong", Annotations: map[string]string{corev1.ObjectTTLAnnotationKey: "x", "other": "kept"}}}
	bare := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "bare"}}
	client := fake.NewClientset(right, wrong, bare)
	factory := informers.NewSharedInformerFactory(client, 0)
	c := New(client, factory, reconcile.Options{})
	for _, n := range []*corev1.Node{right, wrong, bare} {
		_ = factory.Core().V1().Nodes().Informer().GetIndexer().Add(n)
	}
	for _, name := range []string{"right", "wrong", "bare", "gone"} {
		if _, err := c.updateNodeIfNeeded(t.Context(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var patched []string
	for _, action := range client.Actions() {
		patched = append(patched, action.GetVerb())
	}
	if got := fmt.Sprint(patched); got != "[patch patch]" {
		t.Errorf("writes %s, want one for each of the two that need it", got)
	}
	node, err := client.CoreV1().Nodes().Get(t.Context(), "wrong", metav1.GetOptions{})
	if err != nil || node.Annotations[corev1.ObjectTTLAnnotationKey] != "0" || node.Annotations["other"] != "kept" {
		t.Errorf("annotations %v, %v", node.Annotations, err)
	}
}
