// Package podcertificate gets certificates for pods: a key is made here, a signer somewhere in the cluster certifies it.
//
//	projected volume ──► CredentialBundle ──create──► PodCertificateRequest ◄──status── signer
//	                         ▲      └──── get, at each sync of the pod ────┘
//	                    key + chain, to files
//
// A volume is brought up to date at each sync of its pod, at least once a minute, and more often while the pod waits for it
// to be there: that is the only clock here. One turn of a projection, by its state (`kubelet/podcertificate/podcertificate_manager.go:Manager.turn`):
//
//	nothing yet   make a key, create a request
//	waiting       issued: the key and its chain are ready; denied or failed: for ever; gone: from the beginning
//	ready         time to refresh: make a new key and request; the old pair serves until the new one is issued
//
// Invariants: a key never leaves the node, and is never used for two requests; nothing is kept on disk but the pod's own
// volume, so that a kubelet that restarts asks anew.
//
// Read first: Manager.CredentialBundle, Manager.turn.
//
// In Kubernetes: pkg/kubelet/podcertificate, with informers and a work queue: it hears of a certificate at once. Here a
// waiting pod asks every two seconds at most. The metric of the states is left out.
package podcertificate

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	kubecontainer "hyperkube/kubelet/container"
)

const (
	// maxJitter spreads the refreshes of many pods that were issued together.
	maxJitter = 5 * time.Minute
	// overdueAfter the time to refresh, the pod is told.
	overdueAfter = 10 * time.Minute
)

// Config of a Manager.
type Config struct {
	// Client nil: a kubelet without an apiserver, which refuses.
	Client   kubernetes.Interface
	Recorder record.EventRecorder
	Clock    clock.PassiveClock
	// Node is the kubelet's own Node as the API has it, nil until known: a request names it and its UID.
	Node func() *v1.Node
}

// Manager holds the keys and certificates of the pods of a node. It is safe for concurrent use.
type Manager struct {
	Config

	mu   sync.Mutex
	pods map[types.UID]map[Projection]*credential
}

// Projection names one source of one volume of a pod.
type Projection struct {
	Volume string
	Source int
}

// NewManager makes a Manager.
func NewManager(cfg Config) *Manager {
	return &Manager{Config: cfg, pods: map[types.UID]map[Projection]*credential{}}
}

// credential is the state of a projection.
//
// Invariant: at most one of pending and ended is set.
type credential struct {
	mu sync.Mutex
	// pending is a request that has no answer yet; pendingKey belongs to it.
	pending    string
	pendingKey []byte
	// ended says why there will never be an answer.
	ended error
	// key and chain are what was issued last, PEM; nil: nothing yet.
	key, chain        []byte
	refreshAt, expiry time.Time
	saidOverdue       bool
	saidExpired       bool
}

// CredentialBundle returns the key and the certificate chain of a projection, both PEM. It fails as long as there is none;
// each call takes the matter one turn further.
func (m *Manager) CredentialBundle(ctx context.Context, pod *v1.Pod, at Projection) (key, chain []byte, err error) {
	if m.Client == nil {
		return nil, nil, errors.New("pod certificates are not supported in static kubelet mode")
	}
	source, err := sourceOf(pod, at)
	if err != nil {
		return nil, nil, err
	}
	c := m.credential(pod.UID, at)
	c.mu.Lock()
	defer c.mu.Unlock()
	err = m.turn(ctx, pod, source, c)
	switch {
	case c.ended != nil:
		return nil, nil, c.ended
	case c.key != nil: // what a failed turn was for can be tried again at the next sync
		return c.key, c.chain, nil
	case err != nil:
		return nil, nil, err
	}
	return nil, nil, errors.New("credential bundle is not issued yet")
}

// ForgetPod drops the keys of a pod that is gone.
func (m *Manager) ForgetPod(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pods, uid)
}

func (m *Manager) credential(uid types.UID, at Projection) *credential {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pods[uid] == nil {
		m.pods[uid] = map[Projection]*credential{}
	}
	if m.pods[uid][at] == nil {
		m.pods[uid][at] = &credential{}
	}
	return m.pods[uid][at]
}

func sourceOf(pod *v1.Pod, at Projection) (*v1.PodCertificateProjection, error) {
	for _, volume := range pod.Spec.Volumes {
		if volume.Name == at.Volume && volume.Projected != nil && at.Source < len(volume.Projected.Sources) {
			if source := volume.Projected.Sources[at.Source].PodCertificate; source != nil {
				return source, nil
			}
		}
	}
	return nil, fmt.Errorf("pod does not contain the named podCertificate projected volume source %v", at)
}

// turn takes a projection one step further.
func (m *Manager) turn(ctx context.Context, pod *v1.Pod, source *v1.PodCertificateProjection, c *credential) error {
	switch now := m.Clock.Now(); {
	case c.ended != nil:
		return nil
	case c.pending != "":
		m.warnOfAge(pod, c)
		return m.look(ctx, pod, c)
	case c.key == nil:
		return m.ask(ctx, pod, source, c)
	case now.Before(c.refreshAt):
		return nil
	}
	m.warnOfAge(pod, c)
	return m.ask(ctx, pod, source, c)
}

