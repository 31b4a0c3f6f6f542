package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

// get asks for a path as config's user, and returns the answer with its body read.
func get(t *testing.T, config *rest.Config, path string) (*http.Response, string) {
	t.Helper()
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.Get(config.Host + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// OpenID Connect Discovery 1.0, section 4: who may read them finds issuer and keys with which a token can be verified; service accounts may
// (system:service-account-issuer-discovery), others may not.
func TestIssuerDiscovery(t *testing.T) {
	c := Start(t)
	account := c.ConfigAs("system:serviceaccount:default:builder", "system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated")
	resp, body := get(t, account, "/.well-known/openid-configuration")
	var config struct {
		Issuer  string   `json:"issuer"`
		JWKSURI string   `json:"jwks_uri"`
		Types   []string `json:"response_types_supported"`
		Algs    []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := json.Unmarshal([]byte(body), &config); err != nil || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s %v: %s", resp.Header.Get("Content-Type"), err, body)
	}
	if config.Issuer != "https://kubernetes.default.svc.cluster.local" || !strings.HasSuffix(config.JWKSURI, "/openid/v1/jwks") ||
		strings.Join(config.Types, " ") != "id_token" || strings.Join(config.Algs, " ") != "ES256" {
		t.Errorf("configuration: %s", body)
	}
	resp, body = get(t, account, "/openid/v1/jwks")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/jwk-set+json" || !strings.Contains(body, `"kty":"EC"`) {
		t.Errorf("keys: %d %s: %s", resp.StatusCode, resp.Header.Get("Content-Type"), body)
	}
	for _, path := range []string{"/.well-known/openid-configuration", "/openid/v1/jwks"} {
		if resp, _ := get(t, c.ConfigAs("jane", "system:authenticated"), path); resp.StatusCode != 403 {
			t.Errorf("jane reads %s: %d", path, resp.StatusCode)
		}
		if resp, _ := get(t, rest.AnonymousClientConfig(c.Config), path); resp.StatusCode != 401 {
			t.Errorf("anybody reads %s: %d", path, resp.StatusCode)
		}
	}
}

// A token ends with what it is bound to, be it a Secret or a Node; one for another audience is refused here, and good there.
func TestBoundTokens(t *testing.T) {
	c := Start(t)
	ctx, core := t.Context(), c.Client.CoreV1()
	must(t)(core.ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "builder"}}, metav1.CreateOptions{}))
	must(t)(core.Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}}, metav1.CreateOptions{}))
	must(t)(core.Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, metav1.CreateOptions{}))
	token := func(spec authenticationv1.TokenRequestSpec) string {
		t.Helper()
		spec.ExpirationSeconds = ptr.To(int64(600))
		answer := must(t)(core.ServiceAccounts("default").CreateToken(ctx, "builder", &authenticationv1.TokenRequest{Spec: spec}, metav1.CreateOptions{}))
		return answer.(*authenticationv1.TokenRequest).Status.Token
	}
	review := func(token string, audiences ...string) authenticationv1.TokenReviewStatus {
		t.Helper()
		answer := must(t)(c.Client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}, metav1.CreateOptions{}))
		return answer.(*authenticationv1.TokenReview).Status
	}
	for kind, remove := range map[string]func() error{
		"Secret": func() error { return core.Secrets("default").Delete(ctx, "s", metav1.DeleteOptions{}) },
		"Node":   func() error { return core.Nodes().Delete(ctx, "n", metav1.DeleteOptions{}) },
	} {
		bound := token(authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: strings.ToLower(kind[:1])}})
		if status := review(bound); !status.Authenticated || status.User.Username != "system:serviceaccount:default:builder" {
			t.Errorf("%s: %+v", kind, status)
		}
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		if status := review(bound); status.Authenticated || !strings.Contains(status.Error, "invalidated") {
			t.Errorf("the %s is gone: %+v", kind, status)
		}
	}
	vault := token(authenticationv1.TokenRequestSpec{Audiences: []string{"vault"}})
	if status := review(vault); status.Authenticated {
		t.Errorf("a token for vault is good here: %+v", status)
	}
	if status := review(vault, "vault", "other"); !status.Authenticated || strings.Join(status.Audiences, " ") != "vault" {
		t.Errorf("a token for vault is not good there: %+v", status)
	}
	_, err := core.ServiceAccounts("default").CreateToken(ctx, "builder", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "ConfigMap", Name: "x"}}}, metav1.CreateOptions{})
	if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), "cannot bind token to object of type") {
		t.Errorf("bound to a ConfigMap: %v", err)
	}
}

