// Package flow tests the record of a whole cluster in one process: a real apiserver, the
// controllers and the scheduler under their own users, and a kubelet whose containers are
// only bookkeeping.
package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"

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
	config.UserAgent = "hyperkube/" + component + " (test)"
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
func start(t *testing.T) *integration.Cluster {
	t.Helper()
	cluster := integration.Start(t)
	managerConfig := as(cluster, "controller-manager", "system:kube-controller-manager")
	managerSet := kubernetes.NewForConfigOrDie(managerConfig)
	manager, err := controllers.New(controllers.Config{Client: managerSet, RESTConfig: managerConfig, RootCA: []byte("-----CA-----"), ClusterCIDR: "10.244.0.0/16"})
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
	kubeletSet := kubernetes.NewForConfigOrDie(as(cluster, "kubelet", "system:node:n1", "system:nodes"))
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
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// trace asks as `hyperkube trace` does.
func trace(t *testing.T, cluster *integration.Cluster, group, kind, namespace, name string) flow.Story {
	t.Helper()
	request := cluster.Client.Discovery().RESTClient().Get().AbsPath("/debug/flow/trace")
	for key, values := range (url.Values{"group": {group}, "kind": {kind}, "namespace": {namespace}, "name": {name}}) {
		request.Param(key, values[0])
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

var generated = regexp.MustCompile(`-[a-z0-9]{8,10}(-[a-z0-9]{5})?|-[a-z0-9]{5}\b|\.[0-9a-f]{16}`)

// edges are "who: what Kind ← who: what Kind", with how often each was seen: a story
// without its times and generated names.
func edges(story flow.Story) map[string]int {
	counts := map[string]int{}
	var walk func(n *flow.Node, above string)
	walk = func(n *flow.Node, above string) {
		line := fmt.Sprintf("%s: %s %s", n.Component, n.What, generated.ReplaceAllString(n.Object, "-X"))
		counts[line+" ← "+above]++
		for _, child := range n.Children {
			walk(child, line)
		}
	}
	for _, root := range story.Roots {
		walk(root, "")
	}
	return counts
}

func create(t *testing.T, cluster *integration.Cluster, name string, replicas int32) {
	t.Helper()
	labels := map[string]string{"app": name}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "hyperkube.local/demo"}}}},
	}}
	config := rest.CopyConfig(cluster.Config)
	config.UserAgent = "kubectl/v1.37.2 (test)"
	if _, err := kubernetes.NewForConfigOrDie(config).AppsV1().Deployments("default").Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
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
	story := trace(t, cluster, "apps", "Deployment", "default", "web")
	var text strings.Builder
	story.Print(&text)
	got := edges(story)
	var lines []string
	for edge, n := range got {
		lines = append(lines, fmt.Sprintf("%3d %s", n, edge))
	}
	slices.Sort(lines)
	t.Logf("%s\n%s", text.String(), strings.Join(lines, "\n"))
}
