package certificates

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

const (
	decidedExpiration = time.Hour      // after the decision
	pendingExpiration = 24 * time.Hour // after the request
)

// Cleaner deletes requests that are over.
type Cleaner struct {
	*reconcile.Loop
	client kubernetes.Interface
	lister certificateslisters.CertificateSigningRequestLister
	clock  clock.PassiveClock
}

// NewCleaner makes the loop.
func NewCleaner(client kubernetes.Interface, factory informers.SharedInformerFactory, options reconcile.Options) *Cleaner {
	options = options.WithDefaults()
	requests := factory.Certificates().V1().CertificateSigningRequests()
	c := &Cleaner{client: client, lister: requests.Lister(), clock: options.Clock}
	c.Loop = reconcile.New("certificatecleaner", c.handle, options)
	c.Watch(requests.Informer(), reconcile.Self)
	return c
}

// handle deletes the request when its time has come, else comes back then.
func (c *Cleaner) handle(ctx context.Context, name string) (reconcile.Result, error) {
	csr, err := c.lister.Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	if left := end(csr).Sub(c.clock.Now()); left > 0 {
		return reconcile.Result{After: left}, nil
	}
	err = c.client.CertificatesV1().CertificateSigningRequests().Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(csr.UID)}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return reconcile.Done, fmt.Errorf("deleting certificate request %s: %w", name, err)
	}
	return reconcile.Done, nil
}

// end is when nobody needs the request any more.
func end(csr *certificatesv1.CertificateSigningRequest) time.Time {
	if len(csr.Status.Conditions) == 0 {
		return csr.CreationTimestamp.Add(pendingExpiration)
	}
	// Denied, failed, approved, signed: an hour to notice.
	decided := csr.CreationTimestamp.Time
	for _, condition := range csr.Status.Conditions {
		if condition.LastUpdateTime.After(decided) {
			decided = condition.LastUpdateTime.Time
		}
	}
	until := decided.Add(decidedExpiration)
	if block, _ := pem.Decode(csr.Status.Certificate); block != nil {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && cert.NotAfter.Before(until) {
			return cert.NotAfter
		}
	}
	return until
}
