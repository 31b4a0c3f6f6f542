package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Load brings in the images of an archive: what `docker save` writes, or an OCI
// image layout; plain, gzip or zstd. Either all its images for this node's
// platform are there afterwards, or nothing has changed (R81).
func (s *Store) Load(archive io.Reader) ([]*Image, error) {
	dir, err := os.MkdirTemp(s.tempDir(), "load-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := untar(archive, dir); err != nil {
		return nil, fmt.Errorf("reading the archive: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	a := &archiveReader{root: root, dir: dir}
	sources, err := a.sources()
	if err != nil {
		return nil, err
	}
	if len(sources) == 0 {
		return nil, errors.New("the archive holds no image")
	}
	for _, src := range sources { // all, before the first is listed
		if err := src.parse(); err != nil {
			return nil, err
		}
	}
	var loaded []*Image
	for _, src := range sources {
		img, err := s.add(src)
		if err != nil {
			for _, done := range loaded {
				s.Remove(done.ID)
			}
			return nil, err
		}
		loaded = append(loaded, img)
	}
	return loaded, nil
}

// LoadDir loads every archive of a directory. One that cannot be loaded does not
// keep the others away.
func (s *Store) LoadDir(dir string) (loaded []*Image, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() || !strings.Contains(e.Name(), ".tar") && !strings.HasSuffix(e.Name(), ".tgz") {
			continue
		}
		images, err := s.loadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			errs = append(errs, fmt.Errorf("loading %s: %w", filepath.Join(dir, e.Name()), err))
		}
		loaded = append(loaded, images...)
	}
	return loaded, errors.Join(errs...)
}

func (s *Store) loadFile(path string) ([]*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return s.Load(f)
}

// untar writes the regular files of an archive into a directory; an image
// archive has no others that matter, but links of layers in old ones.
func untar(archive io.Reader, dir string) error {
	plain, err := decompress(archive)
	if err != nil {
		return err
	}
	defer plain.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	files := tar.NewReader(plain)
	for {
		h, err := files.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if name == "" || h.Typeflag == tar.TypeDir {
			continue
		}
		if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeReg:
			f, err := root.Create(name)
			if err != nil {
				return err
			}
			_, err = io.Copy(f, files)
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
		case tar.TypeSymlink:
			if err := root.Symlink(h.Linkname, name); err != nil {
				return err
			}
		}
	}
}

// archiveReader finds the images in an unpacked archive.
type archiveReader struct {
	root *os.Root
	dir  string
}

func (a *archiveReader) read(name string, into any) error {
	data, err := a.root.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// sources prefers manifest.json: newer archives of docker have both forms, and
// its names are complete.
func (a *archiveReader) sources() ([]*source, error) {
	var entries []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	err := a.read("manifest.json", &entries)
	if errors.Is(err, fs.ErrNotExist) {
		return a.layout("index.json", "")
	}
	if err != nil {
		return nil, err
	}
	var sources []*source
	for _, e := range entries {
		src := &source{}
		if src.config, err = a.root.ReadFile(e.Config); err != nil {
			return nil, err
		}
		for _, tag := range e.RepoTags {
			full, err := Normalize(tag)
			if err != nil {
				return nil, err
			}
			src.tags = append(src.tags, full)
		}
		for _, layer := range e.Layers {
			if err := a.layer(src, layer); err != nil {
				return nil, err
			}
		}
		sources = append(sources, src)
	}
	return sources, nil
}

func (a *archiveReader) layer(src *source, name string) error {
	if _, err := a.root.Stat(name); err != nil {
		return fmt.Errorf("the archive is incomplete: %w", err)
	}
	src.layers = append(src.layers, layerSource{open: func() (io.ReadCloser, error) { return os.Open(filepath.Join(a.dir, name)) }})
	return nil
}

func blobName(d v1.Descriptor) string { return path.Join("blobs", d.Digest.Algorithm, d.Digest.Hex) }

// layout reads an OCI index. Of an index inside it, only the entry for this
// platform counts: archives often lack the blobs of the others.
func (a *archiveReader) layout(indexName, tag string) ([]*source, error) {
	var index v1.IndexManifest
	if err := a.read(indexName, &index); err != nil {
		return nil, fmt.Errorf("neither a docker archive nor an OCI layout: %w", err)
	}
	var sources []*source
	for _, d := range index.Manifests {
		here := tag
		if here == "" {
			here = nameOf(d)
		}
		if d.MediaType.IsIndex() {
			inner, err := a.layout(blobName(d), here)
			if err != nil {
				return nil, err
			}
			sources = append(sources, inner...)
			continue
		}
		if d.Platform != nil && (d.Platform.Architecture != runtime.GOARCH || d.Platform.OS != "linux") {
			continue
		}
		src, err := a.manifest(d, here)
		if err != nil {
			return nil, err
		}
		sources = append(sources, src)
	}
	if len(sources) == 0 && len(index.Manifests) > 0 {
		if err := platformError(index.Manifests); err != nil {
			return nil, err
		}
	}
	return sources, nil
}

func (a *archiveReader) manifest(d v1.Descriptor, tag string) (*source, error) {
	data, err := a.root.ReadFile(blobName(d))
	if err != nil {
		return nil, fmt.Errorf("the archive is incomplete: %w", err)
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	src := &source{}
	if src.config, err = a.root.ReadFile(blobName(manifest.Config)); err != nil {
		return nil, fmt.Errorf("the archive is incomplete: %w", err)
	}
	if tag != "" {
		ref, err := parse(tag)
		if err != nil {
			return nil, err
		}
		if t, ok := ref.(name.Tag); ok {
			src.tags = []string{display(t)}
		}
		src.digests = []string{repository(ref) + "@" + d.Digest.String()}
	}
	for _, layer := range manifest.Layers {
		if err := a.layer(src, blobName(layer)); err != nil {
			return nil, err
		}
	}
	return src, nil
}

// nameOf is the name that the writer of a layout gave an image; tools differ in
// the annotation they use. A bare tag names nothing.
func nameOf(d v1.Descriptor) string {
	if full := d.Annotations["io.containerd.image.name"]; full != "" {
		return full
	}
	if ref := d.Annotations["org.opencontainers.image.ref.name"]; strings.ContainsAny(ref, "/:") {
		return ref
	}
	return ""
}
