package cri

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/klog/v2"

	"hyperkube/cri/cgroups"
	"hyperkube/cri/embedded"
	"hyperkube/cri/images"
	"hyperkube/cri/network"
	"hyperkube/cri/podparent"
)

// CRI is the container runtime of one node: the two services of the Container
// Runtime Interface on a socket.
//
// What it knows, it knows from the disk: a sandbox is a directory, a container a
// directory in it, and what runs is in the hands of each pod's parent process.
// The maps here are a copy, made anew at each start.
type CRI struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	cfg        Config
	cgroups    *cgroups.Host
	images     *images.Store
	network    *network.Network
	parentExe  string // the program that is a pod's parent
	noUserNS   error  // why pods cannot have user namespaces of their own; nil if they can
	streams    streaming.Server
	webSockets *webSockets
	events     *broadcaster
	meter      *meter

	mu         sync.RWMutex
	sandboxes  map[string]*sandbox
	containers map[string]*container

	// life ends with Run. Work that outlives a call, such as watching a pod's parent, ends with it.
	life    context.Context
	workers sync.WaitGroup
}

// New prepares the runtime's directories and looks at what the host can do.
func New(cfg Config) (*CRI, error) {
	cfg.complete()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("cri: %w", err)
	}
	if os.Getuid() != 0 {
		return nil, errors.New("cri: containers need root: run with sudo, or use --container-runtime=simulated")
	}
	if cfg.SelfExe == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cfg.SelfExe = exe
	}
	c := &CRI{cfg: cfg, events: newBroadcaster(), sandboxes: map[string]*sandbox{}, containers: map[string]*container{}}
	if err := os.MkdirAll(c.podsDir(), 0o711); err != nil {
		return nil, err
	}
	var err error
	if c.cgroups, err = cgroups.Detect(); err != nil {
		return nil, fmt.Errorf("cri: %w", err)
	}
	c.network, err = network.New(network.Config{ConfDir: cfg.CNIConfDir, BinDir: cfg.CNIBinDir, DataDir: cfg.networkDir(),
		SelfExe: cfg.SelfExe, Bridge: cfg.Bridge, ClusterCIDR: cfg.ClusterCIDR})
	if err != nil {
		return nil, fmt.Errorf("cri: network: %w", err)
	}
	c.meter, err = newMeter(cfg.Metrics)
	return c, err
}

func (c *CRI) podsDir() string  { return filepath.Join(c.cfg.Root, "pods") }
func (c *CRI) imageDir() string { return filepath.Join(c.cfg.Root, "images") }

// Run serves until ctx ends:
//
//	Step 1: the small programs, and the image store with what is always in it.
//	Step 2: adopt the pods of a former life.
//	Step 3: serve streams (exec, attach, port-forward) and the CRI socket.
//	Step 4: at the end, stop serving. Containers go on: only StopPodSandbox ends them.
func (c *CRI) Run(ctx context.Context) error {
	log := klog.FromContext(ctx)
	life, end := context.WithCancel(ctx)
	defer c.workers.Wait()
	defer end()
	c.life = life
	for _, missing := range c.cgroups.Missing() {
		log.Info("this host has no such cgroup controller: its limits are off", "controller", missing)
	}
	// Step 1
	if err := c.prepareImages(ctx); err != nil {
		return fmt.Errorf("cri: %w", err)
	}
	// Step 2
	if err := c.adopt(ctx); err != nil {
		return fmt.Errorf("cri: adopting pods: %w", err)
	}
	if err := c.network.SetPodCIDR(c.cfg.PodCIDR); err != nil {
		return fmt.Errorf("cri: %w", err)
	}
	// Step 3
	stopStreams, err := c.serveStreams()
	if err != nil {
		return fmt.Errorf("cri: stream server: %w", err)
	}
	defer stopStreams()
	listener, err := listenUnix(c.cfg.Socket)
	if err != nil {
		return fmt.Errorf("cri: %w", err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.UnaryInterceptor(c.observe(log)))
	runtimeapi.RegisterRuntimeServiceServer(server, c)
	runtimeapi.RegisterImageServiceServer(server, c)
	server.RegisterService(&loadService, c)
	c.cfg.Health.Add("cri", func(context.Context) error { return dialable(c.cfg.Socket) })
	log.Info("Serving CRI", "socket", c.cfg.Socket, "pods", len(c.sandboxes), "cgroupV2", c.cgroups.V2())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("cri: %w", err)
	case <-ctx.Done():
	}
	// Step 4
	end() // open event streams end with life; otherwise the orderly stop would wait for them
	orderly := time.AfterFunc(stopPatience, server.Stop)
	defer orderly.Stop()
	server.GracefulStop()
	<-served
	return nil
}

