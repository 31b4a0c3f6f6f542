package kuberuntime

import (
	"encoding/json"
	"strconv"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	kubelettypes "k8s.io/kubelet/pkg/types"

	kubecontainer "hyperkube/kubelet/container"
)

// The kubelet keeps nothing on disk about containers. What it must know of them
// after a restart, or after their pod is gone from the API, it writes on them as
// annotations, under upstream's names (R71, and crictl shows them).
const (
	podDeletionGracePeriodLabel    = "io.kubernetes.pod.deletionGracePeriod"
	podTerminationGracePeriodLabel = "io.kubernetes.pod.terminationGracePeriod"

	containerHashLabel                     = "io.kubernetes.container.hash"
	containerRestartCountLabel             = "io.kubernetes.container.restartCount"
	containerTerminationMessagePathLabel   = "io.kubernetes.container.terminationMessagePath"
	containerTerminationMessagePolicyLabel = "io.kubernetes.container.terminationMessagePolicy"
	containerPreStopHandlerLabel           = "io.kubernetes.container.preStopHandler"
	containerPortsLabel                    = "io.kubernetes.container.ports"
	containerMemoryRequestLabel            = "io.kubernetes.container.memoryRequest"
	containerHiddenMessageLabel            = "io.kubernetes.container.hiddenMessage"
)

// annotatedContainerInfo is what newContainerAnnotations wrote.
type annotatedContainerInfo struct {
	Hash                      uint64
	RestartCount              int
	PodDeletionGracePeriod    *int64
	PodTerminationGracePeriod *int64
	TerminationMessagePath    string
	TerminationMessagePolicy  v1.TerminationMessagePolicy
	PreStopHandler            *v1.LifecycleHandler
	ContainerPorts            []v1.ContainerPort
	// MemoryRequest is in bytes: the kernel knows nothing of it, and a resize may have to restart for it.
	MemoryRequest *int64
	// HiddenMessage: a value of a Secret was expanded into the command, which a failure's message may quote.
	HiddenMessage bool
}

func newPodLabels(pod *v1.Pod) map[string]string {
	labels := map[string]string{}
	for k, v := range pod.Labels {
		labels[k] = v
	}
	labels[kubelettypes.KubernetesPodNameLabel] = pod.Name
	labels[kubelettypes.KubernetesPodNamespaceLabel] = pod.Namespace
	labels[kubelettypes.KubernetesPodUIDLabel] = string(pod.UID)
	return labels
}

func newContainerLabels(container *v1.Container, pod *v1.Pod) map[string]string {
	return map[string]string{
		kubelettypes.KubernetesPodNameLabel:       pod.Name,
		kubelettypes.KubernetesPodNamespaceLabel:  pod.Namespace,
		kubelettypes.KubernetesPodUIDLabel:        string(pod.UID),
		kubelettypes.KubernetesContainerNameLabel: container.Name,
	}
}

func newContainerAnnotations(container *v1.Container, pod *v1.Pod, restartCount int) map[string]string {
	annotations := map[string]string{
		containerHashLabel:                     strconv.FormatUint(kubecontainer.HashContainer(container), 16),
		containerRestartCountLabel:             strconv.Itoa(restartCount),
		containerTerminationMessagePathLabel:   container.TerminationMessagePath,
		containerTerminationMessagePolicyLabel: string(container.TerminationMessagePolicy),
		containerMemoryRequestLabel:            strconv.FormatInt(container.Resources.Requests.Memory().Value(), 10),
	}
	if pod.DeletionGracePeriodSeconds != nil {
		annotations[podDeletionGracePeriodLabel] = strconv.FormatInt(*pod.DeletionGracePeriodSeconds, 10)
	}
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		annotations[podTerminationGracePeriodLabel] = strconv.FormatInt(*pod.Spec.TerminationGracePeriodSeconds, 10)
	}
	if container.Lifecycle != nil && container.Lifecycle.PreStop != nil {
		if raw, err := json.Marshal(container.Lifecycle.PreStop); err == nil {
			annotations[containerPreStopHandlerLabel] = string(raw)
		}
	}
	if len(container.Ports) > 0 {
		if raw, err := json.Marshal(container.Ports); err == nil {
			annotations[containerPortsLabel] = string(raw)
		}
	}
	return annotations
}

// getContainerInfoFromAnnotations reads back; what is missing or damaged is left
// at zero, since a container that cannot be understood must still be killable.
func getContainerInfoFromAnnotations(annotations map[string]string) annotatedContainerInfo {
	info := annotatedContainerInfo{
		TerminationMessagePath:   annotations[containerTerminationMessagePathLabel],
		TerminationMessagePolicy: v1.TerminationMessagePolicy(annotations[containerTerminationMessagePolicyLabel]),
	}
	info.Hash, _ = strconv.ParseUint(annotations[containerHashLabel], 16, 64)
	info.RestartCount, _ = strconv.Atoi(annotations[containerRestartCountLabel])
	info.MemoryRequest = parseInt64(annotations[containerMemoryRequestLabel])
	info.PodDeletionGracePeriod = parseInt64(annotations[podDeletionGracePeriodLabel])
	info.PodTerminationGracePeriod = parseInt64(annotations[podTerminationGracePeriodLabel])
	if raw := annotations[containerPreStopHandlerLabel]; raw != "" {
		handler := &v1.LifecycleHandler{}
		if json.Unmarshal([]byte(raw), handler) == nil {
			info.PreStopHandler = handler
		}
	}
	info.HiddenMessage = annotations[containerHiddenMessageLabel] != ""
	if raw := annotations[containerPortsLabel]; raw != "" {
		_ = json.Unmarshal([]byte(raw), &info.ContainerPorts)
	}
	return info
}

func parseInt64(s string) *int64 {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return &n
	}
	return nil
}

// isManaged tells our sandboxes and containers from those of others on the same runtime.
func isManaged(labels map[string]string) bool {
	return labels[kubelettypes.KubernetesPodUIDLabel] != "" && labels[kubelettypes.KubernetesPodNameLabel] != ""
}

func podIdentity(labels map[string]string) (types.UID, string, string) {
	return types.UID(labels[kubelettypes.KubernetesPodUIDLabel]), labels[kubelettypes.KubernetesPodNameLabel], labels[kubelettypes.KubernetesPodNamespaceLabel]
}
