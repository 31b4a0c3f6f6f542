package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/tools/cache"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/envvars"
	"hyperkube/kubelet/podcertificate"
)

// makeEnvironmentVariables makes a container's environment. Later sources win:
// services, then envFrom, then env; and an env value may use those before it.
func (kl *Kubelet) makeEnvironmentVariables(ctx context.Context, pod *v1.Pod, container *v1.Container, podIPs []string) ([]*runtimeapi.KeyValue, error) {
	if pod.Spec.EnableServiceLinks == nil {
		return nil, fmt.Errorf("nil pod.spec.enableServiceLinks encountered, cannot construct envvars")
	}
	services, err := kl.getServiceEnvVarMap(ctx, pod.Namespace, *pod.Spec.EnableServiceLinks)
	if err != nil {
		return nil, err
	}
	result := map[string]string{}
	if err := kl.envFrom(ctx, pod, container, result); err != nil {
		return nil, err
	}
	// A $(VAR) may name a service's variable, unless the container sets that itself.
	lookup := func(name string) (string, bool) {
		if value, ok := result[name]; ok {
			return value, true
		}
		value, ok := services[name]
		return value, ok
	}
	for i := range container.Env {
		env := &container.Env[i]
		value := env.Value
		switch {
		case env.ValueFrom != nil:
			var found bool
			if value, found, err = kl.envValueFrom(ctx, pod, container, env.ValueFrom, podIPs); err != nil {
				return nil, err
			}
			if !found {
				continue
			}
		case value != "":
			value = envvars.Expand(value, lookup)
		}
		result[env.Name] = value
	}
	for name, value := range services {
		if _, set := result[name]; !set {
			result[name] = value
		}
	}
	return sortedEnv(result), nil
}

func sortedEnv(values map[string]string) []*runtimeapi.KeyValue {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	list := make([]*runtimeapi.KeyValue, len(names))
	for i, name := range names {
		list[i] = &runtimeapi.KeyValue{Key: name, Value: []byte(values[name])}
	}
	return list
}

// getServiceEnvVarMap: the API's own service always, those of the pod's namespace with links.
func (kl *Kubelet) getServiceEnvVarMap(ctx context.Context, namespace string, links bool) (map[string]string, error) {
	if kl.services == nil {
		return nil, nil
	}
	if !kl.waitForServices(ctx) {
		return nil, fmt.Errorf("services have not yet been read at least once, cannot construct envvars")
	}
	all, err := kl.services.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("failed to list services when setting up env vars: %w", err)
	}
	var chosen []*v1.Service
	for _, service := range all {
		if service.Namespace == namespace && links || service.Namespace == v1.NamespaceDefault && service.Name == "kubernetes" {
			chosen = append(chosen, service)
		}
	}
	result := map[string]string{}
	for _, env := range envvars.FromServices(chosen) {
		result[env.Name] = env.Value
	}
	return result, nil
}

// waitForServices waits a moment for the first list.
func (kl *Kubelet) waitForServices(ctx context.Context) bool {
	for _, synced := range kl.hasSynced {
		if synced() {
			continue
		}
		wait, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if !cache.WaitForCacheSync(wait.Done(), synced) {
			return false
		}
	}
	return true
}

func (kl *Kubelet) envFrom(ctx context.Context, pod *v1.Pod, container *v1.Container, result map[string]string) error {
	host := volumeHost{kl}
	for _, from := range container.EnvFrom {
		values := map[string]string{}
		var optional *bool
		var err error
		switch {
		case from.ConfigMapRef != nil:
			optional = from.ConfigMapRef.Optional
			var configMap *v1.ConfigMap
			if configMap, err = host.GetConfigMap(ctx, pod.Namespace, from.ConfigMapRef.Name); err == nil {
				values = configMap.Data
			}
		case from.SecretRef != nil:
			optional = from.SecretRef.Optional
			var secret *v1.Secret
			if secret, err = host.GetSecret(ctx, pod.Namespace, from.SecretRef.Name); err == nil {
				for key, value := range secret.Data {
					values[key] = string(value)
				}
			}
		}
		if err != nil {
			if apierrors.IsNotFound(err) && optional != nil && *optional {
				continue
			}
			return err
		}
		var invalid []string
		for key, value := range values {
			name := from.Prefix + key
			if len(validation.IsRelaxedEnvVarName(name)) > 0 {
				invalid = append(invalid, name)
				continue
			}
			result[name] = value
		}
		if len(invalid) > 0 {
			sort.Strings(invalid)
			kl.recorder.Eventf(kubecontainer.GeneratePodRef(pod), v1.EventTypeWarning, "InvalidEnvironmentVariableNames",
				"Keys [%s] from the EnvFrom source were skipped since they are considered invalid environment variable names.", strings.Join(invalid, ", "))
		}
	}
	return nil
}

