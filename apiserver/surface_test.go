package apiserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver"
	"hyperkube/test/integration"
)

// The rest of the surface, as a monitoring system and a person with `kubectl get --raw` see it.

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
rules: [{level: Metadata}]
`

// use does a little of everything that is counted.
func use(t *testing.T, cluster *integration.Cluster) {
	t.Helper()
	ctx := t.Context()
	maps := cluster.Client.CoreV1().ConfigMaps("default")
	for _, options := range []metav1.CreateOptions{{DryRun: []string{metav1.DryRunAll}}, {}} {
		if _, err := maps.Create(ctx, &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, options); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := maps.List(ctx, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	watch, err := maps.Watch(ctx, metav1.ListOptions{SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	for event := range watch.ResultChan() {
		if event.Type == "BOOKMARK" {
			break
		}
	}
	if _, err := cluster.Client.CoreV1().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		t.Fatal(err)
	}
	// Who has no time left is sent away, unless the answer is there first.
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := cluster.Client.CoreV1().RESTClient().Get().AbsPath("/api/v1/endpoints").Param("timeout", "1ns").DoRaw(ctx)
		if apierrors.IsTimeout(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no request was out of time: %v", err)
		}
	}
	for _, path := range []string{"/api/v1/nosuch", "/apis/no.such/v1/things"} { // no label may come of it
		_, _ = cluster.Client.CoreV1().RESTClient().Get().AbsPath(path).DoRaw(ctx)
	}
}

// TestMetrics compares names and labels with upstream's list (testdata/metrics.txt).
func TestMetrics(t *testing.T) {
	dir, registry := t.TempDir(), prometheus.NewRegistry()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	cluster := integration.Start(t, func(c *apiserver.Config) {
		c.Metrics, c.AuditPolicyFile, c.AuditLogPath = registry, policy, filepath.Join(dir, "audit.log")
	})
	watching, err := cluster.Client.CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watching.Stop()
	use(t, cluster)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, family := range families {
		for _, metric := range family.Metric {
			if h := metric.Histogram; h != nil && strings.HasPrefix(family.GetName(), "apiserver_request_") && (h.Schema == nil || len(h.Bucket) == 0) {
				t.Errorf("%s is not both a native and a classic histogram", family.GetName())
			}
			var labels []string
			for _, label := range metric.Label {
				labels = append(labels, label.GetName())
				if label.GetValue() == "nosuch" || label.GetValue() == "no.such" || label.GetValue() == "things" {
					t.Errorf("%s has a label of what a client made up: %v", family.GetName(), metric.Label)
				}
			}
			slices.Sort(labels)
			got[family.GetName()] = strings.Join(labels, " ")
		}
	}
	file, err := os.Open("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		name, labels, _ := strings.Cut(lines.Text(), " ")
		if have, ok := got[name]; !ok || have != labels {
			t.Errorf("%s: labels %q (there: %t), want %q", name, have, ok, labels)
		}
	}
}

// What the server ends to protect itself is counted, and so is what it cannot begin.
func TestFailuresAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	cluster := integration.Start(t, func(c *apiserver.Config) { c.Metrics = registry })
	use(t, cluster)
	if conn, err := tls.Dial("tcp", strings.TrimPrefix(cluster.Config.Host, "https://"), &tls.Config{RootCAs: x509.NewCertPool()}); err == nil {
		conn.Close()
		t.Fatal("a certificate that nobody signed was believed")
	}
	want := map[string]func(sum float64) bool{
		"apiserver_tls_handshake_errors_total": func(sum float64) bool { return sum >= 1 }, // the server may hear of it late
		"apiserver_request_terminations_total": func(sum float64) bool { return sum >= 1 },
		"apiserver_requested_deprecated_apis":  func(sum float64) bool { return sum == 1 }, // v1 endpoints
		"apiserver_storage_size_bytes":         func(sum float64) bool { return sum > 4096 },
	}
	for deadline := time.Now().Add(time.Minute); len(want) > 0; time.Sleep(10 * time.Millisecond) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			sum := 0.0
			for _, metric := range family.Metric {
				sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
			if holds := want[family.GetName()]; holds != nil && holds(sum) {
				delete(want, family.GetName())
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("not counted, or not so: %v", slices.Collect(maps.Keys(want)))
		}
	}
}

// What health checks and z-pages answer is what upstream's do; why a check fails is for the log, since everybody may ask.
func TestHealthTexts(t *testing.T) {
	cluster := integration.Start(t)
	client, err := rest.HTTPClientFor(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) (string, int) {
		response, err := client.Get(cluster.Config.Host + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body), response.StatusCode
	}
	for path, want := range map[string]string{
		"/healthz": "ok", "/livez/etcd": "ok", "/readyz/poststarthook/rbac/bootstrap-roles": "ok", "/livez/ping": "ok",
		"/livez?exclude=etcd": "ok",
	} {
		if body, code := get(path); body != want || code != 200 {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	body, _ := get("/livez?verbose&exclude=etcd&exclude=nosuch")
	for _, line := range []string{"[+]ping ok", "[+]poststarthook/bootstrap-controller ok", "[+]etcd excluded: ok",
		`warn: some health checks cannot be excluded: no matches for "nosuch"`, "livez check passed"} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("no %q in\n%s", line, body)
		}
	}
	for path, want := range map[string]string{
		"/statusz":      "\napiserver statusz\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n\nStarted: ",
		"/flagz":        "service-cluster-ip-range=10.96.0.0/16\n",
		"/version/":     `"gitVersion": "v1.`,
		"/debug/pprof/": "goroutine",
		"/debug/api_priority_and_fairness/dump_priority_levels": "PriorityLevelName,",
	} {
		if body, code := get(path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	cluster.Etcd.Stop()
	defer cluster.Etcd.Start()
	if body, code := get("/livez?verbose"); code != 500 || !strings.Contains(body, "[-]etcd failed: reason withheld\n") || !strings.HasSuffix(body, "livez check failed\n") {
		t.Errorf("without etcd: %d %q", code, body)
	}
}

// A flood of one user that fills all its seats and queues keeps nobody of the system waiting.
func TestFloodLeavesTheComponents(t *testing.T) {
	cluster := integration.Start(t, func(c *apiserver.Config) { c.MaxRequestsInflight = 60 })
	as := func(user string, groups ...string) *kubernetes.Clientset {
		config := rest.CopyConfig(cluster.Config)
		config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
		return kubernetes.NewForConfigOrDie(config)
	}
	_, err := cluster.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "flood"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "flood"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	// Each waits for a revision that will not come, and holds its seat meanwhile.
	flood := as("flood", "system:authenticated")
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			for ctx.Err() == nil {
				_, _ = flood.RESTClient().Get().AbsPath("/api/v1/namespaces/default/configmaps").Param("resourceVersion", "999999999").Param("resourceVersionMatch", "NotOlderThan").MaxRetries(0).DoRaw(ctx)
			}
		})
	}
	defer group.Wait()
	defer stop()
	waiting := func() bool {
		raw, err := cluster.Client.CoreV1().RESTClient().Get().AbsPath("/debug/api_priority_and_fairness/dump_priority_levels").DoRaw(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(raw), "\n") {
			if f := strings.Fields(line); len(f) > 4 && f[0] == "global-default," {
				return f[4] != "0,"
			}
		}
		return false
	}
	for !waiting() {
		if t.Context().Err() != nil {
			t.Fatal("the flood does not fill its level")
		}
	}
	for _, component := range []*kubernetes.Clientset{as("system:kube-controller-manager"), as("system:kube-scheduler"), as("system:node:n", "system:nodes")} {
		for i := range 20 {
			_, err := component.CoreV1().Nodes().Get(t.Context(), fmt.Sprint("n", i), metav1.GetOptions{})
			if err == nil || strings.Contains(err.Error(), "Too many") {
				t.Errorf("a component's request: %v", err)
			}
		}
	}
	if !waiting() {
		t.Error("the flood was over before the components were served: the test shows nothing")
	}
}
