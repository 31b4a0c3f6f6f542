package podparent

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// partMounts gives the container's mount namespace its own life. What the node
// mounts later still arrives (rslave), nothing goes back. Only a pod with a
// Bidirectional mount stays connected; then the place of the root filesystem is
// made private first. Otherwise the container's root would appear on the node.
// That place is often on the same mount as what is to be shared ("/"), so copies
// of the latter, which stay connected, are made before: tied holds them, by their
// place in spec.Mounts.
func partMounts(spec *ContainerSpec, given bool) (tied map[int]int, err error) {
	if slices.ContainsFunc(spec.Mounts, func(m Mount) bool { return m.Propagation == "rshared" }) {
		tied = map[int]int{}
		for i, m := range spec.Mounts {
			if m.Propagation != "rshared" && m.Propagation != "rslave" || given {
				continue // mounts that are given were opened on the node, before
			}
			if tied[i], err = unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.AT_RECURSIVE|unix.OPEN_TREE_CLOEXEC); err != nil {
				return nil, fmt.Errorf("mount source %s: open_tree: %w", m.Source, err)
			}
		}
		return tied, privateParent(spec.Root.Path)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return nil, fmt.Errorf("making / a slave: %w", err)
	}
	return nil, nil
}

// privateParent makes the mount that holds path private.
func privateParent(path string) error {
	for dir := path; ; dir = filepath.Dir(dir) {
		err := unix.Mount("", dir, "", unix.MS_PRIVATE, "")
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINVAL) || dir == "/" { // EINVAL: not a mount point
			return fmt.Errorf("making %s private: %w", dir, err)
		}
	}
}

// mountRoot mounts the overlay, or takes the ready copy. The layers' names are
// relative, as the kernel allows one page for all options together.
func mountRoot(root *RootSpec) error {
	if len(root.Layers) == 0 {
		if err := unix.Mount(root.Path, root.Path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("binding root filesystem %s: %w", root.Path, err)
		}
		return nil
	}
	if err := unix.Chdir(root.LayersDir); err != nil {
		return fmt.Errorf("layers: %w", err)
	}
	options := "lowerdir=" + strings.Join(root.Layers, ":") + ",upperdir=" + root.Upper + ",workdir=" + root.Work
	if err := unix.Mount("overlay", root.Path, "overlay", 0, options); err != nil {
		return fmt.Errorf("mounting overlay of %d layers at %s: %w", len(root.Layers), root.Path, err)
	}
	return nil
}

// source is a bind mount's origin, open, and whether it is a directory.
type source struct {
	fd    int
	dir   bool
	mount bool // fd is a mount already, which only needs its place
}

func openSources(mounts []Mount) ([]source, error) {
	sources := make([]source, len(mounts))
	for i, m := range mounts {
		sources[i].fd = -1
		if m.Type != "bind" {
			continue
		}
		fd, err := openSource(&m)
		if err != nil && m.Optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("mount source %s: %w", m.Source, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return nil, fmt.Errorf("mount source %s: %w", m.Source, err)
		}
		sources[i] = source{fd: fd, dir: st.Mode&unix.S_IFMT == unix.S_IFDIR}
	}
	return sources, nil
}

