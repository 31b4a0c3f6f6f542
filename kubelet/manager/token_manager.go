package manager

import (
	"context"
	"fmt"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// A token is renewed when a fifth of its life is left, or after a day.
const maxTokenAge = 24 * time.Hour

// TokenManager gets and keeps tokens of service accounts for pods.
type TokenManager struct {
	client kubernetes.Interface
	clock  clock.Clock

	mu     sync.Mutex
	tokens map[string]*heldToken
}

type heldToken struct {
	pod    types.UID
	status authenticationv1.TokenRequestStatus
	issued time.Time
}

// NewTokenManager makes a manager; client nil refuses all requests.
func NewTokenManager(client kubernetes.Interface, c clock.Clock) *TokenManager {
	return &TokenManager{client: client, clock: c, tokens: map[string]*heldToken{}}
}

// GetServiceAccountToken returns a token bound to the pod that request names.
// When renewing fails, one that has not expired yet still serves.
func (m *TokenManager) GetServiceAccountToken(ctx context.Context, namespace, name string, request *authenticationv1.TokenRequest) (string, error) {
	if m.client == nil {
		return "", fmt.Errorf("cannot use TokenManager when kubelet is in standalone mode")
	}
	key := fmt.Sprintf("%s/%s/%v/%d/%s", namespace, name, request.Spec.Audiences, *request.Spec.ExpirationSeconds, request.Spec.BoundObjectRef.UID)
	m.mu.Lock()
	held := m.tokens[key]
	m.mu.Unlock()
	if held != nil && !m.requiresRefresh(held) {
		return held.status.Token, nil
	}
	response, err := m.client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		if held != nil && m.clock.Now().Before(held.status.ExpirationTimestamp.Time) {
			return held.status.Token, nil
		}
		return "", fmt.Errorf("failed to fetch token: %w", err)
	}
	m.mu.Lock()
	m.tokens[key] = &heldToken{pod: request.Spec.BoundObjectRef.UID, status: response.Status, issued: m.clock.Now()}
	m.mu.Unlock()
	return response.Status.Token, nil
}

func (m *TokenManager) requiresRefresh(held *heldToken) bool {
	now := m.clock.Now()
	life := held.status.ExpirationTimestamp.Sub(held.issued)
	return now.After(held.issued.Add(maxTokenAge)) || now.After(held.status.ExpirationTimestamp.Add(-life/5))
}

// DeleteServiceAccountToken forgets the tokens of a pod.
func (m *TokenManager) DeleteServiceAccountToken(pod types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, held := range m.tokens {
		if held.pod == pod {
			delete(m.tokens, key)
		}
	}
}
