package node

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	apipod "hyperkube/api/core/pod"
	"hyperkube/apiserver/request"
)

// hasPathFrom says whether the object that a asks for leads to the node:
//
//	pod ─► node
//	secret, configmap, serviceaccount, claim (of a volume, of devices) ─► pod ─► node
//	volume ─► claim ─► pod ─► node
//	secret ─► volume ─► claim ─► pod ─► node
//	volumeattachment, podcertificaterequest, resourceslice ─► node
func (z *Authorizer) hasPathFrom(nodeName string, a request.Attributes) (bool, error) {
	switch a.Resource {
	case "pods":
		pod, err := z.listers.Pods.Get(a.Namespace, a.Name)
		return err == nil && pod.Spec.NodeName == nodeName, err
	case "volumeattachments":
		if z.listers.VolumeAttachments == nil {
			return false, nil
		}
		attachment, err := z.listers.VolumeAttachments.Get("", a.Name)
		return err == nil && attachment.Spec.NodeName == nodeName, err
	case "podcertificaterequests":
		if z.listers.PodCertificateRequests == nil {
			return false, nil
		}
		asked, err := z.listers.PodCertificateRequests.Get(a.Namespace, a.Name)
		return err == nil && string(asked.Spec.NodeName) == nodeName, err
	case "resourceslices":
		if z.listers.ResourceSlices == nil {
			return false, nil
		}
		slice, err := z.listers.ResourceSlices.Get("", a.Name)
		return err == nil && slice.Spec.NodeName != nil && *slice.Spec.NodeName == nodeName, err
	case "persistentvolumes":
		return z.volumeLeadsTo(nodeName, a.Name)
	}
	found, err := z.podLeadsTo(nodeName, a.Namespace, func(pod *corev1.Pod) bool { return refersTo(pod, a.Resource, a.Name) })
	if err != nil || found || a.Resource != "secrets" {
		return found, err
	}
	return z.volumeSecretLeadsTo(nodeName, a.Namespace, a.Name)
}

// podLeadsTo says whether one of the pods on the node, in namespace, refers to what is looked for. A
// mirror pod refers to nothing: its kubelet has written it itself.
func (z *Authorizer) podLeadsTo(nodeName, namespace string, refers func(*corev1.Pod) bool) (bool, error) {
	pods, err := z.listers.Pods.List(namespace)
	return slices.ContainsFunc(pods, func(pod *corev1.Pod) bool {
		_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
		return pod.Spec.NodeName == nodeName && !mirror && refers(pod)
	}), err
}

func refersTo(pod *corev1.Pod, resource, name string) bool {
	found := false
	visit := func(seen string) bool { found = seen == name; return !found }
	switch resource {
	case "serviceaccounts":
		return pod.Spec.ServiceAccountName == name
	case "secrets":
		apipod.VisitPodSecretNames(pod, visit)
	case "configmaps":
		apipod.VisitPodConfigmapNames(pod, visit)
	case "persistentvolumeclaims":
		apipod.VisitPodPersistentVolumeClaimNames(pod, visit)
	case "resourceclaims":
		return slices.Contains(resourceClaims(pod), name)
	}
	return found
}

// resourceClaims are the claims of a pod's devices: those it names, those made for it by a template, and the one made for its
// extended resources.
func resourceClaims(pod *corev1.Pod) []string {
	var names []string
	for _, c := range pod.Spec.ResourceClaims {
		if c.ResourceClaimName != nil {
			names = append(names, *c.ResourceClaimName)
			continue
		}
		for _, made := range pod.Status.ResourceClaimStatuses {
			if made.Name == c.Name && made.ResourceClaimName != nil {
				names = append(names, *made.ResourceClaimName)
			}
		}
	}
	if extended := pod.Status.ExtendedResourceClaimStatus; extended != nil {
		names = append(names, extended.ResourceClaimName)
	}
	return names
}

// volumeLeadsTo follows a volume through the claim it is bound to.
func (z *Authorizer) volumeLeadsTo(nodeName, volumeName string) (bool, error) {
	if z.listers.PersistentVolumes == nil {
		return false, nil
	}
	volume, err := z.listers.PersistentVolumes.Get("", volumeName)
	if err != nil || volume.Spec.ClaimRef == nil {
		return false, err
	}
	claim := volume.Spec.ClaimRef
	return z.podLeadsTo(nodeName, claim.Namespace, func(pod *corev1.Pod) bool {
		return refersTo(pod, "persistentvolumeclaims", claim.Name)
	})
}

// volumeSecretLeadsTo looks for a volume that needs the secret and leads to the node.
func (z *Authorizer) volumeSecretLeadsTo(nodeName, namespace, name string) (bool, error) {
	if z.listers.PersistentVolumes == nil {
		return false, nil
	}
	volumes, err := z.listers.PersistentVolumes.List("")
	if err != nil {
		return false, err
	}
	for _, volume := range volumes {
		if !slices.Contains(volumeSecrets(volume), namespace+"/"+name) {
			continue
		}
		if leads, err := z.volumeLeadsTo(nodeName, volume.Name); leads && err == nil {
			return true, nil
		}
	}
	return false, nil
}

// volumeSecrets are the secrets that whoever mounts the volume needs, as namespace/name.
func volumeSecrets(volume *corev1.PersistentVolume) []string {
	var names []string
	add := func(refs ...*corev1.SecretReference) {
		for _, ref := range refs {
			if ref == nil {
				continue
			}
			namespace := ref.Namespace
			if namespace == "" && volume.Spec.ClaimRef != nil {
				namespace = volume.Spec.ClaimRef.Namespace
			}
			names = append(names, namespace+"/"+ref.Name)
		}
	}
	source := volume.Spec.PersistentVolumeSource
	switch {
	case source.CSI != nil:
		add(source.CSI.NodePublishSecretRef, source.CSI.NodeStageSecretRef, source.CSI.NodeExpandSecretRef)
	case source.ISCSI != nil:
		add(source.ISCSI.SecretRef)
	case source.FlexVolume != nil:
		add(source.FlexVolume.SecretRef)
	case source.CephFS != nil:
		add(source.CephFS.SecretRef)
	case source.RBD != nil:
		add(source.RBD.SecretRef)
	}
	return names
}
