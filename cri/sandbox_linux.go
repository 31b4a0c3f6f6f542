package cri

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"hyperkube/cri/network"
	"hyperkube/cri/podparent"
)

// RunPodSandbox makes a pod's surroundings:
//
//	Step 1: write down that it is being made: whatever happens, it will be found.
//	Step 2: the pod's cgroup, if the kubelet has not made it, and one for the parent.
//	Step 3: the files that all its containers share: resolv.conf, hostname, /dev/shm.
//	Step 4: the parent process, in the pod's namespaces.
//	Step 5: the network.
//	Step 6: write down that it is ready.
//
// No image is needed: the parent holds the namespaces, where other runtimes
// run a pause container.
func (c *CRI) RunPodSandbox(ctx context.Context, req *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	config := req.GetConfig()
	if config.GetMetadata().GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "the sandbox has no name")
	}
	if req.RuntimeHandler != "" {
		return nil, status.Errorf(codes.InvalidArgument, "no runtime for handler %q is configured: this runtime has one, without a name", req.RuntimeHandler)
	}
	if err := c.checkUserNamespace(config.GetLinux().GetSecurityContext().GetNamespaceOptions()); err != nil {
		return nil, err
	}
	s := &sandbox{id: newID()}
	s.dir = filepath.Join(c.podsDir(), s.id)
	s.parent = podparent.Client{Dir: s.dir}
	s.rec = sandboxRecord{Config: config, CreatedAt: time.Now().UnixNano(), Phase: creating, Cgroup: config.GetLinux().GetCgroupParent()}
	if s.rec.Cgroup == "" {
		s.rec.Cgroup = filepath.Join(c.cfg.CgroupRoot, "pods", s.id)
	}
	s.op.Lock()
	defer s.op.Unlock()
	err := c.makeSandbox(ctx, s)
	if err == nil {
		err = ctx.Err() // who asked has gone: nobody would know of it
	}
	if err != nil {
		// Undo everything; what cannot be undone now, the scan at the next start will.
		if undo := c.takeApart(context.WithoutCancel(ctx), s); undo == nil {
			os.RemoveAll(s.dir)
		}
		return nil, fmt.Errorf("pod sandbox %s/%s: %w", config.Metadata.Namespace, config.Metadata.Name, err)
	}
	c.mu.Lock()
	c.sandboxes[s.id] = s
	c.mu.Unlock()
	c.work(func() { c.watchParent(s) })
	c.publish(s, s.id, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	c.publish(s, s.id, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: s.id}, nil
}

func (c *CRI) makeSandbox(ctx context.Context, s *sandbox) error {
	// Step 1
	if err := os.MkdirAll(filepath.Join(s.dir, podparent.ContainersDir), 0o711); err != nil {
		return err
	}
	s.rec.OwnCgroup = !c.cgroups.Exists(s.rec.Cgroup)
	if err := s.save(); err != nil {
		return err
	}
	// Step 2
	own := s.parentCgroup()
	if err := c.cgroups.Create(own); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	if s.rec.OwnCgroup {
		if err := c.cgroups.Apply(s.rec.Cgroup, limits(s.rec.Config.GetLinux().GetResources())); err != nil {
			return fmt.Errorf("cgroup of the pod: %w", err)
		}
	}
	// Step 3
	if err := makeSharedFiles(s); err != nil {
		return err
	}
	// Step 4
	pid, err := podparent.Launch(ctx, c.parentExe, s.dir, c.podSpec(s))
	if err != nil {
		return err
	}
	s.rec.ParentPid = pid
	// Step 5
	if !hostNetwork(s.rec.Config) {
		if err := c.connect(ctx, s); err != nil {
			return fmt.Errorf("network: %w", err)
		}
	}
	// Step 6
	return s.update(func(r *sandboxRecord) { r.Phase = ready })
}

// connect gives the pod its interface, addresses, and the bandwidth that its annotations leave it.
func (c *CRI) connect(ctx context.Context, s *sandbox) (err error) {
	pod := s.pod()
	if pod.Bandwidth, err = network.ParseBandwidth(s.rec.Config.GetAnnotations()); err != nil {
		return err
	}
	s.rec.IPs, err = c.network.Add(ctx, pod)
	return err
}

// parentCgroup is where the pod's parent process lives: beside its containers,
// so that its memory counts as the pod's.
func (s *sandbox) parentCgroup() string { return filepath.Join(s.rec.Cgroup, s.id) }

