// Package rootcacertpublisher puts the cluster's CA certificate into every
// namespace, as the ConfigMap kube-root-ca.crt that each pod mounts beside its
// token: without it, a pod could not tell our apiserver from another.
//
//	Namespace ───────────────┐
//	ConfigMap of that name ──┴─► namespace ─► syncNamespace ─► create | update
//
// Unlike the default ServiceAccount, the content is ours: a change is undone.
//
// # In Kubernetes
//
// pkg/controller/certificates/rootcacertpublisher/publisher.go (Publisher).
// Nothing is left out but its metrics.
package rootcacertpublisher

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// RootCACertConfigMapName is the name that the ServiceAccount admission plugin
// mounts.
const RootCACertConfigMapName = "kube-root-ca.crt"

const (
	descriptionAnnotation = "kubernetes.io/description"
	description           = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
)

// Publisher is the loop over namespaces.
type Publisher struct {
	*reconcile.Loop
	client   kubernetes.Interface
	rootCA   []byte
	nsLister corelisters.NamespaceLister
	cmLister corelisters.ConfigMapLister
}

// New makes the controller. rootCA is the certificate in PEM.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, rootCA []byte, options reconcile.Options) *Publisher {
	namespaces, configMaps := factory.Core().V1().Namespaces(), factory.Core().V1().ConfigMaps()
	c := &Publisher{client: client, rootCA: rootCA, nsLister: namespaces.Lister(), cmLister: configMaps.Lister()}
	c.Loop = reconcile.New("rootcacertpublisher", c.syncNamespace, options)
	c.Watch(namespaces.Informer(), reconcile.Self)
	c.Watch(configMaps.Informer(), func(e reconcile.Event) []string {
		if e.Object().GetName() != RootCACertConfigMapName || e.Added() {
			return nil
		}
		return []string{e.Object().GetNamespace()}
	})
	return c
}

func (c *Publisher) syncNamespace(ctx context.Context, name string) (reconcile.Result, error) {
	ns, err := c.nsLister.Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	if ns.Status.Phase == corev1.NamespaceTerminating || ns.DeletionTimestamp != nil {
		return reconcile.Done, nil
	}
	data := map[string]string{"ca.crt": string(c.rootCA)}
	current, err := c.cmLister.ConfigMaps(name).Get(RootCACertConfigMapName)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, c.create(ctx, name, data)
	}
	if err != nil {
		return reconcile.Done, err
	}
	if maps.Equal(current.Data, data) && current.Annotations[descriptionAnnotation] != "" {
		return reconcile.Done, nil
	}
	updated := current.DeepCopy()
	updated.Data = data
	metav1.SetMetaDataAnnotation(&updated.ObjectMeta, descriptionAnnotation, description)
	_, err = c.client.CoreV1().ConfigMaps(name).Update(ctx, updated, metav1.UpdateOptions{})
	return reconcile.Done, err
}

func (c *Publisher) create(ctx context.Context, namespace string, data map[string]string) error {
	_, err := c.client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: RootCACertConfigMapName,
			Annotations: map[string]string{descriptionAnnotation: description},
		},
		Data: data,
	}, metav1.CreateOptions{})
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	// AlreadyExists is retried: by then the cache has it, and its content is checked.
	return err
}
