package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	mountutils "k8s.io/mount-utils"
	utilexec "k8s.io/utils/exec"
)

func newMounter(none bool) mounter {
	if none || os.Geteuid() != 0 {
		return noMounts{}
	}
	return kernelMounter{}
}

type kernelMounter struct{}

func (kernelMounter) tmpfs(dir string, size int64) error {
	if mounted, err := mountinfo.Mounted(dir); err != nil || mounted {
		return err
	}
	options := ""
	if size > 0 {
		options = fmt.Sprintf("size=%d", size)
	}
	err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options)
	if errors.Is(err, unix.EPERM) {
		return nil // root without the right to mount, as in some containers: the disk serves too
	}
	if err != nil {
		return fmt.Errorf("mounting tmpfs at %s: %w", dir, err)
	}
	return nil
}

func (kernelMounter) hugetlbfs(dir string, pageSize int64) error {
	if mounted, err := mountinfo.Mounted(dir); err != nil || mounted {
		return err
	}
	if err := unix.Mount("nodev", dir, "hugetlbfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("pagesize=%d", pageSize)); err != nil {
		return fmt.Errorf("mounting hugetlbfs with pages of %d bytes at %s: %w", pageSize, dir, err)
	}
	return nil
}

// device leaves an existing file system as it is: what is on a disk is checked and mounted, never formatted again.
func (kernelMounter) device(source, dir, fsType string, options []string) error {
	if mounted, err := mountinfo.Mounted(dir); err != nil || mounted {
		return err
	}
	return mountutils.NewSafeFormatAndMount(mountutils.New(""), utilexec.New()).FormatAndMount(source, dir, fsType, options)
}

func (kernelMounter) grow(source, dir string) error {
	_, err := mountutils.NewResizeFs(utilexec.New()).Resize(source, dir)
	return err
}

// bindBeneath opens root/sub so that the kernel itself refuses to leave root, and
// mounts the opened file rather than its name: a container that swaps a directory
// for a symlink after the check changes nothing (CVE-2017-1002101).
func (kernelMounter) bindBeneath(root, sub, target string) (string, error) {
	realRoot, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", err
	}
	rootFD, err := unix.Open(realRoot, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("opening volume %s: %w", root, err)
	}
	defer unix.Close(rootFD)
	fd, err := unix.Openat2(rootFD, filepath.Clean(sub), &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return "", fmt.Errorf("subpath %q within volume %s: %w", sub, root, err)
	}
	defer unix.Close(fd)
	if mounted, err := mountinfo.Mounted(target); err == nil && mounted {
		return target, nil
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return "", err
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.MkdirAll(target, 0o750)
	} else {
		err = makeFile(target)
	}
	if err != nil {
		return "", err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", fmt.Errorf("bind mounting subpath %q: %w", sub, err)
	}
	return target, nil
}

// unmountUnder goes deepest first, and detaches what is still busy.
func (kernelMounter) unmountUnder(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(real))
	if err != nil {
		return err
	}
	sort.Slice(mounts, func(i, j int) bool {
		return strings.Count(mounts[i].Mountpoint, "/") > strings.Count(mounts[j].Mountpoint, "/")
	})
	var errs []error
	for _, mount := range mounts {
		if err := unix.Unmount(mount.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", mount.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}
