package kubelet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	apipod "hyperkube/api/core/pod"
	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/kuberuntime"
	kubepod "hyperkube/kubelet/pod"
	"hyperkube/kubelet/status"
	"hyperkube/kubelet/volume"
)

// volumeWait is how long a sync waits for its pod's volumes.
const volumeWait = 2 * time.Minute

// GetPodStatus asks the runtime what it has of a pod.
func (kl *Kubelet) GetPodStatus(ctx context.Context, uid types.UID, name, namespace string) (*kubecontainer.PodStatus, error) {
	return kl.manager.GetPodStatus(ctx, uid, name, namespace)
}

// SyncPod brings one pod up to date:
//
//  1. decide what it is allocated; compute its status and hand it to the status manager,
//  2. stop here if it has run to its end,
//  3. refuse it while the node has no network,
//  4. register what it refers to; make its mirror if it is static,
//  5. make its directories, cgroup and volumes,
//  6. have the runtime manager start and stop containers (seven steps of its own),
//  7. if that changed anything, compute the status again: who waits for Running
//     should not wait for the next event.
//
// It is called by the pod's worker only, so never twice at a time for a pod.
func (kl *Kubelet) SyncPod(ctx context.Context, update UpdateType, pod *v1.Pod, podStatus *kubecontainer.PodStatus) (terminal bool, err error) {
	logger := klog.FromContext(ctx)
	logger.V(4).Info("SyncPod", "pod", klog.KObj(pod), "update", update)
	start := kl.Clock.Now()
	defer func() { kl.measures.sync(string(update), kl.Clock.Since(start)) }()
	// Step 1: what it is allocated, and the status.
	if pod, err = kl.resizePod(ctx, pod); err != nil {
		return false, err
	}
	apiStatus := kl.generateAPIPodStatus(pod, podStatus, false)
	if deadline := kl.activeDeadlineExceeded(pod, apiStatus); deadline {
		apiStatus.Phase, apiStatus.Reason, apiStatus.Message = v1.PodFailed, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
		kl.recorder.Event(kubecontainer.GeneratePodRef(pod), v1.EventTypeNormal, "DeadlineExceeded", apiStatus.Message)
		kl.endBy(pod, func(s *v1.PodStatus) {
			s.Phase, s.Reason, s.Message = v1.PodFailed, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
		})
		return false, nil
	}
	kl.reportContainers(ctx, pod, &apiStatus)
	// Step 2: the end.
	if apipod.IsPodPhaseTerminal(apiStatus.Phase) {
		kl.status.SetPodStatus(pod, holdPhase(apiStatus, podStatus, pod))
		return true, nil
	}
	kl.status.SetPodStatus(pod, apiStatus)
	// Step 3: the network.
	if err := kl.state.networkError(); err != nil && !pod.Spec.HostNetwork {
		kl.recorder.Eventf(kubecontainer.GeneratePodRef(pod), v1.EventTypeWarning, "NetworkNotReady", "network is not ready: %v", err)
		return false, fmt.Errorf("network is not ready: %w", err)
	}
	// Step 4: what it refers to, and its mirror.
	kl.registerPod(pod)
	kl.ensureMirror(ctx, pod)
	// Step 5: directories, cgroup, volumes.
	if len(podStatus.SandboxStatuses) == 0 { // it is new: its level weighs more; that levels weigh less can wait for the node's status
		kl.cgroups.UpdateQOSCgroups(kl.activePods)
	}
	if err := kl.cgroups.EnsureExists(pod); err != nil {
		kl.recorder.Eventf(kubecontainer.GeneratePodRef(pod), v1.EventTypeWarning, "FailedToCreatePodContainer", "unable to ensure pod container exists: %v", err)
		return false, fmt.Errorf("making the pod's cgroup: %w", err)
	}
	if err := kl.dirs.makePod(pod.UID); err != nil {
		return false, fmt.Errorf("making the pod's directories: %w", err)
	}
	if err := kl.volumes.SetUpPod(ctx, pod, volumeWait); err != nil {
		if !errors.Is(err, context.DeadlineExceeded) { // what took too long has been told, volume by volume
			kl.recorder.Eventf(kubecontainer.GeneratePodRef(pod), v1.EventTypeWarning, "FailedMount", "Unable to attach or mount volumes: %v", err)
		}
		return false, err
	}
	// Step 6: containers.
	kl.prober.AddPod(pod)
	result := kl.manager.SyncPod(ctx, pod, podStatus, kuberuntime.SyncPodInput{PullSecrets: kl.pullSecrets(ctx, pod), RestartAllContainers: status.AllContainersRestarting(&apiStatus)})
	kl.reasons.Update(pod.UID, result)
	// Step 7: the status again.
	if (result.Acted || len(kl.allocation.Conditions(pod.UID)) > 0) && ctx.Err() == nil {
		if podStatus, statusErr := kl.GetPodStatus(ctx, pod.UID, pod.Name, pod.Namespace); statusErr == nil {
			kl.finishResize(ctx, pod, podStatus, result)
			apiStatus := kl.generateAPIPodStatus(pod, podStatus, false)
			if !apipod.IsPodPhaseTerminal(apiStatus.Phase) {
				kl.reportContainers(ctx, pod, &apiStatus)
				kl.status.SetPodStatus(pod, apiStatus)
			}
		}
	}
	if result.Did(kubecontainer.RemoveContainer) {
		kl.HandlePodSyncs(ctx, []types.UID{pod.UID}) // all its containers are gone, and no event follows: begin anew at once
	}
	return false, result.Err()
}

