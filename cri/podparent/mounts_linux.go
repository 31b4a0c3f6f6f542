package podparent

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mounts that a parent makes for a container in a user namespace. They are made
// without a place in any tree, and travel as descriptors; the child gives them
// their places. Files on disk keep the owners that they have: a mount with an ID
// map shows, and stores, 0 where the container has its root (mount_setattr(2)).

// layPlace is where such a container's root filesystem is mounted for the moment
// before it becomes "/": a directory that every node has and that everyone may
// enter. The container's own directory is neither, for a nobody of the node.
const layPlace = "/dev"

// mounts are the root filesystem and the source of each mount of a spec; -1 where it has none.
type mounts struct {
	root    int
	sources []int
}

// mountsFor makes the mounts of a container; nil if it can make them itself. In
// the spec, devices become bind mounts: nobody may make a device in a user namespace.
func (p *Parent) mountsFor(spec *ContainerSpec) (given *mounts, err error) {
	if p.midwife == nil {
		return nil, nil
	}
	userNS, err := os.Open("/proc/" + strconv.Itoa(p.midwife.pid) + "/ns/user")
	if err != nil {
		return nil, err
	}
	defer userNS.Close()
	var devices []Mount
	for _, d := range standardDevices {
		devices = append(devices, Mount{Type: "bind", Source: d.path, Target: d.path})
	}
	for _, d := range spec.Devices {
		devices = append(devices, Mount{Type: "bind", Source: d.Host, Target: d.Container})
	}
	spec.Devices, spec.Mounts = nil, append(devices, spec.Mounts...)
	given = &mounts{root: -1}
	defer func() {
		if err != nil {
			given.close()
			given = nil
		}
	}()
	if given.root, err = mappedRoot(&spec.Root, userNS); err != nil {
		return given, err
	}
	spec.Root.Path = layPlace
	for _, m := range spec.Mounts {
		fd := -1
		if m.Type == "bind" {
			shown := userNS
			if !m.IDMapped {
				shown = nil
			}
			if m.Image != nil {
				fd, err = mappedImage(&m, userNS)
			} else {
				fd, err = mappedTree(m.Source, shown, unix.AT_RECURSIVE)
			}
			if err != nil && !m.Optional {
				return given, fmt.Errorf("mount source %s: %w", m.Source, err)
			}
		}
		given.sources = append(given.sources, fd)
	}
	return given, nil
}

// mappedTree copies the mount at path, without a place. With a user namespace its
// owners are shown as there; mounts below it (AT_RECURSIVE) are left as they are.
func mappedTree(path string, userNS *os.File, flags uint) (fd int, err error) {
	if fd, err = unix.OpenTree(unix.AT_FDCWD, path, flags|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC); err != nil {
		return -1, fmt.Errorf("open_tree %s: %w", path, err)
	}
	if userNS == nil {
		return fd, nil
	}
	if err := mapOwners(fd, path, userNS); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// mapOwners shows the owners of a mount that has no place yet as in a user namespace.
func mapOwners(fd int, what string, userNS *os.File) error {
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userNS.Fd())}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, attr); err != nil {
		return fmt.Errorf("the kernel or the file system of %s knows no ID-mapped mounts (tmpfs, which holds secrets and tokens, since Linux 6.3): %w", what, err)
	}
	return nil
}

// mappedRoot mounts a root filesystem for a user namespace. An overlay cannot be
// mapped itself; its layers can, and the writable one belongs to the container's
// root on disk already. All of it is mounted in a mount namespace of one thread,
// which ends with it: only the descriptor remains.
func mappedRoot(root *RootSpec, userNS *os.File) (fd int, err error) {
	if len(root.Layers) == 0 {
		return mappedTree(root.Path, userNS, 0)
	}
	fd, err = inThread(func() (int, error) {
		layers, err := stackMapped(root.LayersDir, root.Layers, root.Path, userNS)
		if err != nil {
			return -1, err
		}
		options := "lowerdir=" + strings.Join(layers, ":") + ",upperdir=" + root.Upper + ",workdir=" + root.Work
		if err := unix.Mount("overlay", "root", "overlay", 0, options); err != nil {
			return -1, fmt.Errorf("mounting overlay of %d layers: %w", len(layers), err)
		}
		return mappedTree("root", nil, 0)
	})
	if err != nil {
		return -1, fmt.Errorf("root filesystem: %w", err)
	}
	return fd, nil
}

