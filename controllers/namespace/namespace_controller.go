// Package namespace empties a namespace that is being deleted, and lets it go.
//
//	Namespace with deletionTimestamp ─► syncNamespaceFromKey ─► deleteAllContent
//	      ▲                                   ├─ something is left: conditions, again in a second
//	      └── /finalize without "kubernetes" ◄┘ nothing is left
//
// What there is to delete is asked from discovery at every run, so that kinds that
// were added a minute ago, or are served by another apiserver, are deleted too. A
// kind whose server does not answer blocks the namespace, and the condition says
// which: to let go would leave objects in a namespace that does not exist.
//
// Pods go first, and the rest only when they are gone (KEP-5080): a NetworkPolicy
// that went before the pod it isolates would open it for its last seconds.
//
// # In Kubernetes
//
// pkg/controller/namespace/namespace_controller.go and
// deletion/namespaced_resources_deleter.go. Left out: the five seconds it waits
// first, for other apiservers to notice, and the estimate of how long pods
// take, by which it waits between two runs (here one second).
package namespace

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/klog/v2"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// pollPeriod is the time between two looks at a namespace that is not empty yet.
const pollPeriod = time.Second

// NamespaceController is the loop over namespaces.
type NamespaceController struct {
	*reconcile.Loop
	client   kubernetes.Interface
	metadata metadata.Interface
	lister   corelisters.NamespaceLister
}

// New makes the controller.
func New(client kubernetes.Interface, metadataClient metadata.Interface, factory informers.SharedInformerFactory, options reconcile.Options) *NamespaceController {
	namespaces := factory.Core().V1().Namespaces()
	nm := &NamespaceController{client: client, metadata: metadataClient, lister: namespaces.Lister()}
	nm.Loop = reconcile.New("namespace", nm.syncNamespaceFromKey, options)
	nm.Watch(namespaces.Informer(), func(e reconcile.Event) []string {
		if e.Deleted() || e.New.GetDeletionTimestamp() == nil {
			return nil
		}
		return reconcile.Self(e)
	})
	return nm
}

// syncNamespaceFromKey is one turn for one namespace that is being deleted:
//
//  1. delete what is in it, and see what is left,
//  2. say so in its conditions,
//  3. come back if something is left,
//  4. else remove our finalizer, upon which the API removes the namespace.
func (nm *NamespaceController) syncNamespaceFromKey(ctx context.Context, name string) (reconcile.Result, error) {
	cached, err := nm.lister.Get(name)
	if apierrors.IsNotFound(err) || err == nil && cached.DeletionTimestamp == nil {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	// Asked afresh: its finalizers decide what is still ours to do.
	ns, err := nm.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && ns.UID != cached.UID {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return reconcile.Done, nil // others have finalizers on it; ours is done
	}

	// A run that a timer brought is for the namespace all the same, as it was last seen.
	ctx = reconcile.AlsoBecause(ctx, "MODIFIED", cached)
	// Step 1: delete what is in it.
	found := nm.deleteAllContent(ctx, ns)

	// Step 2: say so in its conditions.
	before := ns.ResourceVersion
	ns, err = nm.updateConditions(ctx, ns, found)
	if err != nil {
		return reconcile.Done, err
	}
	if ns.ResourceVersion != before || !found.remaining() {
		found.tell(ctx, name)
	}
	// Step 3: come back if something is left.
	if err := found.err(); err != nil {
		return reconcile.Done, err
	}
	if found.remaining() {
		klog.FromContext(ctx).V(2).Info("Content remains in namespace", "remaining", found.remainingMessage())
		return reconcile.Result{After: pollPeriod}, nil
	}
	// Step 4: remove our finalizer.
	ns = ns.DeepCopy()
	ns.Spec.Finalizers = slices.DeleteFunc(ns.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	_, err = nm.client.CoreV1().Namespaces().Finalize(ctx, ns, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	return reconcile.Done, err
}

// updateConditions writes what was found, unless the namespace says it already. An
// empty namespace gets no conditions: it is gone in a moment.
func (nm *NamespaceController) updateConditions(ctx context.Context, ns *corev1.Namespace, found *content) (*corev1.Namespace, error) {
	if len(ns.Status.Conditions) == 0 && !found.remaining() && found.err() == nil && ns.Status.Phase == corev1.NamespaceTerminating {
		return ns, nil
	}
	updated := ns.DeepCopy()
	updated.Status.Phase = corev1.NamespaceTerminating
	updated.Status.Conditions = found.conditions(ns.Status.Conditions, metav1.Now())
	if equality.Semantic.DeepEqual(ns.Status, updated.Status) {
		return ns, nil
	}
	return nm.client.CoreV1().Namespaces().UpdateStatus(ctx, updated, metav1.UpdateOptions{})
}
