package cri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cri/podparent"
)

// leastMemory is the lowest memory limit of a container, in bytes. With less the kernel ends the pod's parent,
// which is in the pod's cgroup and forks what becomes the container: the pod would be made
// anew again and again, without a word about the cause. CRI-O has such a limit too, and these words.
const leastMemory = 4 << 20

// CreateContainer decides everything about a container and writes it down; no
// process is made yet:
//
//	Step 1: the sandbox must be ready, the image must be here.
//	Step 2: directories: the root filesystem's place, and what the container will write.
//	Step 3: the specification (`cri/spec_linux.go:specBuilder`).
//	Step 4: the cgroup with its limits.
func (c *CRI) CreateContainer(ctx context.Context, req *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	// Step 1
	s, err := c.findSandbox(req.PodSandboxId)
	if err != nil {
		return nil, err
	}
	if phase := s.phase(); phase != ready {
		return nil, status.Errorf(codes.FailedPrecondition, "pod sandbox %s is not running (%s)", s.id, phase)
	}
	config := req.GetConfig()
	if config.GetMetadata().GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "the container has no name")
	}
	effective, err := c.injectCDI(config)
	if err != nil {
		return nil, err
	}
	if err := s.checkContainerUsers(config.GetLinux().GetSecurityContext().GetNamespaceOptions()); err != nil {
		return nil, err
	}
	if memory := config.GetLinux().GetResources().GetMemoryLimitInBytes(); memory > 0 && memory < leastMemory {
		return nil, status.Errorf(codes.InvalidArgument, "set memory limit %d too low; should be at least %d bytes", memory, leastMemory)
	}
	img, err := c.images.Get(config.GetImage().GetImage())
	if err != nil {
		return nil, err
	}
	k := &container{id: newID(), sb: s, ended: make(chan struct{})}
	k.dir = filepath.Join(s.dir, podparent.ContainersDir, k.id)
	k.rec = containerRecord{Config: config, CreatedAt: time.Now().UnixNano(), ImageID: img.ID, ImageRef: imageRef(img),
		Signal: stopSignal(config, img), Cgroup: filepath.Join(s.rec.Cgroup, k.id)}
	k.status.ID = k.id
	if err := c.makeContainer(k, &specBuilder{c: c, s: s, k: k, config: effective, image: img}); err != nil {
		c.cgroups.Remove(k.rec.Cgroup)
		os.RemoveAll(k.dir)
		return nil, fmt.Errorf("creating container %s: %w", config.Metadata.Name, err)
	}
	c.mu.Lock()
	c.containers[k.id] = k
	c.mu.Unlock()
	c.publish(s, k.id, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	return &runtimeapi.CreateContainerResponse{ContainerId: k.id}, nil
}

func (c *CRI) makeContainer(k *container, b *specBuilder) error {
	// Step 2
	for _, dir := range []string{"rootfs", "upper", "work"} {
		if err := os.MkdirAll(filepath.Join(k.dir, dir), 0o755); err != nil {
			return err
		}
		if dir == "rootfs" {
			continue
		}
		if err := k.sb.giveToRoot(filepath.Join(k.dir, dir)); err != nil {
			return err
		}
	}
	// Step 3
	spec, err := b.build()
	if err != nil {
		return err
	}
	k.spec = spec
	if err := k.sb.parent.WriteSpec(spec); err != nil {
		return err
	}
	if len(spec.Root.Layers) == 0 {
		if err := c.images.CopyTo(b.image, spec.Root.Path); err != nil {
			return err
		}
	}
	// Step 4
	if err := c.cgroups.Create(k.rec.Cgroup); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	if err := c.cgroups.Apply(k.rec.Cgroup, limits(k.rec.Config.GetLinux().GetResources())); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	if err := c.cgroups.AllowDevices(k.rec.Cgroup, b.deviceRules()); err != nil {
		return fmt.Errorf("cgroup: devices: %w", err)
	}
	return k.save()
}

