package audit

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"hyperkube/apiserver/request"
)

// BenchmarkHandler is what the audit log costs a request at each level; without a policy there is no handler at all.
func BenchmarkHandler(b *testing.B) {
	for _, level := range []string{"None", "Metadata"} {
		b.Run(level, func(b *testing.B) {
			policy := filepath.Join(b.TempDir(), "policy.yaml")
			if err := os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: "+level+"}]\n"), 0o600); err != nil {
				b.Fatal(err)
			}
			a, err := New(policy, filepath.Join(b.TempDir(), "audit.log"), func(*request.Info, *http.Request) bool { return false })
			if err != nil {
				b.Fatal(err)
			}
			defer a.Close()
			handler := a.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
			r := httptest.NewRequest("GET", "/api/v1/namespaces/a/pods/x", nil)
			user := &request.User{Name: "system:node:n", Groups: []string{"system:nodes", "system:authenticated"}}
			r = r.WithContext(request.WithUser(request.WithInfo(r.Context(), request.NewInfo(r)), user))
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}
