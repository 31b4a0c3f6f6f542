package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/reference"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

// finalizer holds a volume until its directory is gone; external provisioners share the name.
const finalizer = storagehelpers.PVDeletionProtectionFinalizer

// unsupported says why no directory can be what the claim asks for; "" if one can.
func unsupported(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node string) string {
	switch {
	case node == "":
		return fmt.Sprintf("a directory lies on one node, and none was chosen: a class of %s must have volumeBindingMode WaitForFirstConsumer", Name)
	case ptr.Deref(claim.Spec.VolumeMode, corev1.PersistentVolumeFilesystem) != corev1.PersistentVolumeFilesystem:
		return "volumeMode Block is not supported: a directory is no block device"
	case len(class.Parameters) > 0:
		return "the class has parameters, and there are none"
	case len(class.MountOptions) > 0:
		return "the class has mountOptions, and a directory is not mounted with any"
	case claim.Spec.Selector != nil:
		return "claim.spec.selector is not supported: it chooses among volumes that are there"
	}
	for _, mode := range claim.Spec.AccessModes {
		if mode != corev1.ReadWriteOnce && mode != corev1.ReadWriteOncePod {
			return fmt.Sprintf("access mode %s is not supported: a directory is reached from one node; with ReadWriteOnce all pods of that node share it", mode)
		}
	}
	return ""
}

// giveBack takes the scheduler's choice off a claim for which nothing can be made: else the pod would say for ten minutes
// nothing but that it waits.
func (p *Provisioner) giveBack(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if _, chosen := claim.Annotations[storagehelpers.AnnSelectedNode]; !chosen {
		return nil
	}
	update := claim.DeepCopy()
	delete(update.Annotations, storagehelpers.AnnSelectedNode)
	_, err := p.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, update, metav1.UpdateOptions{})
	return err
}

// path is a volume's directory.
func (p *Provisioner) path(node, volume string) string {
	return filepath.Join(p.NodesDir, node, "volumes", volume)
}

// provision makes the directory, then the volume. The claim's UID is in the name, so that a second try makes nothing new.
func (p *Provisioner) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, nodeName string) (*corev1.PersistentVolume, error) {
	node, err := p.Client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	volume, err := p.volumeFor(claim, class, node)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(volume.Spec.Local.Path, 0o755); err != nil {
		return nil, err
	}
	// Whatever user a container runs as may write here; MkdirAll would obey the umask.
	if err := os.Chmod(volume.Spec.Local.Path, 0o777); err != nil {
		return nil, err
	}
	_, err = p.Client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, err // the directory stays for the next try
	}
	return volume, nil
}

// volumeFor is the volume of a claim on a node.
func (p *Provisioner) volumeFor(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node) (*corev1.PersistentVolume, error) {
	ref, err := reference.GetReference(scheme.Scheme, claim)
	if err != nil {
		return nil, err
	}
	name := "pvc-" + string(claim.UID)
	policy := ptr.Deref(class.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{storagehelpers.AnnDynamicallyProvisioned: Name, nodeAnnotation: node.Name}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes: slices.Clone(claim.Spec.AccessModes), PersistentVolumeReclaimPolicy: policy, StorageClassName: class.Name,
			VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem), ClaimRef: ref,
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: p.path(node.Name, name)}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{hostname(node)}}},
			}}}},
		},
	}
	if policy == corev1.PersistentVolumeReclaimDelete {
		volume.Finalizers = []string{finalizer}
	}
	return volume, nil
}

func hostname(node *corev1.Node) string {
	if name := node.Labels[corev1.LabelHostname]; name != "" {
		return name
	}
	return node.Name
}

// resize gives the claim what it asks for. The directory has room as long as the disk has.
func (p *Provisioner) resize(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	wanted, has := claim.Spec.Resources.Requests[corev1.ResourceStorage], claim.Status.Capacity[corev1.ResourceStorage]
	if claim.Status.Phase != corev1.ClaimBound || wanted.Cmp(has) <= 0 {
		return nil
	}
	volume, err := p.volumeLister.Get(claim.Spec.VolumeName)
	if err != nil || volume.Annotations[storagehelpers.AnnDynamicallyProvisioned] != Name || !p.serves(nodeOf(volume)) {
		return err
	}
	if size := volume.Spec.Capacity[corev1.ResourceStorage]; size.Cmp(wanted) < 0 {
		update := volume.DeepCopy()
		update.Spec.Capacity[corev1.ResourceStorage] = wanted
		if _, err := p.Client.CoreV1().PersistentVolumes().Update(ctx, update, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("resizing volume %s: %w", volume.Name, err)
		}
	}
	update := claim.DeepCopy()
	update.Status.Capacity[corev1.ResourceStorage] = wanted
	if _, err := p.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, update, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("resizing claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	p.recorder.Event(claim, corev1.EventTypeNormal, "VolumeResizeSuccessful", "Resize volume succeeded")
	return nil
}
