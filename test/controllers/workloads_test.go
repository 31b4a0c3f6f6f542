package controllers

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"hyperkube/controllers"
	"hyperkube/test/integration"
)

// createNode makes a node that is ready; the test's manager never finds it silent.
func createNode(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	if _, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// A patch, because the controllers write to the node at the same time.
	ready := `{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2030-01-01T00:00:00Z","lastTransitionTime":"2020-01-01T00:00:00Z"}]}}`
	if _, err := client.CoreV1().Nodes().Patch(t.Context(), name, "application/strategic-merge-patch+json", []byte(ready), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
}

// podImages are the pods' images by name; of daemons, by node.
func podImages(t *testing.T, client kubernetes.Interface, app string) (string, error) {
	pods, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return "", err
	}
	var all []string
	for _, pod := range pods.Items {
		name := pod.Name
		if pod.Spec.Affinity != nil {
			name = pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]
		}
		all = append(all, name+"="+pod.Spec.Containers[0].Image)
	}
	slices.Sort(all)
	return strings.Join(all, " "), nil
}

func podsAre(t *testing.T, client kubernetes.Interface, app, want string) func() error {
	return func() error {
		got, err := podImages(t, client, app)
		if err == nil && got != want {
			err = fmt.Errorf("pods %q, want %q", got, want)
		}
		return err
	}
}

func template(app, image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}
}

const twoImage = `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"two"}]}}}}`

// A DaemonSet follows the nodes, rolls to a new image, and keeps both revisions.
func TestDaemonSet(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster, func(c *controllers.Config) { c.NodeMonitorGracePeriod = time.Hour })
	runPods(t, cluster.Client)
	ctx, client := t.Context(), cluster.Client
	createNode(t, client, "n1")
	createNode(t, client, "n2")
	sets := client.AppsV1().DaemonSets("default")
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "agent"}, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "agent"}}, Template: template("agent", "one")}}
	eventually(t, "create", func() error { _, err := sets.Create(ctx, ds, metav1.CreateOptions{}); return err })
	eventually(t, "one on each node", podsAre(t, client, "agent", "n1=one n2=one"))
	createNode(t, client, "n3")
	eventually(t, "a new node gets one", podsAre(t, client, "agent", "n1=one n2=one n3=one"))
	if _, err := sets.Patch(ctx, "agent", "application/strategic-merge-patch+json", []byte(twoImage), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "rollout", podsAre(t, client, "agent", "n1=two n2=two n3=two"))
	eventually(t, "status", func() error {
		ds, err := sets.Get(ctx, "agent", metav1.GetOptions{})
		if err != nil {
			return err
		}
		s := ds.Status
		if s.ObservedGeneration != 2 || s.DesiredNumberScheduled != 3 || s.CurrentNumberScheduled != 3 || s.UpdatedNumberScheduled != 3 || s.NumberAvailable != 3 || s.NumberUnavailable != 0 {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	revisions, err := client.AppsV1().ControllerRevisions("default").List(ctx, metav1.ListOptions{})
	if err != nil || len(revisions.Items) != 2 {
		t.Fatalf("%d revisions, error %v; want 2", len(revisions.Items), err)
	}
	if _, err := client.CoreV1().Nodes().Patch(ctx, "n1", "application/strategic-merge-patch+json", []byte(`{"spec":{"taints":[{"key":"k","effect":"NoExecute"}]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a tainted node loses its own", podsAre(t, client, "agent", "n2=two n3=two"))
}

// A StatefulSet's pods come in order, with names that stay; a rollout stops at the partition.
func TestStatefulSet(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	runPods(t, cluster.Client)
	ctx, client := t.Context(), cluster.Client
	sets := client.AppsV1().StatefulSets("default")
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Spec: appsv1.StatefulSetSpec{
		Replicas: ptr.To[int32](3), ServiceName: "db", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}, Template: template("db", "one"),
		UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType,
			RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To[int32](1)}}}}
	eventually(t, "create", func() error { _, err := sets.Create(ctx, set, metav1.CreateOptions{}); return err })
	eventually(t, "three", podsAre(t, client, "db", "db-0=one db-1=one db-2=one"))
	patch := func(p string) {
		t.Helper()
		if _, err := sets.Patch(ctx, "db", "application/strategic-merge-patch+json", []byte(p), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	patch(twoImage)
	eventually(t, "down to the partition", podsAre(t, client, "db", "db-0=one db-1=two db-2=two"))
	if err := client.CoreV1().Pods("default").Delete(ctx, "db-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "below it the old revision comes back", podsAre(t, client, "db", "db-0=one db-1=two db-2=two"))
	patch(`{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}`)
	eventually(t, "all", podsAre(t, client, "db", "db-0=two db-1=two db-2=two"))
	patch(`{"spec":{"replicas":1}}`)
	eventually(t, "status", func() error {
		set, err := sets.Get(ctx, "db", metav1.GetOptions{})
		if err != nil {
			return err
		}
		s := set.Status
		if s.Replicas != 1 || s.ReadyReplicas != 1 || s.UpdatedReplicas != 1 || s.CurrentRevision != s.UpdateRevision || s.ObservedGeneration != set.Generation {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	pod, err := client.CoreV1().Pods("default").Get(ctx, "db-0", metav1.GetOptions{})
	if err != nil || pod.Spec.Hostname != "db-0" || pod.Spec.Subdomain != "db" || pod.Labels["apps.kubernetes.io/pod-index"] != "0" {
		t.Fatalf("pod %+v, error %v", pod, err)
	}
}

// A budget's status follows its pods, and the eviction API keeps to it.
func TestPodDisruptionBudget(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	runPods(t, cluster.Client)
	ctx, client := t.Context(), cluster.Client
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: policyv1.PodDisruptionBudgetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, MaxUnavailable: ptr.To(intstr.FromInt32(1))}}
	if _, err := client.PolicyV1().PodDisruptionBudgets("default").Create(ctx, budget, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "create", func() error {
		_, err := client.AppsV1().Deployments("default").Create(ctx, deployment("web", "one", 3), metav1.CreateOptions{})
		return err
	})
	eventually(t, "status", func() error {
		pdb, err := client.PolicyV1().PodDisruptionBudgets("default").Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if s := pdb.Status; s.ExpectedPods != 3 || s.CurrentHealthy != 3 || s.DesiredHealthy != 2 || s.DisruptionsAllowed != 1 || s.ObservedGeneration != 1 {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
}
