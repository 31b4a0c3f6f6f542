package kubelet

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	apipod "hyperkube/api/core/pod"
	"hyperkube/kubelet/cm"
	"hyperkube/kubelet/eviction"
	"hyperkube/kubelet/images"
	"hyperkube/kubelet/nodeshutdown"
)

func quantities(words ...string) v1.ResourceList {
	list := v1.ResourceList{}
	for i := 0; i < len(words); i += 2 {
		list[v1.ResourceName(words[i])] = resource.MustParse(words[i+1])
	}
	return list
}

// What pods may ask for: not what is reserved, nor what has to be left.
func TestAllocatable(t *testing.T) {
	capacity := quantities("cpu", "4", "memory", "4Gi", "ephemeral-storage", "100Gi", "pods", "110")
	for _, c := range []struct {
		name string
		room Room
		want string
	}{
		{"defaults", Room{}, "4 3996Mi 99Gi 110"},
		{"reserved", Room{KubeReserved: quantities("cpu", "500m", "memory", "1Gi"), SystemReserved: quantities("cpu", "500m", "ephemeral-storage", "9Gi")}, "3 2972Mi 90Gi 110"},
		{"upstream's thresholds", Room{Thresholds: eviction.Thresholds{Hard: map[string]string{"memory.available": "100Mi", "nodefs.available": "10%", "imagefs.available": "15%"}}}, "4 3996Mi 90Gi 110"},
		{"none", Room{Thresholds: eviction.Thresholds{Hard: map[string]string{}}}, "4 4Gi 100Gi 110"},
		{"more than there is", Room{SystemReserved: quantities("memory", "5Gi")}, "4 0 99Gi 110"},
	} {
		if err := c.room.validate(); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		a := c.room.allocatable(capacity)
		if got := fmt.Sprint(a.Cpu(), " ", a.Memory(), " ", a.StorageEphemeral(), " ", a.Pods()); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	capacity = quantities("cpu", "4", "memory", "4Gi", "hugepages-2Mi", "1Gi", "hugepages-1Gi", "2Gi")
	room := Room{}
	if err := room.validate(); err != nil {
		t.Fatal(err)
	}
	if a := room.allocatable(capacity); fmt.Sprint(a.Memory(), " ", a.Name("hugepages-2Mi", "")) != "924Mi 1Gi" {
		t.Errorf("what is set aside for huge pages is memory too: %v", a)
	}
	for _, room := range []Room{{ContainerLogMaxFiles: 1}, {Thresholds: eviction.Thresholds{Hard: map[string]string{"x": "1"}}}, {Images: images.GCPolicy{HighThresholdPercent: 50, LowThresholdPercent: 60}}} {
		if err := room.validate(); err == nil {
			t.Errorf("%+v was accepted", room)
		}
	}
}

// enforceNodeAllocatable: what all pods together may use, at the cgroup above theirs.
func TestPodsLimits(t *testing.T) {
	capacity := quantities("cpu", "4", "memory", "4Gi")
	for _, c := range []struct {
		room Room
		want cm.Limits
	}{
		{Room{}, cm.Limits{CPUShares: 4096, Memory: 4 << 30}},
		{Room{KubeReserved: quantities("cpu", "500m", "memory", "1Gi"), SystemReserved: quantities("cpu", "500m")}, cm.Limits{CPUShares: 3072, Memory: 3 << 30}},
		{Room{SystemReserved: quantities("memory", "5Gi")}, cm.Limits{CPUShares: 4096, Memory: -1}},
		{Room{NoEnforcement: true, SystemReserved: quantities("memory", "1Gi")}, cm.Limits{CPUShares: 1024, Memory: -1}},
	} {
		if got := c.room.podsLimits(capacity); got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.room, got, c.want)
		}
	}
}

// A shortage is told in the node's condition, with numbers and a remedy (R64).
func TestNodeConditionsOfPressure(t *testing.T) {
	conditions := nodeConditions(nil, func(kind v1.NodeConditionType) (string, bool) {
		return "nodefs.available is 1Mi of 1Gi", kind == v1.NodeDiskPressure
	})
	for _, c := range conditions {
		want := map[v1.NodeConditionType]string{
			v1.NodeMemoryPressure: "False KubeletHasSufficientMemory kubelet has sufficient memory available",
			v1.NodeDiskPressure:   "True KubeletHasDiskPressure kubelet has disk pressure: nodefs.available is 1Mi of 1Gi",
			v1.NodePIDPressure:    "False KubeletHasSufficientPID kubelet has sufficient PID available",
			v1.NodeReady:          "True KubeletReady kubelet is posting ready status",
		}[c.Type]
		if got := fmt.Sprint(c.Status, " ", c.Reason, " ", c.Message); got != want {
			t.Errorf("%s: %q, want %q", c.Type, got, want)
		}
	}
}

