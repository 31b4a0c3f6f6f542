package certificate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/kubernetes"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/certificate"
	"k8s.io/client-go/util/certificate/csr"
	"k8s.io/client-go/util/connrotation"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// Config of a rotation.
type Config struct {
	// Directory takes the pairs: DIR/nodes/<name>/kubelet/pki.
	Directory string
	// NodeName is the node's; the certificate is for system:node:NodeName of system:nodes.
	NodeName string
	// Hosts are what a serving certificate is for: names and addresses. None: a client's.
	Hosts []string
	// SeedCert and SeedKey are the pair to begin with, PEM.
	SeedCert, SeedKey []byte
	// CAFile signs what the cluster trusts: a pair on disk that it has not signed is of
	// another cluster, and not used. Empty: every pair is trusted.
	CAFile string
	// Clock is for tests; default the real one.
	Clock clock.Clock
}

const (
	// How the pairs' files begin; upstream's names.
	clientPrefix, serverPrefix = "kubelet-client", "kubelet-server"
	// A request without an answer is taken for lost after a while; the next one comes sooner.
	answerTimeout      = 15 * time.Minute
	firstWait, longest = 2 * time.Second, 32 * time.Second
	// When a pair is renewed, as a part of its life.
	soonest, spread = 0.7, 0.2
	// Who a kubelet is.
	cnHead, organization = "system:node:", "system:nodes"
)

// Rotation keeps one pair. It is safe for concurrent use.
type Rotation struct {
	Config
	store  certificate.FileStore
	dialer *connrotation.Dialer // of the client's connections; nil for a server

	failures atomic.Int64

	mu      sync.Mutex
	current *tls.Certificate
}

// New takes the pair on disk, or writes the seed there.
func New(cfg Config) (*Rotation, error) {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	r := &Rotation{Config: cfg}
	if !r.serves() {
		r.dialer = connrotation.NewDialer((&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext)
	}
	store, err := certificate.NewFileStoreWithLogger(klog.Background().V(4), r.prefix(), cfg.Directory, cfg.Directory, "", "")
	if err != nil {
		return nil, fmt.Errorf("the kubelet's certificates: %w", err)
	}
	r.store = store
	if r.current, err = store.Current(); err != nil || r.check(r.current.Leaf) != nil {
		r.current, err = store.Update(cfg.SeedCert, cfg.SeedKey)
	}
	if err != nil {
		return nil, fmt.Errorf("the kubelet's certificates: %w", err)
	}
	return r, nil
}

// Run renews the pair whenever its time has come, until ctx ends.
func (r *Rotation) Run(ctx context.Context, client kubernetes.Interface) {
	logger := klog.FromContext(ctx)
	wait, retry := r.untilDue(), firstWait
	for {
		logger.V(2).Info("Waiting for the certificate's time", "certificate", r.prefix(), "wait", wait)
		timer := r.Clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		}
		err := r.rotate(ctx, client)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			logger.Error(err, "The kubelet's certificate cannot be renewed yet", "certificate", r.prefix(), "again in", retry)
			wait, retry = retry, min(2*retry, longest)
			r.failures.Add(1)
		default:
			wait, retry = r.untilDue(), firstWait
		}
	}
}

// Current is the pair in use; an error once it has run out.
func (r *Rotation) Current() (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Clock.Now().After(r.current.Leaf.NotAfter) {
		return nil, fmt.Errorf("the certificate %s has run out at %s", r.store.CurrentPath(), r.current.Leaf.NotAfter.Format(time.RFC3339))
	}
	return r.current, nil
}

