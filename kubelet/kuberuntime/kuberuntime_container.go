package kuberuntime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/images"
	"hyperkube/kubelet/lifecycle"
	"hyperkube/kubelet/remote"
)

// minimumGracePeriodInSeconds is what a container gets for its shutdown however
// much of its grace the preStop hook has used.
const minimumGracePeriodInSeconds = 2

// startContainer starts one container:
//
//  1. pull the image, and the images that it mounts as volumes,
//  2. create the container,
//  3. start it,
//  4. run its postStart hook; if that fails the container is killed.
//
// The error is one of the reasons of package container; the message is for people.
func (m *kubeGenericRuntimeManager) startContainer(ctx context.Context, s *containerStarter, container *v1.Container, target string) (string, error) {
	pod := s.pod
	// Step 1: pull the image, and the images that it mounts as volumes.
	volumes, message, err := m.pullImageVolumes(ctx, s, container)
	if err != nil {
		return message, err
	}
	image, message, err := m.Images.EnsureImageExists(ctx, images.Request{Pod: pod, Ref: kubecontainer.GenerateContainerRef(pod, container),
		Image: container.Image, PullPolicy: container.ImagePullPolicy, Secrets: s.pullSecrets, Sandbox: s.sandboxConfig})
	if err != nil {
		return message, err
	}

	// Step 2: create the container.
	restartCount := 0
	if last := s.podStatus.FindContainerStatusByName(container.Name); last != nil {
		restartCount = last.RestartCount + 1
	} else {
		restartCount = restartCountFromLogs(filepath.Join(s.sandboxConfig.LogDirectory, container.Name))
	}
	config, err := m.generateContainerConfig(ctx, s, container, containerInput{image: image, imageVolumes: volumes, restartCount: restartCount, target: target})
	if err != nil {
		m.event(pod, container, v1.EventTypeWarning, "Failed", "Error: "+err.Error())
		return err.Error(), kubecontainer.ErrCreateContainerConfig
	}
	secrets := secretValues(container, config.Envs)
	ctx = remote.WithSecrets(ctx, secrets)
	if remote.Quotes(slices.Concat(config.Command, config.Args), secrets) {
		config.Annotations[containerHiddenMessageLabel] = "true" // the runtime keeps it, and we are to read it again
	}
	created, err := m.Runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: s.sandboxID, Config: config, SandboxConfig: s.sandboxConfig})
	if err != nil {
		if len(volumes) > 0 && status.Code(err) == codes.Unknown {
			// A runtime that does not know Mount.image sees a mount of nothing, and no word of CRI tells us beforehand.
			err = fmt.Errorf("%s (the container mounts an image as a volume, which its runtime may not know: containerd does from 2.1 on)", remote.Message(err))
		}
		m.event(pod, container, v1.EventTypeWarning, "Failed", "Error: "+remote.Message(err))
		return remote.Message(err), kubecontainer.ErrCreateContainer
	}
	m.event(pod, container, v1.EventTypeNormal, "Created", "Container created")

	// Step 3: start it.
	if _, err := m.Runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: created.ContainerId}); err != nil {
		m.event(pod, container, v1.EventTypeWarning, "Failed", "Error: "+remote.Message(err))
		return remote.Message(err), kubecontainer.ErrRunContainer
	}
	m.event(pod, container, v1.EventTypeNormal, "Started", "Container started")
	m.Changed()

	// Step 4: run its postStart hook.
	if container.Lifecycle == nil || container.Lifecycle.PostStart == nil {
		return "", nil
	}
	id := m.containerID(created.ContainerId)
	if err := m.Hooks.Run(ctx, lifecycle.Target{ID: id, Pod: pod, Container: container, PodIPs: s.podIPs}, container.Lifecycle.PostStart); err != nil {
		klog.FromContext(ctx).Error(err, "PostStart hook failed", "pod", klog.KObj(pod), "container", container.Name)
		// Who may read events need not be one who may read what the hook said.
		m.event(pod, container, v1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
		killErr := m.killContainer(ctx, pod, killRequest{id: id, name: container.Name, message: "FailedPostStartHook", reason: reasonFailedPostHook})
		return errors.Join(err, killErr).Error(), kubecontainer.ErrPostStartHook
	}
	return "", nil
}