// holdPhase keeps a pod from being called ended while something of it still runs:
// a controller that replaced it now would have two.
func holdPhase(s v1.PodStatus, podStatus *kubecontainer.PodStatus, pod *v1.Pod) v1.PodStatus {
	if len(podStatus.RunningContainerStatuses()) > 0 && apipod.IsPodPhaseTerminal(s.Phase) && !apipod.IsPodTerminal(pod) {
		s.Phase = v1.PodRunning
	}
	return s
}

// endBy begins a pod's end for a reason of the node's.
func (kl *Kubelet) endBy(pod *v1.Pod, why PodStatusFunc) {
	kl.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodKill, Pod: pod, Kill: &KillPodOptions{Evict: true, PodStatusFunc: why}})
}

func (kl *Kubelet) activeDeadlineExceeded(pod *v1.Pod, s v1.PodStatus) bool {
	if pod.Spec.ActiveDeadlineSeconds == nil || s.StartTime == nil {
		return false
	}
	left := time.Duration(*pod.Spec.ActiveDeadlineSeconds)*time.Second - kl.Clock.Since(s.StartTime.Time)
	if left > 0 {
		kl.queue.Enqueue(pod.UID, min(left, resyncInterval))
	}
	return left <= 0
}

// SyncTerminatingPod ends all containers of a pod. It returns nil only when the
// runtime says that none runs: what follows gives the pod's volumes away.
func (kl *Kubelet) SyncTerminatingPod(ctx context.Context, pod *v1.Pod, podStatus *kubecontainer.PodStatus, gracePeriod *int64, why PodStatusFunc) error {
	apiStatus := kl.generateAPIPodStatus(pod, podStatus, false)
	if why != nil {
		why(&apiStatus)
	}
	kl.status.SetPodStatus(pod, holdPhase(apiStatus, podStatus, pod))
	kl.prober.StopLivenessAndStartup(pod)
	if err := kl.manager.KillPod(ctx, pod, podStatus.RunningPod(), gracePeriod); err != nil {
		kl.recorder.Eventf(kubecontainer.GeneratePodRef(pod), v1.EventTypeWarning, "FailedKillPod", "error killing pod: %v", err)
		return err
	}
	kl.prober.RemovePod(pod.UID)
	podStatus, err := kl.GetPodStatus(ctx, pod.UID, pod.Name, pod.Namespace)
	if err != nil {
		return err
	}
	if running := podStatus.RunningContainerStatuses(); len(running) > 0 {
		return fmt.Errorf("detected running containers after a successful KillPod: %d", len(running))
	}
	apiStatus = kl.generateAPIPodStatus(pod, podStatus, true)
	if why != nil {
		why(&apiStatus)
	}
	kl.status.SetPodStatus(pod, apiStatus)
	return nil
}

// SyncTerminatingRuntimePod ends what runs of a pod that nobody asked for.
func (kl *Kubelet) SyncTerminatingRuntimePod(ctx context.Context, running *kubecontainer.Pod) error {
	grace := int64(1)
	if err := kl.manager.KillPod(ctx, running.ToAPIPod(), running, &grace); err != nil {
		return err
	}
	return kl.manager.RemovePod(ctx, running.ID, "")
}

