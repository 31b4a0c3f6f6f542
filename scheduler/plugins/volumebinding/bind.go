package volumebinding

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	storagehelpers "k8s.io/component-helpers/storage/volume"
)

// pollInterval is how often the caches are looked at while the controllers bind. Nothing is asked of the apiserver.
const pollInterval = 50 * time.Millisecond

// AssumePodVolumes changes the decision's objects in the caches, as BindPodVolumes will write them. It reports
// whether there is nothing to write.
func (b *volumeBinder) AssumePodVolumes(nodeName string, volumes *podVolumes) (allBound bool, err error) {
	for i := range volumes.bindings {
		own := &volumes.bindings[i]
		bound, dirty, err := storagehelpers.GetBindVolumeToClaim(own.volume, own.claim)
		if err != nil {
			b.RevertAssumedPodVolumes(volumes)
			return false, err
		}
		own.volume = bound
		if dirty {
			b.volumes.assume(bound)
		}
	}
	for i := range volumes.provisions {
		own := &volumes.provisions[i]
		own.claim = own.claim.DeepCopy()
		metav1.SetMetaDataAnnotation(&own.claim.ObjectMeta, storagehelpers.AnnSelectedNode, nodeName)
		b.claims.assume(own.claim)
	}
	return len(volumes.bindings) == 0 && len(volumes.provisions) == 0, nil
}

// RevertAssumedPodVolumes lets the caches be as the API has it.
func (b *volumeBinder) RevertAssumedPodVolumes(volumes *podVolumes) {
	for _, own := range volumes.bindings {
		b.volumes.restore(own.volume)
	}
	for _, own := range volumes.provisions {
		b.claims.restore(own.claim)
	}
}

// BindPodVolumes writes the decision, and waits until the claims are bound:
//
//	1: the claimRef of each volume that is there
//	2: the chosen node on each claim for which a volume is to be made
//	3: wait for binder and provisioner
func (b *volumeBinder) BindPodVolumes(ctx context.Context, pod *v1.Pod, nodeName string, volumes *podVolumes) error {
	// Step 1: the claimRef of each volume that is there
	for i := range volumes.bindings {
		own := &volumes.bindings[i]
		written, err := b.client.CoreV1().PersistentVolumes().Update(ctx, own.volume, metav1.UpdateOptions{})
		if err != nil {
			return fmt.Errorf("binding volume %s to claim %s: %w", own.volume.Name, own.claim.Name, err)
		}
		own.volume = written
		b.volumes.assume(written)
	}
	// Step 2: the chosen node on each claim for which a volume is to be made
	for i := range volumes.provisions {
		own := &volumes.provisions[i]
		written, err := b.client.CoreV1().PersistentVolumeClaims(own.claim.Namespace).Update(ctx, own.claim, metav1.UpdateOptions{})
		if err != nil {
			return fmt.Errorf("choosing node %s for claim %s: %w", nodeName, own.claim.Name, err)
		}
		own.claim = written
		b.claims.assume(written)
	}
	// Step 3: wait for binder and provisioner
	err := wait.PollUntilContextTimeout(ctx, pollInterval, b.bindTimeout, true, func(context.Context) (bool, error) {
		return b.checkBindings(pod, nodeName, volumes)
	})
	if err != nil {
		return fmt.Errorf("binding volumes: %w", err)
	}
	return nil
}

// checkBindings says whether all claims are bound; an error means that they never will be, to this node.
func (b *volumeBinder) checkBindings(pod *v1.Pod, nodeName string, volumes *podVolumes) (bool, error) {
	node, err := b.nodes.Get(nodeName)
	if err != nil {
		return false, fmt.Errorf("failed to get node %q: %w", nodeName, err)
	}
	if _, err := b.pods.Pods(pod.Namespace).Get(pod.Name); apierrors.IsNotFound(err) {
		return false, fmt.Errorf("pod does not exist any more: %w", err)
	}
	for _, own := range volumes.bindings {
		volume, err := b.volumes.get("", own.volume.Name)
		if err != nil {
			return false, fmt.Errorf("failed to check binding: %w", err)
		}
		if volume.Spec.ClaimRef == nil || volume.Spec.ClaimRef.UID == "" {
			return false, fmt.Errorf("ClaimRef got reset for pv %q", volume.Name)
		}
		if done, err := b.checkClaim(own.claim, node); !done || err != nil {
			return false, err
		}
	}
	for _, own := range volumes.provisions {
		claim, err := b.claims.get(own.claim.Namespace, own.claim.Name)
		if err != nil {
			return false, fmt.Errorf("failed to check provisioning pvc: %w", err)
		}
		if claim.Annotations[storagehelpers.AnnSelectedNode] != nodeName {
			return false, fmt.Errorf("provisioning failed for PVC %q", claim.Name) // the provisioner has taken our choice back
		}
		if done, err := b.checkClaim(own.claim, node); !done || err != nil {
			return false, err
		}
	}
	return true, nil
}

// checkClaim says whether a claim is bound, and to a volume that the node reaches.
func (b *volumeBinder) checkClaim(claim *v1.PersistentVolumeClaim, node *v1.Node) (bool, error) {
	now, err := b.claims.get(claim.Namespace, claim.Name)
	if err != nil {
		return false, fmt.Errorf("failed to check binding: %w", err)
	}
	if now.UID != claim.UID {
		return false, errors.New("the claim was deleted and made anew: " + claim.Name)
	}
	if now.Spec.VolumeName == "" {
		return false, nil
	}
	volume, err := b.volumes.get("", now.Spec.VolumeName)
	if apierrors.IsNotFound(err) {
		return false, nil // the informer of volumes is behind that of claims
	}
	if err != nil {
		return false, err
	}
	if err := storagehelpers.CheckNodeAffinity(volume, node.Labels); err != nil {
		return false, fmt.Errorf("pv %q node affinity doesn't match node %q: %w", volume.Name, node.Name, err)
	}
	return isFullyBound(now), nil
}
