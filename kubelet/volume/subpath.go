package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// SubPath returns the path to mount for a volumeMount with a subPath; index is
// its place among the container's mounts.
func (m *Manager) SubPath(pod *v1.Pod, container string, index int, volume Mounted, subPath string) (string, error) {
	if filepath.IsAbs(subPath) {
		return "", fmt.Errorf("error SubPath `%s` must not be an absolute path", subPath)
	}
	for _, part := range strings.Split(subPath, "/") {
		if part == ".." {
			return "", fmt.Errorf("error SubPath `%s` must not contain '..'", subPath)
		}
	}
	// What the node's files look like is not for who made the pod: the log has it.
	fail := func(doing string, err error) (string, error) {
		klog.ErrorS(err, "SubPath", "pod", klog.KObj(pod), "container", container, "volume", volume.Spec.Volume.Name, "subPath", subPath)
		return "", fmt.Errorf("failed to %s for volumeMount %q of container %q", doing, volume.Spec.Volume.Name, container)
	}
	if _, err := os.Stat(filepath.Join(volume.Path, subPath)); os.IsNotExist(err) {
		if err := makeBeneath(volume.Path, subPath); err != nil {
			return fail("create subPath directory", err)
		}
	}
	target := filepath.Join(m.PodsDir, string(pod.UID), "volume-subpaths", volume.Spec.Volume.Name, container, strconv.Itoa(index))
	path, err := m.mounts.bindBeneath(volume.Path, subPath, target)
	if err != nil {
		return fail("prepare subPath", err)
	}
	return path, nil
}

// modeBits are those of a mode that chmod sets.
const modeBits = os.ModePerm | os.ModeSetuid | os.ModeSetgid | os.ModeSticky

// makeBeneath makes missing directories of root/sub; os.Root keeps it from
// following a symlink out of root. New ones take the mode of root, its setgid
// bit too: otherwise files made in them would not belong to the fsGroup.
func makeBeneath(root, sub string) error {
	info, err := os.Stat(root)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return nil
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	made := ""
	for _, part := range strings.Split(filepath.Clean(sub), "/") {
		made = filepath.Join(made, part)
		if _, err := dir.Stat(made); err == nil {
			continue
		}
		if err := dir.Mkdir(made, 0o750); err != nil && !os.IsExist(err) {
			return err
		}
		if err := dir.Chmod(made, info.Mode()&modeBits); err != nil {
			return err
		}
	}
	return nil
}
