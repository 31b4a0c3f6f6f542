// Package noderestriction limits what a kubelet may write to its own Node, its own Lease, and the pods
// bound to its node. The node authorizer lets kubelets write such kinds at all; only here is the
// object seen.
//
// Two rights are named by what is asked for and not by what is written, so RBAC is asked here: tokens of an audience that no
// volume of the pod mentions (token.go), certificates of a signer that none mentions (podcertificate.go).
//
// In Kubernetes: plugin/pkg/admission/noderestriction.
package noderestriction

import (
	"context"
	"errors"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/api/certificates/certificatesigningrequest"
	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/authz/node"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

// Config is what the plugin reads; the listers are confirmed ones.
type Config struct {
	Pods            lister.Lister[*corev1.Pod]
	Nodes           lister.Lister[*corev1.Node]
	ServiceAccounts lister.Lister[*corev1.ServiceAccount]
	// Claims, Volumes and Drivers lead from a pod to the audiences that its storage needs tokens for.
	Claims  lister.Lister[*corev1.PersistentVolumeClaim]
	Volumes lister.Lister[*corev1.PersistentVolume]
	Drivers lister.Lister[*storagev1.CSIDriver]
	// Authorizer is asked when no volume of a pod speaks for what its kubelet wants.
	Authorizer func() request.Authorizer
}

type restriction struct{ Config }

// New makes the plugin.
func New(cfg Config) plugin.Plugin {
	r := &restriction{cfg}
	return plugin.Plugin{
		Name:       "NodeRestriction",
		Operations: []request.Operation{request.Create, request.Update, request.Delete},
		Admit:      r.admit,
	}
}

func (r *restriction) admit(ctx context.Context, a *request.AdmissionAttributes) error {
	nodeName, isNode := node.Identity(a.User)
	if !isNode {
		return nil
	}
	err := r.check(ctx, nodeName, a)
	if _, isStatus := err.(apierrors.APIStatus); err == nil || isStatus {
		return err
	}
	return plugin.Forbidden(a, err)
}

func (r *restriction) check(ctx context.Context, nodeName string, a *request.AdmissionAttributes) error {
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
		return r.admitServiceAccount(ctx, nodeName, a)
	case schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}:
		return admitLease(nodeName, a)
	case schema.GroupResource{Group: "storage.k8s.io", Resource: "csinodes"}:
		return admitOwnName(nodeName, a, errors.New("can only access CSINode with the same name as the requesting node"))
	case schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceslices"}:
		return admitResourceSlice(nodeName, a)
	case schema.GroupResource{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}:
		return admitCSR(nodeName, a)
	case schema.GroupResource{Group: "certificates.k8s.io", Resource: "podcertificaterequests"}:
		return r.admitPodCertificateRequest(ctx, nodeName, a)
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

func unexpected(a *request.AdmissionAttributes) error {
	return fmt.Errorf("unexpected type %T", a.Object)
}
