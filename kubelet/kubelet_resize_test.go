package kubelet

import (
	"context"
	"fmt"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"hyperkube/kubelet/status"
)

func askFor(cpu string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		list := v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: list}
	}
}

// A pod asks for more while it runs: first for too much, then for what the node
// has; a restart of the kubelet in between grants nothing (KEP-1287).
func TestResize(t *testing.T) {
	cri, client, root := startCRI(t), fake.NewClientset(), t.TempDir()
	over := func(c *Config) {
		c.ContainerRuntime, c.RuntimeEndpoint, c.Client, c.RootDir = "remote", "unix://"+cri.socket, client, root
	}
	n := startNode(t, over)
	n.client = client
	n.create(newPod("web", askFor("100m")))
	n.wait("web", "runs", running)
	resize := func(cpu string, generation int64) {
		t.Helper()
		pod, err := n.pod("web")
		if err != nil {
			t.Fatal(err)
		}
		askFor(cpu)(pod)
		pod.Generation = generation
		if _, err := n.client.CoreV1().Pods("default").Update(context.Background(), pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	has := func(cpu, reason string) func(*v1.Pod) error {
		return func(pod *v1.Pod) error {
			c := pod.Status.ContainerStatuses[0]
			pending := status.FindCondition(pod.Status.Conditions, v1.PodResizePending)
			got := ""
			if pending != nil {
				got = pending.Reason
			}
			progress := status.FindCondition(pod.Status.Conditions, v1.PodResizeInProgress)
			if c.AllocatedResources.Cpu().String() != cpu || c.Resources.Requests.Cpu().String() != cpu || got != reason || progress != nil || c.RestartCount != 0 {
				return fmt.Errorf("allocated %v, resources %v, conditions %v", c.AllocatedResources, c.Resources, pod.Status.Conditions)
			}
			return nil
		}
	}
	n.wait("web", "what it asked for at first", has("100m", ""))
	resize("1000", 2)
	n.wait("web", "more than the node has is infeasible", has("100m", v1.PodReasonInfeasible))
	n.told("ResizeInfeasible") // before the stop: an event on its way ends with its process
	n.stop()
	n = startNode(t, over)
	n.client = client
	n.wait("web", "after a restart too", has("100m", v1.PodReasonInfeasible))
	resize("200m", 3)
	n.wait("web", "what the node has is granted", has("200m", ""))
	n.told("ResizeStarted", "ResizeCompleted")
}

// told waits for the events.
func (n *node) told(reasons ...string) {
	n.t.Helper()
	n.eventually("events", func() error {
		events, err := n.client.CoreV1().Events("default").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		var got []string
		for _, e := range events.Items {
			got = append(got, e.Reason)
		}
		for _, want := range reasons {
			if !slices.Contains(got, want) {
				return fmt.Errorf("no %s among %v", want, got)
			}
		}
		return nil
	})
}
