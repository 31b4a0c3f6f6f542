package cri

import (
	"context"
	"encoding/json"
	"slices"
	"sort"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cri/podparent"
)

// Version says who we are.
func (c *CRI) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "hyperkube", RuntimeVersion: "1.37.2", RuntimeApiVersion: "v1"}, nil
}

// Status says whether pods can be run, and if not, why.
func (c *CRI) Status(ctx context.Context, req *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	network := &runtimeapi.RuntimeCondition{Type: runtimeapi.NetworkReady, Status: true}
	if err := c.network.Ready(ctx); err != nil {
		network.Status, network.Reason, network.Message = false, "NetworkPluginNotReady", err.Error()
	}
	resp := &runtimeapi.StatusResponse{
		Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
			{Type: runtimeapi.RuntimeReady, Status: true}, network}},
		RuntimeHandlers: []*runtimeapi.RuntimeHandler{{Features: &runtimeapi.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: true, UserNamespaces: c.noUserNS == nil}}},
		Features:        &runtimeapi.RuntimeFeatures{SupplementalGroupsPolicy: true},
	}
	if req.Verbose {
		resp.Info = info(map[string]any{"config": map[string]any{"root": c.cfg.Root, "cniConfDir": c.cfg.CNIConfDir, "cgroupRoot": c.cfg.CgroupRoot},
			"cgroupV2": c.cgroups.V2(), "missingControllers": c.cgroups.Missing(), "rootfs": c.imageDriver(), "network": c.network.Name()})
	}
	return resp, nil
}

func (c *CRI) imageDriver() string {
	if c.images.Overlays() {
		return "overlay"
	}
	return "copy"
}

// RuntimeConfig tells the kubelet that cgroups are made as directories, not through systemd.
func (c *CRI) RuntimeConfig(context.Context, *runtimeapi.RuntimeConfigRequest) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS}}, nil
}

// UpdateRuntimeConfig learns the node's share of the pods' addresses.
func (c *CRI) UpdateRuntimeConfig(_ context.Context, req *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	if err := c.network.SetPodCIDR(req.GetRuntimeConfig().GetNetworkConfig().GetPodCidr()); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}

// info is the verbose part of an answer: one JSON text, as crictl shows it.
func info(values map[string]any) map[string]string {
	data, err := json.Marshal(values)
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	return map[string]string{"info": string(data)}
}

func sandboxState(p phase) runtimeapi.PodSandboxState {
	if p == ready {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

// PodSandboxStatus describes a sandbox and its containers.
func (c *CRI) PodSandboxStatus(_ context.Context, req *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	s, err := c.findSandbox(req.PodSandboxId)
	if err != nil {
		return nil, err
	}
	resp := &runtimeapi.PodSandboxStatusResponse{Status: s.status(), Timestamp: time.Now().UnixNano()}
	for _, k := range c.sortedContainers(s) {
		resp.ContainersStatuses = append(resp.ContainersStatuses, k.describe())
	}
	if req.Verbose {
		rec := s.record()
		state, alive, _ := s.parent.State()
		resp.Info = info(map[string]any{"pid": state.Pid, "alive": alive, "phase": rec.Phase, "reason": rec.DiedReason, "directory": s.dir,
			"cgroup": rec.Cgroup, "cgroupDirs": c.cgroups.Dirs(rec.Cgroup), "netns": s.pod().NetNS, "ips": rec.IPs, "config": rec.RawConfig})
	}
	return resp, nil
}

func (s *sandbox) status() *runtimeapi.PodSandboxStatus {
	rec := s.record()
	config := rec.Config
	st := &runtimeapi.PodSandboxStatus{
		Id: s.id, Metadata: config.Metadata, State: sandboxState(rec.Phase), CreatedAt: rec.CreatedAt,
		Labels: config.Labels, Annotations: config.Annotations, RuntimeHandler: rec.Handler,
		Network: &runtimeapi.PodSandboxNetworkStatus{},
		Linux:   &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: config.GetLinux().GetSecurityContext().GetNamespaceOptions()}},
	}
	if rec.Phase != ready {
		return st
	}
	for i, ip := range rec.IPs {
		if i == 0 {
			st.Network.Ip = ip
		} else {
			st.Network.AdditionalIps = append(st.Network.AdditionalIps, &runtimeapi.PodIP{Ip: ip})
		}
	}
	return st
}

// ListPodSandbox lists sandboxes, newest first.
func (c *CRI) ListPodSandbox(_ context.Context, req *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	resp := &runtimeapi.ListPodSandboxResponse{}
	for _, s := range c.allSandboxes() {
		rec := s.record()
		item := &runtimeapi.PodSandbox{Id: s.id, Metadata: rec.Config.Metadata, State: sandboxState(rec.Phase), CreatedAt: rec.CreatedAt,
			Labels: rec.Config.Labels, Annotations: rec.Config.Annotations, RuntimeHandler: rec.Handler}
		f := req.GetFilter()
		if idMatches(f.GetId(), item.Id) && (f.GetState() == nil || f.State.State == item.State) && labelsMatch(f.GetLabelSelector(), item.Labels) {
			resp.Items = append(resp.Items, item)
		}
	}
	return resp, nil
}

