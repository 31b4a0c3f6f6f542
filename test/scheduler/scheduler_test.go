// Package scheduler tests the scheduler against a real apiserver, under its own
// RBAC role. Nothing runs the pods.
package scheduler

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hyperkube/scheduler"
	"hyperkube/test/integration"
)

// start runs a scheduler as its own user until stop is called or the test ends.
func start(t *testing.T, cluster *integration.Cluster) (sched *scheduler.Scheduler, stop func()) {
	t.Helper()
	config := rest.CopyConfig(cluster.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:kube-scheduler"}
	sched, err := scheduler.New(scheduler.Config{Client: kubernetes.NewForConfigOrDie(config), LeaderElect: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sched.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		done <- nil
	}
	t.Cleanup(func() { stop() })
	return sched, stop
}

func createNode(t *testing.T, cluster *integration.Cluster, name, cpu string, taints ...v1.Taint) {
	t.Helper()
	node, err := cluster.Client.CoreV1().Nodes().Create(t.Context(), &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.NodeSpec{Taints: taints}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Admission taints a new node until the node lifecycle controller has seen it ready.
	node.Spec.Taints = taints
	if node, err = cluster.Client.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	node.Status.Allocatable = v1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("110")}
	node.Status.Capacity = node.Status.Allocatable
	if _, err = cluster.Client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// namespace makes a namespace in which pods can be created without controllers.
func namespace(t *testing.T, cluster *integration.Cluster, name string) string {
	t.Helper()
	if _, err := cluster.Client.CoreV1().Namespaces().Create(t.Context(), &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	account := &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := cluster.Client.CoreV1().ServiceAccounts(name).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return name
}

func createPod(t *testing.T, cluster *integration.Cluster, namespace, name, cpu string) {
	t.Helper()
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", Image: "web", Resources: v1.ResourceRequirements{
		Requests: v1.ResourceList{"cpu": resource.MustParse(cpu)}}}}}}
	if _, err := cluster.Client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, condition func(ctx context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, condition); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// S0-04, R23: the Binding sets the node, the condition follows, and events say why.
func TestPodsArePlaced(t *testing.T) {
	cluster := integration.Start(t)
	createNode(t, cluster, "small", "1")
	createNode(t, cluster, "tainted", "64", v1.Taint{Key: "gpu", Effect: v1.TaintEffectNoSchedule})
	ns := namespace(t, cluster, "test")
	sched, _ := start(t, cluster)
	for i := range 10 {
		createPod(t, cluster, ns, fmt.Sprint("p", i), "100m")
	}
	eventually(t, "ten pods on the small node", func(ctx context.Context) (bool, error) {
		pods, err := cluster.Client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=small"})
		return err == nil && len(pods.Items) == 10, err
	})
	createPod(t, cluster, ns, "late", "500m")
	const why = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s). " +
		"preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
	eventually(t, "the condition of the pod without a place", func(ctx context.Context) (bool, error) {
		pod, err := cluster.Client.CoreV1().Pods(ns).Get(ctx, "late", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, c := range pod.Status.Conditions {
			if c.Type == v1.PodScheduled {
				return c.Status == v1.ConditionFalse && c.Reason == v1.PodReasonUnschedulable && c.Message == why && c.ObservedGeneration == pod.Generation, nil
			}
		}
		return false, nil
	})
	eventually(t, "events as kubectl reads them", func(ctx context.Context) (bool, error) {
		events, err := cluster.Client.CoreV1().Events(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		var scheduled, failed bool
		for _, e := range events.Items {
			scheduled = scheduled || e.Reason == "Scheduled" && e.InvolvedObject.Name == "p0" && e.Message == "Successfully assigned test/p0 to small"
			failed = failed || e.Reason == "FailedScheduling" && e.InvolvedObject.Name == "late" && e.Message == why && e.ReportingController == "default-scheduler"
		}
		return scheduled && failed, nil
	})
	// Room is made: the pod's place is found without waiting for a backoff to end.
	for i := range 5 {
		if err := cluster.Client.CoreV1().Pods(ns).Delete(t.Context(), fmt.Sprint("p", i), metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the late pod's place", func(ctx context.Context) (bool, error) {
		pod, err := cluster.Client.CoreV1().Pods(ns).Get(ctx, "late", metav1.GetOptions{})
		return err == nil && pod.Spec.NodeName == "small", err
	})
	attempts := sched.Explain(ns, "late")
	if last := attempts[len(attempts)-1]; len(attempts) < 2 || attempts[0].Message != why || last.Node != "small" {
		t.Errorf("attempts %+v", attempts)
	}
}

// R74, and the contract of components: stopped and started again, it goes on.
func TestSchedulerRestarts(t *testing.T) {
	cluster := integration.Start(t)
	createNode(t, cluster, "n", "64")
	ns := namespace(t, cluster, "test")
	for i := range 5 {
		_, stop := start(t, cluster)
		name := fmt.Sprint("p", i)
		createPod(t, cluster, ns, name, "10m")
		eventually(t, "pod "+name, func(ctx context.Context) (bool, error) {
			pod, err := cluster.Client.CoreV1().Pods(ns).Get(ctx, name, metav1.GetOptions{})
			return err == nil && pod.Spec.NodeName == "n", err
		})
		stop()
		// The Lease is given back, so that the next one need not wait 15 s.
		lease, err := cluster.Client.CoordinationV1().Leases("kube-system").Get(t.Context(), "kube-scheduler", metav1.GetOptions{})
		if err != nil || lease.Spec.HolderIdentity != nil && strings.TrimSpace(*lease.Spec.HolderIdentity) != "" {
			t.Fatalf("lease %+v, %v", lease, err)
		}
	}
}
