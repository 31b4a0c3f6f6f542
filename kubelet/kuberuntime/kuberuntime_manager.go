package kuberuntime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	kubelettypes "k8s.io/kubelet/pkg/types"
	"k8s.io/utils/clock"

	"hyperkube/flow"
	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/images"
	"hyperkube/kubelet/lifecycle"
	"hyperkube/kubelet/remote"
)

// RuntimeHelper is what the runtime manager asks of the kubelet about a pod.
// `kubelet/kubelet_pods.go` implements it, and a fake in tests.
type RuntimeHelper interface {
	// GenerateRunContainerOptions makes environment, mounts and hosts file. An error
	// here shows as CreateContainerConfigError.
	GenerateRunContainerOptions(ctx context.Context, pod *v1.Pod, container *v1.Container, in kubecontainer.RunContainerInput) (*kubecontainer.RunContainerOptions, error)
	// GetOrCreateUserNamespaceMappings says which users of the node the pod's are.
	GetOrCreateUserNamespaceMappings(pod *v1.Pod) (*runtimeapi.UserNamespace, error)
	GetPodDNS(pod *v1.Pod) (*runtimeapi.DNSConfig, error)
	GeneratePodHostNameAndDomain(pod *v1.Pod) (hostname, domain string)
	// GetPodCgroupParent is the pod's cgroup as the runtime names it; empty when cgroups are not used.
	GetPodCgroupParent(pod *v1.Pod) string
	// GetOOMScoreAdjust is relative to the memory of the machine.
	GetOOMScoreAdjust(pod *v1.Pod, container *v1.Container) int64
	// PodLogsDir is where the runtime writes the pod's logs.
	PodLogsDir(pod *v1.Pod) string
	// SeccompProfileRoot resolves Localhost profiles.
	SeccompProfileRoot() string
}

// Config of the runtime manager. All fields are needed.
type Config struct {
	Runtime  *remote.Runtime
	Images   *images.ImageManager
	Helper   RuntimeHelper
	Probes   ProbeResults
	Hooks    *lifecycle.HandlerRunner
	Recorder record.EventRecorder
	Clock    clock.Clock
	// Changed is called right after the runtime was asked to start or stop
	// something, so that what it did is noticed without waiting for a tick.
	Changed func()
	// SeccompDefault filters the system calls of containers whose pod says nothing about that.
	SeccompDefault bool
	// HugePageSizes are those that the machine's kernel knows, in bytes.
	HugePageSizes []int64
	// ContainerCgroup are the files of cgroup v2 that each container has written whatever its pod says; none on v1.
	ContainerCgroup map[string]string
	// MaxBackOff is the longest wait of a container that crashes again and again; default 5 min.
	MaxBackOff time.Duration
}

// kubeGenericRuntimeManager brings pods to life through the CRI.
//
// Invariant: it keeps no state about pods. Each call is given the pod and what
// the runtime said of it a moment ago.
type kubeGenericRuntimeManager struct {
	Config
	backOff     *flowcontrol.Backoff
	runtimeName string // the type in "type://id"
}

// Manager is the runtime manager as the kubelet holds it.
type Manager = kubeGenericRuntimeManager

// CrashLoopBackOff doubles from 10 s to Config.MaxBackOff per container, and is forgotten
// after twice that.
const (
	initialBackOff = 10 * time.Second
	maxBackOff     = 5 * time.Minute
)

// NewKubeGenericRuntimeManager makes a manager. The runtime need not be up yet.
func NewKubeGenericRuntimeManager(cfg Config) *Manager {
	longest := cmp.Or(cfg.MaxBackOff, maxBackOff)
	backOff := flowcontrol.NewBackOff(min(initialBackOff, longest), longest)
	backOff.Clock = cfg.Clock
	return &kubeGenericRuntimeManager{Config: cfg, backOff: backOff, runtimeName: "cri"}
}

// SetRuntimeName tells the manager what the runtime calls itself, once it answered.
func (m *kubeGenericRuntimeManager) SetRuntimeName(name string) { m.runtimeName = name }

// SyncPodInput is what SyncPod is told besides the pod and its state.
type SyncPodInput struct {
	PullSecrets []v1.Secret
	// RestartAllContainers: a container ended whose rule has the whole pod begin anew (KEP-5532).
	RestartAllContainers bool
}