// Each thing that one claims to be is a right of its own; the first that lacks is named.
func TestImpersonationIsAskedPiecewise(t *testing.T) {
	c := Start(t)
	ctx := t.Context()
	rules := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"users"}, ResourceNames: []string{"jane"}, Verbs: []string{"impersonate"}},
		{APIGroups: []string{""}, Resources: []string{"groups"}, ResourceNames: []string{"dev"}, Verbs: []string{"impersonate"}},
		{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"userextras/team"}, ResourceNames: []string{"red"}, Verbs: []string{"impersonate"}},
	}
	must(t)(c.Client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "proxy"}, Rules: rules}, metav1.CreateOptions{}))
	must(t)(c.Client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "proxy"},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "proxy"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "bob"}}}, metav1.CreateOptions{}))
	cert, err := c.Dir.ClientCert("bob", "bob")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		as   rest.ImpersonationConfig
		want string // the refusal; "": none
	}{
		{rest.ImpersonationConfig{UserName: "jane", Groups: []string{"dev"}, Extra: map[string][]string{"team": {"red"}}}, ""},
		{rest.ImpersonationConfig{UserName: "root"}, `users "root" is forbidden: User "bob" cannot impersonate resource "users" in API group "" at the cluster scope`},
		{rest.ImpersonationConfig{UserName: "jane", Groups: []string{"ops"}}, `groups "ops" is forbidden: User "bob" cannot impersonate resource "groups" in API group "" at the cluster scope`},
		{rest.ImpersonationConfig{UserName: "jane", UID: "7"}, `uids.authentication.k8s.io "7" is forbidden: User "bob" cannot impersonate resource "uids" in API group "authentication.k8s.io" at the cluster scope`},
		{rest.ImpersonationConfig{UserName: "jane", Extra: map[string][]string{"team": {"blue"}}}, `userextras.authentication.k8s.io "blue" is forbidden: User "bob" cannot impersonate resource "userextras/team" in API group "authentication.k8s.io" at the cluster scope`},
	} {
		config := rest.CopyConfig(c.Config)
		config.CertFile, config.KeyFile, config.Impersonate = cert.CertFile, cert.KeyFile, test.as
		self, err := clientFor(t, config).AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		switch {
		case test.want != "":
			if !apierrors.IsForbidden(err) || err.Error() != test.want {
				t.Errorf("%+v: %v, want %s", test.as, err, test.want)
			}
		case err != nil:
			t.Errorf("%+v: %v", test.as, err)
		case self.Status.UserInfo.Username != "jane" || self.Status.UserInfo.Extra["team"][0] != "red" || strings.Join(self.Status.UserInfo.Groups, " ") != "dev system:authenticated":
			t.Errorf("%+v: %+v", test.as, self.Status.UserInfo)
		}
	}
}

// What monitoring reads: upstream's names and labels; and checks by name, which may be left out.
func TestMetricsAndHealth(t *testing.T) {
	c := Start(t)
	must(t)(c.Client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{}))
	_, metrics := get(t, c.Config, "/metrics")
	for _, line := range []string{
		`apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="configmaps",scope="resource",subresource="",verb="POST",version="v1"} 1`,
		`apiserver_request_duration_seconds_count{component="apiserver",dry_run="",group="",resource="configmaps",scope="resource",subresource="",verb="POST",version="v1"} 1`,
		`etcd_request_duration_seconds_count{group="",operation="create",resource="configmaps"} `,
		`etcd_requests_total{group="",operation="create",resource="configmaps"} `,
		`apiserver_storage_objects{resource="namespaces"} 4`,
		`apiserver_current_inflight_requests{request_kind="readOnly"} `,
		`apiserver_flowcontrol_nominal_limit_seats{priority_level="catch-all"} `,
	} {
		if !strings.Contains(metrics, "\n"+line) {
			t.Errorf("no line %s", line)
		}
	}
	get(t, c.Config, "/livez")
	if _, few := get(t, c.Config, "/metrics/slis"); !strings.Contains(few, "\n"+`kubernetes_healthcheck{name="etcd",type="livez"} 1`) || strings.Contains(few, "apiserver_") {
		t.Errorf("/metrics/slis: %s", few)
	}
	for path, want := range map[string]string{
		"/livez":                        "ok",
		"/healthz/ping":                 "ok",
		"/livez?verbose&exclude=etcd":   "[+]etcd excluded: ok\n",
		"/livez?verbose&exclude=nosuch": "warn: some health checks cannot be excluded: no matches for \"nosuch\"\nlivez check passed\n",
		"/readyz?verbose":               "[+]shutdown ok\n",
	} {
		if resp, body := get(t, c.Config, path); resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q, want %q", path, resp.StatusCode, body, want)
		}
	}
}
