package flow

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hyperkube/apiserver"
	"hyperkube/client"
	"hyperkube/flow"
	"hyperkube/reconcile"
	"hyperkube/test/integration"
)

// collected is an OpenTelemetry collector that keeps what it gets.
type collected struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans map[string]*tracepb.Span // by span id, hexadecimal
	text  strings.Builder
}

func (c *collected) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range r.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				c.spans[hex.EncodeToString(span.SpanId)] = span
			}
		}
	}
	c.text.WriteString(r.String())
	return &collector.ExportTraceServiceResponse{}, nil
}

// find returns the first span of a name about an object.
func (c *collected) find(name, object string) *tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, span := range c.spans {
		if span.Name == name && (object == "" || strings.Contains(fmt.Sprint(span.Attributes), object)) {
			return span
		}
	}
	return nil
}

// startCollector serves OTLP on loopback.
func startCollector(t *testing.T) (*collected, string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, server := &collected{spans: map[string]*tracepb.Span{}}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return c, listener.Addr().String()
}

// poll waits for a condition.
func poll(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// component is a client as a component's, in the run of a loop that began because of cause.
func component(t *testing.T, cluster *integration.Cluster, cause metav1.Object) (context.Context, kubernetes.Interface) {
	config := cluster.ConfigAs("system:kube-controller-manager")
	config.UserAgent = "controller-manager/hyperkube"
	client.TellCauses(config)
	ctx := reconcile.WithRun(reconcile.Because(t.Context(), "ADDED", cause), reconcile.Run{Loop: "deployment", Key: "default/web"})
	return ctx, kubernetes.NewForConfigOrDie(config)
}

var labelled = map[string]string{"app": "web"}

func podTemplate() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labelled}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
}

const canary = "c4nary-hunter2"

// forms are how a secret value may show: as it is, and in base64, at each of the three alignments.
func forms() []string {
	all := []string{canary}
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + canary))
		all = append(all, text[4:len(text)-4])
	}
	return all
}

// What is recorded goes to an OpenTelemetry collector: a request is a span, a run of a loop is a trace of its own,
// linked to the write that caused it (KEP-5915), and no value out of an object is in it.
func TestSpans(t *testing.T) {
	spans, endpoint := startCollector(t)
	cluster := integration.Start(t, func(c *apiserver.Config) { c.TracingEndpoint = endpoint })
	deployment, err := cluster.Client.AppsV1().Deployments("default").Create(t.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labelled}, Template: podTemplate()}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, controller := component(t, cluster, deployment)
	set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "web-1"}, Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labelled}, Template: podTemplate()}}
	if _, err := controller.AppsV1().ReplicaSets("default").Create(ctx, set, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"k": canary}}
	if _, err := cluster.Client.CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	poll(t, "all spans are at the collector", func() bool {
		return spans.find("create deployments", "web") != nil && spans.find("create replicasets", "") != nil && spans.find("reconcile deployment", "") != nil && spans.find("create secrets", "") != nil
	})
	create, run, child := spans.find("create deployments", "web"), spans.find("reconcile deployment", ""), spans.find("create replicasets", "")
	if len(create.ParentSpanId) != 0 || create.Kind != tracepb.Span_SPAN_KIND_SERVER || len(create.TraceId) != 16 {
		t.Errorf("the user's request: %v", create)
	}
	if string(child.ParentSpanId) != string(run.SpanId) || string(child.TraceId) != string(run.TraceId) || len(run.ParentSpanId) != 0 {
		t.Errorf("the controller's request is not within its run:\n%v\n%v", child, run)
	}
	if hex.EncodeToString(run.TraceId) != reconcile.TraceFrom(ctx).ID() || string(run.TraceId) == string(create.TraceId) {
		t.Errorf("the run's trace is %x, want %s, its own", run.TraceId, reconcile.TraceFrom(ctx).ID())
	}
	if len(run.Links) != 1 || string(run.Links[0].SpanId) != string(create.SpanId) || string(run.Links[0].TraceId) != string(create.TraceId) {
		t.Errorf("the run's links: %v, want the request that made the Deployment", run.Links)
	}
	for _, want := range []string{"member of system:masters", "/registry/deployments/default/web", "NamespaceLifecycle"} {
		if !strings.Contains(fmt.Sprint(create.Attributes), want) {
			t.Errorf("no %q in %v", want, create.Attributes)
		}
	}
	spans.mu.Lock()
	defer spans.mu.Unlock()
	for _, form := range forms() {
		if strings.Contains(spans.text.String(), form) {
			t.Errorf("a Secret's value (%s) is at the collector", form)
		}
	}
}

// A collector that is not there costs nobody anything: requests are answered, and the server stops.
func TestCollectorIsAway(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	cluster := integration.Start(t, func(c *apiserver.Config) { c.TracingEndpoint = listener.Addr().String() })
	for i := range 50 {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("c", i)}}
		if _, err := cluster.Client.CoreV1().ConfigMaps("default").Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// get reads a path of the record as somebody.
func get(t *testing.T, set kubernetes.Interface, path string, query map[string]string) ([]byte, error) {
	request := set.Discovery().RESTClient().Get().AbsPath(path)
	for name, value := range query {
		request.Param(name, value)
	}
	return request.DoRaw(t.Context())
}

