package statefulset

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// createStatefulPod creates the pod's claims, and then the pod.
func (ssc *StatefulSetController) createStatefulPod(ctx context.Context, t *turn, pod *corev1.Pod) error {
	if err := ssc.keepClaims(ctx, t.set, pod, false, true); err != nil {
		if !errors.Is(err, errStaleClaim) {
			ssc.recordPodEvent("create", t.set, pod, err)
		}
		return err
	}
	created, err := ssc.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // all is about to go
	}
	if apierrors.IsAlreadyExists(err) {
		return err
	}
	ssc.recordPodEvent("create", t.set, pod, err)
	if err != nil {
		return err
	}
	t.status.Replicas++
	if getPodRevision(created) == t.current {
		t.status.CurrentReplicas++
	}
	if getPodRevision(created) == t.update {
		t.status.UpdatedReplicas++
	}
	return nil
}

// deleteStatefulPod deletes this pod, and not a successor of its name.
func (ssc *StatefulSetController) deleteStatefulPod(ctx context.Context, set *appsv1.StatefulSet, pod *corev1.Pod) error {
	err := ssc.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	ssc.recordPodEvent("delete", set, pod, err)
	return err
}

// errStaleClaim: the next turn may find it gone. There is nothing to report until then.
var errStaleClaim = errors.New("it is about to go with the pod that had it before")

// keepClaims makes the pod's claims be there, if create is set, and be owned as the
// retention policy says.
func (ssc *StatefulSetController) keepClaims(ctx context.Context, set *appsv1.StatefulSet, pod *corev1.Pod, condemned, create bool) error {
	var errs []error
	owners := claimOwners(set, pod, condemned)
	for _, claim := range getPersistentVolumeClaims(set, pod) {
		api := ssc.client.CoreV1().PersistentVolumeClaims(claim.Namespace)
		known, err := api.Get(ctx, claim.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			if !create {
				continue
			}
			claim.OwnerReferences = owners
			_, err = api.Create(ctx, claim, metav1.CreateOptions{})
			if !apierrors.IsAlreadyExists(err) {
				ssc.recordClaimEvent("create", set, pod, claim.Name, err)
				errs = append(errs, err)
			}
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if known.DeletionTimestamp != nil && create {
			errs = append(errs, fmt.Errorf("pvc %s is being deleted", known.Name))
			continue
		}
		if pod.UID == "" && claimIsStale(set, pod, known) {
			errs = append(errs, fmt.Errorf("pvc %s: %w", known.Name, errStaleClaim))
			continue
		}
		wanted, conflict := newClaimOwners(set, pod, known.OwnerReferences, owners)
		if equality.Semantic.DeepEqual(known.OwnerReferences, wanted) {
			continue
		}
		if conflict {
			ssc.recorder.Eventf(set, corev1.EventTypeWarning, "ConflictingController", "PersistentVolumeClaim %s has a conflicting OwnerReference "+
				"that acts as a manging controller, the retention policy is ignored for this claim", known.Name)
		}
		known.OwnerReferences = wanted
		_, err = api.Update(ctx, known, metav1.UpdateOptions{})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (ssc *StatefulSetController) recordPodEvent(verb string, set *appsv1.StatefulSet, pod *corev1.Pod, err error) {
	if err == nil {
		ssc.recorder.Eventf(set, corev1.EventTypeNormal, "Successful"+title(verb), "%s Pod %s in StatefulSet %s successful", title(verb), pod.Name, set.Name)
		return
	}
	ssc.recorder.Eventf(set, corev1.EventTypeWarning, "Failed"+title(verb), "%s Pod %s in StatefulSet %s failed error: %s", title(verb), pod.Name, set.Name, err)
}

func (ssc *StatefulSetController) recordClaimEvent(verb string, set *appsv1.StatefulSet, pod *corev1.Pod, claim string, err error) {
	if err == nil {
		ssc.recorder.Eventf(set, corev1.EventTypeNormal, "Successful"+title(verb), "%s Claim %s Pod %s in StatefulSet %s success", title(verb), claim, pod.Name, set.Name)
		return
	}
	ssc.recorder.Eventf(set, corev1.EventTypeWarning, "Failed"+title(verb), "%s Claim %s for Pod %s in StatefulSet %s failed error: %s", title(verb), claim, pod.Name, set.Name, err)
}

func title(verb string) string {
	return map[string]string{"create": "Create", "update": "Update", "delete": "Delete"}[verb]
}
