package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"hyperkube/controllers"
	"hyperkube/scheduler"
	"hyperkube/test/integration"
)

// cable is what a process reaches the apiserver through. Cut, it is as if the process were
// gone: nothing of it arrives, the release of its Lease neither. Held, it is as if the process
// were stopped: what it asks is answered when it goes on.
type cable struct {
	next http.RoundTripper

	mu   sync.Mutex
	cut  bool
	held chan struct{} // nil: not held
	// cutAfter is after how many creations of pods it is cut; 0: not by itself.
	cutAfter int
}

var errCut = errors.New("the cable is cut")

func (c *cable) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	held := c.held
	c.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	c.mu.Lock()
	isCut := c.cut
	if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/pods") && c.cutAfter > 0 {
		if c.cutAfter--; c.cutAfter == 0 {
			c.cut = true // this request is the last
		}
	}
	c.mu.Unlock()
	if isCut {
		return nil, errCut
	}
	return c.next.RoundTrip(r)
}

func (c *cable) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func (c *cable) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

// throughCable is config with a cable, and without a limit on requests: a manager's retries
// while it is cut must not use up what it needs afterwards.
func throughCable(config *rest.Config) (*rest.Config, *cable) {
	c := &cable{}
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { c.next = next; return c })
	return config, c
}

// electedManager runs a manager that competes for the Lease, and returns its cable and how to
// stop it in order.
func electedManager(t *testing.T, cluster *integration.Cluster, name string, lease time.Duration) (*controllers.Manager, *cable, func()) {
	t.Helper()
	config, c := throughCable(asControllerManager(cluster))
	manager, err := controllers.New(controllers.Config{RESTConfig: config, Client: kubernetes.NewForConfigOrDie(config), LeaderElect: true, Identity: name,
		LeaseDuration: lease, RenewDeadline: lease / 2, RetryPeriod: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return manager, c, runUntilStopped(t, name, manager.Run)
}

// silent keeps to itself what is tried while a cable is cut, or a pod's name taken.
var silent = funcr.New(func(string, string) {}, funcr.Options{})

func runUntilStopped(t *testing.T, name string, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), silent))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s ended with %v", name, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// leads waits until name holds the Lease.
func leads(t *testing.T, client kubernetes.Interface, lease, name string) {
	t.Helper()
	eventually(t, name+" holds "+lease, func() error {
		l, err := client.CoordinationV1().Leases("kube-system").Get(t.Context(), lease, metav1.GetOptions{})
		if err == nil && (l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity != name) {
			err = fmt.Errorf("holder %v", l.Spec.HolderIdentity)
		}
		return err
	})
}

// podsMade counts all pods that there ever were, by watching from the beginning.
func podsMade(t *testing.T, client kubernetes.Interface) func() int {
	t.Helper()
	watcher, err := client.CoreV1().Pods("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watcher.Stop)
	var mu sync.Mutex
	made := 0
	go func() {
		for event := range watcher.ResultChan() {
			if event.Type == "ADDED" {
				mu.Lock()
				made++
				mu.Unlock()
			}
		}
	}()
	return func() int { mu.Lock(); defer mu.Unlock(); return made }
}

func hasPods(t *testing.T, client kubernetes.Interface, made func() int, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d pods", want), func() error {
		pods, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err == nil && (len(pods.Items) != want || made() < want) {
			err = fmt.Errorf("%d pods, %d made", len(pods.Items), made())
		}
		return err
	})
	if got := made(); got != want {
		t.Errorf("%d pods were made in all, want %d: some were made twice", got, want)
	}
}

// A leader that dies in the middle of creating pods: another goes on where it stopped, and
// makes none twice. The dead one, come back, stands by; and takes over when the other stops in
// order, which gives the Lease back: it would hold for a minute otherwise (R74).
func TestControllerManagerTakeover(t *testing.T) {
	cluster := integration.Start(t)
	client := cluster.Client
	made := podsMade(t, client)
	_, cableOfFirst, _ := electedManager(t, cluster, "first", 2*time.Second)
	leads(t, client, "kube-controller-manager", "first")
	eventually(t, "default account", func() error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	_, _, stopSecond := electedManager(t, cluster, "second", time.Minute)

	cableOfFirst.set(func() { cableOfFirst.cutAfter = 5 })
	if _, err := client.AppsV1().Deployments("default").Create(t.Context(), deployment("web", "one", 20), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first is cut off", func() error {
		if !cableOfFirst.isCut() {
			return errors.New("it has not made five pods")
		}
		return nil
	})
	leads(t, client, "kube-controller-manager", "second")
	hasPods(t, client, made, 20)

	cableOfFirst.set(func() { cableOfFirst.cut = false })
	stopSecond()
	leads(t, client, "kube-controller-manager", "first")
	scaleTo(t, client, "web", 25)
	hasPods(t, client, made, 25)
}

