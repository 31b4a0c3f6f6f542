package images

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"

	"hyperkube/component/durable"
)

// source is an image on its way into the store, wherever it comes from.
type source struct {
	config  []byte
	layers  []layerSource // lowest first
	tags    []string
	digests []string
	pinned  bool

	// from parse:
	id     string
	parsed *v1.ConfigFile
	chains []string // the layers' names in the store
}

// layerSource is a layer's tar archive; plain, gzip or zstd.
type layerSource struct {
	open func() (io.ReadCloser, error)
}

// parse reads the configuration, and refuses what cannot run here.
func (src *source) parse() error {
	parsed, err := v1.ParseConfigFile(bytes.NewReader(src.config))
	if err != nil {
		return fmt.Errorf("image configuration: %w", err)
	}
	if arch := parsed.Architecture; arch != "" && arch != runtime.GOARCH || parsed.OS != "" && parsed.OS != "linux" {
		return wrongArch(archName(parsed.OS, arch))
	}
	if len(parsed.RootFS.DiffIDs) != len(src.layers) {
		return fmt.Errorf("image configuration names %d layers, the manifest %d", len(parsed.RootFS.DiffIDs), len(src.layers))
	}
	src.parsed = parsed
	src.id = fmt.Sprintf("sha256:%x", sha256.Sum256(src.config))
	chain := ""
	for _, diff := range parsed.RootFS.DiffIDs {
		chain = chainID(chain, diff.String())
		src.chains = append(src.chains, layerName(chain))
	}
	return nil
}

// chainID identifies a layer together with those below it (OCI image spec, config.md).
func chainID(below, diff string) string {
	if below == "" {
		return diff
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(below+" "+diff)))
}

// layerName shortens a chain ID: all layers' names must fit into one page of mount options.
func layerName(chain string) string { return chain[len("sha256:"):][:24] }

// add unpacks the layers that are missing, from the lowest up, and lists the image.
func (s *Store) add(src *source) (*Image, error) {
	s.unpack.RLock() // no collection until the image is listed
	img := &Image{ID: src.id, Tags: src.tags, Digests: src.digests, Layers: src.chains, Config: src.parsed, Pinned: src.pinned}
	err := func() error {
		for i, layer := range src.chains {
			if err := s.makeLayer(layer, src.chains[:i], src.layers[i], src.parsed.RootFS.DiffIDs[i].String()); err != nil {
				return fmt.Errorf("layer %d of %d: %w", i+1, len(src.chains), err)
			}
			img.Size += s.layerSize(layer)
		}
		if err := durable.WriteFile(s.blob(img.ID), src.config, 0o600); err != nil {
			return err
		}
		return s.put(img)
	}()
	s.unpack.RUnlock()
	if err != nil {
		s.Collect() // what has been unpacked in vain
		return nil, err
	}
	return img.clone(), nil
}

// makeLayer unpacks one layer into a temporary directory, and gives it its name
// only when its content is what the configuration says.
func (s *Store) makeLayer(layer string, below []string, from layerSource, diffID string) error {
	defer s.making.lock(layer)()
	if s.hasLayer(layer) {
		return nil
	}
	r, err := from.open()
	if err != nil {
		return err
	}
	defer r.Close()
	plain, err := decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	dir, err := os.MkdirTemp(s.tempDir(), "layer-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	digest := sha256.New()
	u := &unpacker{dir: filepath.Join(dir), driver: s.driver}
	for _, l := range below {
		u.below = append(u.below, filepath.Join(s.LayersDir(), l))
	}
	if err := u.unpack(io.TeeReader(plain, digest)); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(digest.Sum(nil)); got != diffID {
		return fmt.Errorf("its content is %s, not %s as the image says", got, diffID)
	}
	return s.settle(dir, layer, u.size)
}

func (s *Store) hasLayer(layer string) bool {
	_, err := os.Stat(filepath.Join(s.LayersDir(), layer))
	return err == nil && !s.doubtful(layer)
}

// decompress looks at the first bytes, since media types are often wrong.
func decompress(r io.Reader) (io.ReadCloser, error) {
	head := make([]byte, 4)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, err
	}
	all := io.MultiReader(bytes.NewReader(head[:n]), r)
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(all)
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(all, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(all), nil
}
