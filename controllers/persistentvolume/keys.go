package persistentvolume

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/storage/ephemeral"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"hyperkube/reconcile"
)

func claimKey(namespace, name string) string { return "pvc/" + namespace + "/" + name }
func volumeKey(name string) string           { return "pv/" + name }

// keysOfClaim: the claim itself, and the volumes that point at it or at which it points. A claim that
// goes leaves its volume to be reclaimed.
func (ctrl *Controller) keysOfClaim(e reconcile.Event) []string {
	claim, ok := e.Object().(*corev1.PersistentVolumeClaim)
	if !ok {
		return nil
	}
	keys := []string{claimKey(claim.Namespace, claim.Name)}
	if claim.Spec.VolumeName != "" {
		keys = append(keys, volumeKey(claim.Spec.VolumeName))
	}
	if !e.Deleted() && claim.Status.Phase == corev1.ClaimBound {
		return keys // the usual case; the others look at all volumes
	}
	volumes, _ := ctrl.volumeLister.List(labels.Everything())
	for _, v := range volumes {
		if ref := v.Spec.ClaimRef; ref != nil && ref.Namespace == claim.Namespace && ref.Name == claim.Name && v.Name != claim.Spec.VolumeName {
			keys = append(keys, volumeKey(v.Name))
		}
	}
	return keys
}

// keysOfVolume: the volume itself, its claim, and the claims that may have waited for it.
func (ctrl *Controller) keysOfVolume(e reconcile.Event) []string {
	volume, ok := e.Object().(*corev1.PersistentVolume)
	if !ok {
		return nil
	}
	keys := []string{volumeKey(volume.Name)}
	if ref := volume.Spec.ClaimRef; ref != nil {
		keys = append(keys, claimKey(ref.Namespace, ref.Name))
	}
	return append(keys, ctrl.unboundClaims(func(c *corev1.PersistentVolumeClaim) bool {
		if c.Spec.VolumeName != "" {
			return c.Spec.VolumeName == volume.Name
		}
		return !e.Deleted() && volume.Spec.ClaimRef == nil && volume.Status.Phase == corev1.VolumeAvailable &&
			storagehelpers.GetPersistentVolumeClaimClass(c) == storagehelpers.GetPersistentVolumeClass(volume)
	})...)
}

// keysOfClass: the claims that wait for a class of this name, or for a default one.
func (ctrl *Controller) keysOfClass(e reconcile.Event) []string {
	if e.Deleted() {
		return nil
	}
	return ctrl.unboundClaims(func(c *corev1.PersistentVolumeClaim) bool {
		return c.Spec.VolumeName == "" && (!storagehelpers.PersistentVolumeClaimHasClass(c) || storagehelpers.GetPersistentVolumeClaimClass(c) == e.Object().GetName())
	})
}

// unboundClaims are the keys of those that were never bound and that want says.
func (ctrl *Controller) unboundClaims(want func(*corev1.PersistentVolumeClaim) bool) []string {
	var keys []string
	claims, _ := ctrl.claimLister.List(labels.Everything())
	for _, c := range claims {
		if _, bound := c.Annotations[storagehelpers.AnnBindCompleted]; !bound && want(c) {
			keys = append(keys, claimKey(c.Namespace, c.Name))
		}
	}
	return keys
}

// keysOfPod: the claims of a new pod, so that their event names the pod that is waited for.
func keysOfPod(e reconcile.Event) []string {
	pod, ok := e.Object().(*corev1.Pod)
	if !ok || !e.Added() || pod.Spec.NodeName != "" {
		return nil
	}
	var keys []string
	for _, name := range claimNames(pod) {
		keys = append(keys, claimKey(pod.Namespace, name))
	}
	return keys
}

// claimNames are the claims that a pod mounts, those of ephemeral volumes included.
func claimNames(pod *corev1.Pod) []string {
	var names []string
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, ephemeral.VolumeClaimName(pod, v))
		}
	}
	return names
}