// SyncTerminatedPod frees what the pod had on the node, and lets the API forget it
// if it was deleted.
func (kl *Kubelet) SyncTerminatedPod(ctx context.Context, pod *v1.Pod, podStatus *kubecontainer.PodStatus) error {
	// A runtime that was slow may have finished what it was told to stop: it runs now, and holds the pod's cgroup.
	if podStatus.Lives() {
		klog.FromContext(ctx).V(1).Info("Ending what came up after the pod was ended", "pod", klog.KObj(pod))
		if err := kl.manager.KillPod(ctx, pod, podStatus.RunningPod(), ptr.To[int64](0)); err != nil {
			return fmt.Errorf("ending what came up after the pod was ended: %w", err)
		}
	}
	apiStatus := kl.generateAPIPodStatus(pod, podStatus, true)
	kl.status.SetPodStatus(pod, apiStatus)
	if err := kl.volumes.TearDownPod(ctx, pod.UID); err != nil {
		return err
	}
	kl.users.Release(pod.UID)
	kl.configs.SetPod(pod.UID, pod.Namespace, nil)
	kl.secrets.SetPod(pod.UID, pod.Namespace, nil)
	kl.tokens.DeleteServiceAccountToken(pod.UID)
	kl.podCertificates.ForgetPod(pod.UID)
	kl.reasons.Remove(pod.UID)
	if err := kl.cgroups.Destroy(pod.UID); err != nil {
		return fmt.Errorf("removing the pod's cgroup: %w", err)
	}
	if pod.DeletionTimestamp != nil {
		// The logs of a deleted pod can be asked for by nobody.
		if err := kl.manager.RemovePod(ctx, pod.UID, kl.PodLogsDir(pod)); err != nil {
			return fmt.Errorf("removing the pod's containers: %w", err)
		}
	}
	kl.retryDeferredResizes(ctx) // what it had is free now
	kl.status.SetPodFinished(pod)
	return nil
}

// generateAPIPodStatus computes a pod's status from what the runtime, the probes
// and the last attempts to start it say.
func (kl *Kubelet) generateAPIPodStatus(pod *v1.Pod, podStatus *kubecontainer.PodStatus, terminal bool) v1.PodStatus {
	old, known := kl.status.GetPodStatus(pod.UID)
	if !known {
		old = pod.Status
	}
	now := metav1.NewTime(kl.Clock.Now())
	pod = kl.allocation.UpdatePodFromAllocation(pod)
	s := status.GenerateAPIPodStatus(status.Input{
		Pod: pod, Old: old, Runtime: podStatus, Terminal: terminal, HostIPs: kl.state.hostIPs(), Now: now, Resize: kl.allocation.Conditions(pod.UID),
		Reason: func(container string) (error, string) { return kl.reasons.Get(pod.UID, container) },
	})
	kl.prober.UpdatePodStatus(pod, &s)
	status.SetConditions(pod, &s, podStatus, now)
	return s
}

// podIPs finds the addresses of a running pod, for hooks.
func (kl *Kubelet) podIPs(ctx context.Context, pod *v1.Pod) []string {
	if pod.Spec.HostNetwork {
		return kl.state.hostIPs()
	}
	podStatus, err := kl.GetPodStatus(ctx, pod.UID, pod.Name, pod.Namespace)
	if err != nil {
		return nil
	}
	return podStatus.IPs
}

// registerPod holds, from now on, the config maps and secrets the pod refers to.
func (kl *Kubelet) registerPod(pod *v1.Pod) {
	if kl.Client == nil {
		return
	}
	var configs, secrets []string
	apipod.VisitPodConfigmapNames(pod, func(name string) bool { configs = append(configs, name); return true })
	apipod.VisitPodSecretNames(pod, func(name string) bool { secrets = append(secrets, name); return true })
	kl.configs.SetPod(pod.UID, pod.Namespace, configs)
	kl.secrets.SetPod(pod.UID, pod.Namespace, secrets)
}

// ensureMirror keeps the API's picture of a static pod. Failing to is no reason
// not to run the pod.
func (kl *Kubelet) ensureMirror(ctx context.Context, pod *v1.Pod) {
	if kl.Client == nil || !kubepod.IsStatic(pod) {
		return
	}
	mirror := kl.pods.MirrorOf(pod)
	logger := klog.FromContext(ctx)
	if mirror != nil && (mirror.DeletionTimestamp != nil || !kubepod.IsMirrorOf(mirror, pod)) {
		logger.V(1).Info("Replacing the mirror of a static pod that changed", "pod", klog.KObj(pod))
		if err := kubepod.DeleteMirror(ctx, kl.Client, mirror); err != nil {
			logger.Error(err, "Removing a mirror pod", "pod", klog.KObj(pod))
		}
		return // its removal, seen by the watch, brings the pod here again
	}
	if mirror != nil {
		return
	}
	if !kl.mux.AllReady() || kl.node() == nil {
		kl.queue.Enqueue(pod.UID, time.Second) // the mirror's owner is the node: it has to exist first
	} else if err := kubepod.CreateMirror(ctx, kl.Client, pod, kl.node()); err != nil {
		logger.Error(err, "Static pod runs, but cannot be shown in the API", "pod", klog.KObj(pod))
	}
}

