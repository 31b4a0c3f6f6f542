//go:build linux && amd64

package durable

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// platter is a disk that forgets what was not synced when the power goes. What is on it stands in files of
// a directory, one an inode, named by a number of our own.
type platter struct {
	dir    string
	made   int
	inodes map[uint64]*inode
	// names are paths as programs see them, onDisk those that outlive the power.
	names, onDisk map[string]*inode
}

// inode is a file: what of it is on the disk, and the changes since.
type inode struct {
	file    string
	pending []op
}

func newPlatter(dir string) *platter {
	return &platter{dir: dir, inodes: map[uint64]*inode{}, names: map[string]*inode{}, onDisk: map[string]*inode{}}
}

// apply does one operation.
func (p *platter) apply(o *op) error {
	switch o.kind {
	case rename:
		if n := p.names[o.path]; n != nil {
			p.names[o.to] = n
			delete(p.names, o.path)
			return nil
		}
		return p.renameDirectory(o.path, o.to)
	case remove:
		delete(p.names, o.path)
		return nil
	case syncDir:
		p.syncNames(func(path string) bool { return filepath.Dir(path) == o.path })
		return nil
	}
	n := p.inodes[o.inode]
	if o.kind == create || n == nil {
		if n == nil || !p.named(n) { // else it was there and is only opened
			p.made++
			n = &inode{file: filepath.Join(p.dir, fmt.Sprint(p.made))}
			if err := os.WriteFile(n.file, nil, 0o600); err != nil {
				return err
			}
			p.inodes[o.inode], p.names[o.path] = n, n
		}
	}
	if o.kind != syncFile {
		if o.kind != create {
			n.pending = append(n.pending, *o)
		}
		return nil
	}
	p.syncNames(func(path string) bool { return p.names[path] == n || p.onDisk[path] == n })
	return n.sync()
}

func (p *platter) named(n *inode) bool {
	for _, other := range p.names {
		if other == n {
			return true
		}
	}
	return false
}

// syncNames makes the names that are chosen outlive the power, and forgets those that are gone.
func (p *platter) syncNames(chosen func(path string) bool) {
	for path := range p.onDisk {
		if chosen(path) && p.names[path] != p.onDisk[path] {
			delete(p.onDisk, path)
		}
	}
	for path, n := range p.names {
		if chosen(path) {
			p.onDisk[path] = n
		}
	}
}

// renameDirectory moves all below a path. etcd does so before it uses the directory, and syncs the parent.
func (p *platter) renameDirectory(from, to string) error {
	for path, n := range p.names {
		if rest, below := strings.CutPrefix(path, from+"/"); below {
			delete(p.names, path)
			p.names[filepath.Join(to, rest)] = n
			if p.onDisk[path] == n {
				delete(p.onDisk, path)
				p.onDisk[filepath.Join(to, rest)] = n
			}
		}
	}
	return nil
}

// sync writes the changes since the last one.
func (n *inode) sync() error {
	file, err := os.OpenFile(n.file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	for _, o := range n.pending {
		switch o.kind {
		case write:
			_, err = file.WriteAt(o.data, o.offset)
		case truncate:
			err = file.Truncate(o.size)
		case grow:
			var info os.FileInfo
			if info, err = file.Stat(); err == nil && info.Size() < o.size {
				err = file.Truncate(o.size)
			}
		}
		if err != nil {
			return err
		}
	}
	n.pending = nil
	return nil
}

// syncAll is an orderly end.
func (p *platter) syncAll() error {
	p.syncNames(func(string) bool { return true })
	for _, n := range p.inodes {
		if err := n.sync(); err != nil {
			return err
		}
	}
	return nil
}

// restore puts what is on the disk into to, for names below from.
func (p *platter) restore(from, to string) error {
	for path, n := range p.onDisk {
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		if err := copySparse(n.file, target); err != nil {
			return err
		}
	}
	return nil
}

// copySparse leaves out what is zero: etcd's log is a large file that is mostly so.
func copySparse(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	block, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	var at int64
	for {
		n, err := in.Read(block)
		if err == io.EOF {
			return out.Truncate(at)
		}
		if err != nil {
			return err
		}
		if !bytes.Equal(block[:n], zero[:n]) {
			if _, err := out.WriteAt(block[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
	}
}

// differences compares the files below two directories.
func differences(a, b string) ([]string, error) {
	read := func(dir string) (map[string][]byte, error) {
		files := map[string][]byte{}
		err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			files[strings.TrimPrefix(path, dir)], err = os.ReadFile(path)
			return err
		})
		return files, err
	}
	left, err := read(a)
	if err != nil {
		return nil, err
	}
	right, err := read(b)
	if err != nil {
		return nil, err
	}
	var found []string
	for name, data := range left {
		switch other, there := right[name]; {
		case !there:
			found = append(found, name+" is missing")
		case !bytes.Equal(data, other):
			found = append(found, fmt.Sprintf("%s differs (%d and %d bytes)", name, len(data), len(other)))
		}
	}
	for name := range right {
		if left[name] == nil {
			found = append(found, name+" is too much")
		}
	}
	slices.Sort(found)
	return found, nil
}
