package flow

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hyperkube/controllers"
	"hyperkube/flow"
	"hyperkube/test/integration"
)

// golden is what a story must contain: edges, or lines under whatever stands above them,
// and how often; less than 0: at least that often.
type golden map[string]int

// wholeStory waits until a story contains what it must, and checks its sources.
func wholeStory(t *testing.T, cluster *integration.Cluster, ask func() flow.Story, want golden) flow.Story {
	t.Helper()
	var story flow.Story
	eventually(t, "the story is whole", func() error {
		story = ask()
		got := edges(story)
		for _, n := range story.Flat() {
			got[told(n)]++
		}
		var missing []string
		for edge, n := range want {
			if n >= 0 && got[edge] != n || got[edge] < -n {
				missing = append(missing, fmt.Sprintf("%d × %s, want %d", got[edge], edge, n))
			}
		}
		if slices.Sort(missing); len(missing) > 0 {
			var text strings.Builder
			story.Print(&text, true)
			return fmt.Errorf("\n%s\nthe story:\n%s", strings.Join(missing, "\n"), text.String())
		}
		return nil
	})
	checkSources(t, story)
	return story
}

// kubectl is a client that sends no headers of ours.
func kubectl(cluster *integration.Cluster) kubernetes.Interface {
	config := rest.CopyConfig(cluster.Config)
	config.UserAgent = "kubectl/v1.37.2 (test)"
	return kubernetes.NewForConfigOrDie(config)
}

func ready(t *testing.T, cluster *integration.Cluster) {
	t.Helper()
	eventually(t, "a node is ready", func() error {
		node, err := cluster.Client.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
		if err == nil && len(node.Spec.Taints) > 0 {
			err = fmt.Errorf("taints %v", node.Spec.Taints)
		}
		return err
	})
}

// pod makes a pod and waits until it satisfies.
func pod(t *testing.T, cluster *integration.Cluster, namespace, name string, spec corev1.PodSpec, satisfies func(*corev1.Pod) bool) {
	t.Helper()
	spec.Containers = append(spec.Containers, corev1.Container{Name: "c", Image: "hyperkube.local/demo"})[:1]
	object := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec}
	eventually(t, "the pod is created", func() error {
		_, err := kubectl(cluster).CoreV1().Pods(namespace).Create(t.Context(), object, metav1.CreateOptions{})
		return err
	})
	eventually(t, "the pod is as expected", func() error {
		p, err := cluster.Client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && !satisfies(p) {
			err = fmt.Errorf("status %+v", p.Status)
		}
		return err
	})
}

func running(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning }

// The stories of a cluster with one node, told whole.
func TestStories(t *testing.T) {
	cluster := start(t)
	ready(t, cluster)
	t.Run("create, expose, rolling update", func(t *testing.T) { expose(t, cluster) })
	t.Run("a failed scheduling that is cured", func(t *testing.T) { cured(t, cluster) })
	t.Run("CrashLoop", func(t *testing.T) { crashLoop(t, cluster) })
	t.Run("namespace deletion", func(t *testing.T) { namespaceDeletion(t, cluster) })
}

func expose(t *testing.T, cluster *integration.Cluster) {
	create(t, cluster, "shop", 2)
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "shop"},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "shop"}, Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := kubectl(cluster).CoreV1().Services("default").Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wholeStory(t, cluster, func() flow.Story { return trace(t, cluster, "", "Service", "default", "shop") }, golden{
		"kubectl: create Service default/shop ← ": 1,
		"controller-manager/endpointslice: create EndpointSlice default/shop-X ← kubectl: create Service default/shop": 1,
		"controller-manager/endpoints: create Endpoints default/shop ← kubectl: create Service default/shop":           1,
	})
	before := time.Now()
	patch := `{"spec":{"template":{"metadata":{"labels":{"version":"2"}}}}}`
	if _, err := kubectl(cluster).AppsV1().Deployments("default").Patch(t.Context(), "shop", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	wholeStory(t, cluster, func() flow.Story { return traceSince(t, cluster, before, "apps", "Deployment", "default", "shop") }, golden{
		"controller-manager/deployment: create ReplicaSet default/shop-X ← kubectl: patch Deployment default/shop":                   1,
		"controller-manager/replicaset: create Pod default/shop-X":                                                                   2,
		"controller-manager/replicaset: delete Pod default/shop-X ← controller-manager/deployment: update ReplicaSet default/shop-X": 2,
		"kubelet-n1: CRI StopContainer Pod default/shop-X ← controller-manager/replicaset: delete Pod default/shop-X":                2,
		"kubelet-n1: readiness probe Pod default/shop-X ← scheduler: create binding Pod default/shop-X":                              2,
	})
}