// warnOfAge says once that a certificate should have been replaced, and once that it is of no use any more.
func (m *Manager) warnOfAge(pod *v1.Pod, c *credential) {
	now := m.Clock.Now()
	if c.key != nil && !c.saidOverdue && now.After(c.refreshAt.Add(overdueAfter)) {
		c.saidOverdue = true
		m.event(pod, "CertificateOverdueForRefresh", "PodCertificate refresh overdue")
	}
	if c.key != nil && !c.saidExpired && now.After(c.expiry) {
		c.saidExpired = true
		m.event(pod, "CertificateExpired", "PodCertificate expired")
	}
}

func (m *Manager) event(pod *v1.Pod, reason, message string) {
	m.Recorder.Event(kubecontainer.GeneratePodRef(pod), v1.EventTypeWarning, reason, message)
}

// ask makes a key, and a request for a certificate of it.
func (m *Manager) ask(ctx context.Context, pod *v1.Pod, source *v1.PodCertificateProjection, c *credential) error {
	node := m.Node()
	if node == nil {
		return errors.New("while getting node object from local cache: the API has not told of it yet")
	}
	account, err := m.Client.CoreV1().ServiceAccounts(pod.Namespace).Get(ctx, pod.Spec.ServiceAccountName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("while fetching service account: %w", err)
	}
	key, stub, err := newKey(rand.Reader, source.KeyType)
	if err != nil {
		return fmt.Errorf("while generating keypair: %w", err)
	}
	request, err := m.Client.CertificatesV1().PodCertificateRequests(pod.Namespace).Create(ctx, &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, GenerateName: "req-",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}},
		},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: source.SignerName,
			PodName:    pod.Name, PodUID: pod.UID,
			ServiceAccountName: account.Name, ServiceAccountUID: account.UID,
			NodeName: types.NodeName(node.Name), NodeUID: node.UID,
			MaxExpirationSeconds: source.MaxExpirationSeconds, StubPKCS10Request: stub,
			UnverifiedUserAnnotations: source.UserAnnotations,
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("while creating PodCertificateRequest: %w", err)
	}
	c.pending, c.pendingKey = request.Name, key
	return nil
}

// look reads the signer's answer, if there is one.
func (m *Manager) look(ctx context.Context, pod *v1.Pod, c *credential) error {
	name := pod.Namespace + "/" + c.pending
	request, err := m.Client.CertificatesV1().PodCertificateRequests(pod.Namespace).Get(ctx, c.pending, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		c.pending, c.pendingKey = "", nil
		return fmt.Errorf("PodCertificateRequest %q appears to have been deleted", name)
	}
	if err != nil {
		return fmt.Errorf("while getting PodCertificateRequest %q: %w", name, err)
	}
	for _, condition := range request.Status.Conditions {
		switch condition.Type {
		case certificatesv1.PodCertificateRequestConditionTypeDenied:
			m.end(pod, c, condition, "was denied")
			return nil
		case certificatesv1.PodCertificateRequestConditionTypeFailed:
			m.end(pod, c, condition, "failed")
			return nil
		case certificatesv1.PodCertificateRequestConditionTypeIssued:
			c.take(request)
			return nil
		}
	}
	return nil // still pending
}

// end: a signer's no is for ever; only a new pod asks again.
func (m *Manager) end(pod *v1.Pod, c *credential, condition metav1.Condition, how string) {
	m.event(pod, condition.Type, fmt.Sprintf("PodCertificateRequest %s/%s %s, reason=%q, message=%q", pod.Namespace, c.pending, how, condition.Reason, condition.Message))
	verb := "denied"
	if condition.Type == certificatesv1.PodCertificateRequestConditionTypeFailed {
		verb = "failed"
	}
	c.pending, c.pendingKey, c.key, c.chain = "", nil, nil, nil
	c.ended = fmt.Errorf("PodCertificateRequest was permanently %s: reason=%q message=%q", verb, condition.Reason, condition.Message)
}

// take: what was pending serves from now on.
func (c *credential) take(request *certificatesv1.PodCertificateRequest) {
	c.key, c.chain = c.pendingKey, cleanChain([]byte(request.Status.CertificateChain))
	c.pending, c.pendingKey, c.saidOverdue, c.saidExpired = "", nil, false, false
	if at := request.Status.BeginRefreshAt; at != nil {
		c.refreshAt = at.Add(mathrand.N(maxJitter))
	}
	if at := request.Status.NotAfter; at != nil {
		c.expiry = at.Time
	}
}

// cleanChain leaves out what a signer wrote around the certificates.
func cleanChain(chain []byte) []byte {
	var out bytes.Buffer
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}) // a Buffer takes everything
	}
	return out.Bytes()
}
