package proxy

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
)

// What a load balancer reads: /healthz also says whether the node stays, /livez only whether the rules can be written.
func TestProxyHealth(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	node := func(change func(*v1.Node)) *v1.Node {
		n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
		if change != nil {
			change(n)
		}
		return n
	}
	for name, test := range map[string]struct {
		node           *v1.Node
		failure        error
		healthz, livez int
	}{
		"well":            {node(nil), nil, 200, 200},
		"rules not set":   {node(nil), errors.New("broken"), 503, 503},
		"node is deleted": {node(func(n *v1.Node) { n.DeletionTimestamp = &metav1.Time{Time: now} }), nil, 503, 200},
		"node is to go":   {node(func(n *v1.Node) { n.Spec.Taints = []v1.Taint{{Key: toBeDeletedTaint}} }), nil, 503, 200},
		"another's taint": {node(func(n *v1.Node) { n.Spec.Taints = []v1.Taint{{Key: "x"}} }), nil, 200, 200},
		"another's node":  {node(func(n *v1.Node) { n.Name, n.Spec.Taints = "m", []v1.Taint{{Key: toBeDeletedTaint}} }), nil, 200, 200},
	} {
		t.Run(name, func(t *testing.T) {
			p := &Proxy{cfg: Config{NodeName: "n", Clock: clocktesting.NewFakeClock(now)}, health: &syncHealth{}}
			p.health.note(now.Add(-time.Hour), test.failure)
			p.nodeChanged(nil, test.node)
			for path, want := range map[string]int{"/healthz": test.healthz, "/livez": test.livez} {
				w := httptest.NewRecorder()
				p.healthHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
				if w.Code != want || strings.Contains(w.Body.String(), "nodeEligible") != (path == "/healthz") ||
					want == 200 && !strings.Contains(w.Body.String(), `"lastUpdated":"2026-01-02T03:04:05Z"`) {
					t.Errorf("%s: %d %s", path, w.Code, w.Body)
				}
			}
			w := httptest.NewRecorder()
			p.metricsHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/proxyMode", nil))
			if w.Code != 200 || w.Body.String() != "iptables" {
				t.Errorf("/proxyMode: %d %s", w.Code, w.Body)
			}
		})
	}
}