// The attempt that succeeds hangs under what cured the pod, not under the pod.
func cured(t *testing.T, cluster *integration.Cluster) {
	pod(t, cluster, "default", "picky", corev1.PodSpec{NodeSelector: map[string]string{"disk": "ssd"}}, func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Reason == corev1.PodReasonUnschedulable })
	})
	if _, err := kubectl(cluster).CoreV1().Nodes().Patch(t.Context(), "n1", types.MergePatchType, []byte(`{"metadata":{"labels":{"disk":"ssd"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	story := wholeStory(t, cluster, func() flow.Story { return trace(t, cluster, "", "Pod", "default", "picky") }, golden{
		"scheduler: schedule Pod default/picky ← kubectl: create Pod default/picky":                      1,
		"scheduler: schedule Pod default/picky ← kubectl: patch Node n1":                                 1,
		"scheduler: create binding Pod default/picky ← kubectl: patch Node n1":                           1,
		"kubelet-n1: CRI StartContainer Pod default/picky ← scheduler: create binding Pod default/picky": 1,
	})
	for _, n := range story.Flat() {
		if n.What == "schedule" && n.Error != "" && (len(n.Diff) != 1 || !strings.HasPrefix(n.Diff[0], "n1: NodeAffinity: ")) {
			t.Errorf("the refused attempt says of the nodes: %q", n.Diff)
		}
		if strings.HasPrefix(n.Object, "Event ") && n.Component != "kubectl" && (n.Source.File == "" || n.Link != flow.Observed) {
			t.Errorf("the Event %q: source %q, link %q", n.Detail, n.Source, n.Link)
		}
	}
}

// Crash does not hang under crash: all are the kubelet's answer to the binding.
func crashLoop(t *testing.T, cluster *integration.Cluster) {
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "hyperkube.local/demo", Command: []string{"sh", "-c", "exit 3"}}}}
	pod(t, cluster, "default", "crash", spec, func(p *corev1.Pod) bool {
		s := p.Status.ContainerStatuses
		return len(s) == 1 && s[0].State.Waiting != nil && s[0].State.Waiting.Reason == "CrashLoopBackOff"
	})
	story := wholeStory(t, cluster, func() flow.Story { return trace(t, cluster, "", "Pod", "default", "crash") }, golden{
		"kubelet-n1: CRI StartContainer Pod default/crash ← scheduler: create binding Pod default/crash": 2,
		"kubelet-n1: container ended Pod default/crash ← scheduler: create binding Pod default/crash":    2,
		"kubelet-n1: CrashLoopBackOff Pod default/crash ← scheduler: create binding Pod default/crash":   1,
		"kubelet-n1: computePodActions Pod default/crash ← scheduler: create binding Pod default/crash":  -2,
	})
	for _, n := range story.Flat() {
		if n.What == "container ended" && !strings.HasPrefix(n.Detail, "c: exit code 3") {
			t.Errorf("the end: %q", n.Detail)
		}
		if n.What == "CrashLoopBackOff" && !strings.HasPrefix(n.Detail, "back-off 10s") {
			t.Errorf("the back-off: %q", n.Detail)
		}
	}
}

func namespaceDeletion(t *testing.T, cluster *integration.Cluster) {
	client := kubectl(cluster)
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "doomed"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"example.com/hold"}}}
	if _, err := client.CoreV1().ConfigMaps("doomed").Create(t.Context(), held, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod(t, cluster, "doomed", "p", corev1.PodSpec{}, running)
	if err := client.CoreV1().Namespaces().Delete(t.Context(), "doomed", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ask := func() flow.Story { return trace(t, cluster, "", "Namespace", "", "doomed") }
	eventually(t, "the story says what the namespace waits for", func() error {
		if waits := strings.Join(ask().Waits, "\n"); !strings.Contains(waits, "example.com/hold in 1") || !strings.Contains(waits, "configmaps. has 1") {
			return fmt.Errorf("waits for %q", waits)
		}
		return nil
	})
	if _, err := client.CoreV1().ConfigMaps("doomed").Patch(t.Context(), "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	story := wholeStory(t, cluster, ask, golden{
		"kubectl: delete Namespace doomed ← ": 1,
		"controller-manager/namespace: deletecollection Pod doomed/p ← kubectl: delete Namespace doomed":           1,
		"controller-manager/namespace: deletecollection ConfigMap doomed/held":                                     1,
		"controller-manager/namespace: namespace content Namespace doomed ← kubectl: delete Namespace doomed":      -2,
		"kubelet-n1: CRI StopContainer Pod doomed/p ← controller-manager/namespace: deletecollection Pod doomed/p": 1,
		"controller-manager/namespace: update finalize (gone) Namespace doomed":                                    1,
	})
	if len(story.Waits) > 0 {
		t.Errorf("a namespace that is gone waits for %q", story.Waits)
	}
}

// A node's death, as its lease tells it: the last renewal was not followed by another.
func TestNodeDeath(t *testing.T) {
	cluster := start(t, func(c *controllers.Config) {
		c.NodeMonitorPeriod, c.NodeMonitorGracePeriod, c.NodeStartupGracePeriod = 100*time.Millisecond, 2*time.Second, 2*time.Second
	})
	ready(t, cluster)
	keepAlive(t, cluster)
	client := kubectl(cluster)
	cordon := func(unschedulable bool) {
		patch := fmt.Sprintf(`{"spec":{"unschedulable":%v}}`, unschedulable)
		if _, err := client.CoreV1().Nodes().Patch(t.Context(), "n1", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	cordon(true)
	// n2 has a kubelet that says once that it is there.
	n2 := kubernetes.NewForConfigOrDie(as(cluster, "kubelet-n2", "system:node:n2", "system:nodes"))
	resources := corev1.ResourceList{corev1.ResourceCPU: *quantity("4"), corev1.ResourceMemory: *quantity("4Gi"), corev1.ResourcePods: *quantity("10")}
	if _, err := n2.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	status := corev1.NodeStatus{Capacity: resources, Allocatable: resources,
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now()}}}
	eventually(t, "n2 says that it is ready", func() error {
		node, err := n2.CoreV1().Nodes().Get(t.Context(), "n2", metav1.GetOptions{})
		if err == nil {
			node.Status = status
			_, err = n2.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{})
		}
		return err
	})
	now := metav1.NowMicro()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: "n2"}, Spec: coordinationv1.LeaseSpec{RenewTime: &now}}
	if _, err := n2.CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(t.Context(), lease, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	apply(t, cluster, "frail", 1, nil)
	eventually(t, "the pod is on n2", func() error {
		pods, err := cluster.Client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=frail"})
		if err == nil && (len(pods.Items) != 1 || pods.Items[0].Spec.NodeName != "n2") {
			err = fmt.Errorf("%d pods", len(pods.Items))
		}
		return err
	})
	cordon(false)
	story := wholeStory(t, cluster, func() flow.Story { return trace(t, cluster, "", "Node", "", "n2") }, golden{
		"controller-manager/nodelifecycle: node is silent Node n2 ← kubelet-n2: create Lease kube-node-lease/n2":                   1,
		"controller-manager/nodelifecycle: update status Node n2 ← kubelet-n2: create Lease kube-node-lease/n2":                    1,
		"controller-manager/nodelifecycle: patch Node n2 ← controller-manager/nodelifecycle: update status Node n2":                1,
		"controller-manager/tainteviction: evict Pod default/frail-X ← controller-manager/nodelifecycle: patch Node n2":            1,
		"controller-manager/tainteviction: delete Pod default/frail-X ← controller-manager/nodelifecycle: patch Node n2":           1,
		"controller-manager/replicaset: create Pod default/frail-X ← controller-manager/tainteviction: delete Pod default/frail-X": 1,
		"kubelet-n1: CRI StartContainer Pod default/frail-X ← scheduler: create binding Pod default/frail-X":                       1,
	})
	for _, n := range story.Flat() {
		if n.What == "node is silent" && !strings.HasPrefix(n.Detail, "no lease renewed since ") {
			t.Errorf("the silence: %q", n.Detail)
		}
	}
}

// keepAlive renews the lease of n1 more often than its kubelet does: the grace period of
// this test is short.
func keepAlive(t *testing.T, cluster *integration.Cluster) {
	leases := kubernetes.NewForConfigOrDie(as(cluster, "kubelet-n1", "system:node:n1", "system:nodes")).CoordinationV1().Leases(corev1.NamespaceNodeLease)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			patch := fmt.Sprintf(`{"spec":{"renewTime":%q}}`, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"))
			_, _ = leases.Patch(ctx, "n1", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			select {
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
}
