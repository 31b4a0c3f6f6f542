// Package controllers tests the controller manager against a real apiserver. What a
// kubelet would do is done by runPods: pods run as soon as they exist.
package controllers

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
	"k8s.io/utils/ptr"

	"hyperkube/controllers"
	"hyperkube/test/integration"
)

// asControllerManager is the identity that the command uses: the tests hold its RBAC role, too.
func asControllerManager(cluster *integration.Cluster) *rest.Config {
	config := cluster.Protobuf()
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:kube-controller-manager"}
	return config
}

// startManager runs all controllers until the test ends.
func startManager(t *testing.T, cluster *integration.Cluster, change ...func(*controllers.Config)) *controllers.Manager {
	t.Helper()
	config := controllers.Config{
		RESTConfig: asControllerManager(cluster), RootCA: []byte("-----CA-----"), ClusterCIDR: "10.244.0.0/16",
	}
	config.Client = kubernetes.NewForConfigOrDie(config.RESTConfig)
	for _, c := range change {
		c(&config)
	}
	manager, err := controllers.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), ktesting.NewLogger(t, ktesting.NewConfig(ktesting.Verbosity(2)))))
	done := make(chan error, 1)
	go func() { done <- manager.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("manager: %v", err)
		}
	})
	return manager
}

// runPods gives every pod an address and makes it ready; images named "broken" never are.
func runPods(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	watcher, err := client.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		next := 1
		for event := range watcher.ResultChan() {
			pod, ok := event.Object.(*corev1.Pod)
			if !ok || event.Type == watch.Deleted || pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodRunning {
				continue
			}
			next++
			address := fmt.Sprintf("10.244.0.%d", next)
			now := metav1.Now()
			pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &now, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}},
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now}}}
			if pod.Spec.Containers[0].Image == "broken" {
				pod.Status.Conditions[0].Status = corev1.ConditionFalse
			}
			if _, err := client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil &&
				ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				t.Errorf("running pod %s: %v", pod.Name, err)
			}
		}
	}()
	t.Cleanup(func() { cancel(); watcher.Stop(); <-done })
}

// eventually checks until it holds; a test of running controllers has nothing else to wait for.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	within(t, time.Minute, what, check)
}

func within(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	var err error
	for time.Now().Before(deadline) {
		if err = check(); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s: %v", what, err)
}

func deployment(name, image string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image,
					Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
			},
		},
	}
}

