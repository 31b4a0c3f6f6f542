package volume

import (
	"context"
	"fmt"
	"os"

	v1 "k8s.io/api/core/v1"
)

// emptyDirPlugin: a directory that lives as long as the pod, on disk or in memory.
type emptyDirPlugin struct{ mounts mounter }

func (emptyDirPlugin) Name() string                      { return "empty-dir" }
func (emptyDirPlugin) CanSupport(volume *v1.Volume) bool { return volume.EmptyDir != nil }

func (p emptyDirPlugin) SetUp(_ context.Context, spec Spec) (string, error) {
	source := spec.Volume.EmptyDir
	if err := os.MkdirAll(spec.Dir, 0o777); err != nil {
		return "", err
	}
	switch source.Medium {
	case v1.StorageMediumDefault:
	case v1.StorageMediumMemory:
		size := int64(0)
		if source.SizeLimit != nil {
			size = source.SizeLimit.Value()
		}
		if err := p.mounts.tmpfs(spec.Dir, size); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("unknown storage medium %q", source.Medium)
	}
	// MkdirAll obeys the umask; any user of any container may write here.
	if info, err := os.Stat(spec.Dir); err == nil && info.Mode().Perm() != 0o777 && fsGroup(spec.Pod) == nil {
		if err := os.Chmod(spec.Dir, 0o777); err != nil {
			return "", err
		}
	}
	return spec.Dir, setDirOwnership(spec.Dir, fsGroup(spec.Pod))
}

func (emptyDirPlugin) TearDown(Spec) error { return nil }

// setDirOwnership gives a writable volume to the pod's fsGroup, once: files that
// containers make later get the group by the setgid bit.
func setDirOwnership(dir string, group *int64) error {
	if group == nil {
		return nil
	}
	if err := chownIfRoot(dir, -1, int(*group)); err != nil {
		return err
	}
	return os.Chmod(dir, 0o777|os.ModeSetgid)
}

func fsGroup(pod *v1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// chownIfRoot: who is not root cannot give files away, and needs not (simulated runtime).
func chownIfRoot(path string, uid, gid int) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, uid, gid)
}
