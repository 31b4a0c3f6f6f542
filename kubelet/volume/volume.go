// Package volume makes the volumes of pods. A volume is a directory (or a file)
// on the node which the runtime then mounts into containers:
//
//	spec.volumes[i] ──► Plugin.SetUp ──► DIR/pods/<uid>/volumes/kubernetes.io~<plugin>/<name>
//	                                            │
//	             volumeMounts, subPath ──► runtimeapi.Mount{HostPath, ContainerPath, …}
//
// A new kind of volume is a new file with a Plugin, and a line in plugins().
//
// SetUp is called at each sync of the pod, and so is how changes of config maps,
// secrets and tokens arrive: the files are written anew beside the old ones, and
// one rename of a symlink switches over (AtomicWriter).
//
// Invariants: SetUp may be called any number of times, also after a kubelet that
// was killed in the middle of it; nothing outside the pod's directory is removed,
// whatever symlinks a container has left in its volume.
//
// Read first: Manager.SetUpPod, Plugin, AtomicWriter.Write.
//
// In Kubernetes: pkg/volume and pkg/kubelet/volumemanager. Left out: the desired
// and actual state of world with their reconciler, which let attaching and
// detaching of disks go on across pods. Without them a pod waits for its own
// volumes in its own sync, and nothing runs between syncs.
package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"hyperkube/flow"
	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/envvars"
)

// Host is what volumes need from the kubelet.
type Host interface {
	GetConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error)
	GetSecret(ctx context.Context, namespace, name string) (*v1.Secret, error)
	GetServiceAccountToken(ctx context.Context, namespace, name string, request *authenticationv1.TokenRequest) (string, error)
	// TrustAnchors are certificates of authorities, PEM.
	TrustAnchors(source *v1.ClusterTrustBundleProjection) ([]byte, error)
	// PodCertificate is the key and the chain, both PEM, that the given source of a volume asks for.
	PodCertificate(ctx context.Context, pod *v1.Pod, volume string, source int) (key, chain []byte, err error)
	GetPersistentVolumeClaim(ctx context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error)
	GetPersistentVolume(ctx context.Context, name string) (*v1.PersistentVolume, error)
	// UpdatePersistentVolumeClaimStatus writes the status of a claim as it was read, and returns it as it is now.
	UpdatePersistentVolumeClaimStatus(ctx context.Context, claim *v1.PersistentVolumeClaim) (*v1.PersistentVolumeClaim, error)
	// NodeLabels are what the node affinity of volumes is held against.
	NodeLabels() map[string]string
	// NodeInfo is for the downward API.
	NodeInfo() envvars.Node
}

// Spec is one volume of one pod.
type Spec struct {
	Pod    *v1.Pod
	Volume *v1.Volume
	// Dir is the volume's own directory; its parent exists.
	Dir string
}

// Plugin makes one kind of volume.
type Plugin interface {
	// Name is upstream's, without "kubernetes.io/": it is part of the path.
	Name() string
	CanSupport(volume *v1.Volume) bool
	// SetUp makes the volume, or brings it up to date, and returns the path to mount.
	SetUp(ctx context.Context, spec Spec) (path string, err error)
	// TearDown undoes what removing the directory would not: mounts.
	TearDown(spec Spec) error
}

// plugins is the table of all kinds of volumes.
func plugins(host Host, mounts mounter, recorder record.EventRecorder) []Plugin {
	return []Plugin{
		emptyDirPlugin{mounts},
		hostPathPlugin{},
		imagePlugin{},
		configMapPlugin{host},
		secretPlugin{host, mounts},
		downwardAPIPlugin{host},
		projectedPlugin{host, mounts},
		persistentVolumeClaimPlugin{host, mounts, recorder},
	}
}

// Mounted is a volume that is ready.
type Mounted struct {
	// Path is on the node.
	Path string
	// ReadOnly is true for volumes that only the kubelet writes, and for claims that the pod only reads.
	ReadOnly bool
	// Device: the containers get the block device at Path, not a mount; those, too, that are added to the pod later.
	Device bool
	Spec   Spec
	// looked is when it was last seen whether the volume has grown.
	looked time.Time
}

