package reconcile_test

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"hyperkube/reconcile"
)

// shouter keeps the key "loud" of each ConfigMap equal to its "quiet" key and an
// exclamation mark. It is a whole controller: desired state, current state, and
// a write where they differ (S1-15).
type shouter struct {
	client kubernetes.Interface
	lister listers.ConfigMapLister
}

func newShouter(client kubernetes.Interface, factory informers.SharedInformerFactory) *reconcile.Loop {
	configMaps := factory.Core().V1().ConfigMaps()
	s := &shouter{client: client, lister: configMaps.Lister()}
	loop := reconcile.New("shouter", s.sync, reconcile.Options{})
	loop.Watch(configMaps.Informer(), reconcile.Self)
	return loop
}

func (s *shouter) sync(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil // no such key can become right
	}
	current, err := s.lister.ConfigMaps(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil // deleted: nothing of ours remains
	}
	if err != nil {
		return reconcile.Done, err
	}
	desired := current.Data["quiet"] + "!"
	if current.Data["loud"] == desired {
		return reconcile.Done, nil
	}
	updated := current.DeepCopy() // the cache's object is not ours to change
	updated.Data["loud"] = desired
	_, err = s.client.CoreV1().ConfigMaps(name.Namespace).Update(ctx, updated, metav1.UpdateOptions{})
	return reconcile.Done, err
}

func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "greeting"},
		Data:       map[string]string{"quiet": "hello"},
	})
	written := make(chan string, 1)
	factory := informers.NewSharedInformerFactory(client, 0)
	_, _ = factory.Core().V1().ConfigMaps().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, after any) { written <- after.(*corev1.ConfigMap).Data["loud"] },
	})
	loop := newShouter(client, factory)
	factory.Start(ctx.Done())
	go func() { _ = loop.Run(ctx) }()
	fmt.Println(<-written)
	// Output: hello!
}
