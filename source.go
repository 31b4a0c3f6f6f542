// Package hyperkube is the module's root: it carries the module's own Go files, so that
// every line which a trace cites can be read with nothing but the binary.
//
// `make build` packs them (test/pack) into sources/source.tar.gz, some 700 KiB, before it
// builds the binary. A plain `go build` finds no archive there; then Source reads the files of
// the module around the working directory, if there is one.
//
// In Kubernetes: nothing has this job.
package hyperkube

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

//go:embed sources
var sources embed.FS

// Source returns the module's Go files without tests, by their path in the module.
func Source() (map[string][]byte, error) {
	packed, err := sources.ReadFile("sources/source.tar.gz")
	if errors.Is(err, fs.ErrNotExist) {
		return sourceOnDisk()
	}
	if err != nil {
		return nil, err
	}
	return unpack(packed)
}

func unpack(packed []byte) (map[string][]byte, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			return nil, err
		}
	}
}

// sourceOnDisk reads the module that the working directory lies in.
func sourceOnDisk() (map[string][]byte, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for ; ; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte("module hyperkube\n")) {
			return ReadTree(dir)
		}
		if dir == filepath.Dir(dir) {
			return nil, fmt.Errorf("this binary was built without its source: build it with `make build`, or run it in the module's folder")
		}
	}
}

// ReadTree reads the Go files below dir that Source is made of.
func ReadTree(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != dir && (strings.HasPrefix(name, ".") || name == "bin" || name == "testdata") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(relative)], err = os.ReadFile(path)
		return err
	})
	return files, err
}
