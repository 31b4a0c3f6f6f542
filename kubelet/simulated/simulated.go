// Package simulated is a container runtime that only keeps books: pods get an
// address and become Running, containers write a line to their log, and nothing
// runs. It needs no root and no Linux, and a thousand pods cost a few megabytes:
// for lessons about scheduling and controllers, for fake nodes, and for tests.
//
// It speaks CRI over a connection within the process, so that the kubelet in
// front of it is the same to the last line.
//
// How long a container "runs" follows from what it would run:
//
//	command                              outcome
//	sleep 5                              exit 0 after 5 s
//	true, false, exit 3                  exit 0, 1, 3 at once
//	echo hello                           "hello" in the log, exit 0
//	sh -c "echo a; sleep 2; exit 1"      these in turn
//	anything else, or the image's own    runs until it is stopped
//
// The pod's annotations say more: simulated.hyperkube.io/run-for: 10s and
// simulated.hyperkube.io/exit-code: "1" for its containers,
// simulated.hyperkube.io/run-sandbox: <message> for a sandbox that fails. An image
// whose tag is "missing" cannot be pulled.
//
// Invariant: state changes only under mu; a stopped container stays exited. Left
// out: exec, attach and port-forward, which have nothing to reach. The books are
// in memory: a kubelet that is started again starts its pods again.
//
// In Kubernetes: kubemark's hollow kubelet, and KWOK.
package simulated

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"
)

// Annotations of pods.
const (
	RunForAnnotation     = "simulated.hyperkube.io/run-for"
	ExitCodeAnnotation   = "simulated.hyperkube.io/exit-code"
	RunSandboxAnnotation = "simulated.hyperkube.io/run-sandbox"
)

// standaloneCIDR serves where no API gives the node one.
const standaloneCIDR = "10.88.0.0/16"

// Config of the runtime.
type Config struct {
	Clock clock.Clock
	// PodCIDR is where addresses come from until UpdateRuntimeConfig says otherwise;
	// empty: the network is not ready until then, unless Standalone.
	PodCIDR    string
	Standalone bool
	// OnCall sees each call, and fails it by returning an error: for tests.
	OnCall func(method string, request any) error
}

// Runtime is the simulated runtime. It is a CRI server.
type Runtime struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer
	cfg    Config
	server *grpc.Server
	pipe   *pipeListener

	mu         sync.Mutex
	addresses  *addresses
	sandboxes  map[string]*sandbox
	containers map[string]*container
	images     map[string]*runtimeapi.Image
	listeners  map[chan *runtimeapi.ContainerEventResponse]bool
	next       int
}

type sandbox struct {
	config  *runtimeapi.PodSandboxConfig
	status  *runtimeapi.PodSandboxStatus
	address net.IP
}

type container struct {
	config  *runtimeapi.ContainerConfig
	status  *runtimeapi.ContainerStatus
	sandbox *sandbox
	id      string
	podID   string
	stopped chan struct{} // closed by StopContainer
	done    chan struct{} // closed when it has exited
}

// Start makes a runtime and serves it to Dial. It ends with ctx or Stop.
func Start(ctx context.Context, cfg Config) (*Runtime, error) {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.PodCIDR == "" && cfg.Standalone {
		cfg.PodCIDR = standaloneCIDR
	}
	r := &Runtime{cfg: cfg, sandboxes: map[string]*sandbox{}, containers: map[string]*container{}, images: map[string]*runtimeapi.Image{},
		listeners: map[chan *runtimeapi.ContainerEventResponse]bool{}}
	if cfg.PodCIDR != "" {
		var err error
		if r.addresses, err = newAddresses(cfg.PodCIDR); err != nil {
			return nil, fmt.Errorf("simulated runtime: %w", err)
		}
	}
	r.pipe = newPipeListener()
	r.server = grpc.NewServer(grpc.UnaryInterceptor(r.Intercept))
	runtimeapi.RegisterRuntimeServiceServer(r.server, r)
	runtimeapi.RegisterImageServiceServer(r.server, r)
	go func() { _ = r.server.Serve(r.pipe) }()
	context.AfterFunc(ctx, r.Stop)
	return r, nil
}

// Dial connects to the runtime.
func (r *Runtime) Dial(ctx context.Context) (net.Conn, error) { return r.pipe.dial(ctx) }

