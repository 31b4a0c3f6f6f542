package images

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// boxLabel of the demo image holds the digest of the program it was made from.
const boxLabel = "hyperkube.local/box"

// NodeNameLabel of an image names a variable in which its containers are told their
// node's name, unless the pod sets it. A process has no other way to know its node
// than the downward API, which `kubectl create deployment` does not write.
const NodeNameLabel = "hyperkube.local/node-name-variable"

// EnsureDemo makes the demo image from one program that is all its tools: it is
// /bin/box, and a link for each tool leads to it. An image made from the same
// program before is kept.
func (s *Store) EnsureDemo(box string, tools []string) error {
	program, err := os.Open(box)
	if err != nil {
		return err
	}
	defer program.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, program); err != nil {
		return err
	}
	label := fmt.Sprintf("%x", digest.Sum(nil))
	if have, err := s.Get(DemoImage); err == nil && have.Config.Config.Labels[boxLabel] == label {
		return nil
	}
	layer, diffID, err := s.demoLayer(program, tools)
	if err != nil {
		return err
	}
	defer os.Remove(layer)
	hash, err := v1.NewHash(diffID)
	if err != nil {
		return err
	}
	config, err := json.Marshal(v1.ConfigFile{
		Architecture: runtime.GOARCH, OS: "linux",
		Config: v1.Config{Cmd: []string{"/bin/serve"}, WorkingDir: "/", Labels: map[string]string{boxLabel: label, NodeNameLabel: "NODE_NAME"},
			Env: []string{"PATH=/bin"}, ExposedPorts: map[string]struct{}{"8080/tcp": {}}},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{hash}},
		History: []v1.History{{CreatedBy: "hyperkube"}},
	})
	if err != nil {
		return err
	}
	src := &source{config: config, tags: []string{DemoImage}, pinned: true,
		layers: []layerSource{{open: func() (io.ReadCloser, error) { return os.Open(layer) }}}}
	if err := src.parse(); err != nil {
		return err
	}
	old, _ := s.Get(DemoImage)
	if _, err := s.add(src); err != nil {
		return err
	}
	if old != nil && old.ID != src.id {
		return s.Remove(old.ID)
	}
	return nil
}

// demoLayer writes the image's only layer as an archive.
func (s *Store) demoLayer(program *os.File, tools []string) (path, diffID string, err error) {
	f, err := os.Create(filepath.Join(s.tempDir(), "demo.tar"))
	if err != nil {
		return "", "", err
	}
	digest := sha256.New()
	archive := tar.NewWriter(io.MultiWriter(f, digest))
	err = writeDemo(archive, program, tools)
	if err := errors.Join(err, archive.Close(), f.Close()); err != nil {
		os.Remove(f.Name())
		return "", "", err
	}
	return f.Name(), fmt.Sprintf("sha256:%x", digest.Sum(nil)), nil
}
