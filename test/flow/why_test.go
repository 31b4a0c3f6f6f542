package flow

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"hyperkube/flow/why"
	"hyperkube/scheduler"
	"hyperkube/test/integration"
)

// Why a pod is where it is: the scheduler's attempt reaches the record from another client than the
// one that asks, and its scores are those that a hand computes from the nodes (R23).
func TestWhyHere(t *testing.T) {
	cluster := integration.Start(t)
	set := kubernetes.NewForConfigOrDie(as(cluster, "scheduler", "system:kube-scheduler"))
	sched, err := scheduler.New(scheduler.Config{Client: set})
	if err != nil {
		t.Fatal(err)
	}
	aNode(t, cluster, "a", "4")
	aNode(t, cluster, "b", "2")
	aNode(t, cluster, "c", "8", corev1.Taint{Key: "gpu", Effect: corev1.TaintEffectNoSchedule})
	run(t, "scheduler", set, sched.Run)
	aPod(t, cluster, "web", "500m", nil)

	// CPU and memory are 12.5 % used on a: LeastAllocated (87 + 87) / 2, BalancedAllocation 100. On b it
	// is 25 % and 12.5 %: (75 + 87) / 2, and 100 - 12.5 / 2. The others have nothing to say.
	want := []string{
		"on a, created", "· On a: the best score of 2 nodes that fit, of 3 looked at (attempt 1,",
		row("score (weighted)", "a", "b"), row("NodeResourcesFit", "87", "81"),
		row("NodeResourcesBalancedAllocation", "100", "93"), row("total", "187", "174"),
		"c was refused: node(s) had untolerated taint(s) (TaintToleration)",
	}
	explains(t, cluster, nil, "pod/web", want...)
}

func row(name, a, b string) string { return fmt.Sprintf("%-33s %8s %8s\n", name, a, b) }

// Why a pod is nowhere: each node's reason, and what would have to change, nearest first. When it has
// been changed, the pod is bound.
func TestWhyNowhere(t *testing.T) {
	cluster := integration.Start(t)
	set := kubernetes.NewForConfigOrDie(as(cluster, "scheduler", "system:kube-scheduler"))
	sched, err := scheduler.New(scheduler.Config{Client: set})
	if err != nil {
		t.Fatal(err)
	}
	aNode(t, cluster, "a", "1")
	aNode(t, cluster, "b", "4", corev1.Taint{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule})
	run(t, "scheduler", set, sched.Run)
	aPod(t, cluster, "first", "900m", nil)
	eventually(t, "first has a node", func() error {
		pod, err := cluster.Client.CoreV1().Pods("default").Get(t.Context(), "first", metav1.GetOptions{})
		if err == nil && pod.Spec.NodeName != "a" {
			err = errors.New("on " + pod.Spec.NodeName)
		}
		return err
	})
	aPod(t, cluster, "late", "200m", map[string]string{"disktype": "ssd"})
	explains(t, cluster, nil, "pod/late", "✗ Pending: none of 2 nodes takes it (attempt",
		"a: has no label disktype (wanted: ssd) (NodeAffinity); Insufficient cpu: it wants 200m, 900m of 1 are requested (NodeResourcesFit)",
		"b: untolerated taint gpu=yes:NoSchedule (TaintToleration); has no label disktype",
		"on a: label it: kubectl label node a --overwrite disktype=ssd", "free 100m of cpu on a (requested 900m of 1; most by first 900m)",
		"on b: add a toleration for gpu=yes:NoSchedule to the pod")

	// What the remedy for b says, done.
	node, err := cluster.Client.CoreV1().Nodes().Get(t.Context(), "b", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Spec.Taints, node.Labels = nil, map[string]string{"disktype": "ssd"}
	if _, err := cluster.Client.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	explains(t, cluster, nil, "pod/late", "Pending, on b,", "· On b: the only one of 2 nodes that fits")
}

// A Service shows the rules it is given, with the pods behind the addresses, and says when it cannot
// read any. An object that does not exist, or of an unknown kind, is an error that says so.
func TestWhyService(t *testing.T) {
	cluster := integration.Start(t)
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "wbe"}, Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := cluster.Client.CoreV1().Services("default").Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	aPod(t, cluster, "web-1", "1m", nil)
	explains(t, cluster, nil, "svc/web", "✗ No endpoints: no pod in default has the labels of its selector, app=wbe",
		"nearest is pod web-1: its label app is web, not wbe", "(not read: the proxy's rules: only who may open the data directory")
	gatherer, err := why.NewGatherer(cluster.Config, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gatherer.Why(t.Context(), "pod", "default", "gone"); err == nil || !strings.Contains(err.Error(), `"gone" not found`) {
		t.Errorf("a pod that is not there: %v", err)
	}
	if _, err := gatherer.Why(t.Context(), "secret", "default", "x"); err == nil || !strings.Contains(err.Error(), "these can: po, no, deploy") {
		t.Errorf("a kind that is not explained: %v", err)
	}
}

func aNode(t *testing.T, cluster *integration.Cluster, name, cpu string, taints ...corev1.Taint) {
	t.Helper()
	nodes := cluster.Client.CoreV1().Nodes()
	node, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("110")}
	node.Status.Capacity = node.Status.Allocatable
	if node, err = nodes.UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	// Admission taints a new node until the node lifecycle controller has seen it ready.
	node.Spec.Taints = taints
	if _, err = nodes.Update(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func aPod(t *testing.T, cluster *integration.Cluster, name, cpu string, selector map[string]string) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := cluster.Client.CoreV1().ServiceAccounts("default").Create(t.Context(), account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"}}, Spec: corev1.PodSpec{NodeSelector: selector,
		Containers: []corev1.Container{{Name: "c", Image: "x", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse("1Gi")}}}}}}
	if _, err := cluster.Client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// explains waits until the screen of an object holds all of wants: what it shows becomes known
// by and by.
func explains(t *testing.T, cluster *integration.Cluster, rules why.RulesReader, object string, wants ...string) {
	t.Helper()
	gatherer, err := why.NewGatherer(cluster.Config, rules)
	if err != nil {
		t.Fatal(err)
	}
	kind, name, _ := strings.Cut(object, "/")
	eventually(t, "why "+object, func() error {
		explanation, err := gatherer.Why(t.Context(), kind, "default", name)
		if err != nil {
			return err
		}
		var screen strings.Builder
		explanation.Print(&screen)
		// Long lines are wrapped; what is looked for may be.
		folded := strings.Join(strings.Fields(screen.String()), " ")
		for _, want := range wants {
			if !strings.Contains(folded, strings.Join(strings.Fields(want), " ")) {
				return fmt.Errorf("no %q in\n%s", want, screen.String())
			}
		}
		return nil
	})
}