// What scrapers read: the metrics server needs the node's and each container's CPU
// and memory, with the time of the measurement (KEP-727).
func TestMetricsOfPods(t *testing.T) {
	n := startNode(t, nil)
	n.create(newPod("web", nil))
	n.wait("web", "runs", running)
	read := func(path string) string {
		t.Helper()
		handler := n.kl.ResourceMetrics()
		if path == "cadvisor" {
			handler = n.kl.CadvisorMetrics()
		}
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequestWithContext(context.Background(), "GET", "/", nil))
		body, err := io.ReadAll(recorder.Body)
		if err != nil || recorder.Code != 200 {
			t.Fatalf("%s: %d, %v: %s", path, recorder.Code, err, body)
		}
		return string(body)
	}
	for path, wants := range map[string][]string{
		"resource": {`(?m)^node_cpu_usage_seconds_total \S+ \d{13}$`, `(?m)^node_memory_working_set_bytes [1-9]\S* \d{13}$`,
			`(?m)^container_cpu_usage_seconds_total\{container="main",namespace="default",pod="web"\} \S+ \d{13}$`,
			`(?m)^container_memory_working_set_bytes\{container="main",namespace="default",pod="web"\} \S+ \d{13}$`,
			`(?m)^container_start_time_seconds\{container="main",namespace="default",pod="web"\} [1-9]`,
			`(?m)^pod_cpu_usage_seconds_total\{namespace="default",pod="web"\}`, `(?m)^resource_scrape_error 0$`},
		"cadvisor": {`container_memory_working_set_bytes\{container="main",image="example.com/app:v1",namespace="default",pod="web"\}`,
			`container_cpu_usage_seconds_total\{container="main",cpu="total",`, `(?m)^machine_cpu_cores [1-9]`},
	} {
		text := read(path)
		for _, want := range wants {
			if !regexp.MustCompile(want).MatchString(text) {
				t.Errorf("%s lacks %s:\n%s", path, want, text)
			}
		}
	}
	if text := read("resource"); strings.Contains(text, "machine_cpu_cores") {
		t.Error("the metrics server's answer holds more than it asks for")
	}
}

// logind is one that shuts the machine down when the test says so.
type logind struct {
	shutdowns chan bool
	released  chan struct{}
}

func (l logind) MaxDelay() (time.Duration, error)  { return time.Minute, nil }
func (l logind) RaiseMaxDelay(time.Duration) error { return nil }
func (l logind) Inhibit() (func(), error)          { return func() { close(l.released) }, nil }
func (l logind) Shutdowns() (<-chan bool, error)   { return l.shutdowns, nil }
func (l logind) Close()                            {}

// A machine that shuts down: the node is not Ready and says why, its pods end and say
// why, the next pod is refused, and the machine may go on (KEP-2000).
func TestMachineShutsDown(t *testing.T) {
	l := logind{make(chan bool), make(chan struct{})}
	n := startNode(t, func(c *Config) {
		c.Shutdown = []nodeshutdown.GracePeriod{{Priority: 0, Period: 30 * time.Second}}
		c.Logind = func(context.Context) (nodeshutdown.Inhibitor, error) { return l, nil }
	})
	n.create(newPod("web", nil))
	n.wait("web", "it runs", running)
	l.shutdowns <- true
	// Simulated servers end well when they are asked to; what fails is Failed, see the manager's test.
	pod := n.wait("web", "it has ended", phase(v1.PodSucceeded))
	if pod.Status.Reason != "Terminated" || pod.Status.Message != "Pod was terminated in response to imminent node shutdown." {
		t.Errorf("it says %q %q", pod.Status.Reason, pod.Status.Message)
	}
	if _, c := apipod.GetPodCondition(&pod.Status, v1.DisruptionTarget); c == nil || c.Status != v1.ConditionTrue || c.Reason != "TerminationByKubelet" {
		t.Errorf("DisruptionTarget: %+v", c)
	}
	<-l.released
	n.eventually("the node is not ready", func() error {
		node, err := n.client.CoreV1().Nodes().Get(context.Background(), "n1", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if ready := nodeCondition(node.Status, v1.NodeReady); ready == nil || ready.Status != v1.ConditionFalse || ready.Reason != "KubeletNotReady" || ready.Message != "node is shutting down" {
			return fmt.Errorf("%+v", ready)
		}
		return nil
	})
	n.create(newPod("late", nil))
	late := n.wait("late", "it is refused", phase(v1.PodFailed))
	if late.Status.Reason != "NodeShutdown" || late.Status.Message != "Pod was rejected: Pod was rejected as the node is shutting down." {
		t.Errorf("it says %q %q", late.Status.Reason, late.Status.Message)
	}
	n.stop() // the second release would panic: it is called once
}