// The main flow of issue 2 as far as controllers go: a Deployment's pods come, are
// listed behind its Service, are rolled to another template and back, replaced when
// deleted, and gone when the Deployment is (S0-19, S1-15).
func TestDeploymentBehindService(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	runPods(t, cluster.Client)
	ctx, client := t.Context(), cluster.Client
	deployments := client.AppsV1().Deployments("default")
	eventually(t, "default account", func() error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if _, err := deployments.Create(ctx, deployment("web", "one", 3), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}}}}
	if _, err := client.CoreV1().Services("default").Create(ctx, service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	rolledOut := func(revision string) func() error {
		return func() error {
			d, err := deployments.Get(ctx, "web", metav1.GetOptions{})
			if err != nil {
				return err
			}
			s := d.Status
			if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != 3 || s.Replicas != 3 || s.AvailableReplicas != 3 || d.Annotations["deployment.kubernetes.io/revision"] != revision {
				return fmt.Errorf("annotations %v, status %+v", d.Annotations, s)
			}
			return nil
		}
	}
	eventually(t, "first rollout", rolledOut("1"))
	eventually(t, "endpoint slice", func() error { return endpoints(ctx, client, "web", 3) })

	setImage := func(image string) {
		t.Helper()
		patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":%q}]}}}}`, image)
		if _, err := deployments.Patch(ctx, "web", "application/strategic-merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	setImage("two")
	eventually(t, "second rollout", rolledOut("2"))
	setImage("one")
	eventually(t, "rollout back", rolledOut("3"))
	sets, err := client.AppsV1().ReplicaSets("default").List(ctx, metav1.ListOptions{})
	if err != nil || len(sets.Items) != 2 {
		t.Fatalf("%d ReplicaSets, error %v; want two: a template that is used again keeps its ReplicaSet", len(sets.Items), err)
	}

	pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	victim := pods.Items[0].Name
	if err := client.CoreV1().Pods("default").Delete(ctx, victim, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "replacement", func() error {
		if _, err := client.CoreV1().Pods("default").Get(ctx, victim, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("%s is still there: %v", victim, err)
		}
		return endpoints(ctx, client, "web", 3)
	})

	if err := deployments.Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "everything is gone", func() error {
		sets, err := client.AppsV1().ReplicaSets("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(sets.Items)+len(pods.Items) > 0 {
			return fmt.Errorf("%d ReplicaSets and %d pods remain", len(sets.Items), len(pods.Items))
		}
		return endpoints(ctx, client, "web", 0)
	})
	checkEvents(t, client)
}

func endpoints(ctx context.Context, client kubernetes.Interface, service string, want int) error {
	list, err := client.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return err
	}
	ready := 0
	for _, slice := range list.Items {
		for _, endpoint := range slice.Endpoints {
			if ptr.Deref(endpoint.Conditions.Ready, false) {
				ready++
			}
		}
		if len(slice.Endpoints) > 0 && (len(slice.Ports) != 1 || *slice.Ports[0].Port != 8080) {
			return fmt.Errorf("ports %v, want 8080", slice.Ports)
		}
	}
	legacy, err := client.CoreV1().Endpoints("default").Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return err
	}
	addresses := 0
	for _, subset := range legacy.Subsets {
		addresses += len(subset.Addresses)
	}
	if len(list.Items) != 1 || ready != want || addresses != want {
		return fmt.Errorf("%d slices, %d ready endpoints, %d addresses in Endpoints; want 1, %d, %d", len(list.Items), ready, addresses, want, want)
	}
	return nil
}

// checkEvents: what kubectl describe shows of a rollout, in upstream's words.
func checkEvents(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	eventually(t, "events", func() error {
		events, err := client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		var all strings.Builder
		for _, e := range events.Items {
			fmt.Fprintf(&all, "%s %s %s %s\n", e.Source.Component, e.InvolvedObject.Kind, e.Reason, e.Message)
		}
		for _, want := range []string{
			"deployment-controller Deployment ScalingReplicaSet Scaled up replica set web-",
			"from 0 to 3",
			"replicaset-controller ReplicaSet SuccessfulCreate Created pod: web-",
			"replicaset-controller ReplicaSet SuccessfulDelete Deleted pod: web-",
		} {
			if !strings.Contains(all.String(), want) {
				return fmt.Errorf("no event %q in:\n%s", want, all.String())
			}
		}
		return nil
	})
}

// A rollout to an image that never becomes ready stops where maxUnavailable says, and
// keeps serving with the old pods.
func TestBrokenRolloutKeepsServing(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	runPods(t, cluster.Client)
	ctx, deployments := t.Context(), cluster.Client.AppsV1().Deployments("default")
	eventually(t, "create", func() error {
		_, err := deployments.Create(ctx, deployment("web", "one", 4), metav1.CreateOptions{})
		return err
	})
	eventually(t, "first rollout", func() error {
		d, err := deployments.Get(ctx, "web", metav1.GetOptions{})
		if err == nil && d.Status.AvailableReplicas != 4 {
			err = fmt.Errorf("status %+v", d.Status)
		}
		return err
	})
	patch := `{"spec":{"progressDeadlineSeconds":1,"template":{"spec":{"containers":[{"name":"c","image":"broken"}]}}}}`
	if _, err := deployments.Patch(ctx, "web", "application/strategic-merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "deadline", func() error {
		d, err := deployments.Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range d.Status.Conditions {
			if c.Type == appsv1.DeploymentProgressing && c.Reason == "ProgressDeadlineExceeded" && c.Status == corev1.ConditionFalse {
				// maxSurge and maxUnavailable are 25 % of 4: 3 old ones stay, 2 new ones fail.
				if d.Status.AvailableReplicas != 3 || d.Status.UpdatedReplicas != 2 || d.Status.Replicas != 5 {
					return fmt.Errorf("status %+v", d.Status)
				}
				return nil
			}
		}
		return fmt.Errorf("status %+v", d.Status)
	})
}

