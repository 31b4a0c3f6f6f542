package controllers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hyperkube/apiserver"
	"hyperkube/controllers"
	"hyperkube/test/integration"
)

// withServiceAccountKey lets the manager sign.
func withServiceAccountKey(t *testing.T, cluster *integration.Cluster) func(*controllers.Config) {
	t.Helper()
	key, err := os.ReadFile(cluster.Dir.ServiceAccountKeyFile())
	if err != nil {
		t.Fatal(err)
	}
	return func(c *controllers.Config) { c.ServiceAccountKey = key }
}

// whoAmI asks the apiserver who bears token.
func whoAmI(t *testing.T, cluster *integration.Cluster, token string) (authenticationv1.UserInfo, error) {
	t.Helper()
	client := kubernetes.NewForConfigOrDie(&rest.Config{Host: cluster.Config.Host, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAFile: cluster.Dir.CAFile()}})
	self, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return authenticationv1.UserInfo{}, err
	}
	return self.Status.UserInfo, nil
}

func tokenSecret(name, account string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: account}},
		Type:       corev1.SecretTypeServiceAccountToken,
	}
}

// A Secret of type kubernetes.io/service-account-token is filled; its token says whose it is until the Secret or the account goes.
func TestSecretToken(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster, withServiceAccountKey(t, cluster))
	ctx, core := t.Context(), cluster.Client.CoreV1()
	if _, err := core.ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "builder"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{}
	for _, name := range []string{"first", "second"} {
		if _, err := core.Secrets("default").Create(ctx, tokenSecret(name, "builder"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" is filled", func() error {
			secret, err := core.Secrets("default").Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if len(secret.Data["token"]) == 0 || string(secret.Data["namespace"]) != "default" || string(secret.Data["ca.crt"]) != "-----CA-----" {
				return fmt.Errorf("it holds %v", secret.Data)
			}
			tokens[name] = string(secret.Data["token"])
			return nil
		})
		info, err := whoAmI(t, cluster, tokens[name])
		if err != nil || info.Username != "system:serviceaccount:default:builder" || strings.Join(info.Groups, " ") != "system:serviceaccounts system:serviceaccounts:default system:authenticated" {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
	secret, err := core.Secrets("default").Get(ctx, "first", metav1.GetOptions{})
	if err != nil || secret.Labels["kubernetes.io/legacy-token-last-used"] == "" {
		t.Errorf("its use is not noted: %v, %v", secret.Labels, err)
	}

	secret.Labels["kubernetes.io/legacy-token-invalid-since"] = "2026-01-01"
	if _, err := core.Secrets("default").Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := whoAmI(t, cluster, tokens["first"]); !apierrors.IsUnauthorized(err) {
		t.Errorf("the token is marked invalid and still works: %v", err)
	}
	if err := core.Secrets("default").Delete(ctx, "first", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := core.Secrets("default").Create(ctx, tokenSecret("first", "builder"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := whoAmI(t, cluster, tokens["first"]); !apierrors.IsUnauthorized(err) {
		t.Errorf("its Secret is another and it still works: %v", err)
	}

	if err := core.ServiceAccounts("default").Delete(ctx, "builder", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := whoAmI(t, cluster, tokens["second"]); !apierrors.IsUnauthorized(err) {
		t.Errorf("the account is gone and its token still works: %v", err)
	}
	for _, name := range []string{"first", "second"} {
		eventually(t, name+" goes with its account", gone(ctx, cluster.Client, "default", name))
	}
	if _, err := core.Secrets("default").Create(ctx, tokenSecret("orphan", "nobody"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a Secret of no account goes", gone(ctx, cluster.Client, "default", "orphan"))
}

func gone(ctx context.Context, client kubernetes.Interface, namespace, name string) func() error {
	return func() error {
		_, err := client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it is still there"))
	}
}

func bootstrapSecret(id string, expires time.Time) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-" + id}, Type: corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id": id, "token-secret": "0123456789abcdef", "expiration": expires.Format(time.RFC3339),
			"usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true", "auth-extra-groups": "system:bootstrappers:workers",
		},
	}
}

// Who bears a bootstrap token is let in; cluster-info is signed with it; and when it has expired both end.
func TestBootstrapTokens(t *testing.T) {
	cluster := integration.Start(t, func(c *apiserver.Config) { c.EnableBootstrapTokenAuth = true })
	startManager(t, cluster)
	ctx, core := t.Context(), cluster.Client.CoreV1()
	for id, expires := range map[string]time.Time{"aaaaaa": time.Now().Add(time.Hour), "bbbbbb": time.Now().Add(-time.Hour)} {
		if _, err := core.Secrets("kube-system").Create(ctx, bootstrapSecret(id, expires), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	info, err := whoAmI(t, cluster, "aaaaaa.0123456789abcdef")
	if err != nil || info.Username != "system:bootstrap:aaaaaa" || strings.Join(info.Groups, " ") != "system:bootstrappers system:bootstrappers:workers system:authenticated" {
		t.Errorf("the bearer is %+v, %v", info, err)
	}
	if _, err := whoAmI(t, cluster, "bbbbbb.0123456789abcdef"); !apierrors.IsUnauthorized(err) {
		t.Errorf("an expired token: %v", err)
	}
	eventually(t, "the expired token is deleted", gone(ctx, cluster.Client, "kube-system", "bootstrap-token-bbbbbb"))
	signature := func() (string, error) {
		configMap, err := core.ConfigMaps("kube-public").Get(ctx, "cluster-info", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if !strings.Contains(configMap.Data["kubeconfig"], "server: https://192.0.2.1:") {
			t.Errorf("cluster-info: %v", configMap.Data)
		}
		if _, signed := configMap.Data["jws-kubeconfig-bbbbbb"]; signed {
			return "", errors.New("signed with an expired token")
		}
		return configMap.Data["jws-kubeconfig-aaaaaa"], nil
	}
	eventually(t, "cluster-info is signed", func() error {
		signed, err := signature()
		// {"alg":"HS256","kid":"aaaaaa"} and 32 bytes, the content left out between.
		if !strings.HasPrefix(signed, "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFhYWFhYSJ9..") || len(signed) != 42+43 {
			return fmt.Errorf("signature %q, %v", signed, err)
		}
		return nil
	})
	if err := core.Secrets("kube-system").Delete(ctx, "bootstrap-token-aaaaaa", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the signature goes with the token", func() error {
		if signed, err := signature(); signed != "" || err != nil {
			return fmt.Errorf("signature %q, %v", signed, err)
		}
		return nil
	})
}