func (c *CRI) podSpec(s *sandbox) *podparent.PodSpec {
	config := s.rec.Config
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	spec := &podparent.PodSpec{
		ID:          s.id,
		Hostname:    s.hostname(),
		HostNetwork: hostNetwork(config),
		HostIPC:     options.GetIpc() == runtimeapi.NamespaceMode_NODE,
		SharePID:    options.GetPid() == runtimeapi.NamespaceMode_POD,
		Cgroup:      c.cgroups.Dirs(s.parentCgroup()),
		Sysctls:     map[string]string{},
	}
	spec.UIDs, spec.GIDs = s.idMaps()
	if !spec.HostNetwork {
		// Containers need no capability to listen on low ports and to ping: the network is theirs alone.
		spec.Sysctls["net.ipv4.ip_unprivileged_port_start"] = "0"
		spec.Sysctls["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	maps.Copy(spec.Sysctls, config.GetLinux().GetSysctls())
	return spec
}

func hostNetwork(config *runtimeapi.PodSandboxConfig) bool {
	return config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE
}

func hostIPC(config *runtimeapi.PodSandboxConfig) bool {
	return config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetIpc() == runtimeapi.NamespaceMode_NODE
}

// hostname is the pod's; with the node's network, also the node's name.
func (s *sandbox) hostname() string {
	name := s.rec.Config.GetHostname()
	if name == "" || hostNetwork(s.rec.Config) {
		name, _ = os.Hostname()
	}
	return name
}

// pod is what the network needs to know.
func (s *sandbox) pod() *network.Pod {
	config := s.rec.Config
	p := &network.Pod{ID: s.id, Name: config.Metadata.Name, Namespace: config.Metadata.Namespace, UID: config.Metadata.Uid,
		NetNS: "/proc/" + strconv.Itoa(s.rec.ParentPid) + "/ns/net"}
	for _, m := range config.PortMappings {
		if m.HostPort > 0 {
			p.Ports = append(p.Ports, network.PortMapping{HostPort: m.HostPort, ContainerPort: m.ContainerPort,
				Protocol: strings.ToLower(m.Protocol.String()), HostIP: m.HostIp})
		}
	}
	return p
}

func (s *sandbox) shm() string        { return filepath.Join(s.dir, "shm") }
func (s *sandbox) resolvConf() string { return filepath.Join(s.dir, "resolv.conf") }
func (s *sandbox) hostsName() string  { return filepath.Join(s.dir, "hostname") }

// makeSharedFiles makes what the pod's containers have in common.
func makeSharedFiles(s *sandbox) error {
	if err := os.WriteFile(s.hostsName(), []byte(s.hostname()+"\n"), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(s.resolvConf(), resolvConf(s.rec.Config.GetDnsConfig()), 0o644); err != nil {
		return err
	}
	if hostIPC(s.rec.Config) {
		return nil
	}
	if err := os.MkdirAll(s.shm(), 0o1777); err != nil {
		return err
	}
	if err := unix.Mount("shm", s.shm(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=67108864"); err != nil {
		return fmt.Errorf("mounting %s: %w", s.shm(), err)
	}
	return s.giveToRoot(s.shm())
}

// resolvConf writes a DNS configuration; without one, it is the node's.
func resolvConf(dns *runtimeapi.DNSConfig) []byte {
	if len(dns.GetServers())+len(dns.GetSearches())+len(dns.GetOptions()) == 0 {
		data, _ := os.ReadFile("/etc/resolv.conf")
		return data
	}
	var b strings.Builder
	if len(dns.Searches) > 0 {
		b.WriteString("search " + strings.Join(dns.Searches, " ") + "\n")
	}
	for _, server := range dns.Servers {
		b.WriteString("nameserver " + server + "\n")
	}
	if len(dns.Options) > 0 {
		b.WriteString("options " + strings.Join(dns.Options, " ") + "\n")
	}
	return []byte(b.String())
}

// StopPodSandbox ends everything that runs in a sandbox, and gives back what it
// holds of the node. It may be repeated.
func (c *CRI) StopPodSandbox(ctx context.Context, req *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	s, err := c.findSandbox(req.PodSandboxId)
	if status.Code(err) == codes.NotFound {
		return &runtimeapi.StopPodSandboxResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	s.op.Lock()
	defer s.op.Unlock()
	if err := c.stopSandbox(ctx, s); err != nil {
		return nil, err
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

// stopSandbox is StopPodSandbox with op held.
func (c *CRI) stopSandbox(ctx context.Context, s *sandbox) error {
	if s.phase() == stopped {
		return nil
	}
	s.expectEnd(true)
	if err := c.takeApart(ctx, s); err != nil {
		s.expectEnd(false)
		if _, alive, _ := s.parent.State(); !alive && s.phase() == ready {
			c.parentDied(s) // the watch has ended without a word, as this was expected
		}
		return fmt.Errorf("stopping pod sandbox %s: %w", s.id, err)
	}
	if err := s.update(func(r *sandboxRecord) { r.Phase = stopped }); err != nil {
		return err
	}
	for _, k := range c.containersOf(s) {
		if k.settle(s) { // the watch had not told yet
			c.publish(s, k.id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
		}
	}
	c.publish(s, s.id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	return nil
}

// takeApart gives back all that a sandbox holds of the node, in the reverse
// order of making. Each step may have been done before, by us or by a former life.
func (c *CRI) takeApart(ctx context.Context, s *sandbox) error {
	var errs []error
	// The network first: plugins want to see the namespace, which the parent holds.
	if !hostNetwork(s.rec.Config) {
		errs = append(errs, c.network.Del(ctx, s.pod()))
	}
	errs = append(errs, c.endParent(ctx, s))
	if err := unix.Unmount(s.shm(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		errs = append(errs, fmt.Errorf("unmounting %s: %w", s.shm(), err))
	}
	for _, k := range c.containersOf(s) {
		errs = append(errs, c.cgroups.Remove(k.rec.Cgroup))
	}
	errs = append(errs, c.cgroups.Remove(s.parentCgroup()))
	if s.rec.OwnCgroup {
		c.cgroups.RemoveEmpty(s.rec.Cgroup, c.cfg.CgroupRoot)
	}
	return errors.Join(errs...)
}

// endParent has the parent kill its containers and end. If it does not answer,
// it is killed, and its containers by their cgroups.
func (c *CRI) endParent(ctx context.Context, s *sandbox) error {
	state, alive, err := s.parent.State()
	if err != nil || !alive {
		return nil // never started, or dead: its containers go with their cgroups
	}
	patience, cancel := context.WithTimeout(ctx, parentPatience)
	defer cancel()
	if err := s.parent.Stop(patience); err != nil {
		klog.FromContext(ctx).Info("The pod's parent does not answer and is killed", "pod", klog.KRef(s.rec.Config.Metadata.Namespace, s.rec.Config.Metadata.Name), "err", err)
		if _, alive, _ = s.parent.State(); alive {
			unix.Kill(state.Pid, unix.SIGKILL)
		}
	}
	return waitGone(ctx, s)
}

// parentPatience is how long a parent may take to kill its containers and wait
// for the rest of their output.
const parentPatience = 10 * time.Second

// waitGone waits for the parent's end. It is not our child: its pid is looked at.
func waitGone(ctx context.Context, s *sandbox) error {
	state, alive, _ := s.parent.State()
	if !alive {
		return nil
	}
	fd, err := unix.PidfdOpen(state.Pid, 0)
	if err != nil {
		return nil // gone
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(parentPatience)
	for {
		// A pidfd is readable when its process has ended.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the pod's parent (pid %d) does not end", state.Pid)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// RemovePodSandbox removes a sandbox with its containers. One that is not there
// is removed already.
func (c *CRI) RemovePodSandbox(ctx context.Context, req *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	s, err := c.findSandbox(req.PodSandboxId)
	if status.Code(err) == codes.NotFound {
		return &runtimeapi.RemovePodSandboxResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	s.op.Lock()
	defer s.op.Unlock()
	if err := c.stopSandbox(ctx, s); err != nil {
		return nil, err
	}
	for _, k := range c.containersOf(s) {
		if err := c.removeContainer(ctx, k); err != nil {
			return nil, err
		}
	}
	// The record goes first: a directory without one is rubbish to the scan at the next start.
	if err := os.Remove(filepath.Join(s.dir, sandboxFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return nil, err
	}
	c.mu.Lock()
	delete(c.sandboxes, s.id)
	c.mu.Unlock()
	c.publish(s, s.id, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

// watchParent follows what a pod's parent tells, until the sandbox is stopped or
// this life ends. A parent that is gone without having been asked to leaves the
// sandbox broken.
func (c *CRI) watchParent(s *sandbox) {
	for c.life.Err() == nil {
		err := c.follow(s)
		if c.life.Err() != nil || !s.wanted() {
			return
		}
		if _, alive, _ := s.parent.State(); alive {
			klog.FromContext(c.life).V(2).Info("Watching a pod's parent again", "sandbox", s.id, "err", err)
			continue
		}
		c.parentDied(s)
		return
	}
}

// follow reads one watch to its end.
func (c *CRI) follow(s *sandbox) error {
	watch, statuses, err := s.parent.Watch(c.life)
	if err != nil {
		return err
	}
	defer watch.Close()
	defer context.AfterFunc(c.life, watch.Close)()
	for {
		for _, st := range statuses {
			c.learn(s, st)
		}
		if statuses, err = watch.Next(); err != nil {
			return err
		}
	}
}

// learn takes over a container's status from its parent.
func (c *CRI) learn(s *sandbox, st podparent.ContainerStatus) {
	c.mu.RLock()
	k := c.containers[st.ID]
	c.mu.RUnlock()
	if k == nil {
		return
	}
	if k.take(st) {
		if err := c.cgroups.Remove(k.rec.Cgroup); err != nil {
			klog.FromContext(c.life).Error(err, "Removing the cgroup of an ended container", "container", k.id)
		}
		c.publish(s, k.id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	}
}

// parentDied ends what the dead parent can no longer look after: without it,
// nobody would read the containers' output or know their exit codes.
func (c *CRI) parentDied(s *sandbox) {
	klog.FromContext(c.life).Info("A pod's parent process has died; its containers are ended", "sandbox", s.id)
	for _, k := range c.containersOf(s) {
		if err := c.cgroups.Remove(k.rec.Cgroup); err != nil {
			klog.FromContext(c.life).Error(err, "Ending a container without parent", "container", k.id)
		}
		if k.settle(s) {
			c.publish(s, k.id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
		}
	}
	err := s.update(func(r *sandboxRecord) { r.Phase, r.DiedReason = broken, "the pod's parent process has died" })
	if err != nil {
		klog.FromContext(c.life).Error(err, "Recording a broken sandbox", "sandbox", s.id)
	}
	c.publish(s, s.id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
}
