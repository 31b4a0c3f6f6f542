package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces the file at path, with that mode whatever the umask. Its directory must exist.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	if err := write(disk{}, path, data, mode); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// system is the four things that are done to a disk: the seam at which the test cuts the power.
type system interface {
	// create makes a new file beside path, and returns its name.
	create(path string, mode fs.FileMode) (file, error)
	rename(from, to string) error
	syncDir(dir string) error
	remove(name string)
}

type file interface {
	Name() string
	Write([]byte) (int, error)
	Sync() error
	Close() error
}

func write(s system, path string, data []byte, mode fs.FileMode) error {
	// Step 1
	f, err := s.create(path, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	// Step 2
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		// Step 3
		err = s.rename(f.Name(), path)
	}
	if err != nil {
		s.remove(f.Name())
		return err
	}
	// Step 4
	return s.syncDir(filepath.Dir(path))
}

// disk is the real system.
type disk struct{}

func (disk) create(path string, mode fs.FileMode) (file, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(mode); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	return f, nil
}

func (disk) rename(from, to string) error { return os.Rename(from, to) }
func (disk) remove(name string)           { os.Remove(name) }

func (disk) syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
