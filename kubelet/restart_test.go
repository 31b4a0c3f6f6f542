package kubelet

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"hyperkube/kubelet/remote"
	"hyperkube/kubelet/simulated"
)

// criServer is a runtime behind a unix socket that outlives the kubelet, and
// writes down what is asked of it.
type criServer struct {
	socket string
	mu     sync.Mutex
	calls  []string
}

func startCRI(t *testing.T) *criServer {
	t.Helper()
	s := &criServer{socket: filepath.Join(t.TempDir(), "cri.sock")}
	ctx, cancel := context.WithCancel(context.Background())
	books, err := simulated.Start(ctx, simulated.Config{PodCIDR: "10.244.0.0/24", OnCall: func(method string, request any) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch r := request.(type) {
		case *runtimeapi.CreateContainerRequest:
			s.calls = append(s.calls, method+" "+r.Config.Metadata.Name)
		case *runtimeapi.RunPodSandboxRequest, *runtimeapi.StartContainerRequest, *runtimeapi.StopContainerRequest, *runtimeapi.StopPodSandboxRequest,
			*runtimeapi.UpdateRuntimeConfigRequest:
			s.calls = append(s.calls, method)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(books.Intercept))
	runtimeapi.RegisterRuntimeServiceServer(server, books)
	runtimeapi.RegisterImageServiceServer(server, books)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); cancel(); books.Stop() })
	return s
}

func (s *criServer) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.calls...)
}

// The runtime is told the pod CIDR once, also when the answer to a status patch has
// brought it before the watch did: otherwise the node would never be Ready.
func TestRuntimeIsToldThePodCIDR(t *testing.T) {
	server := startCRI(t)
	connection, err := remote.Connect("unix://"+server.socket, klog.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	kl := &Kubelet{runtime: connection}
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	kl.nodeChanged(t.Context(), node)
	withCIDR := node.DeepCopy()
	withCIDR.Spec.PodCIDR = "10.244.0.0/24"
	kl.state.setNode(withCIDR) // the answer to a patch
	kl.nodeChanged(t.Context(), withCIDR)
	kl.nodeChanged(t.Context(), withCIDR)
	told := 0
	for _, call := range server.seen() {
		if strings.HasSuffix(call, "UpdateRuntimeConfig") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times: %v", told, server.seen())
	}
}

// R24: what is asked of the runtime for a pod with an init container, in order.
// R71: the next kubelet finds what runs and asks for nothing.
func TestCallsToTheRuntimeAndAdoption(t *testing.T) {
	cri := startCRI(t)
	client := fake.NewClientset()
	over := func(c *Config) {
		c.ContainerRuntime, c.RuntimeEndpoint, c.Client = "remote", "unix://"+cri.socket, client
	}
	n := startNode(t, over)
	n.client = client
	n.create(newPod("web", func(pod *v1.Pod) {
		pod.Spec.InitContainers = []v1.Container{{Name: "init", Image: "i", Command: []string{"true"}}}
	}))
	pod := n.wait("web", "runs", running)
	want := []string{"RunPodSandbox", "CreateContainer init", "StartContainer", "CreateContainer main", "StartContainer"}
	if got := cri.seen(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("calls %v, want %v", got, want)
	}
	n.stop()
	second := startNode(t, over)
	second.client = client
	second.eventually("the second kubelet knows the pod", func() error {
		for _, p := range second.kl.GetPods() {
			return running(p)
		}
		return fmt.Errorf("no pods")
	})
	again := second.wait("web", "still runs", running)
	if got := cri.seen(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the second kubelet changed something: calls %v", got)
	}
	if again.Status.ContainerStatuses[0].ContainerID != pod.Status.ContainerStatuses[0].ContainerID || again.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("container %+v became %+v", pod.Status.ContainerStatuses[0], again.Status.ContainerStatuses[0])
	}
}

// Start and stop many times in one process: nothing is left running.
func TestNoGoroutineIsLeft(t *testing.T) {
	run := func() {
		n := startNode(t, nil)
		n.eventually("node is ready", func() error { return n.kl.state.readyError() })
		n.stop()
	}
	run()
	before := settled()
	for range 10 {
		run()
	}
	after := runtime.NumGoroutine()
	for end := time.Now().Add(time.Minute); after > before+5 && time.Now().Before(end); after = runtime.NumGoroutine() {
		time.Sleep(5 * time.Millisecond) // what has been told to end ends when a busy machine lets it
	}
	if after > before+5 {
		buffer := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after\n%s", before, after, buffer[:runtime.Stack(buffer, true)])
	}
}

// settled waits until the number of goroutines stands still.
func settled() int {
	last, same := runtime.NumGoroutine(), 0
	for i := 0; i < 500 && same < 20; i++ {
		time.Sleep(5 * time.Millisecond)
		now := runtime.NumGoroutine()
		if now == last {
			same++
		} else {
			last, same = now, 0
		}
	}
	return last
}
