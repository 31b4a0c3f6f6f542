// Package embedded carries the two small programs that a node needs beside
// hyperkube itself: podparent, the parent process of a pod, and box, the tools of
// the demo image. `make build` builds them first and puts them, compressed, into
// bin/; a plain `go build` finds none there, and hyperkube then plays both parts
// itself, at the price of a larger process for each pod.
package embedded

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed bin
var files embed.FS

// Install unpacks a program into dir, once for each content, and returns its
// path. ok is false if this build does not carry it. Copies of other content are
// removed; who runs one keeps running.
func Install(name, dir string) (path string, ok bool, err error) {
	packed, err := files.ReadFile("bin/" + name + ".gz")
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	path = filepath.Join(dir, fmt.Sprintf("%s-%x", name, sha256.Sum256(packed))[:len(name)+13])
	if _, err := os.Stat(path); err == nil {
		return path, true, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", false, err
	}
	old, _ := filepath.Glob(filepath.Join(dir, name+"-*"))
	if err := unpack(packed, path); err != nil {
		return "", false, fmt.Errorf("unpacking %s: %w", name, err)
	}
	for _, f := range old {
		os.Remove(f)
	}
	return path, true, nil
}

// unpack writes the program beside its place and then moves it there, so that
// nobody ever runs half of it.
func unpack(packed []byte, path string) error {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Chmod(0o755), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
