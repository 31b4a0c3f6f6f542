package certificates

import (
	"context"
	"crypto/x509"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"

	"hyperkube/api/certificates/certificatesigningrequest"
	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// Approver approves kubelets' requests for client certificates.
type Approver struct {
	*reconcile.Loop
	client kubernetes.Interface
	lister certificateslisters.CertificateSigningRequestLister
}

// NewApprover makes the loop.
func NewApprover(client kubernetes.Interface, factory informers.SharedInformerFactory, options reconcile.Options) *Approver {
	requests := factory.Certificates().V1().CertificateSigningRequests()
	a := &Approver{client: client, lister: requests.Lister()}
	a.Loop = reconcile.New("certificateapprover", a.handle, options)
	a.Watch(requests.Informer(), reconcile.Self)
	return a
}

// recognizers are what a kubelet may ask for, and the permission that the asker then needs.
var recognizers = []struct {
	recognize   func(csr *certificatesv1.CertificateSigningRequest, request *x509.CertificateRequest) bool
	subresource string
	message     string
}{
	{isSelfNodeClient, "selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."},
	{isNodeClient, "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."},
}

func isNodeClient(csr *certificatesv1.CertificateSigningRequest, request *x509.CertificateRequest) bool {
	return csr.Spec.SignerName == certificatesv1.KubeAPIServerClientKubeletSignerName &&
		certificatesigningrequest.ValidateKubeletClientCSR(request, csr.Spec.Usages) == nil
}

// isSelfNodeClient: the node asks under the name it already has.
func isSelfNodeClient(csr *certificatesv1.CertificateSigningRequest, request *x509.CertificateRequest) bool {
	return csr.Spec.Username == request.Subject.CommonName && isNodeClient(csr, request)
}

// handle approves a request that it recognizes and whose asker may have it. Others are left to people.
func (a *Approver) handle(ctx context.Context, name string) (reconcile.Result, error) {
	csr, err := a.lister.Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	if len(csr.Status.Certificate) > 0 || certificatesigningrequest.IsDecided(csr) {
		return reconcile.Done, nil
	}
	request, err := certificatesigningrequest.ParseCSR(csr.Spec.Request)
	if err != nil {
		return reconcile.Done, nil // nothing will make it one that can be read
	}
	recognized := false
	for _, r := range recognizers {
		if !r.recognize(csr, request) {
			continue
		}
		recognized = true
		allowed, err := a.authorize(ctx, csr, r.subresource)
		if err != nil {
			return reconcile.Done, err
		}
		if allowed {
			return reconcile.Done, a.approve(ctx, csr, r.message)
		}
	}
	// The permission may come later, with a binding that nobody tells this loop of.
	return reconcile.Result{Retry: recognized}, nil
}

func (a *Approver) authorize(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, subresource string) (bool, error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for key, values := range csr.Spec.Extra {
		extra[key] = authorizationv1.ExtraValue(values)
	}
	review, err := a.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: csr.Spec.Username, UID: csr.Spec.UID, Groups: csr.Spec.Groups, Extra: extra,
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Group: certificatesv1.GroupName, Resource: "certificatesigningrequests", Verb: "create", Subresource: subresource,
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("asking whether %s may have its certificate request %s approved: %w", csr.Spec.Username, csr.Name, err)
	}
	return review.Status.Allowed, nil
}

func (a *Approver) approve(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, message string) error {
	csr = csr.DeepCopy()
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "AutoApproved", Message: message,
	})
	_, err := a.client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("approving certificate request %s: %w", csr.Name, err)
	}
	return nil
}
