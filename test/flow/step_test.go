package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"hyperkube/client"
	"hyperkube/controllers"
	"hyperkube/flow"
	"hyperkube/reconcile"
	"hyperkube/scheduler"
	"hyperkube/test/integration"
)

// stepped is a cluster with a scheduler, and a node to put pods on.
func stepped(t *testing.T) *integration.Cluster {
	t.Helper()
	cluster := integration.Start(t)
	set := schedulerSet(cluster)
	sched, err := scheduler.New(scheduler.Config{Client: set})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "scheduler", set, sched.Run)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	if _, err := cluster.Client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	node.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("110")}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	patch, err := json.Marshal(map[string]any{"status": node.Status})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Client.CoreV1().Nodes().Patch(t.Context(), "n1", "application/merge-patch+json", patch, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Client.CoreV1().Nodes().Patch(t.Context(), "n1", "application/merge-patch+json", []byte(`{"spec":{"taints":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	serviceAccount := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := cluster.Client.CoreV1().ServiceAccounts("default").Create(t.Context(), serviceAccount, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	createPod(t, cluster, "first")
	bound(t, cluster, "first") // the scheduler is at work, and its watches are open
	return cluster
}

func schedulerSet(cluster *integration.Cluster) kubernetes.Interface {
	return kubernetes.NewForConfigOrDie(as(cluster, "scheduler", "system:kube-scheduler"))
}

func createPod(t *testing.T, cluster *integration.Cluster, name string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	pod, err := cluster.Client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

func nodeOf(t *testing.T, cluster *integration.Cluster, pod string) string {
	t.Helper()
	p, err := cluster.Client.CoreV1().Pods("default").Get(t.Context(), pod, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p.Spec.NodeName
}

func bound(t *testing.T, cluster *integration.Cluster, pod string) {
	t.Helper()
	eventually(t, pod, func() error {
		if nodeOf(t, cluster, pod) == "" {
			return errors.New("it has no node")
		}
		return nil
	})
}

// post works the gates as `hyperkube step` does.
func post(t *testing.T, set kubernetes.Interface, path string, query map[string]string, into any) error {
	t.Helper()
	request := set.Discovery().RESTClient().Post().AbsPath("/debug/flow/gates" + path)
	for key, value := range query {
		request.Param(key, value)
	}
	data, err := request.Do(t.Context()).Raw()
	if err != nil {
		return fmt.Errorf("%s: %w", data, err)
	}
	return json.Unmarshal(data, into)
}

func hold(t *testing.T, cluster *integration.Cluster, query map[string]string) flow.GateStatus {
	t.Helper()
	var gate flow.GateStatus
	if err := post(t, cluster.Client, "", query, &gate); err != nil {
		t.Fatal(err)
	}
	return gate
}

// one makes a step, and returns what it let through; nil: nothing.
func one(t *testing.T, cluster *integration.Cluster, query map[string]string) *flow.GateEvent {
	t.Helper()
	var answer struct {
		Passed *flow.GateEvent
		Note   string
	}
	all := map[string]string{"wait": "20s"}
	for key, value := range query {
		all[key] = value
	}
	if err := post(t, cluster.Client, "/one", all, &answer); err != nil {
		t.Fatal(err)
	}
	if (answer.Passed == nil) != (answer.Note != "") {
		t.Errorf("passed %v with the note %q", answer.Passed, answer.Note)
	}
	return answer.Passed
}

func goOn(t *testing.T, cluster *integration.Cluster) {
	t.Helper()
	var answer any
	if err := post(t, cluster.Client, "/continue", nil, &answer); err != nil {
		t.Fatal(err)
	}
}

func gates(t *testing.T, cluster *integration.Cluster) []flow.GateStatus {
	t.Helper()
	var held struct{ Gates []flow.GateStatus }
	data, err := cluster.Client.Discovery().RESTClient().Get().AbsPath("/debug/flow/gates").Do(t.Context()).Raw()
	if err == nil {
		err = json.Unmarshal(data, &held)
	}
	if err != nil {
		t.Fatal(err)
	}
	return held.Gates
}

// waiting waits until n steps wait at the only gate.
func waiting(t *testing.T, cluster *integration.Cluster, n int) flow.GateStatus {
	t.Helper()
	var gate flow.GateStatus
	eventually(t, fmt.Sprintf("%d events at the gate", n), func() error {
		if all := gates(t, cluster); len(all) != 1 || all[0].Held != n {
			return fmt.Errorf("gates: %+v", all)
		} else {
			gate = all[0]
		}
		return nil
	})
	return gate
}

var ofScheduler = map[string]string{"component": "scheduler"}

// The session of issue 3: hold the scheduler; create a pod; it stays Pending, its event
// held; one step; it is bound; what the scheduler would hear next is its own Binding.
func TestStepTheScheduler(t *testing.T) {
	cluster := stepped(t)
	gate := hold(t, cluster, ofScheduler)
	if !gate.Connected || gate.Held != 0 || gate.Note != "" {
		t.Errorf("at its closing: %+v", gate)
	}
	pod := createPod(t, cluster, "second")
	gate = waiting(t, cluster, 1)
	if next := *gate.Next; next != (flow.GateEvent{Type: "ADDED", Kind: "Pod", Namespace: "default", Name: "second", Revision: revisionOf(t, pod)}) {
		t.Errorf("next is %+v", next)
	}
	// Whoever is not held hears of it: a scheduler that did, too, would have bound it by then.
	if nodeOf(t, cluster, "second") != "" {
		t.Fatal("it is bound, though the scheduler was not told of it")
	}
	passed := one(t, cluster, ofScheduler)
	if passed == nil || passed.Name != "second" || passed.By == "" {
		t.Errorf("passed %+v, want second and who created it", passed)
	}
	bound(t, cluster, "second")
	gate = waiting(t, cluster, 1)
	if gate.Next.Type != "MODIFIED" || gate.Passed != 1 {
		t.Errorf("after a step: %+v", gate)
	}
	third := createPod(t, cluster, "third")
	waiting(t, cluster, 2)
	goOn(t, cluster)
	bound(t, cluster, "third")
	if all := gates(t, cluster); len(all) != 0 {
		t.Errorf("after continue: %+v (third was created at %s)", all, third.ResourceVersion)
	}
}

func revisionOf(t *testing.T, o metav1.Object) int64 {
	t.Helper()
	revision, err := strconv.ParseInt(o.GetResourceVersion(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// A held component that lists anew, as after a restart, stands where it stood: nothing
// leaks past the gate. What it asks for by name it sees as it is.
func TestRelistAtTheHeldRevision(t *testing.T) {
	cluster := stepped(t)
	held := schedulerSet(cluster).CoreV1()
	line := hold(t, cluster, ofScheduler).Revision
	second := createPod(t, cluster, "second")
	if err := cluster.Client.CoreV1().Pods("default").Delete(t.Context(), "first", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
		t.Fatal(err)
	}
	expect := func(what, version string, items []corev1.Pod, names ...string) {
		t.Helper()
		got := []string{}
		for _, pod := range items {
			got = append(got, pod.Name)
		}
		if fmt.Sprint(got) != fmt.Sprint(names) || version != fmt.Sprint(line) {
			t.Errorf("%s: %v at %s, want %v at %d", what, got, version, names, line)
		}
	}
	for what, options := range map[string]metav1.ListOptions{
		"list": {}, "list at any": {ResourceVersion: "0"},
		"list not older":  {ResourceVersion: fmt.Sprint(line - 1), ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan},
		"list with limit": {Limit: 5},
	} {
		list, err := held.Pods("").List(t.Context(), options)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		expect(what, list.ResourceVersion, list.Items, "first")
	}
	// A fresh watch says the same, and then holds.
	w, err := held.Pods("").Watch(t.Context(), metav1.ListOptions{SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true,
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if e := <-w.ResultChan(); e.Type != watch.Added || e.Object.(*corev1.Pod).Name != "first" {
		t.Errorf("first event %s %v", e.Type, e.Object)
	}
	if e := <-w.ResultChan(); e.Type != watch.Bookmark || e.Object.(*corev1.Pod).Annotations[metav1.InitialEventsAnnotationKey] != "true" ||
		e.Object.(*corev1.Pod).ResourceVersion != fmt.Sprint(line) {
		t.Errorf("second event %s %v, want the end of the initial events at %d", e.Type, e.Object, line)
	}
	// What it has seen elsewhere is the future here.
	if err := held.RESTClient().Get().Resource("pods").Param("resourceVersion", second.ResourceVersion).MaxRetries(0).Do(t.Context()).Error(); !apierrors.IsTimeout(err) {
		t.Errorf("a list of the future: %v, want it refused as too large", err)
	}
	if _, err := held.Pods("default").Get(t.Context(), "second", metav1.GetOptions{}); err != nil {
		t.Errorf("a live GET: %v", err)
	}
	if gate := waiting(t, cluster, 2); gate.Note == "" {
		t.Error("the live GET is not shown")
	}
	// One step, and all that it asks says so.
	one(t, cluster, ofScheduler)
	if e := <-w.ResultChan(); e.Type != watch.Added || e.Object.(*corev1.Pod).Name != "second" {
		t.Errorf("the event that was let through: %s %v", e.Type, e.Object)
	}
	line = revisionOf(t, second)
	list, err := held.Pods("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	expect("list after a step", list.ResourceVersion, list.Items, "first", "second")
	// Nobody else is held.
	everybody, err := cluster.Client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(everybody.Items) != 1 {
		t.Errorf("somebody else sees %d pods, %v", len(everybody.Items), err)
	}
}

// Leases and Nodes pass, so that leadership and the health of nodes go on.
func TestLeasesAndNodesAreNotHeld(t *testing.T) {
	cluster := stepped(t)
	held := schedulerSet(cluster)
	leases, err := held.CoordinationV1().Leases("kube-system").Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=kube-scheduler"})
	if err != nil {
		t.Fatal(err)
	}
	defer leases.Stop()
	nodes, err := held.CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer nodes.Stop()
	<-nodes.ResultChan() // n1, as it is
	hold(t, cluster, ofScheduler)
	if _, err := held.CoordinationV1().Leases("kube-system").Get(t.Context(), "kube-scheduler", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	if _, err := cluster.Client.CoreV1().Nodes().Patch(t.Context(), "n1", "application/merge-patch+json", []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if e := <-nodes.ResultChan(); e.Type != watch.Modified {
		t.Errorf("the node's event: %s", e.Type)
	}
	list, err := held.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Labels["a"] != "b" {
		t.Errorf("a list of nodes is held: %v, %v", list, err)
	}
	if err := post(t, cluster.Client, "", map[string]string{"component": "scheduler", "resource": "leases"}, new(any)); err == nil {
		t.Error("leases could be held")
	}
}

// A watch whose time is over goes on while it is held: its end would be followed by a list.
func TestTimeOfAHeldWatchIsSuspended(t *testing.T) {
	cluster := stepped(t)
	second := int64(1)
	short := metav1.ListOptions{ResourceVersion: "0", TimeoutSeconds: &second, FieldSelector: "metadata.name=late"}
	held, err := schedulerSet(cluster).CoreV1().Pods("default").Watch(t.Context(), short)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Stop()
	hold(t, cluster, ofScheduler)
	free, err := cluster.Client.CoreV1().Pods("default").Watch(t.Context(), short)
	if err != nil {
		t.Fatal(err)
	}
	for range free.ResultChan() {
	} // it began later, and is over
	createPod(t, cluster, "late")
	one(t, cluster, ofScheduler)
	if e, open := <-held.ResultChan(); !open || e.Type != watch.Added {
		t.Errorf("the held watch: %v, open %v", e.Type, open)
	}
}

// A single controller is held at its queue, in its own process; the others work on.
func TestStepAController(t *testing.T) {
	cluster := integration.Start(t)
	config := as(cluster, "controller-manager", "system:kube-controller-manager")
	set := kubernetes.NewForConfigOrDie(config)
	turnstile := reconcile.NewTurnstile()
	manager, err := controllers.New(controllers.Config{Client: set, RESTConfig: config, Gate: turnstile, Controllers: []string{"deployment", "replicaset", "serviceaccount"}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "controller-manager", set, func(ctx context.Context) error {
		followed := make(chan struct{})
		go func() { defer close(followed); client.FollowGates(ctx, turnstile, set.Discovery().RESTClient()) }()
		err := manager.Run(ctx)
		<-followed
		return err
	})
	query := map[string]string{"component": "controller-manager", "controller": "deployment"}
	hold(t, cluster, query)
	eventually(t, "the controller at its gate", func() error {
		if !gates(t, cluster)[0].Connected {
			return errors.New("not connected")
		}
		return nil
	})
	if err := post(t, cluster.Client, "", map[string]string{"component": "controller-manager", "controller": "deploy"}, new(any)); err == nil {
		t.Error("a controller that is not there was held")
	}
	for _, name := range []string{"a", "b"} {
		labels := map[string]string{"app": name}
		deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
		}}
		if _, err := cluster.Client.AppsV1().Deployments("default").Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	gate := waiting(t, cluster, 2)
	if next := gate.Next; next.Type != "SYNC" || next.Kind != "Deployment" || next.Name != "a" || next.Revision == 0 {
		t.Errorf("next is %+v", next)
	}
	if passed := one(t, cluster, query); passed == nil || passed.Name != "a" {
		t.Errorf("passed %+v, want a", passed)
	}
	owners := func() map[string]int {
		list, err := cluster.Client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for _, pod := range list.Items {
			count[pod.Labels["app"]]++
		}
		return count
	}
	eventually(t, "the pod of a, made by the controller that is not held", func() error {
		if count := owners(); count["a"] != 1 || count["b"] != 0 {
			return fmt.Errorf("pods: %v", count)
		}
		return nil
	})
	goOn(t, cluster)
	eventually(t, "the pod of b", func() error {
		if count := owners(); count["b"] != 1 {
			return fmt.Errorf("pods: %v", count)
		}
		return nil
	})
}

// Who may not administer the cluster may neither hold anybody nor let them go; a component
// asks only whom of its own to hold.
func TestGatesAreTheAdministrators(t *testing.T) {
	cluster := integration.Start(t)
	for _, user := range [][]string{{"system:kube-scheduler"}, {"system:node:n1", "system:nodes"}, {"jane", "system:authenticated"}, {"system:anonymous", "system:unauthenticated"}} {
		set := kubernetes.NewForConfigOrDie(cluster.ConfigAs(user[0], user[1:]...))
		for _, path := range []string{"", "/one", "/continue"} {
			if err := post(t, set, path, ofScheduler, new(any)); !apierrors.IsForbidden(err) {
				t.Errorf("%s posted to gates%s: %v", user[0], path, err)
			}
		}
		if _, err := set.Discovery().RESTClient().Get().AbsPath("/debug/flow/gates").Do(t.Context()).Raw(); !apierrors.IsForbidden(err) {
			t.Errorf("%s reads the gates: %v", user[0], err)
		}
	}
	var code int
	err := schedulerSet(cluster).Discovery().RESTClient().Post().AbsPath(client.HeldPath).Body([]byte(`{"link":7}`)).Do(t.Context()).StatusCode(&code).Error()
	if code != http.StatusGone {
		t.Errorf("a report without a link: %d, %v", code, err)
	}
}
