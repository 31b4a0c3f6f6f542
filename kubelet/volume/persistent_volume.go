package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/record"
	"k8s.io/component-helpers/storage/ephemeral"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

// persistentVolumeClaimPlugin follows a claim to its volume, where that is a directory or a block device of this node: a claim
// that the pod names, or that of an ephemeral volume.
type persistentVolumeClaimPlugin struct {
	host     Host
	mounts   mounter
	recorder record.EventRecorder
}

func (persistentVolumeClaimPlugin) Name() string        { return "persistent-volume-claim" }
func (persistentVolumeClaimPlugin) TearDown(Spec) error { return nil }
func (persistentVolumeClaimPlugin) CanSupport(volume *v1.Volume) bool {
	return volume.PersistentVolumeClaim != nil || volume.Ephemeral != nil
}

// processError says that a claim has no volume that could be mounted. Trying again within the sync would not help.
type processError struct{ error }

// mountError says which volume could not be mounted, and in which step; events name it, not the pod's word for it.
type mountError struct {
	step   string
	volume string
	error
}

func (e processError) Unwrap() error { return e.error }
func (e mountError) Unwrap() error   { return e.error }

// SetUp makes a volume ready, in these steps:
//
//  1. find the claim, and its volume,
//  2. is it one for this pod, as it wants to use it, and for this node?
//  3. the volume's own kind: a local directory or device, or a hostPath.
func (p persistentVolumeClaimPlugin) SetUp(ctx context.Context, spec Spec) (string, error) {
	// Step 1: find the claim, and its volume.
	claim, pv, err := p.find(ctx, spec)
	if err != nil {
		return "", err
	}
	// Step 2: is it one for this pod, as it wants to use it, and for this node?
	if err := checkMode(spec, pv); err != nil {
		return "", processError{err}
	}
	if err := storagehelpers.CheckNodeAffinity(pv, p.host.NodeLabels()); err != nil {
		return "", mountError{"MountVolume.NodeAffinity check failed", pv.Name, err}
	}
	// Step 3: the volume's own kind.
	asDevice := ptr.Deref(pv.Spec.VolumeMode, v1.PersistentVolumeFilesystem) == v1.PersistentVolumeBlock
	path := ""
	switch {
	case asDevice && pv.Spec.Local == nil:
		return "", mountError{"MapVolume.FindMapperPluginBySpec failed to find BlockVolumeMapper plugin. Volume plugin is nil.", pv.Name,
			fmt.Errorf("the volume of claim %s cannot be a device: only local volumes can", claim.Name)}
	case pv.Spec.HostPath != nil:
		path, err = pv.Spec.HostPath.Path, setUpHostPathVolume(pv.Spec.HostPath)
	case pv.Spec.Local != nil:
		path, err = p.setUpLocalVolume(spec, pv, asDevice)
		if err == nil && !asDevice {
			err = p.expand(ctx, spec, claim, pv)
		}
	default:
		err = fmt.Errorf("the volume of claim %s is of a kind this kubelet cannot mount: it knows local and hostPath", claim.Name)
	}
	if errors.As(err, &mountError{}) {
		return "", err
	}
	if err != nil {
		return "", mountError{"MountVolume.SetUp failed", pv.Name, err}
	}
	return path, nil
}

