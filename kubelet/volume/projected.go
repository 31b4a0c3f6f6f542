package volume

import (
	"context"
	"fmt"
	"os"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"hyperkube/kubelet/envvars"

	kubecontainer "hyperkube/kubelet/container"
)

// The four kinds of volumes below are files that the kubelet writes. Three are
// the fourth, projected, with a single source.

type configMapPlugin struct{ host Host }

func (configMapPlugin) Name() string                      { return "configmap" }
func (configMapPlugin) CanSupport(volume *v1.Volume) bool { return volume.ConfigMap != nil }
func (configMapPlugin) TearDown(Spec) error               { return nil }

func (p configMapPlugin) SetUp(ctx context.Context, spec Spec) (string, error) {
	source := spec.Volume.ConfigMap
	payload := map[string]FileProjection{}
	err := addConfigMap(ctx, p.host, spec.Pod, payload, configMapSource{source.Name, source.Items, mode(source.DefaultMode), source.Optional})
	if err != nil {
		return "", err
	}
	return spec.Dir, writeFiles(spec, payload)
}

type secretPlugin struct {
	host   Host
	mounts mounter
}

func (secretPlugin) Name() string                      { return "secret" }
func (secretPlugin) CanSupport(volume *v1.Volume) bool { return volume.Secret != nil }
func (secretPlugin) TearDown(Spec) error               { return nil }

func (p secretPlugin) SetUp(ctx context.Context, spec Spec) (string, error) {
	source := spec.Volume.Secret
	payload := map[string]FileProjection{}
	err := addSecret(ctx, p.host, spec.Pod, payload, configMapSource{source.SecretName, source.Items, mode(source.DefaultMode), source.Optional})
	if err != nil {
		return "", err
	}
	if err := inMemory(p.mounts, spec.Dir); err != nil {
		return "", err
	}
	return spec.Dir, writeFiles(spec, payload)
}

type downwardAPIPlugin struct{ host Host }

func (downwardAPIPlugin) Name() string                      { return "downward-api" }
func (downwardAPIPlugin) CanSupport(volume *v1.Volume) bool { return volume.DownwardAPI != nil }
func (downwardAPIPlugin) TearDown(Spec) error               { return nil }

func (p downwardAPIPlugin) SetUp(_ context.Context, spec Spec) (string, error) {
	source := spec.Volume.DownwardAPI
	payload := map[string]FileProjection{}
	if err := addDownwardAPI(p.host, spec.Pod, payload, source.Items, mode(source.DefaultMode)); err != nil {
		return "", err
	}
	return spec.Dir, writeFiles(spec, payload)
}

type projectedPlugin struct {
	host   Host
	mounts mounter
}

func (projectedPlugin) Name() string                      { return "projected" }
func (projectedPlugin) CanSupport(volume *v1.Volume) bool { return volume.Projected != nil }
func (projectedPlugin) TearDown(Spec) error               { return nil }

