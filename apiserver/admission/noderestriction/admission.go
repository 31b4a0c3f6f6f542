// Package noderestriction limits what a kubelet may write to its own Node, its own Lease, and the pods
// bound to its node. The node authorizer lets kubelets write such kinds at all; only here is the
// object seen.
//
// In Kubernetes: plugin/pkg/admission/noderestriction. Left out: the audiences of tokens (a kubelet may ask for any
// audience in the name of a pod of its node), and the verb request-podcertificate-signer, which lets a node ask signers that
// its pods do not name.
package noderestriction

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/api/certificates/certificatesigningrequest"
	apipod "hyperkube/api/core/pod"
	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/authz/node"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

type restriction struct {
	pods     lister.Lister[*corev1.Pod]
	nodes    lister.Lister[*corev1.Node]
	accounts lister.Lister[*corev1.ServiceAccount]
}

// New makes the plugin; the listers are confirmed ones.
func New(pods lister.Lister[*corev1.Pod], nodes lister.Lister[*corev1.Node], accounts lister.Lister[*corev1.ServiceAccount]) plugin.Plugin {
	r := &restriction{pods, nodes, accounts}
	return plugin.Plugin{
		Name:       "NodeRestriction",
		Operations: []request.Operation{request.Create, request.Update, request.Delete},
		Admit:      r.admit,
	}
}

func (r *restriction) admit(_ context.Context, a *request.AdmissionAttributes) error {
	nodeName, isNode := node.Identity(a.User)
	if !isNode {
		return nil
	}
	err := r.check(nodeName, a)
	if _, isStatus := err.(apierrors.APIStatus); err == nil || isStatus {
		return err
	}
	return plugin.Forbidden(a, err)
}

func (r *restriction) check(nodeName string, a *request.AdmissionAttributes) error {
	if nodeName == "" {
		return fmt.Errorf("could not determine node from user %q", a.User.Name)
	}
	switch a.Resource.GroupResource() {
	case schema.GroupResource{Resource: "pods"}:
		switch a.Subresource {
		case "":
			return r.admitPod(nodeName, a)
		case "status":
			return admitPodStatus(nodeName, a)
		case "eviction":
			return r.admitPodEviction(nodeName, a)
		}
		return fmt.Errorf("unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.Subresource)
	case schema.GroupResource{Resource: "nodes"}:
		return admitNode(nodeName, a)
	case schema.GroupResource{Resource: "persistentvolumeclaims"}:
		if a.Subresource != "status" {
			return errors.New("may only update PVC status")
		}
		return admitPVCStatus(nodeName, a)
	case schema.GroupResource{Resource: "serviceaccounts"}:
		return r.admitServiceAccount(nodeName, a)
	case schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}:
		return admitLease(nodeName, a)
	case schema.GroupResource{Group: "storage.k8s.io", Resource: "csinodes"}:
		return admitOwnName(nodeName, a, errors.New("can only access CSINode with the same name as the requesting node"))
	case schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceslices"}:
		return admitResourceSlice(nodeName, a)
	case schema.GroupResource{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}:
		return admitCSR(nodeName, a)
	case schema.GroupResource{Group: "certificates.k8s.io", Resource: "podcertificaterequests"}:
		return r.admitPodCertificateRequest(nodeName, a)
	}
	return nil
}

// admitPod: a kubelet creates mirror pods of its static pods, and deletes pods of its own.
func (r *restriction) admitPod(nodeName string, a *request.AdmissionAttributes) error {
	switch a.Operation {
	case request.Create:
		return r.admitPodCreate(nodeName, a)
	case request.Delete:
		pod, err := r.pods.Get(a.Namespace, a.Name)
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
	node, err := r.nodes.Get("", nodeName)
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
	refuse := func(what string) error {
		return fmt.Errorf("node %q can not create pods that reference %s", nodeName, what)
	}
	first := func(string) bool { return false }
	if pod.Spec.ServiceAccountName != "" {
		return refuse("a service account")
	}
	if !apipod.VisitPodSecretNames(pod, first) {
		return refuse("secrets")
	}
	if !apipod.VisitPodConfigmapNames(pod, first) {
		return refuse("configmaps")
	}
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			return refuse("persistentvolumeclaims")
		}
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if source.ClusterTrustBundle != nil {
				return refuse("clustertrustbundles")
			}
		}
	}
	if len(pod.Spec.ResourceClaims) > 0 {
		return refuse("resourceclaims")
	}
	return nil
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
	pod, err := r.pods.Get(a.Namespace, name)
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

