// Package pvprotection lets a PersistentVolume that is being deleted go when it is bound to no claim any more. Admission
// put the finalizer there when the volume was created.
//
//	PersistentVolume ─► processPV ─► bound? else take the finalizer away
//
// # In Kubernetes
//
// pkg/controller/volume/pvprotection (Controller.processPV).
package pvprotection

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// Finalizer is what holds a volume.
const Finalizer = "kubernetes.io/pv-protection"

// Controller is the loop over volumes.
type Controller struct {
	*reconcile.Loop
	client   kubernetes.Interface
	pvLister corelisters.PersistentVolumeLister
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, options reconcile.Options) *Controller {
	volumes := factory.Core().V1().PersistentVolumes()
	c := &Controller{client: client, pvLister: volumes.Lister()}
	c.Loop = reconcile.New("pvprotection", c.processPV, options)
	c.Watch(volumes.Informer(), reconcile.Self)
	return c
}

// processPV takes the finalizer from a volume that is being deleted and bound to nothing, and puts it on one that
// has none because it was created before there was an admission for it.
func (c *Controller) processPV(ctx context.Context, name string) (reconcile.Result, error) {
	volume, err := c.pvLister.Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	held := slices.Contains(volume.Finalizers, Finalizer)
	update := volume.DeepCopy()
	switch {
	case volume.DeletionTimestamp != nil && held && volume.Status.Phase != corev1.VolumeBound:
		update.Finalizers = slices.DeleteFunc(update.Finalizers, func(f string) bool { return f == Finalizer })
	case volume.DeletionTimestamp == nil && !held:
		update.Finalizers = append(update.Finalizers, Finalizer)
	default:
		return reconcile.Done, nil // the volume's next change brings it back here
	}
	_, err = c.client.CoreV1().PersistentVolumes().Update(ctx, update, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Done, fmt.Errorf("changing the finalizers of volume %s: %w", name, err)
	}
	return reconcile.Done, nil
}