// SyncPod makes what runs match the pod:
//
//  1. Compute sandbox and container changes.
//  2. Kill the pod sandbox if necessary.
//  3. Kill any containers that should not be running; remove all if the pod is to begin anew.
//  4. Create the sandbox if necessary.
//  5. Start ephemeral containers.
//  6. Start init containers.
//  7. Start normal containers.
//
// A container that fails to start stops neither the others nor the next sync; a
// sandbox that fails does. The steps carry the same numbers in the log (S4-05).
func (m *kubeGenericRuntimeManager) SyncPod(ctx context.Context, pod *v1.Pod, podStatus *kubecontainer.PodStatus, in SyncPodInput) (result kubecontainer.PodSyncResult) {
	logger := klog.FromContext(ctx).WithValues("pod", klog.KObj(pod))
	// Step 1: compute sandbox and container changes.
	actions := computePodActions(pod, podStatus, m.Probes, in.RestartAllContainers)
	if actions.nothing() {
		logger.V(4).Info("SyncPod step 1: nothing to do")
		return result
	}
	result.Acted = true
	logger.V(1).Info("SyncPod step 1: computed pod actions", "podActions", actions)
	if flow.SinkFrom(ctx) != nil {
		flow.Report(ctx, flow.Effect{What: "computePodActions", Detail: actions.brief(pod)})
	}
	if actions.CreateSandbox && actions.Attempt > 0 {
		m.Recorder.Event(kubecontainer.GeneratePodRef(pod), v1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	defer m.Changed()

	// Step 2: kill the pod sandbox if necessary, and with it all containers.
	if actions.KillPod && len(podStatus.SandboxStatuses)+len(podStatus.ContainerStatuses) > 0 {
		logger.V(1).Info("SyncPod step 2: kill the pod sandbox", "createsNewOne", actions.CreateSandbox)
		if err := m.KillPod(ctx, pod, podStatus.RunningPod(), nil); err != nil {
			result.Add(kubecontainer.KillPodSandbox, pod.Name, kubecontainer.ErrKillPodSandbox, err.Error())
			return result
		}
		if actions.CreateSandbox {
			m.purgeInitContainers(ctx, pod, podStatus)
		}
	} else if !m.killUnwanted(ctx, pod, actions, &result) { // Step 3: kill any containers that should not be running.
		return result
	}
	if len(actions.ContainersToReset) > 0 {
		return result // the next sync begins anew
	}
	start := containerStarter{m: m, pod: pod, podStatus: podStatus, pullSecrets: in.PullSecrets, result: &result, podIPs: podStatus.IPs, sandboxID: actions.SandboxID,
		imageVolumes: map[string]pulledVolume{}}
	// Step 4: create the sandbox if necessary.
	if actions.CreateSandbox {
		logger.V(1).Info("SyncPod step 4: create the sandbox", "attempt", actions.Attempt)
		if !start.createSandbox(ctx, actions.Attempt) {
			return result
		}
	}
	if !start.configure(actions.Attempt) {
		return result
	}
	// Who goes on running gets the limits that the pod was allocated since (KEP-1287).
	m.updateContainers(ctx, pod, actions, &result)
	// Step 5: start ephemeral containers.
	for _, i := range actions.EphemeralContainersToStart {
		ephemeral := &pod.Spec.EphemeralContainers[i]
		logger.V(1).Info("SyncPod step 5: start ephemeral container", "container", ephemeral.Name)
		start.start(ctx, (*v1.Container)(&ephemeral.EphemeralContainerCommon), ephemeral.TargetContainerName)
	}
	// Step 6: start init containers.
	for _, i := range actions.InitContainersToStart {
		container := &pod.Spec.InitContainers[i]
		logger.V(1).Info("SyncPod step 6: start init container", "container", container.Name)
		if !start.start(ctx, container, "") && !kubecontainer.IsRestartableInitContainer(container) {
			return result // the ones behind it wait for it
		}
	}
	// Step 7: start normal containers.
	for _, i := range actions.ContainersToStart {
		container := &pod.Spec.Containers[i]
		logger.V(1).Info("SyncPod step 7: start container", "container", container.Name)
		start.start(ctx, container, "")
	}
	return result
}

// killUnwanted is step 3. It returns false when one could not be killed: starting
// its successor beside it would break "at most one".
func (m *kubeGenericRuntimeManager) killUnwanted(ctx context.Context, pod *v1.Pod, actions podActions, result *kubecontainer.PodSyncResult) bool {
	for id, info := range actions.ContainersToKill {
		klog.FromContext(ctx).V(1).Info("SyncPod step 3: kill container", "pod", klog.KObj(pod), "container", info.name, "reason", info.message)
		err := m.killContainer(ctx, pod, killRequest{id: id, name: info.name, message: info.message, reason: info.reason})
		if err != nil {
			result.Add(kubecontainer.KillContainer, info.name, kubecontainer.ErrKillContainer, err.Error())
			return false
		}
		result.Add(kubecontainer.KillContainer, info.name, nil, "")
	}
	for _, info := range actions.ContainersToReset {
		if err := m.resetContainer(ctx, pod, info); err != nil {
			result.Add(kubecontainer.RemoveContainer, info.name, kubecontainer.ErrRemoveContainer, err.Error())
			return false
		}
		result.Add(kubecontainer.RemoveContainer, info.name, nil, "")
	}
	return true
}

// resetContainer ends a container without its preStop hook and removes it. Its log stays, and with it the count of its
// restarts.
func (m *kubeGenericRuntimeManager) resetContainer(ctx context.Context, pod *v1.Pod, info containerToRemoveInfo) error {
	klog.FromContext(ctx).V(1).Info("SyncPod step 3: reset container", "pod", klog.KObj(pod), "container", info.name, "runs", info.kill)
	if info.kill {
		noGrace := int64(0)
		request := killRequest{id: info.id, name: info.name, message: "killing", reason: reasonRestartAll, gracePeriodOverride: &noGrace}
		if err := m.killContainer(ctx, pod, request); err != nil {
			return err
		}
	}
	return m.RemoveContainer(ctx, info.id.ID, "")
}

// containerStarter is the part of a SyncPod that steps 4 to 7 share.
type containerStarter struct {
	m             *kubeGenericRuntimeManager
	pod           *v1.Pod
	podStatus     *kubecontainer.PodStatus
	pullSecrets   []v1.Secret
	result        *kubecontainer.PodSyncResult
	podIPs        []string
	sandboxID     string
	sandboxConfig *runtimeapi.PodSandboxConfig
	imageVolumes  map[string]pulledVolume // by the name of the volume
}

// pulledVolume is how the pull of an image that is a volume went.
type pulledVolume struct {
	image   images.Image
	message string
	err     error
}

// createSandbox is step 4, and learns the pod's addresses.
func (s *containerStarter) createSandbox(ctx context.Context, attempt uint32) bool {
	sandboxID, message, err := s.m.createPodSandbox(ctx, s.pod, attempt)
	if err == nil {
		s.podIPs, err = s.m.sandboxIPs(ctx, s.pod, sandboxID)
		if err != nil {
			message = err.Error()
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			s.m.Recorder.Eventf(kubecontainer.GeneratePodRef(s.pod), v1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
		}
		s.result.Add(kubecontainer.CreatePodSandbox, s.pod.Name, kubecontainer.ErrCreatePodSandbox, message)
		return false
	}
	s.result.Add(kubecontainer.CreatePodSandbox, s.pod.Name, nil, "")
	s.sandboxID = sandboxID
	return true
}

// configure computes the sandbox's config, which creating each container needs again.
func (s *containerStarter) configure(attempt uint32) bool {
	config, err := s.m.generatePodSandboxConfig(s.pod, attempt)
	if err != nil {
		s.result.Add(kubecontainer.CreatePodSandbox, s.pod.Name, kubecontainer.ErrCreatePodSandbox, fmt.Sprintf("GeneratePodSandboxConfig for pod %s/%s failed: %v", s.pod.Namespace, s.pod.Name, err))
		return false
	}
	s.sandboxConfig = config
	return true
}

// start starts one container unless it backs off, and records how that went.
func (s *containerStarter) start(ctx context.Context, container *v1.Container, target string) bool {
	if result, inBackOff := s.m.doBackOff(s.pod, container, s.podStatus); inBackOff {
		s.result.SyncResults = append(s.result.SyncResults, result)
		return false
	}
	message, err := s.m.startContainer(ctx, s, container, target)
	result := s.result.Add(kubecontainer.StartContainer, container.Name, nil, "")
	if err != nil {
		result.Error, result.Message = err, message
		var pull *images.PullError
		if errors.As(err, &pull) {
			result.Error, result.RetryAt = pull.Reason, pull.RetryAt
		}
		klog.FromContext(ctx).V(1).Info("Container did not start", "pod", klog.KObj(s.pod), "container", container.Name, "reason", result.Error, "message", message)
	}
	return err == nil
}

// doBackOff tells whether a container that crashed has to wait, and counts the crash if not.
func (m *kubeGenericRuntimeManager) doBackOff(pod *v1.Pod, container *v1.Container, podStatus *kubecontainer.PodStatus) (*kubecontainer.SyncResult, bool) {
	var last *kubecontainer.Status
	for _, status := range podStatus.ContainerStatuses {
		if status.Name == container.Name && status.State == kubecontainer.StateExited {
			last = status
			break
		}
	}
	if last == nil {
		return nil, false
	}
	key := backOffKey(pod, container)
	if !m.backOff.IsInBackOffSince(key, last.FinishedAt) {
		m.backOff.Next(key, last.FinishedAt)
		return nil, false
	}
	wait := m.backOff.Get(key)
	m.Recorder.Eventf(kubecontainer.GenerateContainerRef(pod, container), v1.EventTypeWarning, "BackOff",
		"Back-off restarting failed container %s in pod %s", container.Name, podFullName(pod))
	return &kubecontainer.SyncResult{
		Action: kubecontainer.StartContainer, Target: container.Name,
		Error:   kubecontainer.ErrCrashLoopBackOff,
		Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", wait, container.Name, podFullName(pod)),
		RetryAt: last.FinishedAt.Add(wait),
	}, true
}

// backOffKey changes with the container's definition: who mends an image does not wait.
func backOffKey(pod *v1.Pod, container *v1.Container) string {
	return fmt.Sprintf("%s_%s_%s_%s_%x", pod.Name, pod.Namespace, pod.UID, container.Name, kubecontainer.HashContainer(container))
}

func podFullName(pod *v1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}

// GetPods lists what the runtime has, grouped by pod; with all, also what is dead.
func (m *kubeGenericRuntimeManager) GetPods(ctx context.Context, all bool) ([]*kubecontainer.Pod, error) {
	sandboxes, err := m.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: sandboxFilter(all)})
	if err != nil {
		return nil, fmt.Errorf("listing pod sandboxes: %w", err)
	}
	containers, err := m.Runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: containerFilter(all)})
	if err != nil {
		return nil, fmt.Errorf("listing containers: %w", err)
	}
	pods := map[types.UID]*kubecontainer.Pod{}
	podOf := func(labels map[string]string) *kubecontainer.Pod {
		uid, name, namespace := podIdentity(labels)
		if pods[uid] == nil {
			pods[uid] = &kubecontainer.Pod{ID: uid, Name: name, Namespace: namespace}
		}
		return pods[uid]
	}
	for _, s := range sandboxes.Items {
		if !isManaged(s.Labels) {
			continue
		}
		state := kubecontainer.StateExited
		if s.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			state = kubecontainer.StateRunning
		}
		pod := podOf(s.Labels)
		pod.Sandboxes = append(pod.Sandboxes, &kubecontainer.Container{ID: m.containerID(s.Id), State: state, CreatedAt: time.Unix(0, s.CreatedAt)})
	}
	for _, c := range containers.Containers {
		if !isManaged(c.Labels) {
			continue
		}
		pod := podOf(c.Labels)
		pod.Containers = append(pod.Containers, &kubecontainer.Container{
			ID: m.containerID(c.Id), Name: c.Labels[kubelettypes.KubernetesContainerNameLabel], State: kubecontainer.ToState(c.State),
			Hash: getContainerInfoFromAnnotations(c.Annotations).Hash, PodSandboxID: c.PodSandboxId, CreatedAt: time.Unix(0, c.CreatedAt),
		})
	}
	list := make([]*kubecontainer.Pod, 0, len(pods))
	for _, pod := range pods {
		list = append(list, pod)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list, nil
}

func sandboxFilter(all bool) *runtimeapi.PodSandboxFilter {
	if all {
		return nil
	}
	return &runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY}}
}

func containerFilter(all bool) *runtimeapi.ContainerFilter {
	if all {
		return nil
	}
	return &runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}}
}

func (m *kubeGenericRuntimeManager) containerID(id string) kubecontainer.ContainerID {
	return kubecontainer.ContainerID{Type: m.runtimeName, ID: id}
}