// StartContainer has the pod's parent make the container's process
// (`cri/podparent/birth_linux.go:Parent.begin`). It answers when the command runs.
func (c *CRI) StartContainer(ctx context.Context, req *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	k, err := c.findContainer(req.ContainerId)
	if err != nil {
		return nil, err
	}
	k.op.Lock()
	defer k.op.Unlock()
	if state := k.state(); state != runtimeapi.ContainerState_CONTAINER_CREATED {
		return nil, status.Errorf(codes.FailedPrecondition, "container %s is in state %s, not created", k.id, state)
	}
	_, err = k.sb.parent.Start(ctx, k.id)
	// The status on disk is newer than what the watch has told so far.
	if st, readErr := k.sb.parent.ReadStatus(k.id); readErr == nil {
		c.learn(k.sb, *st)
	} else if err == nil {
		err = readErr
	}
	if err != nil {
		return nil, fmt.Errorf("failed to start container %q: %w", k.rec.Config.Metadata.Name, err)
	}
	c.publish(k.sb, k.id, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	return &runtimeapi.StartContainerResponse{}, nil
}

// take accepts a newer status, and says whether with it the container has ended.
func (k *container) take(st podparent.ContainerStatus) (ended bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.status.Exited() {
		return false
	}
	k.status = st
	if st.Exited() {
		close(k.ended)
	}
	return st.Exited()
}

// settle gives a container whose parent is gone an end: the one on disk, or an
// unknown one. A container that was never started stays created. It says whether
// the container has ended just now.
func (k *container) settle(s *sandbox) bool {
	if st, err := s.parent.ReadStatus(k.id); err == nil && st.Exited() {
		return k.take(*st)
	}
	k.mu.Lock()
	st := k.status
	k.mu.Unlock()
	if st.StartedAt == 0 {
		if disk, err := s.parent.ReadStatus(k.id); err != nil {
			return false
		} else {
			st = *disk
		}
	}
	if st.Exited() {
		return false
	}
	st.Pid, st.FinishedAt, st.ExitCode = 0, time.Now().UnixNano(), unknownExitCode
	st.Reason, st.Message = "Unknown", "the pod's parent process died; how the container ended is not known"
	saveJSON(filepath.Join(k.dir, podparent.StatusName), &st)
	return k.take(st)
}

// unknownExitCode stands for an exit code that nobody has seen.
const unknownExitCode = 255

func (k *container) state() runtimeapi.ContainerState {
	k.mu.Lock()
	defer k.mu.Unlock()
	return stateOf(&k.status)
}

func stateOf(st *podparent.ContainerStatus) runtimeapi.ContainerState {
	switch {
	case st.Exited():
		return runtimeapi.ContainerState_CONTAINER_EXITED
	case st.StartedAt != 0:
		return runtimeapi.ContainerState_CONTAINER_RUNNING
	}
	return runtimeapi.ContainerState_CONTAINER_CREATED
}

// StopContainer asks the container's process to end, and after the timeout ends
// it. It answers when it has ended, and may be repeated.
func (c *CRI) StopContainer(ctx context.Context, req *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	k, err := c.findContainer(req.ContainerId)
	if status.Code(err) == codes.NotFound {
		return &runtimeapi.StopContainerResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := c.stopContainer(ctx, k, time.Duration(req.Timeout)*time.Second); err != nil {
		return nil, fmt.Errorf("stopping container %s: %w", k.id, err)
	}
	return &runtimeapi.StopContainerResponse{}, nil
}

func (c *CRI) stopContainer(ctx context.Context, k *container, patience time.Duration) error {
	k.op.Lock()
	defer k.op.Unlock()
	if k.state() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil
	}
	if patience > 0 {
		signal := signalNumber(k.rec.Signal)
		if err := k.sb.parent.Signal(ctx, k.id, signal, false); err != nil {
			return err
		}
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-k.ended:
			return nil
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := k.sb.parent.Signal(ctx, k.id, int(unix.SIGKILL), false); err != nil {
		return err
	}
	select {
	case <-k.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// RemoveContainer removes a container and what it has written. A running one is
// ended first.
func (c *CRI) RemoveContainer(ctx context.Context, req *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	k, err := c.findContainer(req.ContainerId)
	if status.Code(err) == codes.NotFound {
		return &runtimeapi.RemoveContainerResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := c.removeContainer(ctx, k); err != nil {
		return nil, fmt.Errorf("removing container %s: %w", k.id, err)
	}
	return &runtimeapi.RemoveContainerResponse{}, nil
}

func (c *CRI) removeContainer(ctx context.Context, k *container) error {
	if err := c.stopContainer(ctx, k, 0); err != nil {
		return err
	}
	if k.sb.phase() == ready {
		if err := k.sb.parent.Forget(ctx, k.id); err != nil {
			return err
		}
	}
	if err := c.cgroups.Remove(k.rec.Cgroup); err != nil {
		return err
	}
	// The record first, as for sandboxes.
	if err := os.Remove(filepath.Join(k.dir, containerFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(k.dir); err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.containers, k.id)
	c.mu.Unlock()
	c.publish(k.sb, k.id, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	return nil
}

// UpdateContainerResources changes a container's limits while it runs.
func (c *CRI) UpdateContainerResources(ctx context.Context, req *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	k, err := c.findContainer(req.ContainerId)
	if err != nil {
		return nil, err
	}
	k.op.Lock()
	defer k.op.Unlock()
	if k.state() == runtimeapi.ContainerState_CONTAINER_EXITED {
		return nil, status.Errorf(codes.FailedPrecondition, "container %s has exited", k.id)
	}
	if req.Linux == nil {
		return &runtimeapi.UpdateContainerResourcesResponse{}, nil
	}
	if err := c.cgroups.Apply(k.rec.Cgroup, limits(req.Linux)); err != nil {
		return nil, fmt.Errorf("updating container %s: %w", k.id, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rec.Config.Linux == nil {
		k.rec.Config.Linux = &runtimeapi.LinuxContainerConfig{}
	}
	k.rec.Config.Linux.Resources = mergeResources(k.rec.Config.Linux.Resources, req.Linux)
	return &runtimeapi.UpdateContainerResourcesResponse{}, k.save()
}

// UpdatePodSandboxResources changes the limits of a pod as a whole. Where the
// kubelet made the pod's cgroup, it has set them itself already.
func (c *CRI) UpdatePodSandboxResources(ctx context.Context, req *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	s, err := c.findSandbox(req.PodSandboxId)
	if err != nil {
		return nil, err
	}
	if rec := s.record(); rec.OwnCgroup && req.Resources != nil {
		if err := c.cgroups.Apply(rec.Cgroup, limits(req.Resources)); err != nil {
			return nil, err
		}
	}
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}

// ReopenContainerLog lets a running container's log go on in a new file, after
// the kubelet has renamed the old one.
func (c *CRI) ReopenContainerLog(ctx context.Context, req *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	k, err := c.findContainer(req.ContainerId)
	if err != nil {
		return nil, err
	}
	if k.state() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil, status.Errorf(codes.FailedPrecondition, "container %s is not running", k.id)
	}
	if err := k.sb.parent.ReopenLog(ctx, k.id); err != nil {
		return nil, err
	}
	return &runtimeapi.ReopenContainerLogResponse{}, nil
}
