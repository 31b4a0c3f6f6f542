// Package vacprotection lets a VolumeAttributesClass that is being deleted go when no volume and no claim names it any
// more. Admission put the finalizer there when the class was created.
//
//	VolumeAttributesClass ────────────────┐
//	volume, claim ─► classes it let go of ┴─► class ─► processVAC ─► in use? else take the finalizer away
//
// A claim uses the class that it asks for, the one that it has, and the one that it is on its way to.
//
// # In Kubernetes
//
// pkg/controller/volume/vacprotection (Controller.processVAC). There, two indexes find who uses a class; here all volumes and
// claims are looked through, once for each class that goes.
package vacprotection

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// Finalizer is what holds a class.
const Finalizer = "kubernetes.io/vac-protection"

// Controller is the loop over classes.
type Controller struct {
	*reconcile.Loop
	client    kubernetes.Interface
	vacLister storagelisters.VolumeAttributesClassLister
	pvLister  corelisters.PersistentVolumeLister
	pvcLister corelisters.PersistentVolumeClaimLister
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, options reconcile.Options) *Controller {
	classes, volumes, claims := factory.Storage().V1().VolumeAttributesClasses(), factory.Core().V1().PersistentVolumes(), factory.Core().V1().PersistentVolumeClaims()
	c := &Controller{client: client, vacLister: classes.Lister(), pvLister: volumes.Lister(), pvcLister: claims.Lister()}
	c.Loop = reconcile.New("vacprotection", c.processVAC, options)
	c.Watch(classes.Informer(), reconcile.Self)
	c.Watch(volumes.Informer(), classesLetGo)
	c.Watch(claims.Informer(), classesLetGo)
	return c
}

// classesLetGo are the classes that a volume or claim named before and does not name now.
func classesLetGo(e reconcile.Event) []string {
	return slices.DeleteFunc(classNames(e.Old), func(name string) bool { return slices.Contains(classNames(e.New), name) })
}

func classNames(object metav1.Object) []string {
	var names []string
	switch o := object.(type) {
	case *corev1.PersistentVolume:
		names = []string{ptr.Deref(o.Spec.VolumeAttributesClassName, "")}
	case *corev1.PersistentVolumeClaim:
		names = []string{ptr.Deref(o.Spec.VolumeAttributesClassName, ""), ptr.Deref(o.Status.CurrentVolumeAttributesClassName, "")}
		if s := o.Status.ModifyVolumeStatus; s != nil {
			names = append(names, s.TargetVolumeAttributesClassName)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// processVAC takes the finalizer from a class that is being deleted and not in use, and puts it on one that has none
// because it was created before there was an admission for it.
func (c *Controller) processVAC(ctx context.Context, name string) (reconcile.Result, error) {
	class, err := c.vacLister.Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	held := slices.Contains(class.Finalizers, Finalizer)
	update := class.DeepCopy()
	switch {
	case class.DeletionTimestamp != nil && held:
		if used, err := c.isBeingUsed(name); used || err != nil {
			return reconcile.Done, err // who lets go of it brings it back here
		}
		update.Finalizers = slices.DeleteFunc(update.Finalizers, func(f string) bool { return f == Finalizer })
	case class.DeletionTimestamp == nil && !held:
		update.Finalizers = append(update.Finalizers, Finalizer)
	default:
		return reconcile.Done, nil // the class's next change brings it back here
	}
	_, err = c.client.StorageV1().VolumeAttributesClasses().Update(ctx, update, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Done, fmt.Errorf("changing the finalizers of volume attributes class %s: %w", name, err)
	}
	return reconcile.Done, nil
}

func (c *Controller) isBeingUsed(name string) (bool, error) {
	volumes, err := c.pvLister.List(labels.Everything())
	if err != nil {
		return true, err
	}
	claims, err := c.pvcLister.List(labels.Everything())
	if err != nil {
		return true, err
	}
	return slices.ContainsFunc(volumes, func(v *corev1.PersistentVolume) bool { return slices.Contains(classNames(v), name) }) ||
		slices.ContainsFunc(claims, func(p *corev1.PersistentVolumeClaim) bool { return slices.Contains(classNames(p), name) }), nil
}