// pullSecrets fetches the pod's imagePullSecrets. One that is missing is reported
// and left out: the image may be public.
func (kl *Kubelet) pullSecrets(ctx context.Context, pod *v1.Pod) []v1.Secret {
	var secrets []v1.Secret
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" {
			continue
		}
		secret, err := volumeHost{kl}.GetSecret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			kl.recorder.Eventf(kubecontainer.GeneratePodRef(pod), v1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
				"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", ref.Name)
			continue
		}
		secrets = append(secrets, *secret)
	}
	return secrets
}

// GenerateRunContainerOptions makes what the kubelet adds to a container:
// environment, mounts, hosts file, termination log.
func (kl *Kubelet) GenerateRunContainerOptions(ctx context.Context, pod *v1.Pod, container *v1.Container, in kubecontainer.RunContainerInput) (*kubecontainer.RunContainerOptions, error) {
	podIPs := in.PodIPs
	hostname, domain := kl.GeneratePodHostNameAndDomain(pod)
	if pod.Spec.HostNetwork {
		podIPs = kl.state.hostIPs()
	}
	envs, err := kl.makeEnvironmentVariables(ctx, pod, container, podIPs)
	if err != nil {
		return nil, err
	}
	// The hosts file names the pod by its short name too, also where its host name is the whole one.
	short := strings.TrimSuffix(hostname, "."+domain)
	mounts, err := kl.makeMounts(ctx, pod, container, hostsInput{hostname: short, domain: domain, podIPs: podIPs}, in.ImageVolumes)
	if err != nil {
		return nil, err
	}
	devices, err := makeBlockVolumes(container, kl.volumes.Mounted(pod.UID))
	if err != nil {
		return nil, err
	}
	return &kubecontainer.RunContainerOptions{Envs: envs, Mounts: mounts, Devices: devices, Hostname: hostname}, nil
}

// makeBlockVolumes are the volumes that a container gets as block devices.
func makeBlockVolumes(container *v1.Container, mounted map[string]volume.Mounted) ([]*runtimeapi.Device, error) {
	var devices []*runtimeapi.Device
	for _, device := range container.VolumeDevices {
		source, ok := mounted[device.Name]
		if !ok || !source.Device {
			return nil, fmt.Errorf("cannot find device %q for volume of container %q", device.Name, container.Name)
		}
		permissions := "mrw"
		if source.ReadOnly {
			permissions = "r"
		}
		devices = append(devices, &runtimeapi.Device{HostPath: source.Path, ContainerPath: device.DevicePath, Permissions: permissions})
	}
	return devices, nil
}

type hostsInput struct {
	hostname, domain string
	podIPs           []string
}

