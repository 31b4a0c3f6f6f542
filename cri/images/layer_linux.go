package images

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hyperkube/component/durable"
)

// The marks of a layer archive for files of lower layers that are gone (OCI
// image spec, layer.md).
const (
	whiteoutPrefix = ".wh."
	opaqueMark     = ".wh..wh..opq"
	opaqueXattr    = "trusted.overlay.opaque"
)

// unpacker turns a layer's archive into a directory. Nothing it is told can
// make it write elsewhere: it works through an os.Root.
type unpacker struct {
	dir    string
	driver Driver
	below  []string // the layers under this one, lowest first, for links into them
	size   int64

	root *os.Root
	// times of directories, set last: making a file in a directory changes them.
	times map[string]time.Time
}

func (u *unpacker) unpack(r io.Reader) error {
	root, err := os.OpenRoot(u.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u.root, u.times = root, map[string]time.Time{}
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := u.entry(header, archive); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	for dir, at := range u.times {
		u.root.Chtimes(dir, at, at)
	}
	_, err = io.Copy(io.Discard, r) // the digest is that of the whole stream, padding included
	return err
}

// entry makes one file of the archive.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	if name == "" {
		u.times["."] = h.ModTime
		return u.attributes(".", h)
	}
	parent, err := u.makeParents(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	name = path.Join(parent, base)
	if u.driver == Overlay && strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(parent, base)
	}
	if have, err := u.root.Lstat(name); err == nil && !(have.IsDir() && h.Typeflag == tar.TypeDir) {
		if err := u.root.RemoveAll(name); err != nil { // a later entry replaces an earlier one
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		u.times[name] = h.ModTime
		if err := u.root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	case tar.TypeReg:
		if err := u.file(name, content); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := u.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
	case tar.TypeLink:
		return u.link(h.Linkname, name) // its attributes are the other name's
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		if err := u.node(parent, base, h); err != nil {
			return err
		}
	default:
		return nil // global headers and the like
	}
	return u.attributes(name, h)
}

// makeParents makes the directories above a file, and follows links on the way
// as a chroot would: an absolute link stays inside.
func (u *unpacker) makeParents(dir string) (string, error) {
	done, todo := ".", strings.Split(dir, "/")
	for hops := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		next := path.Join(done, part)
		if part == ".." {
			done = strings.TrimPrefix(path.Clean("/"+next), "/")
			continue
		}
		info, err := u.root.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := u.root.Mkdir(next, 0o755); err != nil {
				return "", err
			}
		case err != nil:
			return "", err
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := u.root.Readlink(next)
			if hops++; err != nil || hops > 40 {
				return "", fmt.Errorf("link %s: %w", next, errors.Join(err, unix.ELOOP))
			}
			if path.IsAbs(to) {
				done = "."
			}
			todo = append(strings.Split(to, "/"), todo...)
			continue
		}
		done = next
	}
	return done, nil
}

// whiteout hides a lower layer's file, or with the opaque mark a lower layer's
// directory, in the way overlayfs knows.
func (u *unpacker) whiteout(parent, base string) error {
	return u.inDir(parent, func(fd int) error {
		if base == opaqueMark {
			return unix.Setxattr("/proc/self/fd/"+strconv.Itoa(fd), opaqueXattr, []byte("y"), 0)
		}
		name := strings.TrimPrefix(base, whiteoutPrefix)
		if err := u.root.RemoveAll(path.Join(parent, name)); err != nil {
			return err
		}
		return unix.Mknodat(fd, name, unix.S_IFCHR, int(unix.Mkdev(0, 0)))
	})
}

// inDir calls use with a descriptor of a directory in the root, for the calls
// that os.Root does not have.
func (u *unpacker) inDir(dir string, use func(fd int) error) error {
	d, err := u.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return use(int(d.Fd()))
}

func (u *unpacker) file(name string, content io.Reader) error {
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, content)
	u.size += n
	return errors.Join(err, f.Close())
}