// envValueFrom resolves one valueFrom. found is false for something optional that is missing.
func (kl *Kubelet) envValueFrom(ctx context.Context, pod *v1.Pod, container *v1.Container, from *v1.EnvVarSource, podIPs []string) (value string, found bool, err error) {
	host := volumeHost{kl}
	switch {
	case from.FieldRef != nil:
		value, err = envvars.FieldValue(pod, from.FieldRef.FieldPath, kl.NodeInfo(), podIPs)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		of := container
		if name := from.ResourceFieldRef.ContainerName; name != "" {
			if of = kubecontainer.GetContainerSpec(pod, name); of == nil {
				return "", false, fmt.Errorf("container %s not found", name)
			}
		}
		value, err = envvars.ResourceValue(from.ResourceFieldRef, of, kl.NodeInfo())
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		configMap, err := host.GetConfigMap(ctx, pod.Namespace, ref.Name)
		if err == nil {
			value, found = configMap.Data[ref.Key]
		}
		return keyValue(value, found, err, keyRef{"ConfigMap", pod.Namespace + "/" + ref.Name, ref.Key, ref.Optional})
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		secret, err := host.GetSecret(ctx, pod.Namespace, ref.Name)
		if err == nil {
			var raw []byte
			raw, found = secret.Data[ref.Key]
			value = string(raw)
		}
		return keyValue(value, found, err, keyRef{"Secret", pod.Namespace + "/" + ref.Name, ref.Key, ref.Optional})
	case from.FileKeyRef != nil:
		return kl.fileKeyValue(ctx, pod, from.FileKeyRef)
	}
	return "", false, nil
}

// fileKeyValue reads a variable from a file in one of the pod's volumes, which a container before this one has written
// (KEP-3721). What is wrong with the file is the log's: it may quote what is secret.
func (kl *Kubelet) fileKeyValue(ctx context.Context, pod *v1.Pod, ref *v1.FileKeySelector) (value string, found bool, err error) {
	mounted, ok := kl.volumes.Mounted(pod.UID)[ref.VolumeName]
	if !ok {
		return "", false, fmt.Errorf("cannot find the volume %q referenced by FileKeyRef", ref.VolumeName)
	}
	optional := ref.Optional != nil && *ref.Optional
	value, err = envvars.FileValue(mounted.Path, ref.Path, ref.Key)
	switch {
	case optional && errors.Is(err, fs.ErrNotExist):
		return "", false, nil
	case err != nil:
		klog.FromContext(ctx).Error(err, "Failed to parse env file", "pod", klog.KObj(pod))
		return "", false, errors.New("couldn't parse env file")
	case value != "":
		return value, true, nil
	case optional:
		return "", false, nil
	}
	return "", false, fmt.Errorf("environment variable key %q not found in file %q", ref.Key, filepath.Join(mounted.Path, ref.Path))
}

type keyRef struct {
	kind, object, key string
	optional          *bool
}

func keyValue(value string, found bool, err error, ref keyRef) (string, bool, error) {
	optional := ref.optional != nil && *ref.optional
	switch {
	case err != nil && apierrors.IsNotFound(err) && optional:
		return "", false, nil
	case err != nil:
		return "", false, err
	case !found && optional:
		return "", false, nil
	case !found:
		return "", false, fmt.Errorf("couldn't find key %v in %s %v", ref.key, ref.kind, ref.object)
	}
	return value, true, nil
}

// subPath is a mount's, with subPathExpr expanded from the container's environment.
func (kl *Kubelet) subPath(ctx context.Context, pod *v1.Pod, container *v1.Container, mount v1.VolumeMount, podIPs []string) (string, error) {
	if mount.SubPathExpr == "" {
		return mount.SubPath, nil
	}
	envs, err := kl.makeEnvironmentVariables(ctx, pod, container, podIPs)
	if err != nil {
		return "", err
	}
	values := map[string]string{}
	for _, env := range envs {
		values[env.Key] = string(env.Value)
	}
	missing := ""
	expanded := envvars.Expand(mount.SubPathExpr, func(name string) (string, bool) {
		value, ok := values[name]
		if !ok {
			missing = name
		}
		return value, ok
	})
	if missing != "" {
		return "", fmt.Errorf("missing value for %s", missing)
	}
	return expanded, nil
}

// GetServiceAccountToken is for projected volumes.
func (h volumeHost) GetServiceAccountToken(ctx context.Context, namespace, name string, request *authenticationv1.TokenRequest) (string, error) {
	return h.tokens.GetServiceAccountToken(ctx, namespace, name, request)
}

// TrustAnchors is for projected volumes.
func (h volumeHost) TrustAnchors(source *v1.ClusterTrustBundleProjection) ([]byte, error) {
	return h.trust.TrustAnchors(source)
}

// PodCertificate is for projected volumes.
func (h volumeHost) PodCertificate(ctx context.Context, pod *v1.Pod, volume string, source int) (key, chain []byte, err error) {
	return h.podCertificates.CredentialBundle(ctx, pod, podcertificate.Projection{Volume: volume, Source: source})
}