// makeMounts resolves volumeMounts to paths of the node, and adds the kubelet's own.
func (kl *Kubelet) makeMounts(ctx context.Context, pod *v1.Pod, container *v1.Container, hosts hostsInput, images map[string]*runtimeapi.ImageSpec) ([]*runtimeapi.Mount, error) {
	mounted := kl.volumes.Mounted(pod.UID)
	var mounts []*runtimeapi.Mount
	hostsMounted := false
	for i, mount := range container.VolumeMounts {
		volume, ok := mounted[mount.Name]
		if !ok {
			return nil, fmt.Errorf("cannot find volume %q to mount into container %q", mount.Name, container.Name)
		}
		if volume.Device { // of a container that was added later; of others the volume's own checks have seen it
			return nil, fmt.Errorf("volume %s has volumeMode %s, but is specified in volumeMounts", mount.Name, v1.PersistentVolumeBlock)
		}
		hostPath := volume.Path
		subPath, err := kl.subPath(ctx, pod, container, mount, podIPsOf(hosts))
		if err != nil {
			return nil, err
		}
		if subPath != "" && images[mount.Name] == nil {
			if hostPath, err = kl.volumes.SubPath(pod, container.Name, i, volume, subPath); err != nil {
				return nil, err
			}
		}
		containerPath := mount.MountPath
		if !filepath.IsAbs(containerPath) {
			containerPath = filepath.Join("/", containerPath)
		}
		hostsMounted = hostsMounted || containerPath == hostsPath
		if image := images[mount.Name]; image != nil {
			mounts = append(mounts, &runtimeapi.Mount{ContainerPath: containerPath, Image: image, ImageSubPath: subPath, Readonly: true})
			continue
		}
		recursive, err := recursiveReadOnly(mount, kl.state.recursiveReadOnlyMounts())
		if err != nil {
			return nil, fmt.Errorf("failed to resolve recursive read-only mode: %w", err)
		}
		mounts = append(mounts, &runtimeapi.Mount{
			ContainerPath: containerPath, HostPath: hostPath, Readonly: mount.ReadOnly || volume.ReadOnly,
			Propagation: propagation(mount.MountPropagation), RecursiveReadOnly: recursive,
		})
	}
	if !hostsMounted && len(hosts.podIPs) > 0 {
		path, err := kl.dirs.writeHosts(pod, hosts)
		if err != nil {
			return nil, fmt.Errorf("writing the pod's hosts file: %w", err)
		}
		readOnly := container.SecurityContext != nil && container.SecurityContext.ReadOnlyRootFilesystem != nil && *container.SecurityContext.ReadOnlyRootFilesystem
		mounts = append(mounts, &runtimeapi.Mount{ContainerPath: hostsPath, HostPath: path, Readonly: readOnly})
	}
	if container.TerminationMessagePath != "" {
		path, err := kl.dirs.terminationLog(pod.UID, container.Name)
		if err != nil {
			return nil, fmt.Errorf("making the termination log: %w", err)
		}
		mounts = append(mounts, &runtimeapi.Mount{ContainerPath: container.TerminationMessagePath, HostPath: path})
	}
	return mounts, nil
}

func podIPsOf(hosts hostsInput) []string { return hosts.podIPs }

func propagation(mode *v1.MountPropagationMode) runtimeapi.MountPropagation {
	switch {
	case mode == nil || *mode == v1.MountPropagationNone:
		return runtimeapi.MountPropagation_PROPAGATION_PRIVATE
	case *mode == v1.MountPropagationBidirectional:
		return runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
	}
	return runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
}

// recursiveReadOnly says whether the mounts below a mount are to be read-only too
// (KEP-3857). A runtime that is not able to would leave them writable without a
// word: who insists on it gets no container instead.
func recursiveReadOnly(mount v1.VolumeMount, supported bool) (bool, error) {
	if mount.RecursiveReadOnly == nil || !mount.ReadOnly {
		return false, nil
	}
	switch *mount.RecursiveReadOnly {
	case v1.RecursiveReadOnlyEnabled:
		if !supported {
			return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not supported by the runtime", mount.Name)
		}
		return true, nil
	case v1.RecursiveReadOnlyIfPossible:
		return supported, nil
	}
	return false, nil
}

// volumeHost is the kubelet as volumes see it.
type volumeHost struct{ *Kubelet }

var errStandalone = errors.New("the kubelet runs without an apiserver")

func (h volumeHost) GetConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error) {
	if h.Client == nil {
		return nil, errStandalone
	}
	object, err := h.configs.Get(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return object.(*v1.ConfigMap), nil
}

func (h volumeHost) GetSecret(ctx context.Context, namespace, name string) (*v1.Secret, error) {
	if h.Client == nil {
		return nil, errStandalone
	}
	object, err := h.secrets.Get(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return object.(*v1.Secret), nil
}

func (h volumeHost) GetPersistentVolumeClaim(ctx context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error) {
	if h.Client == nil {
		return nil, errStandalone
	}
	return h.Client.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (h volumeHost) GetPersistentVolume(ctx context.Context, name string) (*v1.PersistentVolume, error) {
	return h.Client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
}

func (h volumeHost) UpdatePersistentVolumeClaimStatus(ctx context.Context, claim *v1.PersistentVolumeClaim) (*v1.PersistentVolumeClaim, error) {
	return h.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, claim, metav1.UpdateOptions{})
}

func (h volumeHost) NodeLabels() map[string]string {
	if node := h.node(); node != nil {
		return node.Labels
	}
	return nil
}

// hostsPath is the file that names the pod within its containers.
const hostsPath = "/etc/hosts"