// Stop ends the server and all simulated containers.
func (r *Runtime) Stop() {
	r.server.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		c.stop()
	}
}

func (c *container) stop() {
	select {
	case <-c.stopped:
	default:
		close(c.stopped)
	}
}

// Intercept shows each call to OnCall; for a server of another's too.
func (r *Runtime) Intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if r.cfg.OnCall != nil {
		if err := r.cfg.OnCall(info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:], request); err != nil {
			return nil, err
		}
	}
	return handle(ctx, request)
}

// Version says who this is.
func (r *Runtime) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "simulated", RuntimeVersion: "1.0", RuntimeApiVersion: "v1"}, nil
}

// Status says whether pods can have addresses yet.
func (r *Runtime) Status(context.Context, *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	network := &runtimeapi.RuntimeCondition{Type: runtimeapi.NetworkReady, Status: true}
	if r.addresses == nil {
		network.Status, network.Reason, network.Message = false, "NoPodCIDR", "the node has no pod CIDR yet: is the controller-manager running?"
	}
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{{Type: runtimeapi.RuntimeReady, Status: true}, network}}}, nil
}

// UpdateRuntimeConfig takes the node's pod CIDR.
func (r *Runtime) UpdateRuntimeConfig(_ context.Context, request *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	cidr, _, _ := strings.Cut(request.GetRuntimeConfig().GetNetworkConfig().GetPodCidr(), ",")
	pool, err := newAddresses(cidr)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.addresses == nil || r.addresses.network.String() != pool.network.String() {
		r.addresses = pool
	}
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}

func (r *Runtime) id(kind string) string {
	r.next++
	return fmt.Sprintf("%s%060x", kind, r.next)
}

// RunPodSandbox gives the pod an address.
func (r *Runtime) RunPodSandbox(_ context.Context, request *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	config := request.Config
	if message := config.Annotations[RunSandboxAnnotation]; message != "" {
		return nil, status.Error(codes.Unknown, message)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	s := &sandbox{config: config, status: &runtimeapi.PodSandboxStatus{
		Id: r.id("5a"), Metadata: config.Metadata, State: runtimeapi.PodSandboxState_SANDBOX_READY, CreatedAt: r.cfg.Clock.Now().UnixNano() + int64(r.next),
		Labels: config.Labels, Annotations: config.Annotations, RuntimeHandler: request.RuntimeHandler, Network: &runtimeapi.PodSandboxNetworkStatus{},
		Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: options}},
	}}
	if options.GetNetwork() != runtimeapi.NamespaceMode_NODE {
		if r.addresses == nil {
			return nil, status.Error(codes.FailedPrecondition, "the node has no pod CIDR yet")
		}
		var err error
		if s.address, err = r.addresses.take(); err != nil {
			return nil, status.Error(codes.ResourceExhausted, err.Error())
		}
		s.status.Network.Ip = s.address.String()
	}
	r.sandboxes[s.status.Id] = s
	r.tell(s, s.status.Id, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: s.status.Id}, nil
}

