package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/singleflight"

	"hyperkube/component/durable"
)

// Store is the node's images. Its methods may be called concurrently.
type Store struct {
	dir    string
	driver Driver
	// inUse names the layers that containers stand on. They outlive their image.
	inUse func() map[string]bool
	pulls singleflight.Group
	// registries is asked at each pull: a change of the file counts from the next one on.
	registries func() (*Registries, error)

	// mu guards images and their index file. unpack is held while layers are made
	// or collected, so that a collection never takes a layer whose image is not listed yet.
	mu       sync.Mutex
	images   map[string]*Image // by ID
	unpack   sync.RWMutex
	making   keyLock        // one maker for each layer
	fetching keyLock        // one download for each blob
	synced   sync.WaitGroup // layers on their way to the disk
}

// Image is one image, whatever it is called.
type Image struct {
	ID      string   `json:"id"`                // digest of its configuration: sha256:…
	Tags    []string `json:"tags,omitempty"`    // docker.io/library/busybox:1.37
	Digests []string `json:"digests,omitempty"` // docker.io/library/busybox@sha256:…
	Layers  []string `json:"layers"`            // names below LayersDir, lowest first
	Size    int64    `json:"size"`              // bytes of all its layers' files
	Pinned  bool     `json:"pinned,omitempty"`  // never collected by the kubelet

	Config *v1.ConfigFile `json:"-"`
}

// ErrNotFound says that there is no such image here.
var ErrNotFound = errors.New("image not found")