// setUpLocalVolume: a directory is used where it lies. A block device is the container's as it is, or holds a file system, which is
// then mounted in the pod's directory: each pod mounts it anew, and the kernel knows that it is one.
func (p persistentVolumeClaimPlugin) setUpLocalVolume(spec Spec, pv *v1.PersistentVolume, asDevice bool) (string, error) {
	// Symlinks are followed: what they lead to is the volume, and its files get the fsGroup.
	path, err := filepath.EvalSymlinks(pv.Spec.Local.Path)
	if os.IsNotExist(err) {
		return "", mountError{"MountVolume.NewMounter initialization failed", pv.Name, fmt.Errorf("path %q does not exist", pv.Spec.Local.Path)}
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	isDevice := isType(info.Mode(), v1.HostPathBlockDev)
	if asDevice {
		if !isDevice {
			return "", mountError{"MapVolume.SetUpDevice failed", pv.Name, fmt.Errorf("%s is not a block device", path)}
		}
		return path, nil
	}
	if isDevice {
		if path, err = p.mountDevice(spec, pv, path); err != nil {
			return "", mountError{"MountVolume.MountDevice failed", pv.Name, err}
		}
	}
	if isReadOnly(spec.Volume) {
		return path, nil
	}
	return path, setVolumeOwnership(path, spec.Pod)
}

// defaultFSType is that of an empty device whose volume names none.
const defaultFSType = "ext4"

func (p persistentVolumeClaimPlugin) mountDevice(spec Spec, pv *v1.PersistentVolume, source string) (string, error) {
	if err := os.MkdirAll(spec.Dir, 0o750); err != nil {
		return "", err
	}
	options := slices.Clone(pv.Spec.MountOptions)
	if isReadOnly(spec.Volume) {
		options = append(options, "ro")
	}
	return spec.Dir, p.mounts.device(source, spec.Dir, ptr.Deref(pv.Spec.Local.FSType, defaultFSType), options)
}

// find returns the claim of a volume, and the volume it is bound to.
func (p persistentVolumeClaimPlugin) find(ctx context.Context, spec Spec) (*v1.PersistentVolumeClaim, *v1.PersistentVolume, error) {
	name := ""
	if spec.Volume.Ephemeral != nil {
		name = ephemeral.VolumeClaimName(spec.Pod, spec.Volume)
	} else {
		name = spec.Volume.PersistentVolumeClaim.ClaimName
	}
	fail := func(err error) (*v1.PersistentVolumeClaim, *v1.PersistentVolume, error) {
		err = fmt.Errorf("error processing PVC %s/%s: %w", spec.Pod.Namespace, name, err)
		if apierrors.IsForbidden(err) {
			return nil, nil, err // the authorizer may learn of the pod a moment later: worth another try
		}
		return nil, nil, processError{err}
	}
	claim, err := p.host.GetPersistentVolumeClaim(ctx, spec.Pod.Namespace, name)
	if err != nil {
		return fail(fmt.Errorf("failed to fetch PVC from API server: %w", err))
	}
	if spec.Volume.Ephemeral != nil {
		if err := ephemeral.VolumeIsForPod(spec.Pod, claim); err != nil {
			return fail(err)
		}
	}
	// A pod that runs keeps its claim until its end; a new one must not begin with one that is to go.
	if claim.DeletionTimestamp != nil && spec.Pod.Status.Phase != v1.PodRunning {
		return fail(errors.New("PVC is being deleted"))
	}
	if claim.Spec.VolumeName == "" || claim.Status.Phase != v1.ClaimBound {
		return fail(errors.New("PVC is not bound"))
	}
	pv, err := p.host.GetPersistentVolume(ctx, claim.Spec.VolumeName)
	if err != nil {
		return fail(fmt.Errorf("failed to fetch PV %s from API server: %w", claim.Spec.VolumeName, err))
	}
	// Lest a pod mounts what was reserved for somebody else by the same name.
	if pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != claim.UID {
		return fail(fmt.Errorf("found PV object %q with unexpected claimRef: it belongs to another claim", pv.Name))
	}
	return claim, pv, nil
}

// checkMode refuses a device where files are wanted, and files where a device is.
func checkMode(spec Spec, pv *v1.PersistentVolume) error {
	mode, mounted, device := ptr.Deref(pv.Spec.VolumeMode, v1.PersistentVolumeFilesystem), false, false
	for _, c := range containersOf(spec.Pod) {
		for _, m := range c.VolumeMounts {
			mounted = mounted || m.Name == spec.Volume.Name
		}
		for _, d := range c.VolumeDevices {
			device = device || d.Name == spec.Volume.Name
		}
	}
	switch {
	case mounted && mode == v1.PersistentVolumeBlock:
		return fmt.Errorf("volume %s has volumeMode %s, but is specified in volumeMounts", spec.Volume.Name, mode)
	case device && mode == v1.PersistentVolumeFilesystem:
		return fmt.Errorf("volume %s has volumeMode %s, but is specified in volumeDevices", spec.Volume.Name, mode)
	}
	return nil
}

// isBlockDevice: what lies at path is one, so a claim's volume there is a device: any other is a directory.
func isBlockDevice(path string) bool {
	info, err := os.Stat(path)
	return err == nil && isType(info.Mode(), v1.HostPathBlockDev)
}

// containersOf are a pod's containers of all kinds: also one that was added to look after the others may want a volume.
func containersOf(pod *v1.Pod) []v1.Container {
	all := slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
	for _, c := range pod.Spec.EphemeralContainers {
		all = append(all, v1.Container(c.EphemeralContainerCommon))
	}
	return all
}

// setUpHostPathVolume: the directory is the node's: it is made if it is missing, and its owner stays.
func setUpHostPathVolume(source *v1.HostPathVolumeSource) error {
	kind := ptr.Deref(source.Type, v1.HostPathUnset)
	if kind == v1.HostPathUnset {
		kind = v1.HostPathDirectoryOrCreate
	}
	return checkType(source.Path, kind)
}

// What a group must be able to do with a volume.
const (
	groupRW  = 0o660
	groupDir = 0o110 | os.ModeSetgid
)

// setVolumeOwnership gives all files of a volume to the pod's fsGroup, and lets it read and write them; new ones get the group by
// the directories' setgid bit. With OnRootMismatch nothing is done if the root is as it would become: a large volume takes long.
func setVolumeOwnership(root string, pod *v1.Pod) error {
	wanted := fsGroup(pod)
	if wanted == nil {
		return nil
	}
	group := int(*wanted)
	if ptr.Deref(pod.Spec.SecurityContext.FSGroupChangePolicy, v1.FSGroupChangeAlways) == v1.FSGroupChangeOnRootMismatch && ownedBy(root, group) {
		return nil
	}
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if err := chownIfRoot(path, -1, group); err != nil {
			return err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			return nil // Chmod would follow it
		}
		mode := info.Mode() | groupRW
		if info.IsDir() {
			mode |= groupDir
		}
		return os.Chmod(path, mode&(os.ModePerm|os.ModeSetgid|os.ModeSetuid|os.ModeSticky))
	})
}

func ownedBy(root string, group int) bool {
	info, err := os.Stat(root)
	if err != nil || info.Mode()&groupRW != groupRW || info.Mode()&groupDir != groupDir {
		return false
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(owner.Gid) == group
}