// StopPodSandbox ends what the pod has.
func (r *Runtime) StopPodSandbox(_ context.Context, request *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[request.PodSandboxId]; s != nil {
		r.stopSandbox(s)
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

func (r *Runtime) stopSandbox(s *sandbox) {
	for _, c := range r.containers {
		if c.podID == s.status.Id {
			r.exit(c, 137)
		}
	}
	if s.address != nil {
		r.addresses.free(s.address)
		s.address = nil
	}
	if s.status.State == runtimeapi.PodSandboxState_SANDBOX_READY {
		s.status.State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
		s.status.Network.Ip = ""
		r.tell(s, s.status.Id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	}
}

// RemovePodSandbox forgets the pod.
func (r *Runtime) RemovePodSandbox(_ context.Context, request *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[request.PodSandboxId]; s != nil {
		r.stopSandbox(s)
		for id, c := range r.containers {
			if c.podID == s.status.Id {
				delete(r.containers, id)
			}
		}
		delete(r.sandboxes, request.PodSandboxId)
	}
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

// CreateContainer writes a container into the books.
func (r *Runtime) CreateContainer(_ context.Context, request *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[request.PodSandboxId]
	if s == nil {
		return nil, status.Errorf(codes.NotFound, "sandbox %q not found", request.PodSandboxId)
	}
	id := r.id("c0")
	config := request.Config
	logPath := ""
	if config.LogPath != "" && request.GetSandboxConfig().GetLogDirectory() != "" {
		logPath = filepath.Join(request.SandboxConfig.LogDirectory, config.LogPath)
	}
	r.containers[id] = &container{config: config, sandbox: s, id: id, podID: request.PodSandboxId, stopped: make(chan struct{}), done: make(chan struct{}),
		status: &runtimeapi.ContainerStatus{
			Id: id, Metadata: config.Metadata, State: runtimeapi.ContainerState_CONTAINER_CREATED, CreatedAt: r.cfg.Clock.Now().UnixNano() + int64(r.next),
			Image: config.Image, ImageRef: "simulated://" + config.GetImage().GetImage(), Labels: config.Labels, Annotations: config.Annotations, Mounts: config.Mounts, LogPath: logPath,
			Resources: &runtimeapi.ContainerResources{Linux: config.GetLinux().GetResources()},
		}}
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}

// StartContainer begins the container's imagined life.
func (r *Runtime) StartContainer(_ context.Context, request *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.find(request.ContainerId)
	if err != nil {
		return nil, err
	}
	if c.status.State != runtimeapi.ContainerState_CONTAINER_CREATED {
		return nil, status.Errorf(codes.FailedPrecondition, "container %q is not in the created state", c.id)
	}
	c.status.State, c.status.StartedAt = runtimeapi.ContainerState_CONTAINER_RUNNING, r.cfg.Clock.Now().UnixNano()
	c.writeLog(r.cfg.Clock.Now(), fmt.Sprintf("simulated container %s of image %s started", c.config.GetMetadata().GetName(), c.status.Image.GetUserSpecifiedImage()))
	r.tell(c.sandbox, c.id, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	go r.live(c, planOf(c))
	return &runtimeapi.StartContainerResponse{}, nil
}

// live waits for the plan's end or for StopContainer.
func (r *Runtime) live(c *container, p plan) {
	code := int32(137)
	for _, line := range p.output {
		c.writeLog(r.cfg.Clock.Now(), line)
	}
	switch {
	case p.forever:
		<-c.stopped
		code = 0 // most servers end well when asked to
	case p.duration == 0:
		code = p.code
	default:
		select {
		case <-c.stopped:
		case <-r.cfg.Clock.After(p.duration):
			code = p.code
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exit(c, code)
}

// exit books the end of a container, once.
func (r *Runtime) exit(c *container, code int32) {
	c.stop()
	if c.status.State == runtimeapi.ContainerState_CONTAINER_EXITED {
		return
	}
	c.status.State, c.status.FinishedAt, c.status.ExitCode = runtimeapi.ContainerState_CONTAINER_EXITED, r.cfg.Clock.Now().UnixNano(), code
	c.status.Reason = "Completed"
	if code != 0 {
		c.status.Reason = "Error"
	}
	close(c.done)
	r.tell(c.sandbox, c.id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
}

// StopContainer ends a container; a simulated one obeys at once.
func (r *Runtime) StopContainer(ctx context.Context, request *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	r.mu.Lock()
	c, err := r.find(request.ContainerId)
	if err != nil {
		r.mu.Unlock()
		return nil, err
	}
	if c.status.State == runtimeapi.ContainerState_CONTAINER_CREATED {
		r.exit(c, 137)
	}
	c.stop()
	r.mu.Unlock()
	select {
	case <-c.done:
		return &runtimeapi.StopContainerResponse{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// RemoveContainer forgets a container.
func (r *Runtime) RemoveContainer(_ context.Context, request *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[request.ContainerId]; c != nil {
		r.exit(c, 137)
		delete(r.containers, request.ContainerId)
	}
	return &runtimeapi.RemoveContainerResponse{}, nil
}

func (r *Runtime) find(id string) (*container, error) {
	if c := r.containers[id]; c != nil {
		return c, nil
	}
	return nil, status.Errorf(codes.NotFound, "container %q not found", id)
}

// writeLog appends a line in CRI's format.
func (c *container) writeLog(now time.Time, line string) {
	if c.status.LogPath == "" {
		return
	}
	file, err := os.OpenFile(c.status.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return // its pod is being removed
	}
	defer file.Close()
	fmt.Fprintf(file, "%s stdout F %s\n", now.UTC().Format(time.RFC3339Nano), line)
}