// Open opens the store in dir, making it if need be, and drops what a crash has
// left half-made.
func Open(dir string, driver Driver, inUse func() map[string]bool) (*Store, error) {
	s := &Store{dir: dir, driver: driver, inUse: inUse, images: map[string]*Image{}}
	s.registries = func() (*Registries, error) { return &Registries{}, nil }
	for _, d := range []string{s.LayersDir(), s.blobDir(), s.tempDir(), s.partialDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	// Containers' users must be able to pass through to their files.
	if err := os.Chmod(s.LayersDir(), 0o711); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(s.indexFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []*Image
	if len(data) > 0 {
		if err := json.Unmarshal(data, &list); err != nil {
			return nil, fmt.Errorf("%s: %w", s.indexFile(), err)
		}
	}
	for _, img := range list {
		if img.Config, err = s.readConfig(img.ID); err == nil && s.whole(img) {
			s.images[img.ID] = img
		}
	}
	if err := os.RemoveAll(s.tempDir()); err != nil {
		return nil, err
	}
	if err := os.Mkdir(s.tempDir(), 0o700); err != nil {
		return nil, err
	}
	return s, s.Collect()
}

// UseRegistries has pulls ask where images really come from.
func (s *Store) UseRegistries(ask func() (*Registries, error)) { s.registries = ask }

// LayersDir is the directory that layer names are relative to.
func (s *Store) LayersDir() string  { return filepath.Join(s.dir, "layers-"+string(s.driver)) }
func (s *Store) blobDir() string    { return filepath.Join(s.dir, "blobs") }
func (s *Store) tempDir() string    { return filepath.Join(s.dir, "tmp") }
func (s *Store) partialDir() string { return filepath.Join(s.dir, "partial") }
func (s *Store) indexFile() string  { return filepath.Join(s.dir, "images.json") }

func (s *Store) blob(digest string) string {
	return filepath.Join(s.blobDir(), strings.TrimPrefix(digest, "sha256:"))
}

func (s *Store) readConfig(id string) (*v1.ConfigFile, error) {
	f, err := os.Open(s.blob(id))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return v1.ParseConfigFile(f)
}

// whole says whether an image's layers are all there and have survived the last
// crash of the machine.
func (s *Store) whole(img *Image) bool {
	for _, layer := range img.Layers {
		if _, err := os.Stat(filepath.Join(s.LayersDir(), layer)); err != nil || s.doubtful(layer) {
			return false
		}
	}
	return true
}

// List returns all images, oldest names first.
func (s *Store) List() []*Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Image, 0, len(s.images))
	for _, img := range s.images {
		list = append(list, img.clone())
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list
}

func (i *Image) clone() *Image {
	c := *i
	c.Tags, c.Digests = slices.Clone(i.Tags), slices.Clone(i.Digests)
	return &c
}

// Get finds an image by ID (or its beginning), tag or digest.
func (s *Store) Get(ref string) (*Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	img, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	return img.clone(), nil
}

func (s *Store) find(ref string) (*Image, error) {
	if ref == "" {
		return nil, fmt.Errorf("%w: no name", ErrNotFound)
	}
	for id, img := range s.images {
		hex := strings.TrimPrefix(id, "sha256:")
		if ref == id || ref == hex || (len(ref) >= 12 && strings.HasPrefix(hex, strings.TrimPrefix(ref, "sha256:"))) {
			return img, nil
		}
	}
	name, err := Normalize(ref)
	if err != nil {
		return nil, err
	}
	for _, img := range s.images {
		if slices.Contains(img.Tags, name) || slices.Contains(img.Digests, name) {
			return img, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, ref)
}

// put lists an image under its names; a tag leaves the image that had it.
func (s *Store) put(img *Image) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.images[img.ID]; old != nil {
		img.Tags = union(old.Tags, img.Tags)
		img.Digests = union(old.Digests, img.Digests)
		img.Pinned = img.Pinned || old.Pinned
	}
	for _, other := range s.images {
		if other.ID != img.ID {
			other.Tags = slices.DeleteFunc(other.Tags, func(tag string) bool { return slices.Contains(img.Tags, tag) })
		}
	}
	s.images[img.ID] = img
	return s.save()
}

// Remove removes an image with all its names. One that is not there is removed already.
func (s *Store) Remove(ref string) error {
	s.mu.Lock()
	img, err := s.find(ref)
	if err == nil {
		delete(s.images, img.ID)
		err = s.save()
	}
	s.mu.Unlock()
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.Collect()
}

// Untag removes one name of an image, and the image with its last name.
func (s *Store) Untag(ref string) error {
	name, err := Normalize(ref)
	if err != nil {
		return err
	}
	s.mu.Lock()
	img, err := s.find(ref)
	last := false
	if err == nil {
		img.Tags = slices.DeleteFunc(img.Tags, func(tag string) bool { return tag == name })
		last = len(img.Tags) == 0
		err = s.save()
	}
	s.mu.Unlock()
	if err != nil || !last {
		return err
	}
	return s.Remove(img.ID)
}

// save writes the index, with mu held: the moment at which an image exists.
func (s *Store) save() error {
	list := make([]*Image, 0, len(s.images))
	for _, img := range s.images {
		list = append(list, img)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(s.indexFile(), data, 0o600)
}

// Collect removes layers and blobs that belong to no image and no container.
func (s *Store) Collect() error {
	s.unpack.Lock()
	defer s.unpack.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	layers, blobs := s.inUse(), map[string]bool{}
	for _, img := range s.images {
		blobs[filepath.Base(s.blob(img.ID))] = true
		for _, layer := range img.Layers {
			layers[layer] = true
		}
	}
	var errs []error
	entries, err := os.ReadDir(s.LayersDir())
	errs = append(errs, err)
	for _, e := range entries {
		if name := strings.TrimSuffix(e.Name(), metaSuffix); !layers[name] {
			errs = append(errs, os.RemoveAll(filepath.Join(s.LayersDir(), e.Name())))
		}
	}
	entries, err = os.ReadDir(s.blobDir())
	errs = append(errs, err)
	for _, e := range entries {
		if !blobs[e.Name()] {
			errs = append(errs, os.Remove(filepath.Join(s.blobDir(), e.Name())))
		}
	}
	return errors.Join(errs...)
}

func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// keyLock is a lock for each key.
type keyLock struct {
	mu    sync.Mutex
	locks map[string]*sync.Mutex
}

func (k *keyLock) lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*sync.Mutex{}
	}
	l := k.locks[key]
	if l == nil {
		l = &sync.Mutex{}
		k.locks[key] = l
	}
	k.mu.Unlock()
	l.Lock()
	return l.Unlock
}
