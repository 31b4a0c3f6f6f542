package images

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Probe tries, in the directory that will hold the layers, whether the kernel
// can mount an overlay of directories there; if not, the reason says why, and
// root filesystems are copied: slower, but the same (R60).
func Probe(dir string) (driver Driver, reason string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", err
	}
	tmp, err := os.MkdirTemp(dir, "probe-*")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(tmp)
	if err := probeOverlay(tmp); err != nil {
		return Copy, err.Error(), nil
	}
	return Overlay, "", nil
}

func probeOverlay(tmp string) error {
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(tmp, d), 0o755); err != nil {
			return err
		}
	}
	lower := filepath.Join(tmp, "lower")
	if err := unix.Mknod(filepath.Join(lower, "gone"), unix.S_IFCHR, int(unix.Mkdev(0, 0))); err != nil {
		return fmt.Errorf("whiteouts cannot be made: %w", err)
	}
	if err := unix.Setxattr(lower, opaqueXattr, []byte("y"), 0); err != nil {
		return fmt.Errorf("opaque directories cannot be marked: %w", err)
	}
	merged := filepath.Join(tmp, "merged")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, filepath.Join(tmp, "upper"), filepath.Join(tmp, "work"))
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("overlay cannot be mounted: %w", err)
	}
	return unix.Unmount(merged, unix.MNT_DETACH)
}

// Overlays says whether root filesystems are mounted from layers, or must be copied.
func (s *Store) Overlays() bool { return s.driver == Overlay }

// CopyTo builds an image's root filesystem in dir, layer by layer, for hosts
// without overlay.
func (s *Store) CopyTo(img *Image, dir string) error {
	for _, layer := range img.Layers {
		if err := applyLayer(filepath.Join(s.LayersDir(), layer), dir); err != nil {
			return fmt.Errorf("copying layer %s: %w", layer, err)
		}
	}
	return nil
}

// applyLayer copies a layer that kept its marks (".wh.") over what is in dir.
func applyLayer(layer, dir string) error {
	links := map[uint64]string{} // inode → copy, for files with several names
	return filepath.WalkDir(layer, func(from string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(layer, from)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, rel)
		if name := entry.Name(); name == opaqueMark {
			return emptyDir(filepath.Dir(to), layer, rel)
		} else if gone, ok := strings.CutPrefix(name, whiteoutPrefix); ok {
			return os.RemoveAll(filepath.Join(filepath.Dir(to), gone))
		}
		if have, err := os.Lstat(to); err == nil && !(have.IsDir() && entry.IsDir()) {
			if err := os.RemoveAll(to); err != nil {
				return err
			}
		}
		var st unix.Stat_t
		if err := unix.Lstat(from, &st); err != nil {
			return err
		}
		if first, ok := links[st.Ino]; ok && !entry.IsDir() {
			return os.Link(first, to)
		}
		if st.Nlink > 1 {
			links[st.Ino] = to
		}
		return copyFile(from, to)
	})
}

// emptyDir removes what lower layers put into a directory. What this layer has
// there is copied again: the walk comes to the mark after names that sort before it.
func emptyDir(dir, layer, rel string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := os.Lstat(filepath.Join(layer, filepath.Dir(rel), e.Name())); err == nil && e.Name() < opaqueMark {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies one file of any kind, with owner, mode, attributes and times.
// A directory is made without its content.
func copyFile(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := os.Mkdir(to, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	case unix.S_IFLNK:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, to); err != nil {
			return err
		}
		return os.Lchown(to, int(st.Uid), int(st.Gid))
	case unix.S_IFREG:
		if err := copyContent(from, to); err != nil {
			return err
		}
	default:
		if err := unix.Mknod(to, st.Mode, int(st.Rdev)); err != nil {
			return err
		}
	}
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	copyXattrs(from, to)
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func copyContent(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// Where the file system can share the blocks, nothing is copied.
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return out.Close()
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// copyXattrs copies what the file system takes; file capabilities are the ones that matter.
func copyXattrs(from, to string) {
	names := make([]byte, 4096)
	n, err := unix.Llistxattr(from, names)
	if err != nil {
		return
	}
	for _, name := range strings.Split(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		value := make([]byte, 4096)
		if n, err := unix.Lgetxattr(from, name, value); err == nil && name != "" {
			unix.Lsetxattr(to, name, value[:n], 0)
		}
	}
}

// Usage is the disk space and the number of files of the store.
func (s *Store) Usage() (bytes, inodes uint64) { return DiskUsage(s.dir) }

// DiskUsage adds up what a directory takes on disk. Files that vanish meanwhile are passed over.
func DiskUsage(dir string) (bytes, inodes uint64) {
	filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil {
			inodes++
			bytes += uint64(st.Blocks) * 512
		}
		return nil
	})
	return bytes, inodes
}