// Config of the manager.
type Config struct {
	// PodsDir is DIR/pods.
	PodsDir  string
	Host     Host
	Recorder record.EventRecorder
	// NoMounts leaves out tmpfs and bind mounts: for the simulated runtime, and
	// for processes that may not mount. Memory volumes then lie on disk.
	NoMounts bool
}

// Manager sets up and tears down the volumes of pods.
type Manager struct {
	Config
	plugins []Plugin
	mounts  mounter

	// lookEvery is how long a claim's size is taken for what it was.
	lookEvery time.Duration

	mu      sync.Mutex
	mounted map[types.UID]map[string]Mounted
}

// NewManager makes a manager.
func NewManager(cfg Config) *Manager {
	mounts := newMounter(cfg.NoMounts)
	return &Manager{Config: cfg, mounts: mounts, plugins: plugins(cfg.Host, mounts, cfg.Recorder), lookEvery: 45 * time.Second, mounted: map[types.UID]map[string]Mounted{}}
}

// SetUpPod makes all volumes of the pod or brings them up to date. It tries
// again and again, sooner at first, until all are there, wait has passed, or ctx
// ends: a config map created a moment after its pod should not cost a minute.
func (m *Manager) SetUpPod(ctx context.Context, pod *v1.Pod, wait time.Duration) error {
	delay, deadline := 10*time.Millisecond, time.Now().Add(wait)
	reported := map[string]bool{}
	for try := 0; ; try++ {
		failed := m.setUpOnce(ctx, pod)
		if len(failed) == 0 {
			return nil
		}
		// The authorizer may learn of the pod a moment after its kubelet: the first tries say nothing.
		unprocessed := failed.unprocessed()
		for _, message := range failed.messages() {
			if try >= 3 && !reported[message] {
				reported[message] = true
				m.Recorder.Event(kubecontainer.GeneratePodRef(pod), v1.EventTypeWarning, "FailedMount", message)
			}
		}
		if last := !time.Now().Add(delay).Before(deadline); last || try >= 3 && len(unprocessed) > 0 {
			why := failed.err()
			if last && len(unprocessed) == 0 {
				why = fmt.Errorf("%w: %w", context.DeadlineExceeded, why)
			}
			return fmt.Errorf("unmounted volumes=%v, unattached volumes=[], failed to process volumes=%v: %w", failed.names(), unprocessed, why)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("unmounted volumes=%v, unattached volumes=[], failed to process volumes=%v: %w", failed.names(), unprocessed, context.Cause(ctx))
		case <-time.After(delay):
		}
		delay = min(delay*2, 2*time.Second)
	}
}

// failures are the volumes of a pod that are not ready, by the pod's name of them.
type failures map[string]error

func (f failures) names() []string { return slices.Sorted(maps.Keys(f)) }

// unprocessed are those of whose claims there is nothing to mount.
func (f failures) unprocessed() []string {
	return slices.DeleteFunc(f.names(), func(name string) bool { return !errors.As(f[name], &processError{}) })
}

// messages are the events of those that were tried.
func (f failures) messages() []string {
	var messages []string
	for _, name := range f.names() {
		err, mount := f[name], mountError{step: "MountVolume.SetUp failed", volume: name}
		if errors.As(err, &processError{}) {
			continue
		}
		errors.As(err, &mount)
		messages = append(messages, fmt.Sprintf("%s for volume %q : %v", mount.step, mount.volume, err))
	}
	return messages
}

func (f failures) err() error {
	var errs []error
	for _, name := range f.names() {
		errs = append(errs, f[name])
	}
	return errors.Join(errs...)
}

