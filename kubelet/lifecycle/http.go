package lifecycle

import (
	"crypto/tls"
	"fmt"
	"net/http"
)

// insecureTLS: a hook or probe asks whether the container answers, not who it
// is; its certificate is its own affair.
func insecureTLS() *tls.Config { return &tls.Config{InsecureSkipVerify: true} } //nolint:gosec

// noForeignRedirect follows redirects within the pod only. Otherwise a container
// could make the kubelet, which stands on the node's network, call others.
func noForeignRedirect(request *http.Request, via []*http.Request) error {
	if request.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return fmt.Errorf("stopped after 10 redirects")
	}
	return nil
}