// pullImageVolumes pulls the images that a container mounts as volumes (KEP-4639),
// each at most once a sync, and returns them by the volumes' names. Their events
// are the pod's; that the container waits for one is the container's.
func (m *kubeGenericRuntimeManager) pullImageVolumes(ctx context.Context, s *containerStarter, container *v1.Container) (map[string]*runtimeapi.ImageSpec, string, error) {
	found := map[string]*runtimeapi.ImageSpec{}
	for _, volume := range s.pod.Spec.Volumes {
		mounted := slices.ContainsFunc(container.VolumeMounts, func(m v1.VolumeMount) bool { return m.Name == volume.Name })
		if volume.Image == nil || !mounted {
			continue
		}
		pulled, done := s.imageVolumes[volume.Name]
		if !done {
			pulled.image, pulled.message, pulled.err = m.Images.EnsureImageExists(ctx, images.Request{Pod: s.pod, Ref: kubecontainer.GeneratePodRef(s.pod),
				Image: volume.Image.Reference, PullPolicy: volume.Image.PullPolicy, Secrets: s.pullSecrets, Sandbox: s.sandboxConfig})
			s.imageVolumes[volume.Name] = pulled
		}
		if pulled.err != nil {
			return nil, pulled.message, pulled.err
		}
		found[volume.Name] = &runtimeapi.ImageSpec{Image: pulled.image.Ref, UserSpecifiedImage: volume.Image.Reference}
	}
	return found, "", nil
}

// secretValues are those of the container's environment that come from Secrets, and perhaps some others.
func secretValues(container *v1.Container, envs []*runtimeapi.KeyValue) []string {
	wholeSecrets := slices.ContainsFunc(container.EnvFrom, func(s v1.EnvFromSource) bool { return s.SecretRef != nil })
	var values []string
	for _, env := range envs {
		i := slices.IndexFunc(container.Env, func(e v1.EnvVar) bool { return e.Name == env.Key })
		if i < 0 && wholeSecrets || i >= 0 && container.Env[i].ValueFrom != nil && container.Env[i].ValueFrom.SecretKeyRef != nil {
			values = append(values, string(env.Value))
		}
	}
	return values
}

// restartCountFromLogs keeps counting where an earlier container stopped that the
// runtime no longer knows: its log must not be written over.
func restartCountFromLogs(dir string) int {
	count := 0
	files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, file := range files {
		var n int
		if _, err := fmt.Sscanf(filepath.Base(file), "%d.log", &n); err == nil && n+1 > count {
			count = n + 1
		}
	}
	return count
}

func (m *kubeGenericRuntimeManager) event(pod *v1.Pod, container *v1.Container, kind, reason, message string) {
	m.Recorder.Event(kubecontainer.GenerateContainerRef(pod, container), kind, reason, message)
}

// killRequest says which container to end, and why.
type killRequest struct {
	id      kubecontainer.ContainerID
	name    string
	message string // for the event; empty for the usual one
	reason  containerKillReason
	// gracePeriodOverride replaces what the pod says, in seconds.
	gracePeriodOverride *int64
}

// killContainer ends one container: preStop hook, then its stop signal, then,
// when the grace period is over, SIGKILL. The hook's time is part of the grace.
func (m *kubeGenericRuntimeManager) killContainer(ctx context.Context, pod *v1.Pod, request killRequest) error {
	container := kubecontainer.GetContainerSpec(pod, request.name)
	if container == nil || len(pod.Spec.Containers) > 0 && pod.Spec.Containers[0].Image == "" {
		// The pod is gone from the API: what its container needs to end is written on it.
		restoredPod, restored, err := m.restoreSpecsFromContainerLabels(ctx, request.id)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("restoring what is known of container %s: %w", request.id, err)
		}
		pod, container = restoredPod, restored
	}
	grace := terminationGracePeriod(pod, container, request.reason)
	if request.gracePeriodOverride != nil {
		grace = *request.gracePeriodOverride
	}
	message := request.message
	if message == "" {
		message = "Stopping container " + request.name
	}
	m.event(pod, container, v1.EventTypeNormal, "Killing", message)
	if grace > 0 && container.Lifecycle != nil && container.Lifecycle.PreStop != nil {
		grace -= m.executePreStopHook(ctx, pod, container, request.id, grace)
	}
	grace = max(grace, minimumGracePeriodInSeconds)
	klog.FromContext(ctx).V(1).Info("Stopping container", "pod", klog.KObj(pod), "container", request.name, "gracePeriodSeconds", grace)
	_, err := m.Runtime.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: request.id.ID, Timeout: grace})
	m.Changed()
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("stopping container %s (%s): %w", request.name, request.id, err)
	}
	return nil
}

// terminationGracePeriod in seconds: what the deletion asked for, else the
// failed probe's own, else the pod's.
func terminationGracePeriod(pod *v1.Pod, container *v1.Container, reason containerKillReason) int64 {
	probe := (*v1.Probe)(nil)
	switch reason {
	case reasonLivenessProbe:
		probe = container.LivenessProbe
	case reasonStartupProbe:
		probe = container.StartupProbe
	}
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		return *pod.DeletionGracePeriodSeconds
	case probe != nil && probe.TerminationGracePeriodSeconds != nil:
		return *probe.TerminationGracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return *pod.Spec.TerminationGracePeriodSeconds
	}
	return minimumGracePeriodInSeconds
}