func openSource(m *Mount) (fd int, err error) {
	if m.Image == nil {
		return unix.Open(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	if err := mountImage(m.Source, m.Image); err != nil {
		return -1, err
	}
	return openInside(m.Source, m.Image.SubPath)
}

// mountImage mounts an image's layers at a directory, to be read only.
func mountImage(at string, image *ImageMount) error {
	if len(image.Layers) == 0 {
		return nil
	}
	if err := unix.Chdir(image.LayersDir); err != nil {
		return fmt.Errorf("layers: %w", err)
	}
	if len(image.Layers) == 1 { // an overlay has at least two
		return unix.Mount(image.Layers[0], at, "", unix.MS_BIND, "")
	}
	return unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(image.Layers, ":"))
}

// openInside opens a path below dir as if dir were "/": no link and no ".." leads out of it.
func openInside(dir, path string) (fd int, err error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil || path == "" {
		return root, err
	}
	defer unix.Close(root)
	return unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
}

// pivotRoot makes path the root of the mount namespace. The old root stays
// mounted, without a name, behind the returned descriptor: bind sources that
// were opened in it can still be mounted.
func pivotRoot(path string) (nodeRoot int, err error) {
	if nodeRoot, err = unix.Open("/", unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return -1, err
	}
	if err := unix.Chdir(path); err != nil {
		return -1, err
	}
	// With one name for both, the old root is stacked at "/", out of sight (pivot_root(2), notes).
	if err := unix.PivotRoot(".", "."); err != nil {
		return -1, fmt.Errorf("pivot_root %s: %w", path, err)
	}
	return nodeRoot, unix.Chdir("/")
}

// leaveNodeRoot lets go of the old root. It is made a slave before: otherwise
// unmounting it would unmount the node's own filesystems.
func leaveNodeRoot(nodeRoot int) error {
	if err := unix.Fchdir(nodeRoot); err != nil {
		return err
	}
	if err := unix.Mount("", ".", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("old root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting the old root: %w", err)
	}
	unix.Close(nodeRoot)
	return unix.Chdir("/")
}

// kernelMounts are in every container, in this order.
func kernelMounts(spec *ContainerSpec) []Mount {
	const locked = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV
	sys := Mount{Type: "sysfs", Source: "sysfs", Target: "/sys", Flags: locked | unix.MS_RDONLY}
	if spec.Privileged {
		sys.Flags &^= unix.MS_RDONLY
	}
	return []Mount{
		{Type: "proc", Source: "proc", Target: "/proc", Flags: locked},
		{Type: "tmpfs", Source: "tmpfs", Target: "/dev", Flags: unix.MS_NOSUID | unix.MS_STRICTATIME, Data: "mode=755,size=65536k"},
		{Type: "devpts", Source: "devpts", Target: "/dev/pts", Flags: unix.MS_NOSUID | unix.MS_NOEXEC, Data: "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{Type: "mqueue", Source: "mqueue", Target: "/dev/mqueue", Flags: locked, Optional: true},
		sys,
	}
}

// mountAll mounts the kernel's filesystems, then the pod's, then makes a
// read-only root read-only: last, since mount points may have to be made in it.
func mountAll(spec *ContainerSpec, sources []source) error {
	for _, m := range kernelMounts(spec) {
		if err := mountOne(&m, source{fd: -1}); err != nil {
			return err
		}
	}
	if err := linkDevices(); err != nil {
		return err
	}
	for i := range spec.Mounts {
		if err := mountOne(&spec.Mounts[i], sources[i]); err != nil {
			return err
		}
	}
	// A working directory that nobody has made is made; if it cannot be, changing to it will say so.
	os.MkdirAll(spec.Cwd, 0o755)
	if spec.Root.Readonly {
		return remount("/", unix.MS_RDONLY)
	}
	return nil
}

func mountOne(m *Mount, from source) error {
	err := makeTarget(m.Target, m.Type != "bind" || from.dir)
	switch {
	case err != nil:
	case m.Type == "bind" && from.fd < 0:
		err = unix.ENOENT
	case m.Type == "bind":
		err = bind(m, from)
	default:
		err = unix.Mount(m.Source, m.Target, m.Type, uintptr(m.Flags), m.Data)
	}
	if err != nil && !m.Optional {
		return fmt.Errorf("mounting %s at %s: %w", m.Source, m.Target, err)
	}
	return nil
}

// bind mounts an open file or directory. Flags and propagation need calls of
// their own: the kernel ignores them in the one that binds.
func bind(m *Mount, from source) error {
	err := place(m.Target, from)
	if err != nil {
		return err
	}
	unix.Close(from.fd)
	propagation := map[string]uintptr{"": unix.MS_PRIVATE, "private": unix.MS_PRIVATE, "rslave": unix.MS_SLAVE, "rshared": unix.MS_SHARED}
	if err := unix.Mount("", m.Target, "", propagation[m.Propagation]|unix.MS_REC, ""); err != nil {
		return err
	}
	if m.Flags == 0 {
		return nil
	}
	if m.Recursive {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		return unix.MountSetattr(unix.AT_FDCWD, m.Target, unix.AT_RECURSIVE, attr)
	}
	return remount(m.Target, uintptr(m.Flags))
}

func place(target string, from source) error {
	if from.mount {
		return unix.MoveMount(from.fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	return unix.Mount("/proc/self/fd/"+strconv.Itoa(from.fd), target, "", unix.MS_BIND|unix.MS_REC, "")
}

// remount adds flags to a mount, and keeps those it has: dropping nosuid from a
// mount of the node that has it is refused where users are not the node's.
func remount(target string, flags uintptr) error {
	var st unix.Statfs_t
	if err := unix.Statfs(target, &st); err != nil {
		return err
	}
	kept := uintptr(st.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY)
	if st.Flags&unix.ST_RELATIME != 0 {
		kept |= unix.MS_RELATIME
	}
	return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|flags|kept, "")
}

// makeTarget makes a mount point where there is none.
func makeTarget(target string, dir bool) error {
	if dir {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		if _, there := os.Stat(target); there == nil {
			return nil // a device or a socket: it need not be opened to be covered
		}
		return err
	}
	return f.Close()
}

// node is a device node to be made.
type node struct {
	path string
	mode uint32
	dev  uint64
	uid  uint32
	gid  uint32
}

// standardDevices are in every container: null, zero, full, random, urandom, tty.
var standardDevices = []node{
	{"/dev/null", unix.S_IFCHR | 0o666, unix.Mkdev(1, 3), 0, 0},
	{"/dev/zero", unix.S_IFCHR | 0o666, unix.Mkdev(1, 5), 0, 0},
	{"/dev/full", unix.S_IFCHR | 0o666, unix.Mkdev(1, 7), 0, 0},
	{"/dev/random", unix.S_IFCHR | 0o666, unix.Mkdev(1, 8), 0, 0},
	{"/dev/urandom", unix.S_IFCHR | 0o666, unix.Mkdev(1, 9), 0, 0},
	{"/dev/tty", unix.S_IFCHR | 0o666, unix.Mkdev(5, 0), 0, 0},
}

// statDevices looks at the node's devices while they can be named.
func statDevices(devices []Device) ([]node, error) {
	nodes := standardDevices
	for _, d := range devices {
		var st unix.Stat_t
		if err := unix.Stat(d.Host, &st); err != nil {
			return nil, fmt.Errorf("device %s: %w", d.Host, err)
		}
		nodes = append(nodes, node{d.Container, st.Mode, uint64(st.Rdev), st.Uid, st.Gid})
	}
	return nodes, nil
}

func makeDevices(nodes []node) error {
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, n := range nodes {
		if err := os.MkdirAll(filepath.Dir(n.path), 0o755); err != nil {
			return err
		}
		err := unix.Mknod(n.path, n.mode, int(n.dev))
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("device %s: %w", n.path, err)
		}
		if err == nil {
			unix.Chown(n.path, int(n.uid), int(n.gid))
		}
	}
	return nil
}

// linkDevices makes the customary names in /dev.
func linkDevices() error {
	links := [][2]string{{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"},
		{"/proc/self/fd/2", "/dev/stderr"}, {"/proc/kcore", "/dev/core"}, {"pts/ptmx", "/dev/ptmx"}}
	for _, l := range links {
		if err := os.Symlink(l[0], l[1]); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}

// hide covers the masked paths and makes the read-only paths read-only. A path
// that does not exist needs neither.
func hide(spec *ContainerSpec) error {
	for _, path := range spec.Readonly {
		err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err == nil {
			err = remount(path, unix.MS_RDONLY)
		}
		if err != nil {
			return fmt.Errorf("protecting %s: %w", path, err)
		}
	}
	for _, path := range spec.Masked {
		err := unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
		if errors.Is(err, unix.ENOTDIR) { // a directory: cover it with an empty one
			err = unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY, "size=0k")
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("masking %s: %w", path, err)
		}
	}
	return nil
}

// openConsole makes a terminal of the container's own devpts, makes its end the
// standard input and outputs of this process, and returns the other end.
func openConsole(who *Identity) (master int, err error) {
	if master, err = unix.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
		return -1, err
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, err
	}
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1, err
	}
	slave, err := unix.Open("/dev/pts/"+strconv.Itoa(number), unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, err
	}
	unix.Fchown(slave, int(who.UID), -1)
	for fd := 0; fd < 3; fd++ {
		if err := unix.Dup3(slave, fd, 0); err != nil {
			return -1, err
		}
	}
	if slave > 2 {
		unix.Close(slave)
	}
	// The process leads its session since clone; now the session gets its terminal.
	return master, unix.IoctlSetInt(0, unix.TIOCSCTTY, 0)
}

// readColumns calls use with the fields of each line of a colon-separated file.
func readColumns(path string, use func([]string)) {
	f, err := os.Open(path)
	if err != nil {
		return // an image without the file has no names
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		use(strings.Split(strings.TrimSpace(lines.Text()), ":"))
	}
}