// mappedImage mounts an image that is used as a volume, likewise.
func mappedImage(m *Mount, userNS *os.File) (fd int, err error) {
	inner := func() (string, error) {
		if len(m.Image.Layers) == 0 {
			return m.Source, nil
		}
		layers, err := stackMapped(m.Image.LayersDir, m.Image.Layers, m.Source, userNS)
		if err != nil || len(layers) == 1 {
			return "0", err
		}
		return "root", unix.Mount("overlay", "root", "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(layers, ":"))
	}
	return inThread(func() (int, error) {
		dir, err := inner()
		if err != nil {
			return -1, err
		}
		part, err := openInside(dir, m.Image.SubPath)
		if err != nil {
			return -1, err
		}
		defer unix.Close(part)
		shown := userNS
		if len(m.Image.Layers) > 0 {
			shown = nil // the layers are mapped already
		}
		return mappedTree("/proc/self/fd/"+strconv.Itoa(part), shown, 0)
	})
}

// TryImage says whether an image can be mounted and has the sub-path that is wanted.
func TryImage(m *Mount) error {
	fd, err := inThread(func() (int, error) { return openSource(m) })
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// inThread runs work in a mount namespace of one thread, and in its own working
// directory. Both end with it: what is left is the descriptor that work returns.
func inThread(work func() (int, error)) (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		lockThread() // never unlocked: the thread ends here
		if err = unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return
		}
		if err = unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			return
		}
		fd, err = work()
	}()
	<-done
	return fd, err
}

// stackMapped mounts each layer, mapped, in a scratch directory that it changes
// to, with a directory "root" beside them, and returns the layers' names there.
func stackMapped(dir string, layers []string, scratch string, userNS *os.File) (names []string, err error) {
	if err := unix.Mount("layers", scratch, "tmpfs", 0, "mode=755,size=64k"); err != nil {
		return nil, err
	}
	if err := unix.Chdir(scratch); err != nil {
		return nil, err
	}
	for i, layer := range layers {
		name := strconv.Itoa(i)
		if err := os.Mkdir(name, 0o755); err != nil {
			return nil, err
		}
		tree, err := mappedTree(filepath.Join(dir, layer), userNS, 0)
		if err != nil {
			return nil, err
		}
		err = unix.MoveMount(tree, "", unix.AT_FDCWD, name, unix.MOVE_MOUNT_F_EMPTY_PATH)
		unix.Close(tree)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, os.Mkdir("root", 0o755)
}

// hand gives the mounts to the child, in the order in which it takes them.
func (m *mounts) hand(child *Conn) error {
	for _, fd := range append([]int{m.root}, m.sources...) {
		var with []int
		if fd >= 0 {
			with = append(with, fd)
		}
		if err := child.Send(struct{}{}, with...); err != nil {
			return err
		}
	}
	return nil
}

func (m *mounts) close() {
	if m == nil {
		return
	}
	for _, fd := range append([]int{m.root}, m.sources...) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// layGiven is steps 6 and 7 of the child in a user namespace: it takes its mounts,
// and lays the root where it can be pivoted to.
func layGiven(spec *ContainerSpec, parent *Conn) (sources []source, devices []node, err error) {
	take := func() (int, error) {
		var nothing struct{}
		fds, err := parent.Receive(&nothing)
		if err != nil || len(fds) == 0 {
			return -1, err
		}
		return fds[0], nil
	}
	root, err := take()
	if err != nil {
		return nil, nil, fmt.Errorf("taking the root filesystem: %w", err)
	}
	if err := unix.MoveMount(root, "", unix.AT_FDCWD, layPlace, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return nil, nil, fmt.Errorf("mounting the root filesystem: %w", err)
	}
	unix.Close(root)
	for _, m := range spec.Mounts {
		fd, err := take()
		if err != nil {
			return nil, nil, fmt.Errorf("taking the mount for %s: %w", m.Target, err)
		}
		var st unix.Stat_t
		if fd >= 0 {
			if err := unix.Fstat(fd, &st); err != nil {
				return nil, nil, fmt.Errorf("mount source %s: %w", m.Source, err)
			}
		}
		sources = append(sources, source{fd: fd, dir: st.Mode&unix.S_IFMT == unix.S_IFDIR, mount: true})
	}
	return sources, nil, nil
}
