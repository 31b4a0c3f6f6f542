package noderestriction

import (
	"context"
	"errors"
	"fmt"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"hyperkube/apiserver/request"
)

// admitServiceAccount: tokens for pods on the node, bound to them, of audiences that they have a use for. Otherwise whoever holds
// one node could speak as its pods to anybody who trusts this cluster's tokens.
func (r *restriction) admitServiceAccount(ctx context.Context, nodeName string, a *request.AdmissionAttributes) error {
	if a.Operation != request.Create || a.Subresource != "token" {
		return nil
	}
	tr, ok := a.Object.(*authenticationv1.TokenRequest)
	if !ok {
		return unexpected(a)
	}
	ref := tr.Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return errors.New("node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return errors.New("node requested token with a pod binding without a uid")
	}
	pod, err := r.Pods.Get(a.Namespace, ref.Name)
	if err != nil {
		return err
	}
	if ref.UID != pod.UID {
		return fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	if pod.Spec.NodeName != nodeName {
		return errors.New("node requested token bound to a pod scheduled on a different node")
	}
	return r.validateNodeServiceAccountAudience(ctx, tr, pod, a)
}

// validateNodeServiceAccountAudience sees the audiences as the kubelet sent them: "" where it wants those of this apiserver, as the
// volume says "", too.
func (r *restriction) validateNodeServiceAccountAudience(ctx context.Context, tr *authenticationv1.TokenRequest, pod *corev1.Pod, a *request.AdmissionAttributes) error {
	audience := ""
	switch len(tr.Spec.Audiences) {
	case 0:
	case 1:
		audience = tr.Spec.Audiences[0]
	default:
		return errors.New("node may only request 0 or 1 audiences")
	}
	found, err := r.podReferencesAudience(pod, audience)
	if err != nil {
		return fmt.Errorf("error validating audience %q: %w", audience, err)
	}
	if found {
		return nil
	}
	allowed, err := r.authorized(ctx, a, "request-serviceaccounts-token-audience", audience, a.Name)
	switch {
	case allowed:
		return nil
	case err != nil:
		return fmt.Errorf("error authorizing %s to request tokens for audience %q: %w", a.User.Name, audience, err)
	}
	return fmt.Errorf("%s is not authorized to request tokens for audience %q", a.User.Name, audience)
}

// podReferencesAudience looks in the pod's projected tokens, and in what the drivers of its volumes ask to be given. What
// cannot be looked at counts only if nothing else is found.
func (r *restriction) podReferencesAudience(pod *corev1.Pod, audience string) (bool, error) {
	var errs []error
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		if volume.Projected != nil && slices.ContainsFunc(volume.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == audience
		}) {
			return true, nil
		}
		found, err := r.driverWants(pod, volume, audience)
		if found {
			return true, nil
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return false, utilerrors.NewAggregate(errs)
}

func (r *restriction) driverWants(pod *corev1.Pod, volume *corev1.Volume, audience string) (bool, error) {
	name, err := r.driverOf(pod, volume)
	if name == "" || err != nil {
		return false, err
	}
	driver, err := r.Drivers.Get("", name)
	if err != nil {
		return false, singular(err, schema.GroupResource{Group: storagev1.GroupName, Resource: "csidriver"}, name)
	}
	return slices.ContainsFunc(driver.Spec.TokenRequests, func(t storagev1.TokenRequest) bool { return t.Audience == audience }), nil
}

// driverOf is the CSI driver that mounts the volume, "" if none does.
func (r *restriction) driverOf(pod *corev1.Pod, volume *corev1.Volume) (string, error) {
	switch {
	case volume.Ephemeral != nil && volume.Ephemeral.VolumeClaimTemplate != nil:
		return r.getCSIFromPVC(pod.Namespace, pod.Name+"-"+volume.Name)
	case volume.PersistentVolumeClaim != nil:
		return r.getCSIFromPVC(pod.Namespace, volume.PersistentVolumeClaim.ClaimName)
	case volume.CSI != nil:
		return volume.CSI.Driver, nil
	}
	return inlineDriver(&volume.VolumeSource), nil
}

func (r *restriction) getCSIFromPVC(namespace, name string) (string, error) {
	claim, err := r.Claims.Get(namespace, name)
	if err != nil {
		return "", singular(err, schema.GroupResource{Resource: "persistentvolumeclaim"}, name)
	}
	volume, err := r.Volumes.Get("", claim.Spec.VolumeName)
	if err != nil {
		return "", singular(err, schema.GroupResource{Resource: "persistentvolume"}, claim.Spec.VolumeName)
	}
	return persistentDriver(volume)
}

// The drivers that took the place of volumes which the kubelet once mounted itself (k8s.io/csi-translation-lib).
const (
	awsEBSDriver    = "ebs.csi.aws.com"
	azureDiskDriver = "disk.csi.azure.com"
	azureFileDriver = "file.csi.azure.com"
	gcePDDriver     = "pd.csi.storage.gke.io"
	cinderDriver    = "cinder.csi.openstack.org"
	portworxDriver  = "pxd.portworx.com"
	vSphereDriver   = "csi.vsphere.vmware.com"
)

func inlineDriver(v *corev1.VolumeSource) string {
	switch {
	case v.AWSElasticBlockStore != nil:
		return awsEBSDriver
	case v.AzureDisk != nil:
		return azureDiskDriver
	case v.AzureFile != nil:
		return azureFileDriver
	case v.GCEPersistentDisk != nil:
		return gcePDDriver
	case v.Cinder != nil:
		return cinderDriver
	case v.PortworxVolume != nil:
		return portworxDriver
	case v.VsphereVolume != nil:
		return vSphereDriver
	}
	return ""
}

func persistentDriver(pv *corev1.PersistentVolume) (string, error) {
	v := &pv.Spec.PersistentVolumeSource
	switch {
	case v.CSI != nil:
		return v.CSI.Driver, nil
	case v.AWSElasticBlockStore != nil:
		return awsEBSDriver, nil
	case v.AzureDisk != nil:
		return azureDiskDriver, nil
	case v.AzureFile != nil:
		if v.AzureFile.SecretNamespace == nil && (pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.Namespace == "") {
			return "", errors.New("could not find a secret namespace in PersistentVolumeSource or ClaimRef")
		}
		return azureFileDriver, nil
	case v.GCEPersistentDisk != nil:
		return gcePDDriver, nil
	case v.Cinder != nil:
		return cinderDriver, nil
	case v.PortworxVolume != nil:
		return portworxDriver, nil
	case v.VsphereVolume != nil:
		return vSphereDriver, nil
	}
	return "", nil
}

// authorized asks for a right on a thing that is no object: an audience, a signer. It is named as a resource, in the group of what is
// written, and the service account as its name.
func (r *restriction) authorized(ctx context.Context, a *request.AdmissionAttributes, verb, resource, account string) (bool, error) {
	decision, _, err := r.Authorizer().Authorize(ctx, request.Attributes{
		User: a.User, Verb: verb, APIGroup: a.Resource.Group, APIVersion: a.Resource.Version,
		Resource: resource, Namespace: a.Namespace, Name: account, ResourceRequest: true,
	})
	return decision == request.Allow, err
}

// singular words what is not there as upstream's informers do.
func singular(err error, kind schema.GroupResource, name string) error {
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(kind, name)
	}
	return err
}