func (u *unpacker) node(parent, base string, h *tar.Header) error {
	kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
	return u.inDir(parent, func(fd int) error {
		return unix.Mknodat(fd, base, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	})
}

// link makes a hard link. What it names may be in a lower layer only: that file
// is copied up, as the overlay would.
func (u *unpacker) link(target, name string) error {
	target = strings.TrimPrefix(path.Clean("/"+target), "/")
	parent, err := u.makeParents(path.Dir(target))
	if err != nil {
		return err
	}
	err = u.root.Link(path.Join(parent, path.Base(target)), name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for i := len(u.below) - 1; i >= 0; i-- {
		lower := filepath.Join(u.below[i], target)
		if _, err := os.Lstat(lower); err == nil {
			return copyFile(lower, filepath.Join(u.dir, name))
		}
	}
	return err
}

// attributes sets owner, then mode (changing the owner clears set-user-ID), then
// extended attributes and time.
func (u *unpacker) attributes(name string, h *tar.Header) error {
	if err := u.root.Lchown(name, h.Uid, h.Gid); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeSymlink {
		return nil
	}
	if err := u.root.Chmod(name, h.FileInfo().Mode()); err != nil {
		return err
	}
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || strings.HasPrefix(attr, "trusted.overlay.") {
			continue // an image must not steer the overlay
		}
		err := u.inDir(path.Dir(name), func(fd int) error {
			return unix.Lsetxattr("/proc/self/fd/"+strconv.Itoa(fd)+"/"+path.Base(name), attr, []byte(value), 0)
		})
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("attribute %s: %w", attr, err)
		}
	}
	if h.Typeflag != tar.TypeDir {
		return u.root.Chtimes(name, h.ModTime, h.ModTime)
	}
	return nil
}

// metaSuffix ends the name of the file beside a layer that says its size, and,
// as long as the layer may not be on disk, in which boot it was unpacked.
const metaSuffix = ".json"

type layerMeta struct {
	Size int64  `json:"size"`
	Boot string `json:"boot,omitempty"`
}

// settle gives an unpacked layer its place. Its files reach the disk later, in
// the background: waiting for that would make the first pod wait for everything
// that the machine has yet to write. Until then the layer is marked with this
// boot, and a layer with the mark of another boot is not believed.
func (s *Store) settle(dir, layer string, size int64) error {
	place := filepath.Join(s.LayersDir(), layer)
	meta := layerMeta{Size: size, Boot: bootID()}
	if err := writeMeta(place, meta); err != nil {
		return err
	}
	if err := os.RemoveAll(place); err != nil { // a doubtful one
		return err
	}
	if err := os.Rename(dir, place); err != nil {
		return err
	}
	d, err := os.Open(place)
	if err != nil {
		return err
	}
	s.synced.Add(1)
	go func() {
		defer s.synced.Done()
		defer d.Close()
		if unix.Syncfs(int(d.Fd())) == nil {
			if _, err := os.Stat(place); err == nil {
				writeMeta(place, layerMeta{Size: size})
			}
		}
	}()
	return nil
}

func writeMeta(place string, meta layerMeta) error {
	data, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	return durable.WriteFile(place+metaSuffix, data, 0o600)
}

func readMeta(place string) (meta layerMeta, err error) {
	data, err := os.ReadFile(place + metaSuffix)
	if err != nil {
		return meta, err
	}
	return meta, json.Unmarshal(data, &meta)
}

// doubtful says that a layer may have been cut short by a crash of the machine.
func (s *Store) doubtful(layer string) bool {
	meta, err := readMeta(filepath.Join(s.LayersDir(), layer))
	return err != nil || meta.Boot != "" && meta.Boot != bootID()
}

func (s *Store) layerSize(layer string) int64 {
	meta, _ := readMeta(filepath.Join(s.LayersDir(), layer))
	return meta.Size
}

func bootID() string {
	data, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data))
}