func scaleTo(t *testing.T, client kubernetes.Interface, name string, replicas int32) {
	t.Helper()
	patch := []byte(fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas))
	if _, err := client.AppsV1().Deployments("default").Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// A process that is stopped for longer than its Lease holds goes on afterwards, as the same
// process: while it stood still another led, and did what was to do.
func TestControllerManagerPause(t *testing.T) {
	cluster := integration.Start(t)
	client := cluster.Client
	made := podsMade(t, client)
	first, cableOfFirst, _ := electedManager(t, cluster, "first", time.Second)
	leads(t, client, "kube-controller-manager", "first")
	eventually(t, "default account", func() error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	if _, err := client.AppsV1().Deployments("default").Create(t.Context(), deployment("web", "one", 3), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	hasPods(t, client, made, 3)
	_, _, stopSecond := electedManager(t, cluster, "second", time.Second)

	goOn := make(chan struct{})
	cableOfFirst.set(func() { cableOfFirst.held = goOn })
	leads(t, client, "kube-controller-manager", "second")
	scaleTo(t, client, "web", 5)
	hasPods(t, client, made, 5)
	cableOfFirst.set(func() { cableOfFirst.held = nil })
	close(goOn)
	stopSecond()
	leads(t, client, "kube-controller-manager", "first")
	scaleTo(t, client, "web", 6)
	hasPods(t, client, made, 6)
	eventually(t, "the first has all its caches", func() error {
		for _, s := range first.Status() {
			if s.Running && !s.Synced {
				return fmt.Errorf("%s is not synced", s.Name)
			}
		}
		return nil
	})
}

// The same for schedulers: each pod is bound, and no node gets more than it has room for.
func TestSchedulerTakeover(t *testing.T) {
	cluster := integration.Start(t)
	client := cluster.Client
	for _, name := range []string{"a", "b"} {
		node, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		node.Spec.Taints = nil // nobody else would lift what admission gives to a new node
		if node, err = client.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		node.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("10"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("110")}
		if _, err := client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	startScheduler := func(name string, lease time.Duration) (*cable, func()) {
		config, c := throughCable(cluster.ConfigAs("system:kube-scheduler"))
		s, err := scheduler.New(scheduler.Config{Client: kubernetes.NewForConfigOrDie(config), LeaderElect: true, Identity: name,
			LeaseDuration: lease, RenewDeadline: lease / 2, RetryPeriod: 100 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		return c, runUntilStopped(t, name, s.Run)
	}
	next := 0
	createPods := func(n int) {
		t.Helper()
		for range n {
			next++
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", next)}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i",
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1")}}}}}}
			if _, err := client.CoreV1().Pods("kube-system").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	bound := func(want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d bound pods", want), func() error {
			pods, err := client.CoreV1().Pods("kube-system").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			on := map[string]int{}
			for _, pod := range pods.Items {
				on[pod.Spec.NodeName]++
			}
			if on["a"] > 10 || on["b"] > 10 {
				t.Fatalf("pods on nodes: %v; each has room for ten", on)
			}
			if on["a"]+on["b"] != want {
				return fmt.Errorf("pods on nodes: %v", on)
			}
			return nil
		})
	}
	eventually(t, "default account", func() error {
		_, err := client.CoreV1().ServiceAccounts("kube-system").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
		return err
	})
	cableOfFirst, _ := startScheduler("first", 2*time.Second)
	leads(t, client, "kube-scheduler", "first")
	createPods(5)
	bound(5)
	_, stopSecond := startScheduler("second", time.Minute)
	cableOfFirst.set(func() { cableOfFirst.cut = true })
	createPods(7)
	leads(t, client, "kube-scheduler", "second")
	bound(12)
	cableOfFirst.set(func() { cableOfFirst.cut = false })
	stopSecond()
	createPods(8)
	leads(t, client, "kube-scheduler", "first")
	bound(20)
}
