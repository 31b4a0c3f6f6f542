package client

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
)

// What the apiserver warns of is logged once, however often it says so; what is no warning, never.
func TestWarningsAreLoggedOnce(t *testing.T) {
	warnings := []string{`299 - "v1 Endpoints is deprecated"`, `299 - "v1 Endpoints is deprecated"`, `299 - "another"`, `199 - "of a cache"`, `299 - ""`}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Warning"] = warnings
		fmt.Fprint(w, "{}")
	}))
	defer server.Close()
	client, err := rest.UnversionedRESTClientFor(&rest.Config{Host: server.URL, WarningHandlerWithContext: &onceEach{seen: map[string]bool{}},
		ContentConfig: rest.ContentConfig{NegotiatedSerializer: scheme.Codecs.WithoutConversion()}})
	if err != nil {
		t.Fatal(err)
	}
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true)))
	ctx := klog.NewContext(t.Context(), logger)
	for range 2 {
		if err := client.Get().AbsPath("/").Do(ctx).Error(); err != nil {
			t.Fatal(err)
		}
	}
	log := logger.GetSink().(ktesting.Underlier).GetBuffer().String()
	for text, want := range map[string]int{"v1 Endpoints is deprecated": 1, "another": 1, "of a cache": 0, "The apiserver warns": 2} {
		if got := strings.Count(log, text); got != want {
			t.Errorf("%q is logged %d times, want %d:\n%s", text, got, want, log)
		}
	}
}
