package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hyperkube/apiserver"
	"hyperkube/apiserver/audit"
)

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What the policy asks for is in the log, with who really asked, and nothing of Secrets.
func TestAuditLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "audit.log")
	policy := file(t, "policy.yaml", `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: Metadata, resources: [{resources: [secrets]}], namespaces: [default]}
- {level: RequestResponse, verbs: [create], resources: [{resources: [configmaps]}], namespaces: [default]}
- {level: None}
`)
	cluster := Start(t, func(c *apiserver.Config) { c.AuditPolicyFile, c.AuditLogPath = policy, log })
	jane, err := kubernetes.NewForConfig(cluster.ConfigAs("jane", "system:masters"))
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := kubernetes.NewForConfig(cluster.ConfigAs("nobody"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"password": "hunter2"}}
	if _, err := jane.CoreV1().Secrets("default").Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = nobody.CoreV1().Secrets("default").Get(ctx, "s", metav1.GetOptions{})
	if !apierrors.IsForbidden(err) {
		t.Fatal(err)
	}
	protobuf, err := kubernetes.NewForConfig(cluster.Protobuf())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := protobuf.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "c-"}, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("hunter2")) || bytes.Contains(data, []byte("aHVudGVyMg")) {
		t.Error("the log holds a Secret's value")
	}
	var events []audit.Event
	for line := range bytes.Lines(data) {
		var e audit.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		events = append(events, e)
	}
	if len(events) != 3 {
		t.Fatalf("%d events, want 3:\n%s", len(events), data)
	}
	created, refused, configMap := events[0], events[1], events[2]
	if created.User.Username != "kubernetes-admin" || created.ImpersonatedUser.Username != "jane" || created.Verb != "create" || created.ResponseStatus.Code != 201 || created.Annotations["authorization.k8s.io/decision"] != "allow" {
		t.Errorf("%+v", created)
	}
	if refused.ResponseStatus.Code != 403 || refused.ResponseStatus.Reason != metav1.StatusReasonForbidden || refused.Annotations["authorization.k8s.io/decision"] != "forbid" || refused.ObjectRef.Name != "s" {
		t.Errorf("%+v", refused)
	}
	if !strings.Contains(string(configMap.RequestObject), `"k":"v"`) || !strings.Contains(string(configMap.ResponseObject), `"uid"`) || !strings.HasPrefix(configMap.ObjectRef.Name, "c-") || strings.Contains(string(configMap.ResponseObject), "managedFields") {
		t.Errorf("request %s, response %s, %+v", configMap.RequestObject, configMap.ResponseObject, configMap.ObjectRef)
	}
}

// While one user floods the server, a component's requests are all answered, and the flood is told to come back later.
func TestFloodStarvesNobody(t *testing.T) {
	cluster := Start(t, func(c *apiserver.Config) { c.MaxRequestsInflight = 8 })
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	flooder := cluster.ConfigAs("flooder", "system:authenticated")
	var refused atomic.Int64
	var flood sync.WaitGroup
	client, err := rest.HTTPClientFor(flooder)
	if err != nil {
		t.Fatal(err)
	}
	for range 400 {
		flood.Go(func() {
			for ctx.Err() == nil {
				r, _ := http.NewRequestWithContext(ctx, http.MethodGet, flooder.Host+"/api/v1/namespaces/default/pods", nil)
				answer, err := client.Do(r)
				if err != nil {
					continue
				}
				if answer.StatusCode == http.StatusTooManyRequests {
					refused.Add(1)
					if answer.Header.Get("Retry-After") == "" {
						t.Error("no Retry-After")
					}
					var status metav1.Status
					if json.NewDecoder(answer.Body).Decode(&status) == nil && (status.Reason != metav1.StatusReasonTooManyRequests || status.Message != "Too many requests, please try again later." || status.Details.RetryAfterSeconds != 1) {
						t.Errorf("refused with %+v", status)
					}
				}
				if answer.Header.Get("X-Kubernetes-PF-PriorityLevel-UID") == "" {
					t.Error("no priority level is named")
				}
				answer.Body.Close()
			}
		})
	}
	scheduler, err := kubernetes.NewForConfig(cluster.ConfigAs("system:kube-scheduler", "system:authenticated"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 50 || refused.Load() == 0; i++ {
		if _, err := scheduler.CoreV1().Nodes().List(ctx, metav1.ListOptions{}); err != nil {
			t.Fatalf("request %d of the scheduler: %v", i, err)
		}
	}
	stop()
	flood.Wait()
}

// Users of a token file and of bootstrap tokens are who they should be.
func TestTokens(t *testing.T) {
	tokens := file(t, "tokens.csv", "sesame,jane,u1,\"system:masters\"\n")
	cluster := Start(t, func(c *apiserver.Config) { c.TokenAuthFile, c.EnableBootstrapTokenAuth = tokens, true })
	ctx := t.Context()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-abcdef"}, Type: corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"}}
	if _, err := cluster.Client.CoreV1().Secrets("kube-system").Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]string{"sesame": "jane", "abcdef.0123456789abcdef": "system:bootstrap:abcdef", "wrong": ""} {
		out, err := kubectlWith(cluster, "--token="+token, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
		if (err == nil) != (want != "") || err == nil && out != want {
			t.Errorf("%s: %s %v, want %q", token, out, err, want)
		}
	}
}

// kubectlWith runs it without the administrator's certificate.
func kubectlWith(cluster *Cluster, args ...string) (string, error) {
	binary, err := exec.LookPath("kubectl")
	if err != nil {
		return "", fmt.Errorf("no kubectl in PATH: %w", err)
	}
	command := exec.Command(binary, append([]string{"--kubeconfig=/dev/null", "--server=" + cluster.Config.Host, "--certificate-authority=" + cluster.Config.CAFile}, args...)...)
	out, err := command.Output()
	return string(out), err
}