const (
	maxMessage   = 16 << 20        // as kubelet and crictl allow
	stopPatience = 2 * time.Second // for calls that are under way at the end
)

// prepareImages opens the image store and fills in what is always there.
func (c *CRI) prepareImages(ctx context.Context) error {
	log := klog.FromContext(ctx)
	driver, reason, err := images.Probe(c.imageDir())
	if err != nil {
		return err
	}
	if driver == images.Copy {
		log.Info("Root filesystems are copied, which is slower: overlay does not work here", "directory", c.imageDir(), "reason", reason)
	}
	if c.images, err = images.Open(c.imageDir(), driver, c.layersInUse); err != nil {
		return fmt.Errorf("image store: %w", err)
	}
	registries := func() (*images.Registries, error) {
		return images.LoadRegistries(c.cfg.Registries, c.cfg.RegistryMirrors)
	}
	if _, err := registries(); err != nil {
		return fmt.Errorf("registries: %w", err)
	}
	c.images.UseRegistries(registries)
	bin := filepath.Join(c.cfg.Root, "bin")
	parent, ok, err := embedded.Install("podparent", bin)
	if err != nil {
		return err
	}
	if c.parentExe = parent; !ok {
		c.parentExe = c.cfg.SelfExe
	}
	if c.noUserNS = podparent.ProbeUserNamespaces(c.parentExe, c.images.LayersDir()); c.noUserNS != nil {
		log.Info("Pods cannot have user namespaces of their own here (hostUsers: false)", "reason", c.noUserNS)
	}
	if err := c.ensureDemo(ctx, bin); err != nil && ctx.Err() == nil {
		// Other images work without it.
		log.Error(err, "The demo image cannot be made")
	}
	if c.cfg.ImagesDir != "" {
		loaded, err := c.images.LoadDir(c.cfg.ImagesDir)
		if err != nil {
			log.Error(err, "Some image archives could not be loaded")
		}
		for _, img := range loaded {
			log.Info("Loaded image", "image", img.Tags, "id", img.ID)
		}
	}
	return nil
}

// ensureDemo makes the demo image of the box program, which says itself what it is.
func (c *CRI) ensureDemo(ctx context.Context, bin string) error {
	box := c.cfg.Box
	if box == "" {
		installed, ok, err := embedded.Install("box", bin)
		if err != nil {
			return err
		}
		if box = installed; !ok {
			box = c.cfg.SelfExe
		}
	}
	list := exec.CommandContext(ctx, box, "--list")
	list.Args[0] = "box"
	names, err := list.Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", box, err)
	}
	return c.images.EnsureDemo(box, strings.Fields(string(names)))
}

// serveStreams starts the server that the kubelet is sent to for exec, attach
// and port-forward. It is reachable on loopback only; its addresses hold a token
// that is good for one use.
func (c *CRI) serveStreams() (stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	config := streaming.DefaultConfig
	config.BaseURL = &url.URL{Scheme: "http", Host: listener.Addr().String()}
	if c.streams, err = streaming.NewServer(config, &streamRuntime{c}); err != nil {
		listener.Close()
		return nil, err
	}
	c.webSockets = &webSockets{runtime: &streamRuntime{c}, next: c.streams}
	server := &http.Server{Handler: c.webSockets}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	return func() {
		server.Close()
		<-ended
	}, nil
}

// listenUnix makes the socket. One that nobody listens on is left over, and replaced.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if dialable(path) == nil {
		return nil, fmt.Errorf("another runtime serves on %s: stop it, or use another --data-dir", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return listener, os.Chmod(path, 0o660)
}

func dialable(path string) error {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
	}
	return err
}

// work runs something that outlives the call that asked for it.
func (c *CRI) work(f func()) {
	c.workers.Add(1)
	go func() {
		defer c.workers.Done()
		f()
	}()
}

// loggable is an error without the text where that may quote a command, into which values of Secrets may
// have come: whoever called gets the text.
func loggable(call string, err error) any {
	switch call {
	case "CreateContainer", "StartContainer", "ExecSync", "Exec":
		return status.Code(err).String()
	}
	return err
}

// observe measures each call, and logs it: failures always, others at level 4.
func (c *CRI) observe(log klog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		start := time.Now()
		name := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
		resp, err := handler(klog.NewContext(ctx, log), req)
		err = grpcError(err)
		c.meter.observe(name, start, err)
		if err != nil {
			log.Info("Call failed", "call", name, "duration", time.Since(start), "err", loggable(name, err))
		} else {
			log.V(4).Info("Call", "call", name, "duration", time.Since(start))
		}
		return resp, err
	}
}
