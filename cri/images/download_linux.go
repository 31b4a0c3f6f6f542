package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
)

const (
	// parallelDownloads is how many layers of one image are fetched at a time.
	parallelDownloads = 3
	// downloadTries is how often a transfer that breaks off without having brought anything is tried.
	downloadTries = 3
	// progressEvery is the time between two lines in the log about a pull that goes on.
	progressEvery = 5 * time.Second
	// partialAge is how long a part of a layer is kept for a pull that goes on from it.
	partialAge = time.Hour
)

// download is the transfer of an image's layers from one place.
type download struct {
	store  *Store
	client *http.Client
	base   string // …/v2/<repository>/blobs/
	name   string // the image, for the log
	total  int64
	done   atomic.Int64
	moved  func() // called for each piece that has come
	files  []*os.File
}

// newDownload logs in to the registry for reading.
func (s *Store) newDownload(ctx context.Context, from place, image string) (*download, error) {
	repository := from.ref.Context()
	login := authn.Anonymous
	if from.auth != (authn.AuthConfig{}) {
		login = authn.FromConfig(from.auth)
	}
	authorized, err := transport.NewWithContext(ctx, repository.Registry, login, from.transport, []string{repository.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	return &download{store: s, client: &http.Client{Transport: authorized}, name: image,
		base: fmt.Sprintf("%s://%s/v2/%s/blobs/", repository.Scheme(), repository.RegistryStr(), repository.RepositoryStr())}, nil
}

// layers fetches the layers that are missing, in parallel. What breaks off is gone
// on with where it stopped, now and in a later pull.
func (d *download) layers(ctx context.Context, src *source, layers []v1.Layer, moved func()) error {
	d.moved = moved
	digests := make([]v1.Hash, len(layers))
	for i, layer := range layers {
		var err error
		if digests[i], err = layer.Digest(); err != nil {
			return err
		}
		if size, err := layer.Size(); err == nil && !d.store.hasLayer(src.chains[i]) {
			d.total += size
		}
	}
	defer d.report(ctx)()
	d.files = make([]*os.File, len(layers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelDownloads)
	for i, digest := range digests {
		// Only a layer that vanishes between here and its unpacking is asked for without having been fetched.
		src.layers[i].open = func() (io.ReadCloser, error) { return nil, fmt.Errorf("layer %s was not fetched", digest) }
		if d.store.hasLayer(src.chains[i]) {
			continue
		}
		group.Go(func() error {
			f, err := d.blob(ctx, digest)
			if err != nil {
				return fmt.Errorf("layer %d of %d: %w", i+1, len(layers), err)
			}
			// Open as it is: another pull that has unpacked the same blob may remove its name.
			d.files[i] = f
			src.layers[i].open = func() (io.ReadCloser, error) { return f, nil }
			return nil
		})
	}
	return group.Wait()
}

// close closes the layers that were not unpacked.
func (d *download) close() {
	for _, f := range d.files {
		if f != nil {
			f.Close() // again, if it was unpacked
		}
	}
}

// report says in the log how far a long pull has come, until the function that it returns is called.
func (d *download) report(ctx context.Context) (stop func()) {
	log, start := klog.FromContext(ctx), time.Now()
	ticker, ended := time.NewTicker(progressEvery), make(chan struct{})
	go func() {
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				log.Info("Pulling", "image", d.name, "bytes", d.done.Load(), "of", d.total, "for", time.Since(start).Truncate(time.Second))
			case <-ended:
				return
			}
		}
	}()
	return func() { close(ended) }
}

// partial is where a compressed layer is collected.
func (s *Store) partial(digest v1.Hash) string { return filepath.Join(s.partialDir(), digest.Hex) }

// blob fetches one blob, compares it with its digest, and returns it, open at its start.
func (d *download) blob(ctx context.Context, digest v1.Hash) (*os.File, error) {
	defer d.store.fetching.lock(digest.Hex)()
	path := d.store.partial(digest)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := d.complete(ctx, digest, f); err != nil {
		f.Close()
		if errors.Is(err, errWrongContent) {
			os.Remove(path) // nothing of it can be believed
		}
		return nil, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

var errWrongContent = errors.New("the content is not what the manifest says")

// complete adds to a file what it lacks of a blob.
func (d *download) complete(ctx context.Context, digest v1.Hash, f *os.File) error {
	sum := sha256.New()
	have, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	d.done.Add(have)
	for try := 1; hex.EncodeToString(sum.Sum(nil)) != digest.Hex; try++ {
		came, whole, err := d.piece(ctx, digest, f, sum)
		if err == nil && whole {
			if got := hex.EncodeToString(sum.Sum(nil)); got != digest.Hex {
				return fmt.Errorf("%w: sha256:%s, not %s", errWrongContent, got, digest)
			}
			return nil
		}
		if came > 0 {
			try = 0
		}
		if try >= downloadTries || ctx.Err() != nil || refused(err) {
			return errors.Join(err, context.Cause(ctx))
		}
	}
	return nil
}

// refused says whether an error is the registry's answer, which will be the same next time.
func refused(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode < http.StatusInternalServerError
}

// piece asks for what is missing of a blob, and says how much came and whether that
// is all. A registry that knows no ranges sends it from the start.
func (d *download) piece(ctx context.Context, digest v1.Hash, f *os.File, sum hash.Hash) (came int64, whole bool, err error) {
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, false, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+digest.String(), nil)
	if err != nil {
		return 0, false, err
	}
	if have > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	response, err := d.client.Do(request)
	if err != nil {
		return 0, false, err
	}
	defer response.Body.Close()
	if err := transport.CheckError(response, http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable); err != nil {
		return 0, false, err
	}
	if response.StatusCode != http.StatusPartialContent && have > 0 {
		// All of it again, or more than there is: what we have is of no use.
		d.done.Add(-have)
		sum.Reset()
		if err := f.Truncate(0); err != nil {
			return 0, false, err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil || response.StatusCode != http.StatusOK {
			return 0, false, errors.Join(err, errors.New("the registry cannot go on with a layer where it stopped"))
		}
	}
	came, err = io.Copy(io.MultiWriter(f, sum, progressWriter(func(n int) { d.done.Add(int64(n)); d.moved() })), response.Body)
	return came, err == nil, err
}

// progressWriter calls itself with the size of every piece written to it.
type progressWriter func(n int)

func (p progressWriter) Write(b []byte) (int, error) {
	p(len(b))
	return len(b), nil
}

// dropPartials removes what was collected of layers: of these, which are unpacked
// now, and of others that nobody has gone on with for long.
func (s *Store) dropPartials(layers []v1.Layer) {
	for _, layer := range layers {
		if digest, err := layer.Digest(); err == nil {
			os.Remove(s.partial(digest))
		}
	}
	entries, _ := os.ReadDir(s.partialDir())
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > partialAge {
			os.Remove(filepath.Join(s.partialDir(), e.Name()))
		}
	}
}
