package noderestriction

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	apipod "hyperkube/api/core/pod"
	"hyperkube/apiserver/request"
)

// admitPod: a kubelet creates mirror pods of its static pods, and deletes pods of its own.
func (r *restriction) admitPod(nodeName string, a *request.AdmissionAttributes) error {
	switch a.Operation {
	case request.Create:
		return r.admitPodCreate(nodeName, a)
	case request.Delete:
		pod, err := r.Pods.Get(a.Namespace, a.Name)
		if err != nil {
			return err
		}
		if pod.Spec.NodeName != nodeName {
			return fmt.Errorf("node %q can only delete pods with spec.nodeName set to itself", nodeName)
		}
		return nil
	}
	return fmt.Errorf("unexpected operation %q, node %q can only create and delete mirror pods", a.Operation, nodeName)
}

func (r *restriction) admitPodCreate(nodeName string, a *request.AdmissionAttributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		return unexpected(a)
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
		return fmt.Errorf("pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, nodeName)
	}
	if pod.Spec.NodeName != nodeName {
		return fmt.Errorf("node %q can only create pods with spec.nodeName set to itself", nodeName)
	}
	if err := r.ownedByNode(nodeName, pod); err != nil {
		return err
	}
	return referencesNothing(nodeName, pod)
}

// ownedByNode: so that the mirror pods of a node go with it.
func (r *restriction) ownedByNode(nodeName string, pod *corev1.Pod) error {
	switch len(pod.OwnerReferences) {
	case 0:
		return fmt.Errorf("node %q can only create pods with an owner reference set to itself", nodeName)
	case 1:
	default:
		return fmt.Errorf("node %q can only create pods with a single owner reference set to itself", nodeName)
	}
	owner := pod.OwnerReferences[0]
	if owner.APIVersion != corev1.SchemeGroupVersion.String() || owner.Kind != "Node" || owner.Name != nodeName {
		return fmt.Errorf("node %q can only create pods with an owner reference set to itself", nodeName)
	}
	if owner.Controller == nil || !*owner.Controller {
		return fmt.Errorf("node %q can only create pods with a controller owner reference set to itself", nodeName)
	}
	if owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion {
		return fmt.Errorf("node %q must not set blockOwnerDeletion on an owner reference", nodeName)
	}
	node, err := r.Nodes.Get("", nodeName)
	if err != nil {
		return err
	}
	if owner.UID != node.UID {
		return fmt.Errorf("node %s UID mismatch: expected %s got %s", nodeName, owner.UID, node.UID)
	}
	return nil
}

// referencesNothing: otherwise a kubelet could make itself related to any Secret.
func referencesNothing(nodeName string, pod *corev1.Pod) error {
	first := func(string) bool { return false }
	var what string
	var err error
	switch {
	case pod.Spec.ServiceAccountName != "":
		what = "serviceaccounts"
	case !apipod.VisitPodSecretNames(pod, first):
		what = "secrets"
	case !apipod.VisitPodConfigmapNames(pod, first):
		what = "configmaps"
	case len(pod.Spec.ResourceClaims) > 0:
		what = "resourceclaims"
	}
	for i := 0; what == "" && err == nil && i < len(pod.Spec.Volumes); i++ {
		what, err = referencedBy(&pod.Spec.Volumes[i])
	}
	if err != nil {
		return fmt.Errorf("error checking mirror pod for API references: %w", err)
	}
	if what != "" {
		return fmt.Errorf("node %q can not create pods that reference %s", nodeName, what)
	}
	return nil
}

// referencedBy is what the API must give for the volume, "" if nothing; a volume of no kind known here may need anything.
func referencedBy(v *corev1.Volume) (string, error) {
	switch {
	case v.ConfigMap != nil:
		return "configmaps (via configmap volumes)", nil
	case v.Secret != nil:
		return "secrets (via secret volumes)", nil
	case v.CSI != nil:
		return "csidrivers (via CSI volumes)", nil
	case v.Glusterfs != nil:
		return "endpoints (via glusterFS volumes)", nil
	case v.PersistentVolumeClaim != nil:
		return "persistentvolumeclaims", nil
	case v.Ephemeral != nil:
		return "persistentvolumeclaims (via ephemeral volumes)", nil
	case v.AzureFile != nil:
		return "secrets (via azureFile volumes)", nil
	case v.Projected != nil:
		for i := range v.Projected.Sources {
			what, known := projectedFrom(&v.Projected.Sources[i])
			if !known {
				return "", fmt.Errorf("unknown source for projected volume %q", v.Name)
			}
			if what != "" {
				return what, nil
			}
		}
	case v.VolumeSource == corev1.VolumeSource{}:
		return "", fmt.Errorf("unknown volume type for volume  %q", v.Name)
	}
	return "", nil
}

func projectedFrom(s *corev1.VolumeProjection) (what string, known bool) {
	switch {
	case s.ConfigMap != nil:
		return "configmaps (via projected volumes)", true
	case s.Secret != nil:
		return "secrets (via projected volumes)", true
	case s.ServiceAccountToken != nil:
		return "serviceaccounts (via projected volumes)", true
	case s.ClusterTrustBundle != nil:
		return "clustertrustbundles", true
	case s.PodCertificate != nil:
		return "podcertificates", true
	}
	return "", s.DownwardAPI != nil
}

func admitPodStatus(nodeName string, a *request.AdmissionAttributes) error {
	if a.Operation != request.Update {
		return fmt.Errorf("unexpected operation %q", a.Operation)
	}
	pod, ok := a.Object.(*corev1.Pod)
	old, oldOK := a.OldObject.(*corev1.Pod)
	if !ok || !oldOK {
		return unexpected(a)
	}
	if old.Spec.NodeName != nodeName {
		return fmt.Errorf("node %q can only update pod status for pods with spec.nodeName set to itself", nodeName)
	}
	if !labels.Equals(old.Labels, pod.Labels) {
		return fmt.Errorf("node %q cannot update labels through pod status", nodeName)
	}
	if !apiequality.Semantic.DeepEqual(old.Status.ResourceClaimStatuses, pod.Status.ResourceClaimStatuses) {
		return fmt.Errorf("node %q cannot update resource claim statues", nodeName)
	}
	if !apiequality.Semantic.DeepEqual(old.Status.ExtendedResourceClaimStatus, pod.Status.ExtendedResourceClaimStatus) {
		return fmt.Errorf("node %q cannot update extended resource claim status", nodeName)
	}
	return nil
}

func (r *restriction) admitPodEviction(nodeName string, a *request.AdmissionAttributes) error {
	if a.Operation != request.Create {
		return fmt.Errorf("unexpected operation %s", a.Operation)
	}
	name := a.Name
	if eviction, ok := a.Object.(*policyv1.Eviction); ok && name == "" {
		name = eviction.Name
	}
	if name == "" {
		return errors.New("could not determine pod from request data")
	}
	pod, err := r.Pods.Get(a.Namespace, name)
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "pod"}, name)
	}
	if err != nil {
		return err
	}
	if pod.Spec.NodeName != nodeName {
		return fmt.Errorf("node %s can only evict pods with spec.nodeName set to itself", nodeName)
	}
	return nil
}
