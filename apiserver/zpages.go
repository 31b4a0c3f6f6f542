package apiserver

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"hyperkube/component"
)

// The z-pages (KEP-4827, KEP-4828) tell a person what runs and with what settings. They are for group system:monitoring.

const zpageHead = "\n%s %s\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n\n"

// zpage answers with a text; other media types are not made.
func zpage(name string, write func(w http.ResponseWriter)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if accept := r.Header.Get("Accept"); accept != "" && !strings.Contains(accept, "text/plain") && !strings.Contains(accept, "text/*") && !strings.Contains(accept, "*/*") {
			http.Error(w, "406 not acceptable: only text/plain is supported", http.StatusNotAcceptable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, zpageHead, "apiserver", name)
		write(w)
	}
}

// statusz says since when which version runs.
func (s *Server) statusz(paths []string) http.HandlerFunc {
	return zpage("statusz", func(w http.ResponseWriter) {
		version := component.Version()
		up := time.Since(s.started)
		fmt.Fprintf(w, "Started: %s\n", s.started.UTC().Format(time.UnixDate))
		fmt.Fprintf(w, "Up: %d hr %02d min %02d sec\n", int(up.Hours()), int(up.Minutes())%60, int(up.Seconds())%60)
		fmt.Fprintf(w, "Go version: %s\n", version.GoVersion)
		fmt.Fprintf(w, "Binary version: %s\n", strings.TrimPrefix(version.GitVersion, "v"))
		fmt.Fprintf(w, "Emulation version: %s.%s\n", version.Major, version.Minor)
		fmt.Fprintf(w, "Paths: %s\n", strings.Join(paths, " "))
	})
}

// flagz says with what settings, under the names of upstream's flags. Keys are files: their contents are not shown.
func (s *Server) flagz() http.HandlerFunc {
	c := &s.config
	lines := []string{
		"advertise-address=" + c.AdvertiseAddress,
		"audit-log-path=" + c.AuditLogPath,
		"audit-policy-file=" + c.AuditPolicyFile,
		"bind-address=" + c.BindAddress,
		"client-ca-file=" + c.ClientCAFile,
		"enable-bootstrap-token-auth=" + strconv.FormatBool(c.EnableBootstrapTokenAuth),
		"etcd-cafile=" + c.EtcdCAFile,
		"etcd-certfile=" + c.EtcdCertFile,
		"etcd-keyfile=" + c.EtcdKeyFile,
		"etcd-servers=" + strings.Join(c.EtcdServers, ","),
		"kubelet-certificate-authority=" + c.KubeletCAFile,
		"kubelet-client-certificate=" + c.KubeletClientCertFile,
		"kubelet-client-key=" + c.KubeletClientKeyFile,
		"max-requests-inflight=" + strconv.Itoa(c.MaxRequestsInflight),
		"request-timeout=" + c.RequestTimeout.String(),
		"service-account-issuer=" + c.ServiceAccountIssuer,
		"service-account-key-file=" + c.ServiceAccountKeyFile,
		"service-cluster-ip-range=" + c.ServiceCIDR,
		"service-node-port-range=" + c.NodePortRange,
		"storage-media-type=" + c.StorageMediaType,
		"tls-cert-file=" + c.CertFile,
		"tls-private-key-file=" + c.KeyFile,
		"token-auth-file=" + c.TokenAuthFile,
	}
	slices.Sort(lines)
	return zpage("flagz", func(w http.ResponseWriter) { fmt.Fprintln(w, strings.Join(lines, "\n")) })
}
