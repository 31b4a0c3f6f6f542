package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"hyperkube/kubelet/fakenodes"
)

// A hundred fake nodes run as their own user: in zones, with the sizes asked for; what is bound to one runs there, ends
// when its command would, is refused where it has no room, and goes when it is deleted; logs say that there are none.
func TestFakeNodes(t *testing.T) {
	c := Start(t)
	pair, err := c.Dir.ServingCert("fakenodes-serving", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(c.ConfigAs("system:hyperkube-fakenodes"))
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := fakenodes.New(fakenodes.Config{Client: client, Address: "127.0.0.1", CertFile: pair.CertFile, KeyFile: pair.KeyFile, Version: "v1.37.2+hyperkube",
		Groups: []fakenodes.Group{
			{Name: "gpu", Count: 1, CPU: "64", Taints: []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}, Labels: map[string]string{"disk": "ssd"}},
			{Count: 99, Zones: []string{"a", "b"}},
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- nodes.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	soon(t, "all nodes are Ready", func() error {
		list, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "topology.kubernetes.io/zone=b"})
		leases, leaseErr := c.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease).List(ctx, metav1.ListOptions{})
		if err := errors.Join(err, leaseErr); err != nil {
			return err
		}
		if len(list.Items) != 49 || len(leases.Items) != 100 {
			return fmt.Errorf("%d nodes in zone b, %d leases", len(list.Items), len(leases.Items))
		}
		return nil
	})
	gpu, err := c.Client.CoreV1().Nodes().Get(ctx, "gpu-1", metav1.GetOptions{})
	if err != nil || gpu.Status.Allocatable.Cpu().String() != "64" || gpu.Labels["disk"] != "ssd" || len(gpu.Spec.Taints) == 0 || gpu.Spec.Taints[0].Key != "gpu" {
		t.Errorf("gpu-1: %v %v", gpu, err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := c.Client.CoreV1().ServiceAccounts("default").Create(ctx, account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	create := func(name, cpu string, command ...string) {
		t.Helper()
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}},
			Spec: corev1.PodSpec{NodeName: "fake-7", RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "x", Command: command}}}}
		if cpu != "" {
			pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
		}
		if _, err := c.Client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	soonPod := func(name string, want func(*corev1.Pod) bool) {
		t.Helper()
		soon(t, name, func() error {
			pod, err := c.Client.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
			if err == nil && !want(pod) {
				err = fmt.Errorf("%+v", pod.Status)
			}
			return err
		})
	}
	create("server", "")
	create("fails", "", "sh", "-c", "exit 3")
	create("huge", "9")
	soonPod("server", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodRunning && strings.HasPrefix(p.Status.PodIP, "100.64.") && p.Status.ContainerStatuses[0].Ready
	})
	soonPod("fails", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed && p.Status.ContainerStatuses[0].State.Terminated.ExitCode == 3
	})
	soonPod("huge", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "OutOfcpu"
	})
	if said, err := c.Client.CoreV1().Pods("default").GetLogs("server", &corev1.PodLogOptions{}).Do(ctx).Raw(); err == nil || !strings.Contains(string(said), "nothing runs") {
		t.Errorf("logs: %s %v", said, err)
	}
	if err := c.Client.CoreV1().Pods("default").Delete(ctx, "server", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	soon(t, "the deleted pod is gone", func() error {
		_, err := c.Client.CoreV1().Pods("default").Get(ctx, "server", metav1.GetOptions{})
		if err == nil {
			return errors.New("still there")
		}
		return nil
	})
}

func soon(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}
