// Package flow tests the record of a whole cluster in one process: a real apiserver, the
// controllers and the scheduler under their own users, and a kubelet whose containers are
// only bookkeeping.
package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"

	"hyperkube/apiserver"
	"hyperkube/client"
	"hyperkube/controllers"
	"hyperkube/flow"
	"hyperkube/kubelet"
	"hyperkube/scheduler"
	"hyperkube/test/integration"
)

// as is what a component's kubeconfig would be.
func as(cluster *integration.Cluster, component, user string, groups ...string) *rest.Config {
	config := cluster.ConfigAs(user, groups...)
	config.UserAgent = component + "/hyperkube (test)"
	client.TellCauses(config)
	return config
}

// run runs a component with its effects until the test ends.
func run(t *testing.T, name string, set kubernetes.Interface, run func(context.Context) error) {
	t.Helper()
	effects := client.NewEffects(name, set.Discovery().RESTClient())
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.Verbosity(1)))
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logger))
	done, posted := make(chan error, 1), make(chan struct{})
	go func() { effects.Run(ctx); close(posted) }()
	go func() { done <- run(flow.WithSink(ctx, effects)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		<-posted
	})
}

// start brings up all the components around an apiserver.
func start(t *testing.T, mutate ...func(*controllers.Config)) *integration.Cluster {
	t.Helper()
	cluster := integration.Start(t)
	managerConfig := as(cluster, "controller-manager", "system:kube-controller-manager")
	managerSet := kubernetes.NewForConfigOrDie(managerConfig)
	managed := controllers.Config{Client: managerSet, RESTConfig: managerConfig, RootCA: []byte("-----CA-----"), ClusterCIDR: "10.244.0.0/16"}
	for _, m := range mutate {
		m(&managed)
	}
	manager, err := controllers.New(managed)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "controller-manager", managerSet, manager.Run)
	schedulerSet := kubernetes.NewForConfigOrDie(as(cluster, "scheduler", "system:kube-scheduler"))
	sched, err := scheduler.New(scheduler.Config{Client: schedulerSet})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "scheduler", schedulerSet, sched.Run)
	kubeletSet := kubernetes.NewForConfigOrDie(as(cluster, "kubelet-n1", "system:node:n1", "system:nodes"))
	cert, err := cluster.Dir.ServingCert("kubelet-n1-serving", "n1", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	node, err := kubelet.New(kubelet.Config{NodeName: "n1", NodeIP: "192.0.2.7", RootDir: t.TempDir(), Client: kubeletSet, ContainerRuntime: "simulated",
		CertFile: cert.CertFile, KeyFile: cert.KeyFile, ClientCAFile: cluster.Dir.CAFile(), MaxPods: 110, PodCIDR: "10.244.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "kubelet", kubeletSet, node.Run)
	return cluster
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// trace asks as `hyperkube trace` does.
func trace(t *testing.T, cluster *integration.Cluster, group, kind, namespace, name string) flow.Story {
	t.Helper()
	return traceSince(t, cluster, time.Time{}, group, kind, namespace, name)
}

func traceSince(t *testing.T, cluster *integration.Cluster, since time.Time, group, kind, namespace, name string) flow.Story {
	t.Helper()
	request := cluster.Client.Discovery().RESTClient().Get().AbsPath("/debug/flow/trace")
	for key, values := range (url.Values{"group": {group}, "kind": {kind}, "namespace": {namespace}, "name": {name}}) {
		request.Param(key, values[0])
	}
	if !since.IsZero() {
		request.Param("since", since.Format(time.RFC3339Nano))
	}
	data, err := request.Do(t.Context()).Raw()
	if err != nil {
		t.Fatal(err)
	}
	var story flow.Story
	if err := json.Unmarshal(data, &story); err != nil {
		t.Fatal(err)
	}
	return story
}

// generated is what makes names unique. It has no vowels, so that no word is taken for it.
var generated = regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{8,10}(-[bcdfghjklmnpqrstvwxz2456789]{5})?|-[bcdfghjklmnpqrstvwxz2456789]{5}\b|\.[0-9a-f]{16}`)

// edges are "who: what Kind ← who: what Kind", with how often each was seen: a story
// without its times and generated names. A controller's line counts under what stands above
// the controller's own writes too: the run that sees another's change may have begun with the
// echo of its own, since a cache is filled before its handlers are told.
func edges(story flow.Story) map[string]int {
	counts := map[string]int{}
	var walk func(n *flow.Node, above []*flow.Node)
	walk = func(n *flow.Node, above []*flow.Node) {
		for label := range causesOf(n, above) {
			counts[told(n)+" ← "+label]++
		}
		for _, child := range n.Children {
			walk(child, append(above, n))
		}
	}
	for _, root := range story.Roots {
		walk(root, nil)
	}
	return counts
}

func told(n *flow.Node) string {
	return fmt.Sprintf("%s: %s %s", n.Component, n.What, generated.ReplaceAllString(n.Object, "-X"))
}

func causesOf(n *flow.Node, above []*flow.Node) sets.Set[string] {
	causes := sets.New[string]()
	for i := len(above) - 1; i >= 0; i-- {
		causes.Insert(told(above[i]))
		if above[i].Component != n.Component || !strings.HasPrefix(n.Component, "controller-manager/") {
			return causes
		}
	}
	return causes.Insert("")
}

// apply makes a Deployment, as kubectl, whose pods leave a silent node at once.
func apply(t *testing.T, cluster *integration.Cluster, name string, replicas int32, probe *corev1.Probe) {
	t.Helper()
	labels, none := map[string]string{"app": name}, int64(0)
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
			Containers:  []corev1.Container{{Name: "c", Image: "hyperkube.local/demo", ReadinessProbe: probe}},
			Tolerations: []corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &none}},
		}},
	}}
	if _, err := kubectl(cluster).AppsV1().Deployments("default").Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func quantity(text string) *resource.Quantity { q := resource.MustParse(text); return &q }

func create(t *testing.T, cluster *integration.Cluster, name string, replicas int32) {
	t.Helper()
	apply(t, cluster, name, replicas, &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(8080)}}})
	eventually(t, "the deployment is available", func() error {
		d, err := cluster.Client.AppsV1().Deployments("default").Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && d.Status.AvailableReplicas != replicas {
			err = fmt.Errorf("%d of %d replicas", d.Status.AvailableReplicas, replicas)
		}
		return err
	})
}

// The story of `kubectl create deployment`, from the request to the containers, without a
// gap: everything hangs, by what the components themselves said, under the request that began it.
func TestCreateDeployment(t *testing.T) {
	cluster := start(t)
	eventually(t, "a node is ready", func() error {
		node, err := cluster.Client.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(node.Spec.Taints) > 0 {
			return fmt.Errorf("taints %v", node.Spec.Taints)
		}
		return nil
	})
	create(t, cluster, "web", 2)
	// The last effects are on their way for a moment.
	var missing []string
	var story flow.Story
	eventually(t, "the story is whole", func() error {
		story = trace(t, cluster, "apps", "Deployment", "default", "web")
		got := edges(story)
		missing = missing[:0]
		for edge, n := range createDeployment {
			if got[edge] != n {
				missing = append(missing, fmt.Sprintf("%d × %s, want %d", got[edge], edge, n))
			}
		}
		// Effects are posted in batches: until the last has come, what it caused is a root of its own.
		if len(story.Roots) != 1 {
			missing = append(missing, fmt.Sprintf("%d roots, want kubectl's request alone", len(story.Roots)))
		}
		if slices.Sort(missing); len(missing) > 0 {
			var text strings.Builder
			story.Print(&text, false)
			return fmt.Errorf("\n%s\nthe story:\n%s", strings.Join(missing, "\n"), text.String())
		}
		return nil
	})
	root := story.Roots[0]
	if root.User != "kubernetes-admin" || root.Allowed == "" || len(root.Admission) == 0 || len(root.Deliveries) == 0 || len(root.TraceID) != 32 {
		t.Errorf("the request: user %q, allowed %q, admission %v, %d deliveries, trace id %q", root.User, root.Allowed, root.Admission, len(root.Deliveries), root.TraceID)
	}
	checkSources(t, story)
}

// createDeployment is the golden trace: who does what because of what, and how often.
// What may come together or apart (status updates) is not in it.
var createDeployment = map[string]int{
	"kubectl: create Deployment default/web ← ":                                                                                1,
	"controller-manager/deployment: create ReplicaSet default/web-X ← kubectl: create Deployment default/web":                  1,
	"controller-manager/replicaset: create Pod default/web-X ← controller-manager/deployment: create ReplicaSet default/web-X": 2,
	"scheduler: schedule Pod default/web-X ← controller-manager/replicaset: create Pod default/web-X":                          2,
	"scheduler: create binding Pod default/web-X ← controller-manager/replicaset: create Pod default/web-X":                    2,
	"kubelet-n1: computePodActions Pod default/web-X ← scheduler: create binding Pod default/web-X":                            2,
	"kubelet-n1: CRI RunPodSandbox Pod default/web-X ← scheduler: create binding Pod default/web-X":                            2,
	"kubelet-n1: CRI CreateContainer Pod default/web-X ← scheduler: create binding Pod default/web-X":                          2,
	"kubelet-n1: CRI StartContainer Pod default/web-X ← scheduler: create binding Pod default/web-X":                           2,
	"kubelet-n1: readiness probe Pod default/web-X ← scheduler: create binding Pod default/web-X":                              2,
}

// checkSources: every file:line of a story exists, and lies in the function it names (R21).
func checkSources(t *testing.T, story flow.Story) {
	t.Helper()
	cited := 0
	for _, n := range story.Flat() {
		if n.Source.File == "" {
			continue
		}
		cited++
		name := n.Source.Function[strings.LastIndex(n.Source.Function, ".")+1:]
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.Join("../..", n.Source.File), nil, 0)
		if err != nil {
			t.Errorf("%s: %v", n.Source, err)
			continue
		}
		inside := false
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			inside = inside || ok && f.Name.Name == name && set.Position(f.Pos()).Line <= n.Source.Line && n.Source.Line <= set.Position(f.End()).Line
		}
		if !inside {
			t.Errorf("%s is not in that function", n.Source)
		}
	}
	// What people ask for has no line of ours.
	if lines := len(story.Flat()); cited < lines*2/3-1 {
		t.Errorf("%d sources in %d lines, want one in nearly every line", cited, lines)
	}
}

// A Secret's values are nowhere in its story, and only those who may read it can.
func TestSecretsStayOut(t *testing.T) {
	cluster := integration.Start(t)
	secrets := cluster.Client.CoreV1().Secrets("default")
	secret, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"password": "hunter2"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret.Data["password"] = []byte("hunter3")
	if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	request := func(set kubernetes.Interface) ([]byte, error) {
		return set.Discovery().RESTClient().Get().AbsPath("/debug/flow/trace").Param("kind", "Secret").Param("namespace", "default").Param("name", "s").DoRaw(t.Context())
	}
	data, err := request(cluster.Client)
	if err != nil || !strings.Contains(string(data), "data.password: (redacted) → (redacted)") {
		t.Errorf("%v: %s", err, data)
	}
	for _, value := range []string{"hunter", "aHVudGVy"} {
		if strings.Contains(string(data), value) {
			t.Errorf("%s is in the story: %s", value, data)
		}
	}
	if _, err := request(kubernetes.NewForConfigOrDie(cluster.ConfigAs("jane"))); !apierrors.IsForbidden(err) {
		t.Errorf("jane reads the record: %v", err)
	}
	if _, err := request(kubernetes.NewForConfigOrDie(cluster.ConfigAs("system:kube-scheduler"))); !apierrors.IsForbidden(err) {
		t.Errorf("the scheduler reads the record: %v", err)
	}
}

// With the record on, a write costs at most two allocations more (DESIGN.md section 5).
func TestRecordCostsLittle(t *testing.T) {
	header := http.Header{"User-Agent": {"kubectl/v1.37.2"}, flow.CauseHeader: {"ADDED Pod default/a@1"}, flow.SourceHeader: {"a.go:1 f"}}
	write := flow.Write{Key: "default/a", Revision: 2, Old: make([]byte, 500), New: make([]byte, 500)}
	plugins := []flow.Plugin{{Name: "A"}, {Name: "B"}, {Name: "C"}}
	record := flow.NewRecord(1 << 20)
	watch := record.Watching(&flow.Watch{})
	one := func() {
		q := record.Begin(header, time.Unix(0, 0))
		q.Known("u", "a")
		q.Allowed("r")
		q.Admitted(flow.Admission{Plugins: plugins, Asked: 7})
		q.Judged(plugins, 4, 0, time.Millisecond)
		q.Wrote(write)
		record.End(q, 200, time.Millisecond)
	}
	for range 2000 {
		one() // the ring is full
	}
	if n := testing.AllocsPerRun(1000, one); n > 2 {
		t.Errorf("%.0f allocations a write, want 2 at most", n)
	}
	if n := testing.AllocsPerRun(1000, func() { watch.Sent(2); watch.Flushed() }); n > 0 {
		t.Errorf("%.0f allocations a delivery, want none", n)
	}
}

// BenchmarkWrites updates a ConfigMap through the whole apiserver, with the record on and off, and with a watch open.
func BenchmarkWrites(b *testing.B) {
	for _, buffer := range []int{-1, 0} {
		b.Run(map[int]string{-1: "off", 0: "on"}[buffer], func(b *testing.B) {
			cluster := integration.Start(b, func(c *apiserver.Config) { c.FlowBuffer = buffer })
			maps := cluster.Client.CoreV1().ConfigMaps("default")
			watcher, err := maps.Watch(b.Context(), metav1.ListOptions{})
			if err != nil {
				b.Fatal(err)
			}
			defer watcher.Stop()
			go func() {
				for range watcher.ResultChan() {
				}
			}()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("c", i)}}
				if _, err := maps.Create(b.Context(), object, metav1.CreateOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
