package kubelet

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	apipod "hyperkube/api/core/pod"
	"hyperkube/kubelet/certificate"
	"hyperkube/kubelet/cm"
	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/logs"
	"hyperkube/kubelet/server"
)

// startServer listens at once, so that a port in use is an error of the start,
// and answers in the background.
func (kl *Kubelet) startServer(ctx context.Context, group *sync.WaitGroup) error {
	if kl.Port < 0 {
		return nil
	}
	config := server.Config{
		Address: kl.Address, Port: kl.Port, CertFile: kl.CertFile, KeyFile: kl.KeyFile, ClientCAFile: kl.ClientCAFile,
		MinVersion: kl.TLSMinVersion, CipherSuites: kl.TLSCipherSuites,
		AllowAnonymous: kl.AllowAnonymous, Access: kl.Access, Client: kl.Client, Host: kl, LogsDir: kl.dirs.logs, NodeName: kl.NodeName,
	}
	if kl.ServingCertificate != nil {
		config.GetCertificate = kl.ServingCertificate.GetCertificate
	}
	s, err := server.New(ctx, config)
	if err != nil {
		return err
	}
	kl.mu.Lock()
	kl.port = s.Port()
	kl.mu.Unlock()
	klog.FromContext(ctx).Info("Serving", "address", kl.Address, "port", s.Port())
	group.Go(func() { s.Serve(ctx) })
	return nil
}

// renewCertificates keeps the node's certificates while ctx lasts: both are asked for in the node's own name.
func (kl *Kubelet) renewCertificates(ctx context.Context, group *sync.WaitGroup) {
	for _, rotation := range []*certificate.Rotation{kl.ClientCertificate, kl.ServingCertificate} {
		if rotation == nil || kl.Client == nil {
			continue
		}
		if kl.Config.Metrics != nil {
			kl.Config.Metrics.MustRegister(rotation.Metrics()...)
		}
		group.Go(func() { rotation.Run(ctx, kl.Client) })
	}
}

// ServingPort is where the kubelet's server listens; 0 before it does.
func (kl *Kubelet) ServingPort() int {
	kl.mu.Lock()
	defer kl.mu.Unlock()
	return kl.port
}

// What follows is `kubelet/server/server.go:HostInterface`.

// GetPods returns the pods with the statuses the kubelet last decided on.
func (kl *Kubelet) GetPods() []*v1.Pod {
	pods := kl.pods.GetPods()
	sort.Slice(pods, func(i, j int) bool {
		return pods[i].Namespace+"/"+pods[i].Name < pods[j].Namespace+"/"+pods[j].Name
	})
	result := make([]*v1.Pod, len(pods))
	for i, pod := range pods {
		shown := *pod
		if s, known := kl.status.GetPodStatus(pod.UID); known {
			shown.Status = s
		}
		result[i] = &shown
	}
	return result
}

// GetRunningPods returns what the runtime has running.
func (kl *Kubelet) GetRunningPods(ctx context.Context) ([]*v1.Pod, error) {
	running, err := kl.manager.GetPods(ctx, false)
	if err != nil {
		return nil, err
	}
	var pods []*v1.Pod
	for _, pod := range running {
		pods = append(pods, pod.ToAPIPod())
	}
	return pods, nil
}

// GetPodByName finds a pod; a mirror's name finds its static pod, which has the same.
func (kl *Kubelet) GetPodByName(namespace, name string) (*v1.Pod, bool) {
	return kl.pods.GetPodByName(namespace, name)
}

// GetKubeletContainerLogs writes the log of a container, running or not.
func (kl *Kubelet) GetKubeletContainerLogs(ctx context.Context, pod *v1.Pod, container string, options *v1.PodLogOptions, to logs.Streams) error {
	if kubecontainer.GetContainerSpec(pod, container) == nil {
		return apierrors.NewBadRequest(fmt.Sprintf("container %q not found in pod %q", container, pod.Name))
	}
	podStatus, err := kl.GetPodStatus(ctx, pod.UID, pod.Name, pod.Namespace)
	if err != nil {
		return err
	}
	status, err := logStatus(pod, podStatus, container, options.Previous, kl.reasons)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	running := func() bool {
		response, err := kl.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: status.ID.ID})
		return err == nil && response.Status.State == runtimeapi.ContainerState_CONTAINER_RUNNING
	}
	return logs.ReadLogs(ctx, status.LogPath, logs.NewOptions(options, kl.Clock.Now()), running, to)
}

// comesBack tells whether a container that ended runs again.
func comesBack(pod *v1.Pod, ended *kubecontainer.Status) bool {
	container := kubecontainer.GetContainerSpec(pod, ended.Name)
	return container != nil && apipod.ContainerShouldRestart(container, &pod.Spec, int32(ended.ExitCode))
}

