package greeter

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"hyperkube/client/informers"
	"hyperkube/test/integration"
)

// S1-15, R98: the controller of lab 2 keeps what it should, and mends what others break.
func TestGreetings(t *testing.T) {
	cluster := integration.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	factory := informers.NewSharedInformerFactory(cluster.Client, 0)
	loop := New(cluster.Client, factory)
	factory.StartWithContext(ctx)
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()

	maps := cluster.Client.CoreV1().ConfigMaps("default")
	friends := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "friends", Labels: map[string]string{Label: "Ada"}}}
	friends, err := maps.Create(ctx, friends, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, cluster.Client, "Hello, Ada!")
	if err := maps.Delete(ctx, "greeting-friends", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wantText(t, cluster.Client, "Hello, Ada!")
	friends.Labels[Label] = "Grace"
	if friends, err = maps.Update(ctx, friends, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	wantText(t, cluster.Client, "Hello, Grace!")
	friends.Labels = nil
	if _, err = maps.Update(ctx, friends, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	wantText(t, cluster.Client, "")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// wantText waits until the greeting says text; "": until there is none.
func wantText(t *testing.T, client kubernetes.Interface, text string) {
	t.Helper()
	got := ""
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		greetings, err := client.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=greeting-friends"})
		if err != nil {
			return false, err
		}
		got = ""
		for _, g := range greetings.Items {
			got = g.Data["text"]
		}
		return got == text, nil
	})
	if err != nil {
		t.Fatalf("the greeting says %q, want %q: %v", got, text, err)
	}
}
