package simulated

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// This file answers questions about the books.

// ListPodSandbox lists sandboxes, newest first.
func (r *Runtime) ListPodSandbox(_ context.Context, request *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	response := &runtimeapi.ListPodSandboxResponse{}
	for id, s := range r.sandboxes {
		f := request.Filter
		if f.GetId() != "" && f.Id != id || f.GetState() != nil && f.State.State != s.status.State || !matches(f.GetLabelSelector(), s.status.Labels) {
			continue
		}
		response.Items = append(response.Items, &runtimeapi.PodSandbox{Id: id, Metadata: s.status.Metadata, State: s.status.State, CreatedAt: s.status.CreatedAt, Labels: s.status.Labels, Annotations: s.status.Annotations})
	}
	sort.Slice(response.Items, func(i, j int) bool { return response.Items[i].CreatedAt > response.Items[j].CreatedAt })
	return response, nil
}

// PodSandboxStatus describes one.
func (r *Runtime) PodSandboxStatus(_ context.Context, request *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[request.PodSandboxId]
	if s == nil {
		return nil, status.Errorf(codes.NotFound, "sandbox %q not found", request.PodSandboxId)
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: proto.Clone(s.status).(*runtimeapi.PodSandboxStatus)}, nil
}

// ListContainers lists containers, newest first.
func (r *Runtime) ListContainers(_ context.Context, request *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	response := &runtimeapi.ListContainersResponse{}
	for id, c := range r.containers {
		f := request.Filter
		if f.GetId() != "" && f.Id != id || f.GetPodSandboxId() != "" && f.PodSandboxId != c.podID ||
			f.GetState() != nil && f.State.State != c.status.State || !matches(f.GetLabelSelector(), c.status.Labels) {
			continue
		}
		response.Containers = append(response.Containers, &runtimeapi.Container{Id: id, PodSandboxId: c.podID, Metadata: c.status.Metadata, Image: c.status.Image,
			ImageRef: c.status.ImageRef, State: c.status.State, CreatedAt: c.status.CreatedAt, Labels: c.status.Labels, Annotations: c.status.Annotations})
	}
	sort.Slice(response.Containers, func(i, j int) bool { return response.Containers[i].CreatedAt > response.Containers[j].CreatedAt })
	return response, nil
}

// ContainerStatus describes one.
func (r *Runtime) ContainerStatus(_ context.Context, request *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.find(request.ContainerId)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ContainerStatusResponse{Status: proto.Clone(c.status).(*runtimeapi.ContainerStatus)}, nil
}

func matches(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}

// ExecSync imagines a command's run.
func (r *Runtime) ExecSync(_ context.Context, request *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.find(request.ContainerId)
	if err != nil {
		return nil, err
	}
	if c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil, status.Errorf(codes.FailedPrecondition, "container %q is not running", c.id)
	}
	p := planOfCommand(request.Cmd)
	response := &runtimeapi.ExecSyncResponse{ExitCode: p.code}
	if len(p.output) > 0 {
		response.Stdout = []byte(strings.Join(p.output, "\n") + "\n")
	}
	return response, nil
}

const nothingThere = "pods of the simulated runtime run nothing: there is nothing to connect to"

// Exec, Attach and PortForward have nothing to reach.
func (r *Runtime) Exec(context.Context, *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	return nil, status.Error(codes.Unimplemented, nothingThere)
}

// Attach likewise.
func (r *Runtime) Attach(context.Context, *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	return nil, status.Error(codes.Unimplemented, nothingThere)
}

// PortForward likewise.
func (r *Runtime) PortForward(context.Context, *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	return nil, status.Error(codes.Unimplemented, nothingThere)
}

// UpdateContainerResources writes the new limits into the books.
func (r *Runtime) UpdateContainerResources(_ context.Context, request *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.find(request.ContainerId)
	if err != nil {
		return nil, err
	}
	c.status.Resources = &runtimeapi.ContainerResources{Linux: request.Linux}
	return &runtimeapi.UpdateContainerResourcesResponse{}, nil
}

// ContainerStats says that nothing is used.
func (r *Runtime) ContainerStats(_ context.Context, request *runtimeapi.ContainerStatsRequest) (*runtimeapi.ContainerStatsResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.find(request.ContainerId)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ContainerStatsResponse{Stats: &runtimeapi.ContainerStats{Attributes: &runtimeapi.ContainerAttributes{Id: c.id, Labels: c.status.Labels}}}, nil
}

// ReopenContainerLog needs nothing: each line opens the log anew.
func (r *Runtime) ReopenContainerLog(context.Context, *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	return &runtimeapi.ReopenContainerLogResponse{}, nil
}

