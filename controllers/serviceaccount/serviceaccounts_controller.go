// Package serviceaccount keeps a ServiceAccount "default" in every namespace,
// without which admission refuses its pods.
//
//	Namespace ───────────────┐
//	ServiceAccount deleted ──┴─► namespace ─► syncNamespace ─► create "default"
//
// It creates and never changes: an account that someone edited stays as it is.
//
// # In Kubernetes
//
// pkg/controller/serviceaccount/serviceaccounts_controller.go
// (ServiceAccountsController). Beside it, TokensController fills the token Secrets that
// somebody asks for; nobody gets one unasked any more.
package serviceaccount

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

const defaultServiceAccount = "default"

// ServiceAccountsController is the loop over namespaces.
type ServiceAccountsController struct {
	*reconcile.Loop
	client   kubernetes.Interface
	nsLister corelisters.NamespaceLister
	saLister corelisters.ServiceAccountLister
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, options reconcile.Options) *ServiceAccountsController {
	namespaces, accounts := factory.Core().V1().Namespaces(), factory.Core().V1().ServiceAccounts()
	c := &ServiceAccountsController{client: client, nsLister: namespaces.Lister(), saLister: accounts.Lister()}
	c.Loop = reconcile.New("serviceaccount", c.syncNamespace, options)
	c.Watch(namespaces.Informer(), reconcile.Self)
	c.Watch(accounts.Informer(), deletedDefault)
	return c
}

// deletedDefault: the namespace of a default account that went.
func deletedDefault(e reconcile.Event) []string {
	if !e.Deleted() || e.Old.GetName() != defaultServiceAccount {
		return nil
	}
	return []string{e.Old.GetNamespace()}
}

func (c *ServiceAccountsController) syncNamespace(ctx context.Context, name string) (reconcile.Result, error) {
	ns, err := c.nsLister.Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	if ns.Status.Phase == corev1.NamespaceTerminating || ns.DeletionTimestamp != nil {
		return reconcile.Done, nil // nothing can be created there any more
	}
	if _, err := c.saLister.ServiceAccounts(name).Get(defaultServiceAccount); !apierrors.IsNotFound(err) {
		return reconcile.Done, err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: defaultServiceAccount}}
	_, err = c.client.CoreV1().ServiceAccounts(name).Create(ctx, account, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return reconcile.Done, nil // the cache was behind
	}
	return reconcile.Done, err
}
