// Package greeter is a controller of one's own in a hundred lines (lab 2): for each
// ConfigMap with a label greet=NAME it keeps another one beside it, greeting-…, that says
// hello to NAME. Desired state, current state, and a write where they differ: a Deployment
// is kept in the same way.
//
//	ConfigMap friends   label greet=Ada  ──►  ConfigMap greeting-friends   data.text: Hello, Ada!
//
// In Kubernetes: kubernetes/sample-controller does the same job with a work queue and
// workers written out; here reconcile.Loop has them.
package greeter

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

const (
	// Label marks the ConfigMaps whose owner wants a greeting; its value is the name.
	Label  = "greet"
	prefix = "greeting-"
)

// Greeter is the controller. It remembers nothing: what it needs is in the cache.
type Greeter struct {
	client     kubernetes.Interface
	configMaps listers.ConfigMapLister
}

// New makes the controller's loop. Events of greetings bring the key of what they belong
// to, so that one that was deleted or changed is mended.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory) *reconcile.Loop {
	configMaps := factory.Core().V1().ConfigMaps()
	g := &Greeter{client: client, configMaps: configMaps.Lister()}
	loop := reconcile.New("greeter", g.sync, reconcile.Options{})
	loop.Watch(configMaps.Informer(), func(e reconcile.Event) []string {
		object := e.Object()
		if name, isGreeting := strings.CutPrefix(object.GetName(), prefix); isGreeting {
			return []string{object.GetNamespace() + "/" + name}
		}
		return []string{reconcile.KeyOf(object)}
	})
	return loop
}

// sync brings the greeting of one ConfigMap from what it is to what it should be.
func (g *Greeter) sync(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil // no such key can become right
	}
	owner, err := g.configMaps.ConfigMaps(name.Namespace).Get(name.Name)
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Done, err
	}
	current, err := g.configMaps.ConfigMaps(name.Namespace).Get(prefix + name.Name)
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Done, err
	}
	exists := err == nil
	greetings := g.client.CoreV1().ConfigMaps(name.Namespace)
	switch wanted := owner != nil && owner.Labels[Label] != ""; {
	case wanted && !exists:
		_, err = greetings.Create(ctx, greetingFor(owner), metav1.CreateOptions{})
	case wanted && current.Data["text"] != greetingFor(owner).Data["text"]:
		updated := current.DeepCopy() // the cache's object is not ours to change
		updated.Data = greetingFor(owner).Data
		_, err = greetings.Update(ctx, updated, metav1.UpdateOptions{})
	case owner != nil && !wanted && exists && metav1.IsControlledBy(current, owner):
		err = greetings.Delete(ctx, current.Name, metav1.DeleteOptions{})
	default:
		err = nil // it is as it should be; a greeting without owner is the garbage collector's
	}
	return reconcile.Done, err // an error means: again, later and later
}

// greetingFor is the desired state: a pure function of what is asked for.
func greetingFor(owner *corev1.ConfigMap) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: owner.Namespace, Name: prefix + owner.Name,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, corev1.SchemeGroupVersion.WithKind("ConfigMap"))},
		},
		Data: map[string]string{"text": "Hello, " + owner.Labels[Label] + "!"},
	}
}
