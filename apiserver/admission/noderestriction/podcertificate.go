package noderestriction

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hyperkube/apiserver/request"
)

// admitPodCertificateRequest: a kubelet asks for certificates of pods of its node only, as what they are, and only of
// signers that they name or that RBAC lets the node ask in their name. Otherwise whoever holds one node could be every pod.
func (r *restriction) admitPodCertificateRequest(ctx context.Context, nodeName string, a *request.AdmissionAttributes) error {
	switch {
	case a.Operation != request.Create:
		return fmt.Errorf("unexpected operation %v", a.Operation)
	case a.Subresource != "":
		return fmt.Errorf("unexpected subresource %v", a.Subresource)
	}
	asked, ok := a.Object.(*certificatesv1.PodCertificateRequest)
	if !ok {
		return unexpected(a)
	}
	spec := &asked.Spec
	if string(spec.NodeName) != nodeName {
		return fmt.Errorf("PodCertificateRequest.Spec.NodeName=%q, which is not the requesting node %q", spec.NodeName, nodeName)
	}
	podKey := a.Namespace + "/" + spec.PodName
	node, err := r.Nodes.Get("", nodeName)
	if err != nil {
		return retrieving("node", nodeName, nodeName, err)
	}
	if spec.NodeUID != node.UID {
		return unsure("PodCertificateRequest for pod %q names node UID %q, inconsistent with the running node (%q)", podKey, spec.NodeUID, node.UID)
	}
	pod, err := r.Pods.Get(a.Namespace, spec.PodName)
	if err != nil {
		return retrieving("pod", podKey, spec.PodName, err)
	}
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	switch {
	case spec.PodUID != pod.UID:
		return unsure("PodCertificateRequest for pod %q contains pod UID (%q) which differs from running pod %q", podKey, spec.PodUID, pod.UID)
	case pod.Spec.NodeName != nodeName:
		return fmt.Errorf("pod %q is not running on node %q named in the PodCertificateRequest", podKey, nodeName)
	case mirror:
		return fmt.Errorf("pod %q is a mirror pod", podKey)
	case spec.ServiceAccountName != pod.Spec.ServiceAccountName:
		return fmt.Errorf("PodCertificateRequest for pod %q contains serviceAccountName (%q) that differs from running pod (%q)", podKey, spec.ServiceAccountName, pod.Spec.ServiceAccountName)
	}
	account, err := r.ServiceAccounts.Get(a.Namespace, spec.ServiceAccountName)
	if err != nil {
		return retrieving("service account", a.Namespace+"/"+spec.ServiceAccountName, spec.ServiceAccountName, err)
	}
	if spec.ServiceAccountUID != account.UID {
		return unsure("PodCertificateRequest for pod %q names service account UID %q, which differs from the running service account (%q)", podKey, spec.ServiceAccountUID, account.UID)
	}
	if mountsCertificateOf(pod, spec.SignerName) {
		return nil
	}
	// A slash in a resource would be read as one before a subresource.
	allowed, err := r.authorized(ctx, a, "request-serviceaccounts-podcertificate-signer", strings.ReplaceAll(spec.SignerName, "/", ":"), spec.ServiceAccountName)
	switch {
	case allowed:
		return nil
	case err != nil:
		return fmt.Errorf("error authorizing %s to request podcertificaterequests for signer %q: %w", a.User.Name, spec.SignerName, err)
	}
	return fmt.Errorf("pod %q does not mount a podCertificate projected volume for signer %q", podKey, spec.SignerName)
}

// unsure is an error of which another try may know better, as what the kubelet has seen may be newer than what is cached
// here: no refusal for good, as Forbidden would be.
func unsure(format string, args ...any) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: fmt.Sprintf(format, args...)}}
}

// retrieving is why what a request names could not be looked at; that it is not there may only be not yet.
func retrieving(what, key, name string, err error) error {
	if apierrors.IsNotFound(err) {
		return unsure("while retrieving %s %q named in the PodCertificateRequest: %s %q not found", what, key, strings.ReplaceAll(what, " ", ""), name)
	}
	return fmt.Errorf("while retrieving %s %q named in the PodCertificateRequest: %w", what, key, err)
}

func mountsCertificateOf(pod *corev1.Pod, signer string) bool {
	for _, volume := range pod.Spec.Volumes {
		if volume.Projected != nil && slices.ContainsFunc(volume.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.PodCertificate != nil && s.PodCertificate.SignerName == signer
		}) {
			return true
		}
	}
	return false
}
