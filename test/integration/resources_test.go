package integration

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// An Event is one object in two versions: what is written as events.k8s.io/v1 is read as v1, and patched as either.
func TestEventInTwoVersions(t *testing.T) {
	c := Start(t)
	for name, config := range map[string]*rest.Config{"json": c.Config, "protobuf": c.Protobuf()} {
		ctx, client := context.Background(), kubernetes.NewForConfigOrDie(config)
		event := &eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: "e-" + name, Namespace: "default"}, EventTime: metav1.NewMicroTime(time.Now()),
			ReportingController: "example.com/c", ReportingInstance: "i", Action: "a", Reason: "r", Type: "Normal", Note: "what happened",
			Regarding: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"},
		}
		if _, err := client.EventsV1().Events("default").Create(ctx, event, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		old, err := client.CoreV1().Events("default").Get(ctx, event.Name, metav1.GetOptions{})
		if err != nil || old.Message != "what happened" || old.InvolvedObject.Name != "p" || old.Source.Component != "" {
			t.Errorf("%s: as v1: %+v, %v", name, old, err)
		}
		patch := `{"series":{"count":2,"lastObservedTime":"2026-01-02T03:04:05.000000Z"}}`
		patched, err := client.EventsV1().Events("default").Patch(ctx, event.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
		if err != nil || patched.Series == nil || patched.Series.Count != 2 || patched.Note != "what happened" {
			t.Errorf("%s: patched: %+v, %v", name, patched, err)
		}
		list, err := client.EventsV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + event.Name})
		if err != nil || len(list.Items) != 1 || list.Items[0].Note != "what happened" {
			t.Errorf("%s: list: %+v, %v", name, list, err)
		}
		watcher, err := client.EventsV1().Events("default").Watch(ctx, metav1.ListOptions{ResourceVersion: "0", FieldSelector: "metadata.name=" + event.Name})
		if err != nil {
			t.Fatal(err)
		}
		if seen := (<-watcher.ResultChan()).Object.(*eventsv1.Event); seen.Note != "what happened" {
			t.Errorf("%s: watched: %+v", name, seen)
		}
		watcher.Stop()
	}
}

// A namespace goes in two steps: it is marked and refuses new objects; it is gone when spec.finalizers are.
func TestNamespaceDeletion(t *testing.T) {
	c := Start(t)
	ctx, namespaces := context.Background(), c.Client.CoreV1().Namespaces()
	if _, err := namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := namespaces.Delete(ctx, "n", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	marked, err := namespaces.Get(ctx, "n", metav1.GetOptions{})
	if err != nil || marked.Status.Phase != corev1.NamespaceTerminating || marked.DeletionTimestamp == nil {
		t.Fatalf("marked: %+v, %v", marked, err)
	}
	_, err = c.Client.CoreV1().ConfigMaps("n").Create(ctx, configMap("late", nil), metav1.CreateOptions{})
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("a new object in it: %v", err)
	}
	marked.Spec.Finalizers = nil
	if _, err := namespaces.Finalize(ctx, marked, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := namespaces.Get(ctx, "n", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after the last finalizer: %v", err)
	}
}

// The kubernetes Service leads to this apiserver, and is there again after somebody deleted it and the server was
// started anew; a restart loses nothing and writes nothing else (R71).
func TestRestart(t *testing.T) {
	c := Start(t)
	ctx := context.Background()
	services := c.Client.CoreV1().Services("default")
	service, err := services.Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil || service.Spec.ClusterIP != "10.96.0.1" {
		t.Fatalf("%+v, %v", service, err)
	}
	slice, err := c.Client.DiscoveryV1().EndpointSlices("default").Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil || slice.Endpoints[0].Addresses[0] != "192.0.2.1" {
		t.Errorf("%+v, %v", slice, err)
	}
	if _, err := c.Client.CoreV1().ConfigMaps("default").Create(ctx, configMap("kept", nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := services.Delete(ctx, "kubernetes", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	role, err := c.Client.RbacV1().ClusterRoles().Get(ctx, "cluster-admin", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.Stop()
	c.Run("127.0.0.1:0")
	if again, err := c.Client.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{}); err != nil || again.UID == service.UID {
		t.Errorf("the Service: %v", err)
	}
	if _, err := c.Client.CoreV1().ConfigMaps("default").Get(ctx, "kept", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	if same, err := c.Client.RbacV1().ClusterRoles().Get(ctx, "cluster-admin", metav1.GetOptions{}); err != nil || same.ResourceVersion != role.ResourceVersion {
		t.Errorf("a role was written again: %v", err)
	}
}