// admitPVCStatus: only what a resize reports may change.
func admitPVCStatus(nodeName string, a *request.AdmissionAttributes) error {
	if a.Operation != request.Update {
		return fmt.Errorf("unexpected operation %q", a.Operation)
	}
	claim, ok := a.Object.(*corev1.PersistentVolumeClaim)
	old, oldOK := a.OldObject.(*corev1.PersistentVolumeClaim)
	if !ok || !oldOK {
		return unexpected(a)
	}
	rest := func(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
		c = c.DeepCopy()
		c.TypeMeta, c.ResourceVersion, c.ManagedFields = metav1.TypeMeta{}, "", nil // what was patched bears its kind, what was read does not
		c.Status.Capacity, c.Status.Conditions = nil, nil
		c.Status.AllocatedResources, c.Status.AllocatedResourceStatuses = nil, nil
		return c
	}
	if !apiequality.Semantic.DeepEqual(rest(old), rest(claim)) {
		return fmt.Errorf("node %q is not allowed to update fields other than status.quantity and status.conditions", nodeName)
	}
	return nil
}

// admitServiceAccount: tokens for pods on the node, bound to them.
func (r *restriction) admitServiceAccount(nodeName string, a *request.AdmissionAttributes) error {
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
	pod, err := r.pods.Get(a.Namespace, ref.Name)
	if err != nil {
		return err
	}
	if ref.UID != pod.UID {
		return fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	if pod.Spec.NodeName != nodeName {
		return errors.New("node requested token bound to a pod scheduled on a different node")
	}
	return nil
}

func admitLease(nodeName string, a *request.AdmissionAttributes) error {
	if a.Namespace != corev1.NamespaceNodeLease {
		return fmt.Errorf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	if _, ok := a.Object.(*coordinationv1.Lease); !ok && a.Operation == request.Create {
		return unexpected(a)
	}
	return admitOwnName(nodeName, a, errors.New("can only access node lease with the same name as the requesting node"))
}

// admitOwnName: in a create, the name stands in the object only.
func admitOwnName(nodeName string, a *request.AdmissionAttributes, refusal error) error {
	name := a.Name
	if a.Operation == request.Create {
		accessor, err := meta.Accessor(a.Object)
		if err != nil {
			return errors.New("unable to access the object name")
		}
		name = accessor.GetName()
	}
	if name != nodeName {
		return refusal
	}
	return nil
}

// admitResourceSlice: devices of the node only. An update is the node authorizer's, which knows the slice; of a create and of
// each object of a deletecollection only admission sees whose it is.
func admitResourceSlice(nodeName string, a *request.AdmissionAttributes) error {
	obj, verb := a.Object, "create"
	switch a.Operation {
	case request.Create:
	case request.Delete:
		obj, verb = a.OldObject, "delete"
	default:
		return nil
	}
	slice, ok := obj.(*resourcev1.ResourceSlice)
	if !ok {
		return fmt.Errorf("unexpected type %T", obj)
	}
	if slice.Spec.NodeName == nil || *slice.Spec.NodeName != nodeName {
		return fmt.Errorf("can only %s ResourceSlice with the same NodeName as the requesting node", verb)
	}
	return nil
}

// admitCSR: a kubelet asks for certificates of its own name. All else of the request is the signer's to judge.
func admitCSR(nodeName string, a *request.AdmissionAttributes) error {
	if a.Operation != request.Create {
		return nil
	}
	csr, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return unexpected(a)
	}
	switch csr.Spec.SignerName {
	case certificatesv1.KubeletServingSignerName, certificatesv1.KubeAPIServerClientKubeletSignerName:
	default:
		return nil
	}
	asked, err := certificatesigningrequest.ParseCSR(csr.Spec.Request)
	if err != nil {
		return fmt.Errorf("unable to parse csr: %w", err)
	}
	if name := "system:node:" + nodeName; asked.Subject.CommonName != name {
		return fmt.Errorf("can only create a node CSR with CN=%s", name)
	}
	return nil
}

// admitPodCertificateRequest: a kubelet asks for certificates of pods of its node only, as what they are, and only of
// signers that they name. Otherwise whoever holds one node could be every pod.
func (r *restriction) admitPodCertificateRequest(nodeName string, a *request.AdmissionAttributes) error {
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
	node, err := r.nodes.Get("", nodeName)
	if err != nil {
		return retrieving("node", nodeName, nodeName, err)
	}
	if spec.NodeUID != node.UID {
		return unsure("PodCertificateRequest for pod %q names node UID %q, inconsistent with the running node (%q)", podKey, spec.NodeUID, node.UID)
	}
	pod, err := r.pods.Get(a.Namespace, spec.PodName)
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
	account, err := r.accounts.Get(a.Namespace, spec.ServiceAccountName)
	if err != nil {
		return retrieving("service account", a.Namespace+"/"+spec.ServiceAccountName, spec.ServiceAccountName, err)
	}
	if spec.ServiceAccountUID != account.UID {
		return unsure("PodCertificateRequest for pod %q names service account UID %q, which differs from the running service account (%q)", podKey, spec.ServiceAccountUID, account.UID)
	}
	if !mountsCertificateOf(pod, spec.SignerName) {
		return fmt.Errorf("pod %q does not mount a podCertificate projected volume for signer %q", podKey, spec.SignerName)
	}
	return nil
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

func unexpected(a *request.AdmissionAttributes) error {
	return fmt.Errorf("unexpected type %T", a.Object)
}