// A trace id leads to the story of that trace: the run's writes, and what caused it.
func TestTraceByID(t *testing.T) {
	cluster := integration.Start(t)
	cause, err := cluster.Client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cause"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, controller := component(t, cluster, cause)
	if _, err := controller.CoreV1().Pods("default").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "effect"}, Spec: podTemplate().Spec}, metav1.CreateOptions{}); err != nil {
		t.Log("refused, and recorded all the same: ", err)
	}
	var story flow.Story
	poll(t, "the trace is recorded", func() bool {
		data, err := get(t, cluster.Client, "/debug/flow/trace", map[string]string{"id": reconcile.TraceFrom(ctx).ID()})
		return err == nil && json.Unmarshal(data, &story) == nil && len(story.Flat()) >= 2
	})
	all := story.Flat()
	if all[0].Object != "ConfigMap default/cause" || all[1].TraceID != reconcile.TraceFrom(ctx).ID() || all[1].Link != flow.Observed {
		t.Errorf("%+v", all)
	}
}

// The headers of a client that is no component are shown as claims, and hide nothing.
func TestForgedHeadersAreClaims(t *testing.T) {
	cluster := integration.Start(t)
	first, err := cluster.Client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(cluster.Config)
	config.UserAgent = "controller-manager/hyperkube"
	parent := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.Header.Set(flow.CauseHeader, "ADDED ConfigMap default/a@"+first.ResourceVersion)
			r.Header.Set(flow.SourceHeader, "controllers/manager.go:1 Manager.Run")
			r.Header.Set(flow.TraceParentHeader, parent)
			return next.RoundTrip(r)
		})
	})
	if _, err := kubernetes.NewForConfigOrDie(config).CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var found *flow.Node
	poll(t, "the write is recorded", func() bool {
		story := trace(t, cluster, "", "ConfigMap", "default", "b")
		for _, n := range story.Flat() {
			if n.Object == "ConfigMap default/b" {
				found = n
			}
		}
		return found != nil
	})
	if found.Link != flow.Claimed || !slices.Equal(found.Claimed, []string{flow.CauseHeader, flow.SourceHeader, flow.TraceParentHeader}) ||
		found.TraceID != parent[3:35] || !strings.Contains(found.Authn, "CN=kubernetes-admin") {
		t.Errorf("%+v", found)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Who is given `view` of the cluster may read the record, and sees of what they may not get only that it happened.
func TestReadersSeeWhatTheyMayGet(t *testing.T) {
	cluster := integration.Start(t)
	ctx := t.Context()
	role := func(user, name string) {
		binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: user}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}}}
		if _, err := cluster.Client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	role("viewer", "view")
	role("narrow", "hyperkube:flow-reader")
	maps := cluster.Client.CoreV1().ConfigMaps("default")
	object, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Data: map[string]string{"k": "before"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	object.Data["k"] = "after"
	if _, err := maps.Update(ctx, object, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	query := map[string]string{"kind": "ConfigMap", "namespace": "default", "name": "c"}
	for user, sees := range map[string]bool{"viewer": true, "narrow": false} {
		set := kubernetes.NewForConfigOrDie(cluster.ConfigAs(user))
		var data []byte
		poll(t, user+" reads the story", func() bool {
			data, err = get(t, set, "/debug/flow/trace", query)
			return err == nil && strings.Contains(string(data), `"what":"update"`)
		})
		if got := strings.Contains(string(data), "before"); got != sees {
			t.Errorf("%s sees the values: %v, want %v: %s", user, got, sees, data)
		}
		if _, err := set.Discovery().RESTClient().Post().AbsPath("/debug/flow/gates").Body([]byte("{}")).DoRaw(ctx); err == nil {
			t.Errorf("%s may hold a component", user)
		}
	}
}

// A Secret's value is nowhere in the record, however it came there: as data, as a manifest in an annotation, in a
// token's request or review, or in the query of an exec.
func TestNoSecretInTheRecord(t *testing.T) {
	cluster := integration.Start(t)
	ctx := t.Context()
	secrets := cluster.Client.CoreV1().Secrets("default")
	manifest := map[string]string{"kubectl.kubernetes.io/last-applied-configuration": `{"stringData":{"k":"` + canary + `"}}`}
	secret, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Annotations: manifest}, StringData: map[string]string{"k": canary}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret.Data["k"], secret.Data["other"] = []byte("2"+canary), []byte(canary)
	if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: podTemplate().Spec}
	pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "K", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k"}}}}
	_, _ = cluster.Client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{})
	_, _ = cluster.Client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: canary}}, metav1.CreateOptions{})
	_ = cluster.Client.CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name("p").SubResource("exec").Param("command", canary).Do(ctx)
	bearer := rest.AnonymousClientConfig(cluster.Config)
	bearer.BearerToken = canary
	_, _ = kubernetes.NewForConfigOrDie(bearer).CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
	var all strings.Builder
	for _, query := range []map[string]string{{"kind": "Secret", "namespace": "default", "name": "s"}, {"kind": "Pod", "namespace": "default", "name": "p"}} {
		poll(t, "the story is recorded", func() bool {
			data, err := get(t, cluster.Client, "/debug/flow/trace", query)
			var story flow.Story
			if err != nil || json.Unmarshal(data, &story) != nil {
				t.Fatal(err)
			}
			all.Write(data)
			story.Print(&all, true)
			return query["kind"] == "Pod" || strings.Contains(string(data), "(redacted)")
		})
	}
	for _, path := range []string{"/debug/flow/connections", "/debug/flow/peers", "/debug/flow/status"} {
		data, err := get(t, cluster.Client, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	for _, form := range forms() {
		if strings.Contains(all.String(), form) {
			t.Errorf("%s is in the record", form)
		}
	}
}
