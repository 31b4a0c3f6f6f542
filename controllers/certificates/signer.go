package certificates

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"
	"k8s.io/utils/clock"

	"hyperkube/api/certificates/certificatesigningrequest"
	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// SignerConfig is what the signer signs with.
type SignerConfig struct {
	// Cert and Key are the CA's, PEM.
	Cert, Key []byte
	// Duration is how long a certificate is good for at most. Default one year.
	Duration time.Duration
}

// Signer signs approved requests.
type Signer struct {
	*reconcile.Loop
	client    kubernetes.Interface
	lister    certificateslisters.CertificateSigningRequestLister
	authority *authority
}

// NewSigner makes the loop; it fails when the CA's certificate and key do not belong together.
func NewSigner(client kubernetes.Interface, factory informers.SharedInformerFactory, config SignerConfig, options reconcile.Options) (*Signer, error) {
	options = options.WithDefaults()
	ca, err := newAuthority(config, options.Clock)
	if err != nil {
		return nil, err
	}
	requests := factory.Certificates().V1().CertificateSigningRequests()
	s := &Signer{client: client, lister: requests.Lister(), authority: ca}
	s.Loop = reconcile.New("certificatesigner", s.handle, options)
	s.Watch(requests.Informer(), reconcile.Self)
	return s, nil
}

// handle signs a request that is approved and for one of our signers, or says in it why it cannot.
func (s *Signer) handle(ctx context.Context, name string) (reconcile.Result, error) {
	csr, err := s.lister.Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	if len(csr.Status.Certificate) > 0 || !certificatesigningrequest.IsApproved(csr) || certificatesigningrequest.IsFailed(csr) {
		return reconcile.Done, nil
	}
	csr = csr.DeepCopy()
	request, err := certificatesigningrequest.ParseCSR(csr.Spec.Request)
	if err != nil {
		return reconcile.Done, nil // no more than for the approver
	}
	known, err := certificatesigningrequest.ValidateForSigner(csr.Spec.SignerName, request, csr.Spec.Usages)
	switch {
	case !known:
		return reconcile.Done, nil // somebody else's
	case err != nil:
		csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "SignerValidationFailure", Message: err.Error(),
		})
	default:
		if csr.Status.Certificate, err = s.authority.sign(request, &csr.Spec); err != nil {
			return reconcile.Done, fmt.Errorf("signing certificate request %s: %w", name, err)
		}
	}
	if _, err := s.client.CertificatesV1().CertificateSigningRequests().UpdateStatus(ctx, csr, metav1.UpdateOptions{}); err != nil {
		return reconcile.Done, fmt.Errorf("answering certificate request %s: %w", name, err)
	}
	return reconcile.Done, nil
}

// authority is a CA and how long it signs for.
type authority struct {
	cert     *x509.Certificate
	key      crypto.Signer
	duration time.Duration
	clock    clock.PassiveClock
}

func newAuthority(config SignerConfig, clock clock.PassiveClock) (*authority, error) {
	pair, err := tls.X509KeyPair(config.Cert, config.Key)
	if err != nil {
		return nil, fmt.Errorf("the cluster's signing certificate and key: %w", err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("the cluster's signing key cannot sign")
	}
	if config.Duration == 0 {
		config.Duration = 365 * 24 * time.Hour
	}
	return &authority{cert: pair.Leaf, key: key, duration: config.Duration, clock: clock}, nil
}

// sign makes the certificate, PEM.
func (a *authority) sign(request *x509.CertificateRequest, spec *certificatesv1.CertificateSigningRequestSpec) ([]byte, error) {
	template, err := a.template(request, spec)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, request.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

const (
	backdate = 5 * time.Minute // clocks differ
	// The life of a certificate shorter than this counts from now: of ten minutes, five should not be over already.
	short    = 8 * time.Hour
	shortest = 10 * time.Minute
)

// template is the certificate to be: names as requested, usages and time of spec, never a CA. What else the request
// asks for by extensions is not looked at.
func (a *authority) template(request *x509.CertificateRequest, spec *certificatesv1.CertificateSigningRequestSpec) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	life := a.duration
	if spec.ExpirationSeconds != nil {
		life = min(life, max(shortest, time.Duration(*spec.ExpirationSeconds)*time.Second))
	}
	now := a.clock.Now()
	t := &x509.Certificate{
		SerialNumber: serial, Subject: request.Subject,
		DNSNames: request.DNSNames, IPAddresses: request.IPAddresses, EmailAddresses: request.EmailAddresses, URIs: request.URIs,
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life - backdate),
		BasicConstraintsValid: true,
	}
	if life < short {
		t.NotAfter = now.Add(life)
	}
	if !t.NotAfter.Before(a.cert.NotAfter) {
		t.NotAfter = a.cert.NotAfter
	}
	if !now.Before(a.cert.NotAfter) {
		return nil, fmt.Errorf("the signing certificate has expired at %s", a.cert.NotAfter.Format(time.RFC3339))
	}
	return t, setUsages(t, spec.Usages)
}

// setUsages knows the usages that certificatesigningrequest.ValidateForSigner lets through.
func setUsages(t *x509.Certificate, asked []certificatesv1.KeyUsage) error {
	for _, usage := range asked {
		switch usage {
		case certificatesv1.UsageDigitalSignature:
			t.KeyUsage |= x509.KeyUsageDigitalSignature
		case certificatesv1.UsageKeyEncipherment:
			t.KeyUsage |= x509.KeyUsageKeyEncipherment
		case certificatesv1.UsageServerAuth:
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		case certificatesv1.UsageClientAuth:
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		default:
			return fmt.Errorf("unrecognized usage %q", usage)
		}
	}
	return nil
}