func (p projectedPlugin) SetUp(ctx context.Context, spec Spec) (string, error) {
	payload := map[string]FileProjection{}
	defaultMode := mode(spec.Volume.Projected.DefaultMode)
	var errs []error // of all sources: who mends one would else be told of the next
	for i, source := range spec.Volume.Projected.Sources {
		var err error
		switch {
		case source.Secret != nil:
			err = addSecret(ctx, p.host, spec.Pod, payload, configMapSource{source.Secret.Name, source.Secret.Items, defaultMode, source.Secret.Optional})
		case source.ConfigMap != nil:
			err = addConfigMap(ctx, p.host, spec.Pod, payload, configMapSource{source.ConfigMap.Name, source.ConfigMap.Items, defaultMode, source.ConfigMap.Optional})
		case source.DownwardAPI != nil:
			err = addDownwardAPI(p.host, spec.Pod, payload, source.DownwardAPI.Items, defaultMode)
		case source.ServiceAccountToken != nil:
			err = addToken(ctx, p.host, spec.Pod, payload, tokenSource{source.ServiceAccountToken, defaultMode})
		case source.ClusterTrustBundle != nil:
			err = addTrustAnchors(p.host, spec.Pod, payload, trustSource{source.ClusterTrustBundle, defaultMode})
		case source.PodCertificate != nil:
			err = addPodCertificate(ctx, p.host, spec, payload, certificateSource{source.PodCertificate, i, defaultMode})
		default:
			err = fmt.Errorf("a source of projected volume %q is of a kind this kubelet does not know", spec.Volume.Name)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if err := utilerrors.NewAggregate(errs); err != nil {
		return "", err
	}
	if err := inMemory(p.mounts, spec.Dir); err != nil {
		return "", err
	}
	return spec.Dir, writeFiles(spec, payload)
}

func mode(m *int32) int32 {
	if m == nil {
		return 0o644
	}
	return *m
}

// inMemory keeps secrets off the disk.
func inMemory(mounts mounter, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return mounts.tmpfs(dir, 0)
}

func writeFiles(spec Spec, payload map[string]FileProjection) error {
	if err := os.MkdirAll(spec.Dir, 0o755); err != nil {
		return err
	}
	group := fsGroup(spec.Pod)
	dirMode := os.FileMode(0o777)
	if group != nil {
		dirMode |= os.ModeSetgid
		if err := chownIfRoot(spec.Dir, -1, int(*group)); err != nil {
			return err
		}
	}
	if err := os.Chmod(spec.Dir, dirMode); err != nil {
		return err
	}
	return (&AtomicWriter{dir: spec.Dir, group: group}).Write(payload)
}

// configMapSource says which keys of a config map or secret go into which files.
type configMapSource struct {
	name     string
	items    []v1.KeyToPath
	mode     int32
	optional *bool
}

func (s configMapSource) isOptional() bool { return s.optional != nil && *s.optional }

func addConfigMap(ctx context.Context, host Host, pod *v1.Pod, payload map[string]FileProjection, source configMapSource) error {
	configMap, err := host.GetConfigMap(ctx, pod.Namespace, source.name)
	if err != nil {
		if apierrors.IsNotFound(err) && source.isOptional() {
			return nil
		}
		return err
	}
	data := map[string][]byte{}
	for key, value := range configMap.Data {
		data[key] = []byte(value)
	}
	for key, value := range configMap.BinaryData {
		data[key] = value
	}
	return addKeys(payload, data, source, "configmap")
}

func addSecret(ctx context.Context, host Host, pod *v1.Pod, payload map[string]FileProjection, source configMapSource) error {
	secret, err := host.GetSecret(ctx, pod.Namespace, source.name)
	if err != nil {
		if apierrors.IsNotFound(err) && source.isOptional() {
			return nil
		}
		return err
	}
	return addKeys(payload, secret.Data, source, "secret")
}

// nonExistent begins what is said of a key that is not there.
var nonExistent = map[string]string{"configmap": "configmap references non-existent config", "secret": "references non-existent secret"}

func addKeys(payload map[string]FileProjection, data map[string][]byte, source configMapSource, kind string) error {
	if len(source.items) == 0 {
		for key, value := range data {
			payload[key] = FileProjection{Data: value, Mode: source.mode}
		}
		return nil
	}
	for _, item := range source.items {
		value, ok := data[item.Key]
		if !ok {
			if source.isOptional() {
				continue
			}
			return fmt.Errorf("%s key: %s", nonExistent[kind], item.Key)
		}
		fileMode := source.mode
		if item.Mode != nil {
			fileMode = *item.Mode
		}
		payload[item.Path] = FileProjection{Data: value, Mode: fileMode}
	}
	return nil
}

func addDownwardAPI(host Host, pod *v1.Pod, payload map[string]FileProjection, items []v1.DownwardAPIVolumeFile, defaultMode int32) error {
	node := host.NodeInfo()
	for _, item := range items {
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = envvars.FieldValue(pod, item.FieldRef.FieldPath, node, podIPs(pod))
		case item.ResourceFieldRef != nil:
			container := kubecontainer.GetContainerSpec(pod, item.ResourceFieldRef.ContainerName)
			if container == nil {
				return fmt.Errorf("container %s not found", item.ResourceFieldRef.ContainerName)
			}
			value, err = envvars.ResourceValue(item.ResourceFieldRef, container, node)
		}
		if err != nil {
			return err
		}
		fileMode := defaultMode
		if item.Mode != nil {
			fileMode = *item.Mode
		}
		payload[item.Path] = FileProjection{Data: []byte(value), Mode: fileMode}
	}
	return nil
}

func podIPs(pod *v1.Pod) []string {
	var ips []string
	for _, ip := range pod.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	return ips
}

// tokenSource is a token that a volume asks for, and the mode of its file.
type tokenSource struct {
	*v1.ServiceAccountTokenProjection
	mode int32
}

// addToken writes a token bound to this pod: it dies with it. Only those who may
// use it can read it.
func addToken(ctx context.Context, host Host, pod *v1.Pod, payload map[string]FileProjection, source tokenSource) error {
	expiration := int64(3600)
	if source.ExpirationSeconds != nil {
		expiration = *source.ExpirationSeconds
	}
	var audiences []string
	if source.Audience != "" {
		audiences = []string{source.Audience}
	}
	name := pod.Spec.ServiceAccountName
	if name == "" {
		name = "default"
	}
	token, err := host.GetServiceAccountToken(ctx, pod.Namespace, name, &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:         audiences,
		ExpirationSeconds: &expiration,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}})
	if err != nil {
		return err
	}
	payload[source.Path] = ownFile(pod, []byte(token), source.mode)
	return nil
}