// Metrics tell how long the pair can still be used, and how often it could not be renewed.
func (r *Rotation) Metrics() []prometheus.Collector {
	kind, errorsName := "client", "kubelet_certificate_manager_client_expiration_renew_errors"
	if r.serves() {
		kind, errorsName = "server", "kubelet_server_expiration_renew_errors"
	}
	left := func() float64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.current.Leaf.NotAfter.Sub(r.Clock.Now()).Seconds()
	}
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubelet_certificate_manager_" + kind + "_ttl_seconds",
			Help: "Seconds until the kubelet's " + kind + " certificate runs out; negative once it has."}, left),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: errorsName, Help: "How often the " + kind + " certificate could not be renewed."},
			func() float64 { return float64(r.failures.Load()) }),
	}
}

func (r *Rotation) serves() bool { return len(r.Hosts) > 0 }

func (r *Rotation) prefix() string {
	if r.serves() {
		return serverPrefix
	}
	return clientPrefix
}

// check says why a certificate found on disk is of no use.
func (r *Rotation) check(leaf *x509.Certificate) error {
	use := x509.ExtKeyUsageClientAuth
	if r.serves() {
		use = x509.ExtKeyUsageServerAuth
	} else if leaf.Subject.CommonName != cnHead+r.NodeName {
		return fmt.Errorf("it is %s's", leaf.Subject.CommonName)
	}
	for _, host := range r.Hosts {
		if err := leaf.VerifyHostname(host); err != nil {
			return err
		}
	}
	roots := x509.NewCertPool()
	if r.CAFile == "" {
		roots.AddCert(leaf)
	} else if data, err := os.ReadFile(r.CAFile); err != nil {
		return err
	} else if !roots.AppendCertsFromPEM(data) {
		return fmt.Errorf("%s holds no certificate", r.CAFile)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}, CurrentTime: r.Clock.Now()})
	return err
}

// untilDue is how long until the pair is to be renewed: at a moment between 70 and 90
// % of its life, another for each, so that nodes made together do not all ask at once.
func (r *Rotation) untilDue() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	leaf := r.current.Leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	due := leaf.NotBefore.Add(time.Duration(float64(life) * (soonest + spread*rand.Float64())))
	return max(0, due.Sub(r.Clock.Now()))
}

// rotate asks for a certificate of a new key and takes it into use. The key is
// written only with its certificate: one that was never signed is worth nothing.
func (r *Rotation) rotate(ctx context.Context, client kubernetes.Interface) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		return err
	}
	request, err := certutil.MakeCSRFromTemplate(key, r.template())
	if err != nil {
		return err
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return err
	}
	signer, usage := certificatesv1.KubeAPIServerClientKubeletSignerName, certificatesv1.UsageClientAuth
	if r.serves() {
		signer, usage = certificatesv1.KubeletServingSignerName, certificatesv1.UsageServerAuth
	}
	name, uid, err := csr.RequestCertificateWithContext(ctx, client, request, "", signer, nil, []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, usage}, key)
	if err != nil {
		return fmt.Errorf("asking for a certificate: %w", err)
	}
	klog.FromContext(ctx).V(1).Info("Asked for a new certificate", "certificate", r.prefix(), "csr", name, "signer", signer)
	certPEM, err := csr.WaitForCertificate(ctx, client, name, uid)
	if err != nil {
		return fmt.Errorf("waiting for certificate request %s: %w", name, err)
	}
	pair, err := r.store.Update(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("keeping the new certificate: %w", err)
	}
	r.use(ctx, pair)
	return nil
}

// template is what is asked for.
func (r *Rotation) template() *x509.CertificateRequest {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: cnHead + r.NodeName, Organization: []string{organization}}}
	for _, host := range r.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return template
}

// use makes the pair the current one. A client's connections were opened under the
// old name; they are closed, so that the next ones show the new.
func (r *Rotation) use(ctx context.Context, pair *tls.Certificate) {
	r.mu.Lock()
	r.current = pair
	r.mu.Unlock()
	klog.FromContext(ctx).Info("The kubelet's certificate was renewed", "certificate", r.prefix(), "until", pair.Leaf.NotAfter)
	if r.dialer != nil {
		r.dialer.CloseAll()
	}
}