func idMatches(wanted, id string) bool {
	return wanted == "" || len(id) >= len(wanted) && id[:len(wanted)] == wanted
}

func labelsMatch(selector, labels map[string]string) bool {
	for key, value := range selector {
		if have, ok := labels[key]; !ok || have != value {
			return false
		}
	}
	return true
}

func (c *CRI) allSandboxes() []*sandbox {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var list []*sandbox
	for _, s := range c.sandboxes {
		list = append(list, s)
	}
	// CreatedAt never changes: no lock of the sandbox is needed.
	sort.Slice(list, func(i, j int) bool { return list[i].rec.CreatedAt > list[j].rec.CreatedAt })
	return list
}

// sortedContainers lists the containers of one sandbox, or with nil of all, newest first.
func (c *CRI) sortedContainers(s *sandbox) []*container {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var list []*container
	for _, k := range c.containers {
		if s == nil || k.sb == s {
			list = append(list, k)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].rec.CreatedAt > list[j].rec.CreatedAt })
	return list
}

// ListContainers lists containers, newest first.
func (c *CRI) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	resp := &runtimeapi.ListContainersResponse{}
	f := req.GetFilter()
	for _, k := range c.sortedContainers(nil) {
		item := k.summary()
		if idMatches(f.GetId(), item.Id) && idMatches(f.GetPodSandboxId(), item.PodSandboxId) &&
			(f.GetState() == nil || f.State.State == item.State) && labelsMatch(f.GetLabelSelector(), item.Labels) {
			resp.Containers = append(resp.Containers, item)
		}
	}
	return resp, nil
}

func (k *container) summary() *runtimeapi.Container {
	rec, st := k.snapshot()
	return &runtimeapi.Container{Id: k.id, PodSandboxId: k.sb.id, Metadata: rec.Config.Metadata, Image: rec.Config.Image,
		ImageRef: rec.ImageRef, ImageId: rec.ImageID, State: stateOf(&st), CreatedAt: rec.CreatedAt, Labels: rec.Config.Labels, Annotations: rec.Config.Annotations}
}

// ContainerStatus describes a container.
func (c *CRI) ContainerStatus(_ context.Context, req *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	k, err := c.findContainer(req.ContainerId)
	if err != nil {
		return nil, err
	}
	resp := &runtimeapi.ContainerStatusResponse{Status: k.describe()}
	if req.Verbose {
		rec, st := k.snapshot()
		spec := *k.spec
		spec.Env, spec.Process.Seccomp = nil, nil // may hold secrets; long
		resp.Info = info(map[string]any{"sandboxID": k.sb.id, "pid": st.Pid, "directory": k.dir, "cgroup": rec.Cgroup,
			"cgroupDirs": c.cgroups.Dirs(rec.Cgroup), "runtimeSpec": spec, "seccompInstructions": len(k.spec.Process.Seccomp), "imageID": rec.ImageID})
	}
	return resp, nil
}

func (k *container) describe() *runtimeapi.ContainerStatus {
	rec, st := k.snapshot()
	config := rec.Config
	status := &runtimeapi.ContainerStatus{
		Id: k.id, Metadata: config.Metadata, State: stateOf(&st), CreatedAt: rec.CreatedAt,
		StartedAt: st.StartedAt, FinishedAt: st.FinishedAt, ExitCode: int32(st.ExitCode), Reason: st.Reason, Message: st.Message,
		Image: config.Image, ImageRef: rec.ImageRef, ImageId: rec.ImageID, Labels: config.Labels, Annotations: config.Annotations,
		Mounts: reportedMounts(&rec), LogPath: k.spec.LogPath, StopSignal: config.StopSignal,
		Resources: &runtimeapi.ContainerResources{Linux: config.GetLinux().GetResources()},
	}
	if st.User != nil {
		status.User = &runtimeapi.ContainerUser{Linux: linuxUser(st.User)}
	}
	return status
}

// reportedMounts are those asked for; of an image it is said which it was (KEP-5365).
func reportedMounts(rec *containerRecord) []*runtimeapi.Mount {
	mounts := slices.Clone(rec.Config.Mounts)
	for i, m := range mounts {
		at := slices.IndexFunc(rec.ImageVolumes, func(v imageVolume) bool { return v.ContainerPath == m.ContainerPath })
		if m.Image == nil || at < 0 {
			continue
		}
		mounts[i] = proto.CloneOf(m)
		mounts[i].Image.ImageRef = rec.ImageVolumes[at].ImageRef
	}
	return mounts
}

func linuxUser(who *podparent.Identity) *runtimeapi.LinuxContainerUser {
	user := &runtimeapi.LinuxContainerUser{Uid: int64(who.UID), Gid: int64(who.GID)}
	for _, g := range who.Groups {
		user.SupplementalGroups = append(user.SupplementalGroups, int64(g))
	}
	return user
}
