package volume

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// FileProjection is one file of a volume that the kubelet writes.
type FileProjection struct {
	Data []byte
	Mode int32
	// FsUser owns the file; nil is root.
	FsUser *int64
}

// Names within a volume. What begins with ".." is the writer's own.
const (
	dataDirName    = "..data"
	newDataDirName = "..data_tmp"
)

// AtomicWriter writes a set of files so that a reader sees all of the old or all
// of the new, never some of each:
//
//	DIR/..2026_01_02_03_04_05.678/key      the files
//	DIR/..data -> ..2026_01_02_03_04_05.678
//	DIR/key -> ..data/key                  what containers open
//
// Writing each file in place would show a program its new certificate with its
// old key.
type AtomicWriter struct {
	dir   string
	group *int64 // owns the files; nil is root's
}

// Write makes the volume's files those of payload (keys are relative paths):
//
//  1. look whether anything differs,
//  2. write all files to a new directory with a time in its name,
//  3. switch ..data to it by a rename,
//  4. make the links to files that are new, remove those to files that are gone,
//  5. remove the former directory.
func (w *AtomicWriter) Write(payload map[string]FileProjection) error {
	for name := range payload {
		if err := validatePath(name); err != nil {
			return err
		}
	}
	// Step 1: look whether anything differs.
	former, err := os.Readlink(filepath.Join(w.dir, dataDirName))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if former != "" && w.same(filepath.Join(w.dir, former), payload) {
		return w.link(payload) // a kill between steps 3 and 4 is repaired here
	}
	// Step 2: write all files to a new directory.
	next, err := os.MkdirTemp(w.dir, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return err
	}
	if err := w.fill(next, payload); err != nil {
		os.RemoveAll(next)
		return err
	}
	// Step 3: switch ..data by a rename.
	temporary := filepath.Join(w.dir, newDataDirName)
	if err := os.Remove(temporary); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Symlink(filepath.Base(next), temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, filepath.Join(w.dir, dataDirName)); err != nil {
		return err
	}
	// Step 4: make and remove links.
	if err := w.link(payload); err != nil {
		return err
	}
	// Step 5: remove the former directory.
	if former == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(w.dir, former))
}

// validatePath keeps keys within the volume and off the writer's own names.
func validatePath(name string) error {
	if name == "" || path.IsAbs(name) || len(name) > 4096 {
		return fmt.Errorf("invalid path: %q must be relative, not empty and not too long", name)
	}
	for _, part := range strings.Split(name, "/") {
		if part == ".." || len(part) > 255 {
			return fmt.Errorf("invalid path: %q must not contain '..' or too long names", name)
		}
	}
	if strings.HasPrefix(name, "..") {
		return fmt.Errorf("invalid path: %q must not start with '..'", name)
	}
	return nil
}

// same compares the files of a directory with payload.
func (w *AtomicWriter) same(dir string, payload map[string]FileProjection) bool {
	count := 0
	equal := true
	err := filepath.WalkDir(dir, func(file string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		count++
		name, _ := filepath.Rel(dir, file)
		want, ok := payload[name]
		data, err := os.ReadFile(file)
		info, statErr := entry.Info()
		if !ok || err != nil || statErr != nil || !bytes.Equal(data, want.Data) || info.Mode().Perm() != w.mode(want) {
			equal = false
		}
		return nil
	})
	return err == nil && equal && count == len(payload)
}

// mode adds the group's right to read, where a group owns the volume.
func (w *AtomicWriter) mode(file FileProjection) os.FileMode {
	mode := os.FileMode(file.Mode).Perm()
	if w.group != nil {
		mode |= 0o440
	}
	return mode
}

func (w *AtomicWriter) fill(dir string, payload map[string]FileProjection) error {
	for name, file := range payload {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, file.Data, 0o600); err != nil {
			return err
		}
		uid, gid := -1, -1
		if file.FsUser != nil {
			uid = int(*file.FsUser)
		}
		if w.group != nil {
			gid = int(*w.group)
		}
		if uid >= 0 || gid >= 0 {
			if err := chownIfRoot(full, uid, gid); err != nil {
				return err
			}
		}
		// The mode may leave the owner nothing, and WriteFile obeys the umask: so it comes last.
		if err := os.Chmod(full, w.mode(file)); err != nil {
			return err
		}
	}
	// MkdirTemp makes 0700; any user of a container may look.
	mode := os.FileMode(0o755)
	if w.group != nil {
		if err := chownIfRoot(dir, -1, int(*w.group)); err != nil {
			return err
		}
		mode |= os.ModeSetgid
	}
	return os.Chmod(dir, mode)
}

// link makes DIR/<first part> -> ..data/<first part> for each name, and removes
// links that lead to no name.
func (w *AtomicWriter) link(payload map[string]FileProjection) error {
	wanted := map[string]bool{}
	for name := range payload {
		first, _, _ := strings.Cut(name, "/")
		wanted[first] = true
	}
	for name := range wanted {
		target := filepath.Join(dataDirName, name)
		link := filepath.Join(w.dir, name)
		if existing, err := os.Readlink(link); err == nil && existing == target {
			continue
		}
		if err := os.Symlink(target, link); err != nil && !os.IsExist(err) {
			return err
		}
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		// What is no link was made for a mount's subPath, and may be mounted.
		if strings.HasPrefix(entry.Name(), "..") || wanted[entry.Name()] || entry.Type()&os.ModeSymlink == 0 {
			continue
		}
		if err := os.RemoveAll(filepath.Join(w.dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}