// logStatus finds the instance of a container whose log is meant.
func logStatus(pod *v1.Pod, podStatus *kubecontainer.PodStatus, container string, previous bool, reasons *reasonCache) (*kubecontainer.Status, error) {
	var instances []*kubecontainer.Status
	for _, s := range podStatus.ContainerStatuses {
		if s.Name == container && s.State != kubecontainer.StateCreated {
			instances = append(instances, s)
		}
	}
	switch {
	case previous && len(instances) > 1:
		return instances[1], nil
	case previous && len(instances) == 1 && instances[0].State == kubecontainer.StateExited && comesBack(pod, instances[0]):
		return instances[0], nil // between two runs
	case previous:
		return nil, fmt.Errorf("previous terminated container %q in pod %q not found", container, pod.Name)
	case len(instances) > 0:
		return instances[0], nil
	}
	if reason, message := reasons.Get(pod.UID, container); reason != nil {
		return nil, fmt.Errorf("container %q in pod %q is waiting to start: %v: %s", container, pod.Name, reason, message)
	}
	return nil, fmt.Errorf("container %q in pod %q is waiting to start: ContainerCreating", container, pod.Name)
}

// containerID finds a running container.
func (kl *Kubelet) containerID(ctx context.Context, pod *v1.Pod, container string) (kubecontainer.ContainerID, error) {
	podStatus, err := kl.GetPodStatus(ctx, pod.UID, pod.Name, pod.Namespace)
	if err != nil {
		return kubecontainer.ContainerID{}, err
	}
	status := podStatus.FindContainerStatusByName(container)
	if status == nil || status.State != kubecontainer.StateRunning {
		return kubecontainer.ContainerID{}, fmt.Errorf("container not found (%q)", container)
	}
	return status.ID, nil
}

// RunInContainer runs a command to its end.
func (kl *Kubelet) RunInContainer(ctx context.Context, pod *v1.Pod, container string, command []string) ([]byte, error) {
	id, err := kl.containerID(ctx, pod, container)
	if err != nil {
		return nil, err
	}
	return commandRunner{kl.runtime}.RunInContainer(ctx, id, command, 0)
}

// GetExec asks the runtime for a stream.
func (kl *Kubelet) GetExec(ctx context.Context, pod *v1.Pod, container string, request *runtimeapi.ExecRequest) (string, error) {
	id, err := kl.containerID(ctx, pod, container)
	if err != nil {
		return "", err
	}
	request.ContainerId = id.ID
	response, err := kl.runtime.Exec(ctx, request)
	return response.GetUrl(), err
}

// GetAttach asks the runtime for a stream. A container without a terminal of its
// own cannot be given one.
func (kl *Kubelet) GetAttach(ctx context.Context, pod *v1.Pod, container string, request *runtimeapi.AttachRequest) (string, error) {
	id, err := kl.containerID(ctx, pod, container)
	if err != nil {
		return "", err
	}
	request.ContainerId = id.ID
	if spec := kubecontainer.GetContainerSpec(pod, container); spec != nil {
		request.Tty = spec.TTY
		request.Stderr = request.Stderr && !spec.TTY
	}
	response, err := kl.runtime.Attach(ctx, request)
	return response.GetUrl(), err
}

// GetPortForward asks the runtime for a stream into the pod's network.
func (kl *Kubelet) GetPortForward(ctx context.Context, pod *v1.Pod, ports []int32) (string, error) {
	podStatus, err := kl.GetPodStatus(ctx, pod.UID, pod.Name, pod.Namespace)
	if err != nil {
		return "", err
	}
	for _, sandbox := range podStatus.SandboxStatuses {
		if sandbox.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			response, err := kl.runtime.PortForward(ctx, &runtimeapi.PortForwardRequest{PodSandboxId: sandbox.Id, Port: ports})
			return response.GetUrl(), err
		}
	}
	return "", fmt.Errorf("pod %s/%s is not running", pod.Namespace, pod.Name)
}

