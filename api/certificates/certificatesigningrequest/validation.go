package certificatesigningrequest

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

var knownUsages = sets.New(
	certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment,
	certificatesv1.UsageKeyEncipherment, certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment,
	certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign, certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly,
	certificatesv1.UsageAny, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning,
	certificatesv1.UsageEmailProtection, certificatesv1.UsageSMIME, certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel,
	certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping, certificatesv1.UsageOCSPSigning, certificatesv1.UsageMicrosoftSGC,
	certificatesv1.UsageNetscapeSGC,
)

// legacyUnknown was the signer of requests that named none; v1 has no such requests.
const legacyUnknown = "kubernetes.io/legacy-unknown"

const shortest = 600 // seconds a certificate may be asked for

// Validate checks a request on its own.
func Validate(csr *certificatesv1.CertificateSigningRequest) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if err := checkRequest(csr.Spec.Request); err != nil {
		errs = append(errs, field.Invalid(spec.Child("request"), csr.Spec.Request, err.Error()))
	}
	errs = append(errs, validateUsages(csr.Spec.Usages, spec.Child("usages"))...)
	if csr.Spec.SignerName == legacyUnknown {
		errs = append(errs, field.Invalid(spec.Child("signerName"), csr.Spec.SignerName, "the legacy signerName is not allowed via this API version"))
	} else {
		errs = append(errs, rule.SignerName(csr.Spec.SignerName, spec.Child("signerName"))...)
	}
	if seconds := csr.Spec.ExpirationSeconds; seconds != nil && *seconds < shortest {
		errs = append(errs, field.Invalid(spec.Child("expirationSeconds"), *seconds, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	status := field.NewPath("status")
	errs = append(errs, validateConditions(csr.Status.Conditions, status.Child("conditions"))...)
	if err := checkCertificate(csr.Status.Certificate); err != nil {
		errs = append(errs, field.Invalid(status.Child("certificate"), "<certificate data>", err.Error()))
	}
	return errs
}

// checkRequest wants a request that its own key has signed: the asker has the key.
func checkRequest(pemBytes []byte) error {
	request, err := ParseCSR(pemBytes)
	if err != nil {
		return err
	}
	return request.CheckSignature()
}

func validateUsages(asked []certificatesv1.KeyUsage, path *field.Path) field.ErrorList {
	if len(asked) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	for i, usage := range asked {
		if !knownUsages.Has(usage) {
			errs = append(errs, field.NotSupported(path.Index(i), usage, sets.List(knownUsages)))
		}
		if slices.Contains(asked[:i], usage) {
			errs = append(errs, field.Duplicate(path.Index(i), usage))
		}
	}
	return errs
}

// decisive are the conditions that are true for ever once they are there.
var decisive = []certificatesv1.RequestConditionType{
	certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed,
}

func validateConditions(conditions []certificatesv1.CertificateSigningRequestCondition, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[certificatesv1.RequestConditionType]()
	for i, c := range conditions {
		at := path.Index(i)
		errs = append(errs, rule.NonEmpty(string(c.Type), at.Child("type"))...)
		allowed := []v1.ConditionStatus{v1.ConditionFalse, v1.ConditionTrue, v1.ConditionUnknown}
		if slices.Contains(decisive, c.Type) {
			allowed = []v1.ConditionStatus{v1.ConditionTrue}
		}
		errs = append(errs, rule.Supported(c.Status, at.Child("status"), allowed...)...)
		if seen.Has(c.Type) {
			errs = append(errs, field.Duplicate(at.Child("type"), c.Type))
		}
		seen.Insert(c.Type)
	}
	if seen.HasAll(certificatesv1.CertificateApproved, certificatesv1.CertificateDenied) {
		const approved, denied = `conditions[{"type": "Approved"}]`, `conditions[{"type": "Denied"}]`
		errs = append(errs, field.Invalid(path, "{"+approved+", "+denied+"}", "must specify at most one of: `"+approved+"`, `"+denied+"`").MarkBeta())
	}
	return errs
}

// checkCertificate wants nothing, or certificates in PEM with nothing else between them.
func checkCertificate(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	blocks := 0
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type)
		}
		if len(block.Headers) > 0 {
			return errors.New("no PEM block headers are permitted")
		}
		certificates, err := x509.ParseCertificates(block.Bytes)
		if err != nil {
			return err
		}
		if len(certificates) == 0 {
			return errors.New("found CERTIFICATE PEM block containing 0 certificates")
		}
		blocks, data = blocks+1, rest
	}
	if blocks == 0 {
		return errors.New("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}

// ValidateUpdate checks a change of metadata: spec and status stay.
func ValidateUpdate(csr, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateUpdate(csr, old, false, false)
}

// ValidateStatusUpdate checks a signer's write: it may set the certificate, once.
func ValidateStatusUpdate(csr, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateUpdate(csr, old, false, true)
}

// ValidateApprovalUpdate checks an approver's write: it may approve or deny.
func ValidateApprovalUpdate(csr, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateUpdate(csr, old, true, false)
}

func validateUpdate(csr, old *certificatesv1.CertificateSigningRequest, mayDecide, maySign bool) field.ErrorList {
	errs := Validate(csr)
	path := field.NewPath("status", "conditions")
	var changed field.ErrorList // told of after what was removed
	for _, kind := range decisive {
		now, before := conditionsOf(csr, kind), conditionsOf(old, kind)
		fixed := kind != certificatesv1.CertificateFailed && !mayDecide
		switch {
		case len(now) < len(before):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not remove a condition of type %q", kind)))
		case fixed && len(now) > len(before):
			changed = append(changed, field.Forbidden(path, fmt.Sprintf("updates may not add a condition of type %q", kind)))
		case fixed && !equality.Semantic.DeepEqual(now, before):
			changed = append(changed, field.Forbidden(path, fmt.Sprintf("updates may not modify a condition of type %q", kind)))
		}
	}
	errs = append(errs, changed...)
	certificate := field.NewPath("status", "certificate")
	if !bytes.Equal(csr.Status.Certificate, old.Status.Certificate) {
		if !maySign {
			errs = append(errs, field.Forbidden(certificate, "updates may not set certificate content"))
		} else if len(old.Status.Certificate) > 0 {
			errs = append(errs, field.Forbidden(certificate, "updates may not modify existing certificate content"))
		}
	}
	return errs
}

func conditionsOf(csr *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) []certificatesv1.CertificateSigningRequestCondition {
	var found []certificatesv1.CertificateSigningRequestCondition
	for _, c := range csr.Status.Conditions {
		if c.Type == kind {
			found = append(found, c)
		}
	}
	return found
}
