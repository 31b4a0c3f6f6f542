package volume

import (
	"context"
	"fmt"
	"os"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// emptyDirPlugin: a directory that lives as long as the pod, on disk, in memory, or in huge pages.
type emptyDirPlugin struct{ mounts mounter }

func (emptyDirPlugin) Name() string                      { return "empty-dir" }
func (emptyDirPlugin) CanSupport(volume *v1.Volume) bool { return volume.EmptyDir != nil }

func (p emptyDirPlugin) SetUp(_ context.Context, spec Spec) (string, error) {
	source := spec.Volume.EmptyDir
	if err := os.MkdirAll(spec.Dir, 0o777); err != nil {
		return "", err
	}
	switch {
	case source.Medium == v1.StorageMediumDefault:
	case strings.HasPrefix(string(source.Medium), string(v1.StorageMediumHugePages)):
		size, err := hugePageSize(source.Medium, spec.Pod)
		if err != nil {
			return "", err
		}
		if err := p.mounts.hugetlbfs(spec.Dir, size); err != nil {
			return "", err
		}
	case source.Medium == v1.StorageMediumMemory:
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

// hugePageSize is that of the medium's name (HugePages-2Mi), or the only one that the pod asks for (HugePages).
func hugePageSize(medium v1.StorageMedium, pod *v1.Pod) (int64, error) {
	named := resource.Quantity{}
	if medium != v1.StorageMediumHugePages {
		size, ok := strings.CutPrefix(string(medium), string(v1.StorageMediumHugePagesPrefix))
		var err error
		if named, err = resource.ParseQuantity(size); err != nil || !ok {
			return 0, fmt.Errorf("unknown storage medium %q", medium)
		}
	}
	requests := []v1.ResourceList{}
	if pod.Spec.Resources != nil {
		requests = append(requests, pod.Spec.Resources.Requests)
	}
	for _, list := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			requests = append(requests, list[i].Resources.Requests)
		}
	}
	found := int64(0)
	for _, list := range requests {
		for name := range list {
			text, ok := strings.CutPrefix(string(name), v1.ResourceHugePagesPrefix)
			size, err := resource.ParseQuantity(text)
			switch {
			case !ok || err != nil || !named.IsZero() && size.Cmp(named) != 0:
				continue
			case found != 0 && found != size.Value():
				return 0, fmt.Errorf("medium: %s can't be used if container requests multiple huge page sizes", medium)
			}
			found = size.Value()
		}
	}
	if found == 0 {
		return 0, fmt.Errorf("medium %s: hugePages storage requested, but there is no resource request for huge pages", medium)
	}
	return found, nil
}

// setDirOwnership gives a writable volume to the pod's fsGroup, once: files that
// containers make later get the group by the setgid bit.
func setDirOwnership(dir string, group *int64) error {
	if group == nil {
		return nil
	}
	if err := chownIfRoot(dir, -1, int(*group)); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return os.Chmod(dir, info.Mode()&os.ModeSticky|0o777|os.ModeSetgid) // a tmpfs has the sticky bit, and keeps it
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