// ownFile is for those who run in the pod alone, where it says who they are.
func ownFile(pod *v1.Pod, data []byte, mode int32) FileProjection {
	file := FileProjection{Data: data, Mode: mode}
	if user := onlyUser(pod); user != nil {
		file.FsUser, file.Mode = user, 0o600
	} else if fsGroup(pod) != nil {
		file.Mode = 0o600
	}
	return file
}

// trustSource is whom a volume is to trust, and the mode of the file.
type trustSource struct {
	*v1.ClusterTrustBundleProjection
	mode int32
}

// addTrustAnchors writes the certificates of authorities. Where nobody stands behind an optional source, the file is there
// and empty.
func addTrustAnchors(host Host, pod *v1.Pod, payload map[string]FileProjection, source trustSource) error {
	anchors, err := host.TrustAnchors(source.ClusterTrustBundleProjection)
	if err != nil {
		return err
	}
	payload[source.Path] = ownFile(pod, anchors, source.mode)
	return nil
}

// certificateSource is a certificate that a volume asks for, its place among the sources, and the mode of its files.
type certificateSource struct {
	*v1.PodCertificateProjection
	index int
	mode  int32
}

// addPodCertificate writes a key and its certificate chain: into one file, which is always of one piece, or into two.
func addPodCertificate(ctx context.Context, host Host, spec Spec, payload map[string]FileProjection, source certificateSource) error {
	key, chain, err := host.PodCertificate(ctx, spec.Pod, spec.Volume.Name, source.index)
	if err != nil {
		return err
	}
	for path, data := range map[string][]byte{
		source.CredentialBundlePath: slices.Concat(key, chain), source.KeyPath: key, source.CertificateChainPath: chain,
	} {
		if path != "" {
			payload[path] = ownFile(spec.Pod, data, source.mode)
		}
	}
	return nil
}

// onlyUser is the user that all containers of the pod run as, or nil.
func onlyUser(pod *v1.Pod) *int64 {
	var fromPod, user *int64
	if pod.Spec.SecurityContext != nil {
		fromPod = pod.Spec.SecurityContext.RunAsUser
	}
	all := append(append([]v1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...)
	for _, container := range all {
		own := fromPod
		if container.SecurityContext != nil && container.SecurityContext.RunAsUser != nil {
			own = container.SecurityContext.RunAsUser
		}
		if own == nil || user != nil && *user != *own {
			return nil
		}
		user = own
	}
	return user
}
