package kuberuntime

import (
	"context"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelettypes "k8s.io/kubelet/pkg/types"

	"hyperkube/flow"
	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/logs"
)

// A termination message is at most 4 KiB from its file, or 2 KiB and 80 lines of the log.
const (
	maxTerminationMessage     = 4096
	maxTerminationMessageLog  = 2048
	maxTerminationMessageLine = 80
)

// GetPodStatus asks the runtime for everything it has of one pod.
func (m *kubeGenericRuntimeManager) GetPodStatus(ctx context.Context, uid types.UID, name, namespace string) (*kubecontainer.PodStatus, error) {
	selector := map[string]string{kubelettypes.KubernetesPodUIDLabel: string(uid)}
	podStatus := &kubecontainer.PodStatus{ID: uid, Name: name, Namespace: namespace}
	sandboxes, err := m.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: selector}})
	if err != nil {
		return nil, fmt.Errorf("listing sandboxes of pod %s/%s: %w", namespace, name, err)
	}
	sort.Slice(sandboxes.Items, func(i, j int) bool { return sandboxes.Items[i].CreatedAt > sandboxes.Items[j].CreatedAt })
	for i, item := range sandboxes.Items {
		response, err := m.Runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: item.Id})
		if isNotFound(err) {
			continue // removed since the list
		}
		if err != nil {
			return nil, fmt.Errorf("status of sandbox %s of pod %s/%s: %w", item.Id, namespace, name, err)
		}
		podStatus.SandboxStatuses = append(podStatus.SandboxStatuses, response.Status)
		if i == 0 && response.Status.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			podStatus.IPs = sandboxIPs(response.Status)
		}
	}
	containers, err := m.Runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{LabelSelector: selector}})
	if err != nil {
		return nil, fmt.Errorf("listing containers of pod %s/%s: %w", namespace, name, err)
	}
	for _, c := range containers.Containers {
		response, err := m.Runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: c.Id})
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("status of container %s of pod %s/%s: %w", c.Id, namespace, name, err)
		}
		podStatus.ContainerStatuses = append(podStatus.ContainerStatuses, m.toKubeStatus(c, response.Status))
	}
	sort.SliceStable(podStatus.ContainerStatuses, func(i, j int) bool {
		return podStatus.ContainerStatuses[i].CreatedAt.After(podStatus.ContainerStatuses[j].CreatedAt)
	})
	return podStatus, nil
}

func isNotFound(err error) bool { return status.Code(err) == codes.NotFound }

// toKubeStatus adds what annotations and the termination log say.
func (m *kubeGenericRuntimeManager) toKubeStatus(c *runtimeapi.Container, s *runtimeapi.ContainerStatus) *kubecontainer.Status {
	annotated := getContainerInfoFromAnnotations(c.Annotations)
	status := &kubecontainer.Status{
		ID:           m.containerID(s.Id),
		Name:         c.Labels[kubelettypes.KubernetesContainerNameLabel],
		State:        kubecontainer.ToState(s.State),
		PodSandboxID: c.PodSandboxId,
		CreatedAt:    time.Unix(0, s.CreatedAt),
		Image:        s.GetImage().GetImage(),
		ImageRef:     s.ImageRef,
		Hash:         annotated.Hash,
		RestartCount: annotated.RestartCount, MemoryRequest: annotated.MemoryRequest,
		User:       s.User,
		Mounts:     s.Mounts,
		LogPath:    s.LogPath,
		StopSignal: s.StopSignal,
		Resources:  s.GetResources().GetLinux(),
	}
	// The name that the pod used is friendlier than the ID some runtimes answer with.
	if userImage := s.GetImage().GetUserSpecifiedImage(); userImage != "" {
		status.Image = userImage
	}
	if s.State != runtimeapi.ContainerState_CONTAINER_CREATED {
		status.StartedAt = time.Unix(0, s.StartedAt)
	}
	if s.State == runtimeapi.ContainerState_CONTAINER_EXITED {
		status.Reason, status.Message, status.ExitCode = s.Reason, s.Message, int(s.ExitCode)
		if annotated.HiddenMessage && s.Message != "" {
			status.Message = "the runtime's message is not shown: it may quote the command, into which a Secret's value was expanded"
		}
		status.FinishedAt = time.Unix(0, s.FinishedAt)
		if s.StartedAt == 0 {
			status.StartedAt = status.CreatedAt
		}
		if message := terminationMessage(annotated, s); message != "" {
			status.Message = message
		}
	}
	return status
}

// terminationMessage is what the container left in its file, or, if it asked for
// that and failed, the end of its log.
func terminationMessage(annotated annotatedContainerInfo, s *runtimeapi.ContainerStatus) string {
	if annotated.TerminationMessagePath == "" {
		return ""
	}
	fromLog := annotated.TerminationMessagePolicy == v1.TerminationMessageFallbackToLogsOnError && s.ExitCode != 0
	for _, mount := range s.Mounts {
		if mount.ContainerPath != annotated.TerminationMessagePath {
			continue
		}
		message, err := readTail(mount.HostPath, maxTerminationMessage)
		if err != nil {
			return fmt.Sprintf("Error on reading termination log %s: %v", mount.HostPath, err)
		}
		if message != "" || !fromLog {
			return message
		}
	}
	if !fromLog || s.LogPath == "" {
		return ""
	}
	message, err := logs.Tail(s.LogPath, maxTerminationMessageLine, maxTerminationMessageLog)
	if err != nil {
		return fmt.Sprintf("Error on reading termination message from logs: %v", err)
	}
	return message
}

func readTail(path string, limit int64) (string, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > limit {
		if _, err := f.Seek(-limit, io.SeekEnd); err != nil {
			return "", err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	return string(data), err
}

// sandboxIPs are the pod's addresses as its runtime reports them, the main one first.
func sandboxIPs(s *runtimeapi.PodSandboxStatus) []string {
	if s.GetNetwork().GetIp() == "" {
		return nil
	}
	ips := []string{s.Network.Ip}
	for _, extra := range s.Network.AdditionalIps {
		ips = append(ips, extra.Ip)
	}
	return ips
}

func (m *kubeGenericRuntimeManager) sandboxIPs(ctx context.Context, pod *v1.Pod, sandboxID string) ([]string, error) {
	if pod.Spec.HostNetwork {
		return nil, nil // the node's: the kubelet knows them
	}
	response, err := m.Runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: sandboxID})
	if err != nil {
		return nil, fmt.Errorf("status of new sandbox: %w", err)
	}
	ips := sandboxIPs(response.Status)
	flow.Report(ctx, flow.Effect{What: "pod address", Detail: strings.Join(ips, ", ") + ", by the runtime's CNI ADD"})
	return ips, nil
}