// Configz is the configuration as upstream's KubeletConfiguration names it.
func (kl *Kubelet) Configz() any {
	room := &kl.Room
	mode, parallel := "Webhook", (*int)(nil)
	if kl.AllowAnonymous || kl.Access.AlwaysAllow {
		mode = "AlwaysAllow"
	}
	if kl.Pulls.AtATime > 0 {
		parallel = &kl.Pulls.AtATime
	}
	enforce := []string{"pods"}
	if room.NoEnforcement {
		enforce = []string{"none"}
	}
	var ciphers []string
	for _, id := range kl.TLSCipherSuites {
		ciphers = append(ciphers, tls.CipherSuiteName(id))
	}
	shutdown := []map[string]any{}
	for _, group := range kl.Shutdown {
		shutdown = append(shutdown, map[string]any{"priority": group.Priority, "shutdownGracePeriodSeconds": int(group.Period.Seconds())})
	}
	return map[string]any{
		"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
		"clusterDNS": kl.ClusterDNS, "clusterDomain": kl.ClusterDomain, "maxPods": kl.MaxPods, "port": kl.ServingPort(),
		"staticPodPath": kl.StaticPodPath, "staticPodURL": kl.StaticPodURL, "containerRuntimeEndpoint": kl.RuntimeEndpoint,
		"cgroupRoot": kl.CgroupRoot, "resolvConf": kl.ResolvConf, "syncFrequency": resyncInterval.String(),
		"nodeStatusUpdateFrequency": kl.NodeStatusUpdateFrequency.String(), "podPidsLimit": kl.PodPidsLimit, "nodeStatusReportFrequency": kl.NodeStatusReportFrequency.String(),
		"nodeLeaseDurationSeconds": kl.NodeLeaseDurationSeconds, "fileCheckFrequency": kl.FileCheckFrequency.String(),
		"evictionHard": room.Thresholds.Hard, "evictionSoft": room.Thresholds.Soft, "evictionSoftGracePeriod": room.Thresholds.SoftGracePeriod, "evictionMinimumReclaim": room.Thresholds.MinimumReclaim,
		"evictionPressureTransitionPeriod": room.PressureTransitionPeriod.String(), "evictionMaxPodGracePeriod": room.MaxPodGracePeriodSeconds,
		"imageGCHighThresholdPercent": room.Images.HighThresholdPercent, "imageGCLowThresholdPercent": room.Images.LowThresholdPercent,
		"imageMinimumGCAge": room.Images.MinAge.String(), "imageMaximumGCAge": room.Images.MaxAge.String(),
		"containerLogMaxSize": strconv.FormatInt(room.ContainerLogMaxSize, 10), "containerLogMaxFiles": room.ContainerLogMaxFiles,
		"address": cmp.Or(kl.Address, "0.0.0.0"), "tlsCertFile": kl.CertFile, "tlsPrivateKeyFile": kl.KeyFile,
		"tlsMinVersion": "Version" + strings.NewReplacer(" ", "", ".", "").Replace(tls.VersionName(cmp.Or(kl.TLSMinVersion, tls.VersionTLS12))), "tlsCipherSuites": ciphers,
		"authentication": map[string]any{"anonymous": map[string]any{"enabled": kl.Access.Anonymous || kl.AllowAnonymous}, "x509": map[string]any{"clientCAFile": kl.ClientCAFile},
			"webhook": map[string]any{"enabled": !kl.Access.NoTokens, "cacheTTL": kl.Access.TokenTTL.String()}},
		"authorization":      map[string]any{"mode": mode, "webhook": map[string]any{"cacheAuthorizedTTL": kl.Access.AllowedTTL.String(), "cacheUnauthorizedTTL": kl.Access.DeniedTTL.String()}},
		"rotateCertificates": kl.ClientCertificate != nil, "serverTLSBootstrap": kl.ServingCertificate != nil,
		"registryPullQPS": kl.Pulls.QPS, "registryBurst": kl.Pulls.Burst, "serializeImagePulls": kl.Pulls.AtATime == 1, "maxParallelImagePulls": parallel,
		"eventRecordQPS": kl.EventQPS, "eventBurst": kl.EventBurst, "seccompDefault": kl.SeccompDefault, "singleProcessOOMKill": cm.ContainerCgroup(cm.SysCgroup, kl.SingleProcessOOMKill)["memory.oom.group"] == "", "allowedUnsafeSysctls": kl.AllowedUnsafeSysctls,
		"crashLoopBackOff": map[string]any{"maxContainerRestartPeriod": kl.MaxContainerRestartPeriod.String()},
		"userNamespaces":   map[string]any{"idsPerPod": kl.UserNamespaceIDs}, "podCIDR": kl.PodCIDR,
		"shutdownGracePeriodByPodPriority": shutdown, "enforceNodeAllocatable": enforce,
		"kubeReserved": room.KubeReserved, "systemReserved": room.SystemReserved, "registerWithTaints": kl.RegisterWithTaints,
	}
}

// Metrics are the kubelet's own.
func (kl *Kubelet) Metrics() http.Handler {
	if gatherer, ok := kl.Config.Metrics.(prometheus.Gatherer); ok {
		return promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{})
	}
	return http.NotFoundHandler()
}

// SyncLoopHealthy is nil as long as containers are being watched.
func (kl *Kubelet) SyncLoopHealthy() error {
	if kl.pleg == nil {
		return nil
	}
	return kl.pleg.Healthy()
}
