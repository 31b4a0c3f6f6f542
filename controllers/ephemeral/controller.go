// Package ephemeral creates the claims of generic ephemeral volumes: volumes that live as long as their pod, and
// are made as a claim's are.
//
//	Pod with spec.volumes[].ephemeral ──┐
//	claim deleted ─► its owning pod ────┴─► pod ─► handleVolume ─► claim POD-VOLUME, owned by the pod
//
// From there on it is a claim like any other: bound, mounted, and, since the pod owns it, deleted by the garbage
// collector after the pod.
//
// Invariant: a claim of that name which the pod does not own is somebody else's data: it is never used, the pod waits.
//
// # In Kubernetes
//
// pkg/controller/volume/ephemeral (Controller.syncHandler, handleVolume). Nothing is left out but metrics.
package ephemeral

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/component-helpers/storage/ephemeral"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// Controller is the loop over pods with ephemeral volumes.
type Controller struct {
	*reconcile.Loop
	client    kubernetes.Interface
	recorder  record.EventRecorder
	podLister corelisters.PodLister
	pvcLister corelisters.PersistentVolumeClaimLister
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) *Controller {
	pods, claims := factory.Core().V1().Pods(), factory.Core().V1().PersistentVolumeClaims()
	ec := &Controller{client: client, recorder: recorder, podLister: pods.Lister(), pvcLister: claims.Lister()}
	ec.Loop = reconcile.New("ephemeralvolume", ec.syncHandler, options)
	ec.Watch(pods.Informer(), newPods)
	ec.Watch(claims.Informer(), podsOfDeleted)
	return ec
}

// newPods are those that have just come, and have such volumes: a pod's volumes never change.
func newPods(e reconcile.Event) []string {
	pod, ok := e.Object().(*corev1.Pod)
	if !ok || !e.Added() {
		return nil
	}
	for _, v := range pod.Spec.Volumes {
		if v.Ephemeral != nil {
			return reconcile.Self(e)
		}
	}
	return nil
}

// podsOfDeleted is the pod that a deleted claim belonged to: it needs it again.
func podsOfDeleted(e reconcile.Event) []string {
	if !e.Deleted() {
		return nil
	}
	return reconcile.Owner(corev1.SchemeGroupVersion.WithKind("Pod"))(e)
}

// syncHandler makes the claims of one pod be there.
func (ec *Controller) syncHandler(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	pod, err := ec.podLister.Pods(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	if pod.DeletionTimestamp != nil {
		return reconcile.Done, nil // its claims are to go, too
	}
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		if volume.Ephemeral == nil {
			continue
		}
		if err := ec.handleVolume(ctx, pod, volume); err != nil {
			ec.recorder.Eventf(pod, corev1.EventTypeWarning, "FailedBinding", "ephemeral volume %s: %v", volume.Name, err)
			return reconcile.Done, fmt.Errorf("pod %s, ephemeral volume %s: %w", key, volume.Name, err)
		}
	}
	return reconcile.Done, nil
}

// handleVolume creates a volume's claim, unless it is there.
func (ec *Controller) handleVolume(ctx context.Context, pod *corev1.Pod, volume *corev1.Volume) error {
	name := ephemeral.VolumeClaimName(pod, volume)
	claim, err := ec.pvcLister.PersistentVolumeClaims(pod.Namespace).Get(name)
	if err == nil {
		return ephemeral.VolumeIsForPod(pod, claim)
	}
	if !apierrors.IsNotFound(err) {
		return err
	}
	template := volume.Ephemeral.VolumeClaimTemplate
	claim = &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: template.Labels, Annotations: template.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: template.Spec,
	}
	if _, err := ec.client.CoreV1().PersistentVolumeClaims(pod.Namespace).Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create PVC %s: %w", name, err)
	}
	return nil
}