// ListContainerStats says that nothing is used.
func (r *Runtime) ListContainerStats(ctx context.Context, _ *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	response := &runtimeapi.ListContainerStatsResponse{}
	now := r.cfg.Clock.Now().UnixNano()
	for id, c := range r.containers {
		if c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
			continue
		}
		zero := &runtimeapi.UInt64Value{}
		response.Stats = append(response.Stats, &runtimeapi.ContainerStats{
			Attributes: &runtimeapi.ContainerAttributes{Id: id, Metadata: c.status.Metadata, Labels: c.status.Labels, Annotations: c.status.Annotations},
			Cpu:        &runtimeapi.CpuUsage{Timestamp: now, UsageCoreNanoSeconds: zero, UsageNanoCores: zero},
			Memory:     &runtimeapi.MemoryUsage{Timestamp: now, WorkingSetBytes: zero},
		})
	}
	return response, nil
}

// GetContainerEvents streams what happens from now on.
func (r *Runtime) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	events := make(chan *runtimeapi.ContainerEventResponse, 1000)
	r.mu.Lock()
	r.listeners[events] = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.listeners, events)
		r.mu.Unlock()
	}()
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case event := <-events:
			if err := stream.Send(event); err != nil {
				return err
			}
		}
	}
}

// tell sends an event to all who listen; one who is far behind misses it, and
// finds out by listing.
func (r *Runtime) tell(s *sandbox, id string, kind runtimeapi.ContainerEventType) {
	event := &runtimeapi.ContainerEventResponse{ContainerId: id, ContainerEventType: kind, CreatedAt: r.cfg.Clock.Now().UnixNano(), PodSandboxStatus: proto.Clone(s.status).(*runtimeapi.PodSandboxStatus)}
	for listener := range r.listeners {
		select {
		case listener <- event:
		default:
		}
	}
}

// ImageStatus finds an image that was pulled.
func (r *Runtime) ImageStatus(_ context.Context, request *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &runtimeapi.ImageStatusResponse{Image: r.images[request.GetImage().GetImage()]}, nil
}

// PullImage takes any image but those with the tag "missing".
func (r *Runtime) PullImage(_ context.Context, request *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	name := request.GetImage().GetImage()
	if strings.HasSuffix(name, ":missing") {
		return nil, status.Errorf(codes.NotFound, "failed to pull and unpack image %q: not found", name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.images[name] == nil {
		r.images[name] = &runtimeapi.Image{Id: name, RepoTags: []string{name}, Size: 1 << 20, Username: "", Uid: &runtimeapi.Int64Value{Value: 0}, Spec: &runtimeapi.ImageSpec{Image: name}}
	}
	return &runtimeapi.PullImageResponse{ImageRef: name}, nil
}

// ListImages lists what was pulled.
func (r *Runtime) ListImages(context.Context, *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	response := &runtimeapi.ListImagesResponse{}
	for _, image := range r.images {
		response.Images = append(response.Images, image)
	}
	sort.Slice(response.Images, func(i, j int) bool { return response.Images[i].Id < response.Images[j].Id })
	return response, nil
}

// RemoveImage forgets an image.
func (r *Runtime) RemoveImage(_ context.Context, request *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.images, request.GetImage().GetImage())
	return &runtimeapi.RemoveImageResponse{}, nil
}

// ImageFsInfo says that images take no room.
func (r *Runtime) ImageFsInfo(context.Context, *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	return &runtimeapi.ImageFsInfoResponse{}, nil
}

// Add puts a container into the books as if an earlier kubelet had made it: for
// tests of what is found after a restart.
func (r *Runtime) Add(s *runtimeapi.PodSandboxStatus, containers ...*runtimeapi.ContainerStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	box := &sandbox{status: s, config: &runtimeapi.PodSandboxConfig{}}
	r.sandboxes[s.Id] = box
	for _, c := range containers {
		r.containers[c.Id] = &container{status: c, config: &runtimeapi.ContainerConfig{Metadata: c.Metadata}, sandbox: box, id: c.Id, podID: s.Id, stopped: make(chan struct{}), done: make(chan struct{})}
	}
}

// Exit ends a container as if it had ended by itself, for tests; the newest one
// of that name counts.
func (r *Runtime) Exit(name string, code int32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var newest *container
	for _, c := range r.containers {
		if c.status.GetMetadata().GetName() == name && (newest == nil || c.status.CreatedAt > newest.status.CreatedAt) {
			newest = c
		}
	}
	if newest == nil {
		return fmt.Errorf("no container %q", name)
	}
	r.exit(newest, code)
	return nil
}