// setUpOnce tries each volume that a container mounts, and returns what failed.
func (m *Manager) setUpOnce(ctx context.Context, pod *v1.Pod) failures {
	failed := failures{}
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		if isClaim(volume) && m.isMounted(pod.UID, volume.Name) {
			m.expandMounted(ctx, pod, volume)
			continue // what a claim is bound to never changes: the apiserver need not be asked at each sync, but for its size
		}
		plugin := m.find(volume)
		if volume.GitRepo != nil {
			failed[volume.Name] = errors.New("git-repo volume plugin has been disabled; if necessary, it may be re-enabled by enabling the feature-gate `GitRepoVolumeDriver`")
			continue
		}
		if plugin == nil {
			failed[volume.Name] = fmt.Errorf("no volume plugin matched name: %s", volume.Name)
			continue
		}
		spec := m.spec(pod, volume, plugin)
		path, err := m.setUp(ctx, plugin, spec)
		if err != nil {
			failed[volume.Name] = err
			continue
		}
		m.mu.Lock()
		if m.mounted[pod.UID] == nil {
			m.mounted[pod.UID] = map[string]Mounted{}
		}
		if _, known := m.mounted[pod.UID][volume.Name]; !known {
			flow.Report(ctx, flow.Effect{What: "volume set up", Detail: fmt.Sprintf("%s (%s)", volume.Name, plugin.Name())})
		}
		m.mounted[pod.UID][volume.Name] = Mounted{Path: path, Spec: spec, ReadOnly: isReadOnly(volume), Device: isClaim(volume) && isBlockDevice(path), looked: time.Now()}
		m.mu.Unlock()
	}
	return failed
}

func (m *Manager) setUp(ctx context.Context, plugin Plugin, spec Spec) (string, error) {
	if err := os.MkdirAll(filepath.Dir(spec.Dir), 0o750); err != nil {
		return "", err
	}
	return plugin.SetUp(ctx, spec)
}

func isClaim(volume *v1.Volume) bool {
	return volume.PersistentVolumeClaim != nil || volume.Ephemeral != nil
}

func (m *Manager) isMounted(uid types.UID, name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, mounted := m.mounted[uid][name]
	return mounted
}

func isReadOnly(volume *v1.Volume) bool {
	return volume.PersistentVolumeClaim != nil && volume.PersistentVolumeClaim.ReadOnly ||
		volume.ConfigMap != nil || volume.Secret != nil || volume.DownwardAPI != nil || volume.Projected != nil
}

func (m *Manager) find(volume *v1.Volume) Plugin {
	for _, plugin := range m.plugins {
		if plugin.CanSupport(volume) {
			return plugin
		}
	}
	return nil
}

func (m *Manager) spec(pod *v1.Pod, volume *v1.Volume, plugin Plugin) Spec {
	return Spec{Pod: pod, Volume: volume, Dir: filepath.Join(m.PodsDir, string(pod.UID), "volumes", "kubernetes.io~"+plugin.Name(), volume.Name)}
}

// Mounted returns the volumes of a pod that are ready, by name.
func (m *Manager) Mounted(uid types.UID) map[string]Mounted {
	m.mu.Lock()
	defer m.mu.Unlock()
	result := map[string]Mounted{}
	for name, mounted := range m.mounted[uid] {
		result[name] = mounted
	}
	return result
}

// TearDownPod unmounts and removes all volumes of a pod. It works from what is on
// disk, so that it also finds those of a kubelet that was killed.
func (m *Manager) TearDownPod(ctx context.Context, uid types.UID) error {
	podDir := filepath.Join(m.PodsDir, string(uid))
	if err := m.mounts.unmountUnder(podDir); err != nil {
		return fmt.Errorf("unmounting the volumes of pod %s: %w", uid, err)
	}
	m.mu.Lock()
	delete(m.mounted, uid)
	m.mu.Unlock()
	// RemoveAll follows no symlink, and nothing is mounted below any more.
	if err := os.RemoveAll(podDir); err != nil {
		return fmt.Errorf("removing the directory of pod %s: %w", uid, err)
	}
	klog.FromContext(ctx).V(4).Info("Removed the pod's volumes", "podUID", uid)
	return nil
}

// UnmountPod unmounts a pod's volumes and leaves its files: the pod comes back
// with the node.
func (m *Manager) UnmountPod(uid types.UID) error {
	return m.mounts.unmountUnder(filepath.Join(m.PodsDir, string(uid)))
}

// PodsOnDisk lists the pods that have a directory here.
func (m *Manager) PodsOnDisk() ([]types.UID, error) {
	entries, err := os.ReadDir(m.PodsDir)
	if err != nil {
		if os.IsNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	var uids []types.UID
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ".") {
			uids = append(uids, types.UID(entry.Name()))
		}
	}
	return uids, nil
}