// A namespace goes with all its content, also what is held by a finalizer for a while (R45).
func TestNamespaceIsEmptied(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	runPods(t, cluster.Client)
	ctx, client := t.Context(), cluster.Client
	if _, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "account and CA", func() error {
		if _, err := client.CoreV1().ServiceAccounts("team").Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
		cm, err := client.CoreV1().ConfigMaps("team").Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		if err == nil && cm.Data["ca.crt"] != "-----CA-----" {
			err = fmt.Errorf("data %v", cm.Data)
		}
		return err
	})
	if _, err := client.AppsV1().Deployments("team").Create(ctx, deployment("web", "one", 2), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"example.com/hold"}}}
	if _, err := client.CoreV1().ConfigMaps("team").Create(ctx, held, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().Namespaces().Delete(ctx, "team", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "condition", func() error {
		ns, err := client.CoreV1().Namespaces().Get(ctx, "team", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range ns.Status.Conditions {
			if c.Type == corev1.NamespaceFinalizersRemaining && c.Status == corev1.ConditionTrue && strings.Contains(c.Message, "example.com/hold") {
				return nil
			}
		}
		return fmt.Errorf("conditions %v", ns.Status.Conditions)
	})
	if _, err := client.CoreV1().ConfigMaps("team").Patch(ctx, "held", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "namespace is gone", func() error {
		ns, err := client.CoreV1().Namespaces().Get(ctx, "team", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("%+v, error %v", ns.Status, err)
	})
}

// Foreground keeps the owner until its dependents are gone; orphan lets them live (R45).
func TestPropagation(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	ctx, maps := t.Context(), cluster.Client.CoreV1().ConfigMaps("default")
	create := func(name string, finalizers []string, owners ...*corev1.ConfigMap) *corev1.ConfigMap {
		t.Helper()
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: finalizers}}
		for _, owner := range owners {
			cm.OwnerReferences = append(cm.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID, BlockOwnerDeletion: ptr.To(true)})
		}
		created, err := maps.Create(ctx, cm, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return created
	}
	gone := func(name string) func() error {
		return func() error {
			cm, err := maps.Get(ctx, name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("%s is there: %v, error %v", name, cm.ObjectMeta, err)
		}
	}
	remove := func(name string, policy metav1.DeletionPropagation) {
		t.Helper()
		if err := maps.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
			t.Fatal(err)
		}
	}

	// Background: the whole chain goes.
	a := create("a", nil)
	b := create("b", nil, a)
	create("c", nil, b)
	remove("a", metav1.DeletePropagationBackground)
	eventually(t, "background", gone("c"))

	// Foreground: the owner waits for a dependent that is held.
	owner := create("owner", nil)
	create("held", []string{"example.com/hold"}, owner)
	remove("owner", metav1.DeletePropagationForeground)
	eventually(t, "dependent is asked to go", func() error {
		cm, err := maps.Get(ctx, "held", metav1.GetOptions{})
		if err == nil && cm.DeletionTimestamp == nil {
			err = fmt.Errorf("not deleted yet")
		}
		return err
	})
	if _, err := maps.Get(ctx, "owner", metav1.GetOptions{}); err != nil {
		t.Fatalf("the owner did not wait: %v", err)
	}
	if _, err := maps.Patch(ctx, "held", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "foreground", gone("owner"))

	// Orphan: the dependent stays, without owner.
	parent := create("parent", nil)
	create("child", nil, parent)
	remove("parent", metav1.DeletePropagationOrphan)
	eventually(t, "orphan", gone("parent"))
	child, err := maps.Get(ctx, "child", metav1.GetOptions{})
	if err != nil || len(child.OwnerReferences) > 0 {
		t.Fatalf("child %v, error %v; want it alive and alone", child.OwnerReferences, err)
	}

	// Two owners: one goes, the other keeps the object.
	x, y := create("x", nil), create("y", nil)
	create("shared", nil, x, y)
	remove("x", metav1.DeletePropagationBackground)
	eventually(t, "reference is removed", func() error {
		cm, err := maps.Get(ctx, "shared", metav1.GetOptions{})
		if err == nil && len(cm.OwnerReferences) != 1 {
			err = fmt.Errorf("owners %v", cm.OwnerReferences)
		}
		return err
	})

	// An owner that never existed.
	create("lost", nil, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "never", UID: "no-such-uid"}})
	eventually(t, "absent owner", gone("lost"))
}