// executePreStopHook runs the hook for at most grace seconds and returns the
// seconds it took. A failed hook is reported; the container ends all the same.
func (m *kubeGenericRuntimeManager) executePreStopHook(ctx context.Context, pod *v1.Pod, container *v1.Container, id kubecontainer.ContainerID, grace int64) int64 {
	start := m.Clock.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(grace)*time.Second)
	defer cancel()
	if err := m.Hooks.Run(ctx, lifecycle.Target{ID: id, Pod: pod, Container: container}, container.Lifecycle.PreStop); err != nil {
		m.event(pod, container, v1.EventTypeWarning, "FailedPreStopHook", err.Error())
	}
	return int64(m.Clock.Since(start).Seconds())
}

// restoreSpecsFromContainerLabels makes the pod and container that killing needs
// from what the kubelet wrote on the container when it made it.
func (m *kubeGenericRuntimeManager) restoreSpecsFromContainerLabels(ctx context.Context, id kubecontainer.ContainerID) (*v1.Pod, *v1.Container, error) {
	response, err := m.Runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id.ID})
	if err != nil {
		return nil, nil, err
	}
	annotated := getContainerInfoFromAnnotations(response.Status.Annotations)
	pod := &v1.Pod{}
	pod.UID, pod.Name, pod.Namespace = podIdentity(response.Status.Labels)
	pod.DeletionGracePeriodSeconds = annotated.PodDeletionGracePeriod
	pod.Spec.TerminationGracePeriodSeconds = annotated.PodTerminationGracePeriod
	container := v1.Container{Name: response.Status.GetMetadata().GetName(), Ports: annotated.ContainerPorts}
	if annotated.PreStopHandler != nil {
		container.Lifecycle = &v1.Lifecycle{PreStop: annotated.PreStopHandler}
	}
	pod.Spec.Containers = []v1.Container{container}
	return pod, &pod.Spec.Containers[0], nil
}

// killContainers ends the pod's containers: ordinary ones all at once, then the
// sidecars they may need, last started first (KEP-753). One grace period covers all.
func (m *kubeGenericRuntimeManager) killContainers(ctx context.Context, pod *v1.Pod, running *kubecontainer.Pod, override *int64) error {
	start := m.Clock.Now()
	sidecars := map[string]*kubecontainer.Container{}
	var ordinary []*kubecontainer.Container
	for _, c := range running.Containers {
		if spec := kubecontainer.GetContainerSpec(pod, c.Name); spec != nil && kubecontainer.IsRestartableInitContainer(spec) {
			sidecars[c.Name] = c
		} else {
			ordinary = append(ordinary, c)
		}
	}
	errs := make([]error, len(ordinary))
	var group sync.WaitGroup
	for i, c := range ordinary {
		group.Go(func() {
			errs[i] = m.killContainer(ctx, pod, killRequest{id: c.ID, name: c.Name, gracePeriodOverride: override})
		})
	}
	group.Wait()
	for i := len(pod.Spec.InitContainers) - 1; i >= 0; i-- {
		spec := &pod.Spec.InitContainers[i]
		c := sidecars[spec.Name]
		if c == nil {
			continue
		}
		grace := terminationGracePeriod(pod, spec, "")
		if override != nil {
			grace = *override
		}
		grace = max(grace-int64(m.Clock.Since(start).Seconds()), minimumGracePeriodInSeconds)
		errs = append(errs, m.killContainer(ctx, pod, killRequest{id: c.ID, name: c.Name, gracePeriodOverride: &grace}))
	}
	return errors.Join(errs...)
}

// purgeInitContainers removes the init containers of a sandbox that is gone: all
// of them run again in the next one.
func (m *kubeGenericRuntimeManager) purgeInitContainers(ctx context.Context, pod *v1.Pod, podStatus *kubecontainer.PodStatus) {
	for i := range pod.Spec.InitContainers {
		for _, status := range podStatus.ContainerStatuses {
			if status.Name != pod.Spec.InitContainers[i].Name {
				continue
			}
			if _, err := m.Runtime.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: status.ID.ID}); err != nil && !isNotFound(err) {
				klog.FromContext(ctx).Error(err, "Removing an init container of the former sandbox", "pod", klog.KObj(pod), "container", status.Name)
			}
		}
	}
}

// RemoveContainer removes a dead container and its log.
func (m *kubeGenericRuntimeManager) RemoveContainer(ctx context.Context, id, logPath string) error {
	if _, err := m.Runtime.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil && !isNotFound(err) {
		return err
	}
	if logPath == "" {
		return nil
	}
	// Rotated files have the name of the log and a suffix.
	files, _ := filepath.Glob(logPath + "*")
	for _, file := range files {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
