// Package certificates judges what is done to CertificateSigningRequests: who may approve and who may sign for a signer is a
// right of its own, since the rights on the resource cannot tell signers apart; and nobody gets a certificate for system:masters.
//
// In Kubernetes: plugin/pkg/admission/certificates/{approval,signing,subjectrestriction}.
package certificates

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/request"
)

// NewApproval makes the plugin that asks for the right to approve.
func NewApproval(authorizer func() request.Authorizer) plugin.Plugin {
	return plugin.Plugin{
		Name:       "CertificateApproval",
		Operations: []request.Operation{request.Update},
		Validate: func(ctx context.Context, a *request.AdmissionAttributes) error {
			old, _ := requests(a, "approval")
			if old == nil || isAuthorizedForSignerName(ctx, authorizer(), a.User, "approve", old.Spec.SignerName) {
				return nil
			}
			return plugin.Forbidden(a, fmt.Errorf("user not permitted to approve requests with signerName %q", old.Spec.SignerName))
		},
	}
}

// NewSigning makes the plugin that asks for the right to sign, of who changes the certificate or the conditions.
func NewSigning(authorizer func() request.Authorizer) plugin.Plugin {
	return plugin.Plugin{
		Name:       "CertificateSigning",
		Operations: []request.Operation{request.Update},
		Validate: func(ctx context.Context, a *request.AdmissionAttributes) error {
			signer := signed(a)
			if signer == "" || isAuthorizedForSignerName(ctx, authorizer(), a.User, "sign", signer) {
				return nil
			}
			return plugin.Forbidden(a, fmt.Errorf("user not permitted to sign requests with signerName %q", signer))
		},
	}
}

// signed is the signer in whose name a request is answered; "": none is.
func signed(a *request.AdmissionAttributes) string {
	if old, csr := requests(a, "status"); old != nil {
		if !bytes.Equal(old.Status.Certificate, csr.Status.Certificate) || !apiequality.Semantic.DeepEqual(old.Status.Conditions, csr.Status.Conditions) {
			return old.Spec.SignerName
		}
	}
	old, ok := a.OldObject.(*certificatesv1.PodCertificateRequest)
	pcr, pcrOK := a.Object.(*certificatesv1.PodCertificateRequest)
	if ok && pcrOK && a.Subresource == "status" && !apiequality.Semantic.DeepEqual(old.Status, pcr.Status) {
		return old.Spec.SignerName
	}
	return ""
}

// NewAttest makes the plugin that asks for the right to say whom a signer's clients should trust.
//
// In Kubernetes: plugin/pkg/admission/certificates/ctbattest.
func NewAttest(authorizer func() request.Authorizer) plugin.Plugin {
	return plugin.Plugin{
		Name:       "ClusterTrustBundleAttest",
		Operations: []request.Operation{request.Create, request.Update},
		Validate: func(ctx context.Context, a *request.AdmissionAttributes) error {
			bundle, ok := a.Object.(*certificatesv1.ClusterTrustBundle)
			if !ok || a.Subresource != "" || bundle.Spec.SignerName == "" || onlyCollected(bundle, a.OldObject) {
				return nil
			}
			if isAuthorizedForSignerName(ctx, authorizer(), a.User, "attest", bundle.Spec.SignerName) {
				return nil
			}
			return plugin.Forbidden(a, fmt.Errorf("user not permitted to attest for signerName %q", bundle.Spec.SignerName))
		},
	}
}

// onlyCollected: nothing is changed but what the garbage collector changes.
func onlyCollected(bundle *certificatesv1.ClusterTrustBundle, old any) bool {
	before, ok := old.(*certificatesv1.ClusterTrustBundle)
	if !ok || before == nil {
		return false
	}
	after := bundle.DeepCopy()
	after.OwnerReferences, after.Finalizers, after.ManagedFields = before.OwnerReferences, before.Finalizers, before.ManagedFields
	return apiequality.Semantic.DeepEqual(after, before)
}

// NewSubjectRestriction makes the plugin that keeps client certificates out of system:masters, which no role could take back.
func NewSubjectRestriction() plugin.Plugin {
	return plugin.Plugin{
		Name:       "CertificateSubjectRestriction",
		Operations: []request.Operation{request.Create},
		Validate:   restrictSubject,
	}
}

func restrictSubject(_ context.Context, a *request.AdmissionAttributes) error {
	csr, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok || a.Subresource != "" || csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	parsed, err := parseCSR(csr.Spec.Request)
	if err != nil {
		return plugin.Forbidden(a, fmt.Errorf("failed to parse CSR: %w", err))
	}
	if slices.Contains(parsed.Subject.Organization, request.SystemPrivileged) {
		return plugin.Forbidden(a, fmt.Errorf("use of %s signer with %s group is not allowed", certificatesv1.KubeAPIServerClientSignerName, request.SystemPrivileged))
	}
	return nil
}

func parseCSR(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

// requests returns the request as it is and as it is to be, nil when a is about something else. Rights are judged by the present
// signer: a new one cannot be smuggled in beside the approval.
func requests(a *request.AdmissionAttributes, subresource string) (old, csr *certificatesv1.CertificateSigningRequest) {
	old, ok := a.OldObject.(*certificatesv1.CertificateSigningRequest)
	csr, csrOK := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok || !csrOK || a.Subresource != subresource {
		return nil, nil
	}
	return old, csr
}

// isAuthorizedForSignerName asks for the verb on the signer, or on all signers of its domain.
func isAuthorizedForSignerName(ctx context.Context, authorizer request.Authorizer, user *request.User, verb, signer string) bool {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		decision, _, err := authorizer.Authorize(ctx, request.Attributes{
			User: user, Verb: verb, APIGroup: certificatesv1.GroupName, APIVersion: "*", Resource: "signers", Name: name, ResourceRequest: true,
		})
		if err == nil && decision == request.Allow {
			return true
		}
	}
	return false
}
