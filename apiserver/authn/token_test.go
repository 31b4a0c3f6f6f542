package authn

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	testclock "k8s.io/utils/clock/testing"

	"hyperkube/apiserver/lister"
)

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.csv")
	if err := os.WriteFile(path, []byte("secret1,jane,u1,\"dev,ops\"\nsecret2,joe,u2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{TokenFile: path})
	if err != nil {
		t.Fatal(err)
	}
	user, _, err := a.AuthenticateToken(t.Context(), "secret1", nil)
	if err != nil || user.Name != "jane" || user.UID != "u1" || !slices.Equal(user.Groups, []string{"dev", "ops", "system:authenticated"}) {
		t.Errorf("%+v %v", user, err)
	}
	if user, _, err := a.AuthenticateToken(t.Context(), "secret2", nil); err != nil || user.Name != "joe" {
		t.Errorf("%+v %v", user, err)
	}
	for _, wrong := range []string{"", "secret", "secret11"} {
		if user, _, err := a.AuthenticateToken(t.Context(), wrong, nil); err == nil {
			t.Errorf("%q is %+v", wrong, user)
		}
	}
	if _, _, err := a.AuthenticateToken(t.Context(), "secret1", []string{"vault"}); err == nil {
		t.Error("a static token is good for another audience")
	}
	for text, want := range map[string]string{"a,b\n": "line 1: want at least 3 columns", "a,b,c\n,b,c\n": "line 2: the token is empty"} {
		if _, err := parseTokenFile(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestBootstrapTokens(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		change func(*corev1.Secret)
		token  string
		groups string
	}{
		"good": {nil, "abcdef.0123456789abcdef", "system:bootstrappers system:authenticated"},
		"more groups": {func(s *corev1.Secret) {
			s.Data["auth-extra-groups"] = []byte("system:bootstrappers:a,system:bootstrappers:b")
		}, "abcdef.0123456789abcdef", "system:bootstrappers system:bootstrappers:a system:bootstrappers:b system:authenticated"},
		"masters":       {func(s *corev1.Secret) { s.Data["auth-extra-groups"] = []byte("system:masters") }, "abcdef.0123456789abcdef", ""},
		"wrong secret":  {nil, "abcdef.0123456789abcdee", ""},
		"unknown id":    {nil, "abcdeg.0123456789abcdef", ""},
		"no such form":  {nil, "abcdef.0123", ""},
		"expired":       {func(s *corev1.Secret) { s.Data["expiration"] = []byte("2030-01-01T00:00:00Z") }, "abcdef.0123456789abcdef", ""},
		"still good":    {func(s *corev1.Secret) { s.Data["expiration"] = []byte("2030-01-01T00:00:01Z") }, "abcdef.0123456789abcdef", "system:bootstrappers system:authenticated"},
		"unreadable":    {func(s *corev1.Secret) { s.Data["expiration"] = []byte("soon") }, "abcdef.0123456789abcdef", ""},
		"other usage":   {func(s *corev1.Secret) { delete(s.Data, "usage-bootstrap-authentication") }, "abcdef.0123456789abcdef", ""},
		"other type":    {func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }, "abcdef.0123456789abcdef", ""},
		"being deleted": {func(s *corev1.Secret) { s.DeletionTimestamp = &metav1.Time{Time: now} }, "abcdef.0123456789abcdef", ""},
	} {
		t.Run(name, func(t *testing.T) {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: corev1.SecretTypeBootstrapToken,
				Data: map[string][]byte{"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-authentication": []byte("true")}}
			if test.change != nil {
				test.change(secret)
			}
			a, err := New(Config{BootstrapTokens: true, Secrets: lister.Slice(schema.GroupResource{Resource: "secrets"}, secret), Clock: testclock.NewFakePassiveClock(now)})
			if err != nil {
				t.Fatal(err)
			}
			user, _, err := a.AuthenticateToken(t.Context(), test.token, nil)
			if (err == nil) != (test.groups != "") {
				t.Fatalf("%+v, %v", user, err)
			}
			if err == nil && (user.Name != "system:bootstrap:abcdef" || strings.Join(user.Groups, " ") != test.groups) {
				t.Errorf("%+v", user)
			}
		})
	}
}
