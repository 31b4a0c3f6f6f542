package cri

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Each metric has a descriptor, with as many labels, and what the kernel limits shows in it.
func TestMetricsSayWhatTheirDescriptorsPromise(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("p")
	pod := n.runPod(config)
	c := tools("wait")
	c.Linux = &runtimeapi.LinuxContainerConfig{Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuShares: 512}}
	id := n.run(pod, config, c)
	descriptors, err := n.ListMetricDescriptors(ctx, &runtimeapi.ListMetricDescriptorsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]int{}
	for _, d := range descriptors.Descriptors {
		if labels[d.Name] > 0 || d.Help == "" {
			t.Errorf("descriptor %v", d)
		}
		labels[d.Name] = len(d.LabelKeys)
	}
	metrics, err := n.ListPodSandboxMetrics(ctx, &runtimeapi.ListPodSandboxMetricsRequest{})
	if err != nil || len(metrics.PodMetrics) != 1 || len(metrics.PodMetrics[0].ContainerMetrics) != 1 || metrics.PodMetrics[0].ContainerMetrics[0].ContainerId != id {
		t.Fatalf("%v %v", metrics, err)
	}
	got := map[string]uint64{}
	for _, m := range append(metrics.PodMetrics[0].ContainerMetrics[0].Metrics, metrics.PodMetrics[0].Metrics...) {
		if labels[m.Name] == 0 || labels[m.Name] != len(m.LabelValues) {
			t.Errorf("%s has %d labels, its descriptor %d", m.Name, len(m.LabelValues), labels[m.Name])
		}
		got[m.Name] = m.Value.Value
	}
	if got["container_spec_memory_limit_bytes"] != 64<<20 || got["container_spec_cpu_shares"] != 512 || got["container_processes"] != 1 ||
		got["container_memory_working_set_bytes"] == 0 || got["container_threads"] == 0 || got["container_start_time_seconds"] == 0 {
		t.Errorf("%v", got)
	}
	if _, ok := got["container_network_receive_bytes_total"]; !ok {
		t.Error("nothing about the network")
	}
}

// What this runtime does not do, it refuses in words.
func TestWhatIsNotThereIsRefused(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("p")
	pod := n.runPod(config)
	id := n.run(pod, config, tools("wait"))
	_, err := n.CheckpointContainer(ctx, &runtimeapi.CheckpointContainerRequest{ContainerId: id, Location: "/x"})
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "CRIU") {
		t.Errorf("checkpoint: %v", err)
	}
	c := tools("wait")
	c.Metadata, c.Image = &runtimeapi.ContainerMetadata{Name: "d"}, &runtimeapi.ImageSpec{Image: "hyperkube.local/demo"}
	c.CDIDevices = []*runtimeapi.CDIDevice{{Name: "vendor.com/gpu=0"}}
	_, err = n.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: c, SandboxConfig: config})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "unresolvable CDI devices vendor.com/gpu=0") {
		t.Errorf("a CDI device that no file describes: %v", err)
	}
	c.CDIDevices = nil
	c.Mounts = []*runtimeapi.Mount{{HostPath: n.cfg.Root, ContainerPath: "/x", RecursiveReadOnly: true}}
	if _, err = n.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: c, SandboxConfig: config}); err == nil || !strings.Contains(err.Error(), "recursively read-only") {
		t.Errorf("recursively read-only, but not read-only: %v", err)
	}
	c.Mounts, c.Linux = nil, &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{RunAsGroup: &runtimeapi.Int64Value{Value: 5}}}
	if _, err = n.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: c, SandboxConfig: config}); err == nil || !strings.Contains(err.Error(), "run_as_group") {
		t.Errorf("a group without a user: %v", err)
	}
}
