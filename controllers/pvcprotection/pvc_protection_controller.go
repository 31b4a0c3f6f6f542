// Package pvcprotection lets a PersistentVolumeClaim that is being deleted go when no pod uses it any more. Admission
// put the finalizer there when the claim was created.
//
//	PersistentVolumeClaim ───────────────────┐
//	Pod gone or shut down ─► claims it names ┴─► claim ─► processPVC ─► in use? else take the finalizer away
//
// A pod uses a claim while it is bound to a node, and until it is gone: one that has ended may still have it
// mounted, and its volume would be reclaimed under the mount. A pod that waits for a node cannot start with a claim
// that is being deleted: the scheduler refuses that.
//
// # In Kubernetes
//
// pkg/controller/volume/pvcprotection (Controller.processPVC). Without the second, live look at the pods a claim could go
// under a pod that was bound after the informer's last event.
package pvcprotection

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
	"k8s.io/client-go/tools/cache"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// Finalizer is what holds a claim.
const Finalizer = "kubernetes.io/pvc-protection"

// Controller is the loop over claims.
type Controller struct {
	*reconcile.Loop
	client    kubernetes.Interface
	pvcLister corelisters.PersistentVolumeClaimLister
	podLister corelisters.PodLister
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, options reconcile.Options) *Controller {
	claims, pods := factory.Core().V1().PersistentVolumeClaims(), factory.Core().V1().Pods()
	c := &Controller{client: client, pvcLister: claims.Lister(), podLister: pods.Lister()}
	c.Loop = reconcile.New("pvcprotection", c.processPVC, options)
	c.Watch(claims.Informer(), reconcile.Self)
	c.Watch(pods.Informer(), claimsLetGo)
	return c
}

// claimsLetGo are the claims that a pod lets go of: when it is gone, replaced by another of its name, or shut down.
func claimsLetGo(e reconcile.Event) []string {
	var keys []string
	add := func(pod *corev1.Pod) {
		for _, name := range claimNames(pod) {
			keys = append(keys, cache.NewObjectName(pod.Namespace, name).String())
		}
	}
	// A watch that was interrupted shows a deletion and a creation as one change.
	if old, ok := e.Old.(*corev1.Pod); ok && (e.Deleted() || e.New.GetUID() != old.UID) {
		add(old)
	}
	if pod, ok := e.New.(*corev1.Pod); ok && isShutDown(pod) {
		add(pod)
	}
	return keys
}

// isShutDown: the kubelet is done with the pod, or it was deleted by force. Only finalizers hold it, and they may wait
// for the claim of an ephemeral volume, which would otherwise wait for them.
func isShutDown(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0
}

// claimNames are the claims that a pod mounts, those of ephemeral volumes included.
func claimNames(pod *corev1.Pod) []string {
	var names []string
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, pod.Name+"-"+v.Name)
		}
	}
	return names
}

// processPVC takes the finalizer from a claim that is being deleted and not in use, and puts it on a claim that has
// none because it was created before there was an admission for it.
func (c *Controller) processPVC(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	claim, err := c.pvcLister.PersistentVolumeClaims(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	held := slices.Contains(claim.Finalizers, Finalizer)
	update := claim.DeepCopy()
	switch {
	case claim.DeletionTimestamp != nil && held:
		used, err := c.isBeingUsed(ctx, claim)
		if err != nil || used {
			return reconcile.Done, err // the pod's end brings the claim back here
		}
		update.Finalizers = slices.DeleteFunc(update.Finalizers, func(f string) bool { return f == Finalizer })
	case claim.DeletionTimestamp == nil && !held:
		update.Finalizers = append(update.Finalizers, Finalizer)
	default:
		return reconcile.Done, nil
	}
	_, err = c.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, update, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Done, fmt.Errorf("changing the finalizers of claim %s: %w", key, err)
	}
	return reconcile.Done, nil
}

// isBeingUsed asks the cache, and before it says no the apiserver.
func (c *Controller) isBeingUsed(ctx context.Context, claim *corev1.PersistentVolumeClaim) (bool, error) {
	cached, err := c.podLister.Pods(claim.Namespace).List(labels.Everything())
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(cached, func(pod *corev1.Pod) bool { return uses(pod, claim) }) {
		return true, nil
	}
	live, err := c.client.CoreV1().Pods(claim.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(live.Items, func(pod corev1.Pod) bool { return uses(&pod, claim) }), nil
}

func uses(pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	if pod.Spec.NodeName == "" {
		return false
	}
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim.Name {
			return true
		}
		// An ephemeral volume's claim belongs to its pod; one of the same name that does not is another's.
		if v.Ephemeral != nil && !isShutDown(pod) && pod.Name+"-"+v.Name == claim.Name && metav1.IsControlledBy(claim, pod) {
			return true
		}
	}
	return false
}