// Two managers, one Lease: the second works when the first has stopped (S2-06). A
// manager comes and goes many times in one process (R12).
func TestLeaderElection(t *testing.T) {
	cluster := integration.Start(t)
	client := cluster.Client
	elect := func(identity string) func(*controllers.Config) {
		return func(c *controllers.Config) {
			c.LeaderElect, c.Identity = true, identity
			c.LeaseDuration, c.RenewDeadline, c.RetryPeriod = 3*time.Second, 2*time.Second, 100*time.Millisecond
		}
	}
	holder := func(want string) func() error {
		return func() error {
			lease, err := client.CoordinationV1().Leases("kube-system").Get(t.Context(), "kube-controller-manager", metav1.GetOptions{})
			if err == nil && ptr.Deref(lease.Spec.HolderIdentity, "") != want {
				err = fmt.Errorf("holder %q, want %q", ptr.Deref(lease.Spec.HolderIdentity, ""), want)
			}
			return err
		}
	}
	t.Run("first", func(t *testing.T) {
		startManager(t, cluster, elect("first"))
		eventually(t, "first leads", holder("first"))
	})
	second := startManager(t, cluster, elect("second"))
	eventually(t, "second leads", holder("second"))
	eventually(t, "second works", func() error {
		for _, s := range second.Status() {
			if s.Running && !s.Synced || s.Name == "deployment" && !s.Running {
				return fmt.Errorf("%s: running %v, synced %v", s.Name, s.Running, s.Synced)
			}
		}
		return nil
	})
	// Somebody takes the Lease away: the term ends, the process does not (R74).
	if err := client.CoordinationV1().Leases("kube-system").Delete(t.Context(), "kube-controller-manager", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "second leads again", holder("second"))
}

// A role with the label of an aggregate becomes part of it.
func TestClusterRoleAggregation(t *testing.T) {
	cluster := integration.Start(t)
	startManager(t, cluster)
	roles := cluster.Client.RbacV1().ClusterRoles()
	_, err := roles.Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "widgets", Labels: map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{"example.com"}, Resources: []string{"widgets"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "view has it, and so has edit, which is made of view", func() error {
		for _, name := range []string{"view", "edit", "admin"} {
			role, err := roles.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "widgets") }) {
				return fmt.Errorf("%s has it not", name)
			}
		}
		return nil
	})
}

// A manager that comes and goes leaves no goroutine behind (R12).
func TestManagerLeavesNothingBehind(t *testing.T) {
	cluster := integration.Start(t)
	life := func(t *testing.T) {
		manager := startManager(t, cluster, func(c *controllers.Config) {
			c.LeaderElect, c.Identity = true, "me"
		})
		eventually(t, "all have their caches", func() error {
			for _, s := range manager.Status() {
				if s.Name == "garbagecollector" && !s.Synced || s.Running && !s.Synced {
					return fmt.Errorf("%s has not", s.Name)
				}
			}
			return nil
		})
	}
	t.Run("warm up", life)
	before := runtime.NumGoroutine()
	for range 5 {
		t.Run("life", life)
	}
	eventually(t, "goroutines", func() error {
		if now := runtime.NumGoroutine(); now > before+5 {
			return fmt.Errorf("%d goroutines, %d before", now, before)
		}
		return nil
	})
}
