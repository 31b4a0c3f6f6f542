package kuberuntime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	kubecontainer "hyperkube/kubelet/container"
)

// GCPolicy says what may be removed.
type GCPolicy struct {
	// Gone tells whether nothing of a pod is wanted any more.
	Gone func(types.UID) bool
	// AllDead removes also the last dead instance of each container, whose log
	// `kubectl logs --previous` reads: the node is short of disk.
	AllDead bool
	// LogsRoot holds the log directories of all pods.
	LogsRoot string
}

// GarbageCollect removes, of each container, all dead instances but the last
// (`kubectl logs --previous` reads that one), dead sandboxes but the newest of a
// pod, and everything of pods that are gone, with their logs.
func (m *kubeGenericRuntimeManager) GarbageCollect(ctx context.Context, policy GCPolicy) error {
	pods, err := m.GetPods(ctx, true)
	if err != nil {
		return err
	}
	var errs []error
	known := map[types.UID]bool{}
	for _, pod := range pods {
		known[pod.ID] = true
		errs = append(errs, m.collectPod(ctx, pod, extent{gone: policy.Gone(pod.ID), allDead: policy.AllDead}))
	}
	errs = append(errs, removeLogsOfGonePods(policy, known))
	return errors.Join(errs...)
}

// RemovePod removes every dead thing of one pod.
func (m *kubeGenericRuntimeManager) RemovePod(ctx context.Context, uid types.UID, logsDir string) error {
	status, err := m.GetPodStatus(ctx, uid, "", "")
	if err != nil {
		return err
	}
	pod := &kubecontainer.Pod{ID: uid}
	for _, c := range status.ContainerStatuses {
		pod.Containers = append(pod.Containers, &kubecontainer.Container{ID: c.ID, Name: c.Name, State: c.State, CreatedAt: c.CreatedAt, PodSandboxID: c.PodSandboxID})
	}
	for _, s := range status.SandboxStatuses {
		state := kubecontainer.StateExited
		if s.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			state = kubecontainer.StateRunning
		}
		pod.Sandboxes = append(pod.Sandboxes, &kubecontainer.Container{ID: m.containerID(s.Id), State: state})
	}
	if err := m.collectPod(ctx, pod, extent{gone: true}); err != nil {
		return err
	}
	return os.RemoveAll(logsDir)
}

// extent is how much of a pod may go: all that is dead of one that is gone, or,
// with allDead, every dead instance that has a living successor.
type extent struct{ gone, allDead bool }

func (m *kubeGenericRuntimeManager) collectPod(ctx context.Context, pod *kubecontainer.Pod, may extent) error {
	var errs []error
	newest := map[string]*kubecontainer.Container{}
	newestDead := map[string]*kubecontainer.Container{}
	for _, c := range pod.Containers {
		if n := newest[c.Name]; n == nil || c.CreatedAt.After(n.CreatedAt) {
			newest[c.Name] = c
		}
		if n := newestDead[c.Name]; c.State == kubecontainer.StateExited && (n == nil || c.CreatedAt.After(n.CreatedAt)) {
			newestDead[c.Name] = c
		}
	}
	used := map[string]bool{}
	for _, c := range pod.Containers {
		dead := c.State == kubecontainer.StateExited || c.State == kubecontainer.StateCreated && c != newest[c.Name]
		if !dead || !may.gone && (c == newestDead[c.Name] && !may.allDead || c == newest[c.Name]) {
			used[c.PodSandboxID] = true
			continue
		}
		if err := m.RemoveContainer(ctx, c.ID.ID, m.logPathOf(ctx, c)); err != nil {
			used[c.PodSandboxID] = true
			errs = append(errs, err)
		}
	}
	newestSandbox := newestOf(pod.Sandboxes)
	for _, s := range pod.Sandboxes {
		if s.State == kubecontainer.StateRunning || used[s.ID.ID] || !may.gone && s == newestSandbox {
			continue
		}
		if _, err := m.Runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: s.ID.ID}); err != nil && !isNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func newestOf(list []*kubecontainer.Container) *kubecontainer.Container {
	var newest *kubecontainer.Container
	for _, c := range list {
		if newest == nil || c.CreatedAt.After(newest.CreatedAt) {
			newest = c
		}
	}
	return newest
}

func (m *kubeGenericRuntimeManager) logPathOf(ctx context.Context, c *kubecontainer.Container) string {
	response, err := m.Runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: c.ID.ID})
	if err != nil {
		return ""
	}
	return response.Status.LogPath
}

// removeLogsOfGonePods removes <namespace>_<name>_<uid> directories whose pod
// neither the kubelet nor the runtime knows.
func removeLogsOfGonePods(policy GCPolicy, known map[types.UID]bool) error {
	entries, err := os.ReadDir(policy.LogsRoot)
	if err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	var errs []error
	for _, entry := range entries {
		uid := types.UID(entry.Name()[strings.LastIndexByte(entry.Name(), '_')+1:])
		if !known[uid] && policy.Gone(uid) {
			errs = append(errs, os.RemoveAll(filepath.Join(policy.LogsRoot, entry.Name())))
		}
	}
	return errors.Join(errs...)
}
