package images

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"k8s.io/klog/v2"
)

const (
	// pullStall is how long a registry may send nothing before a pull is given up.
	pullStall = time.Minute
	// dialPatience bounds one attempt to connect, so that an unreachable registry
	// is reported within seconds; the kubelet tries again later.
	dialPatience = 3 * time.Second
)

// registryTransport is the library's, but for shorter waits for a connection.
// It honours HTTP(S)_PROXY and NO_PROXY.
func registryTransport() *http.Transport {
	t := remote.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: dialPatience, KeepAlive: 30 * time.Second}).DialContext
	return t
}

// Pull fetches an image from its registry or a mirror of it:
//
//	Step 1: the manifest, for this node's platform, from the first place that has it.
//	Step 2: the configuration, which names the layers' contents.
//	Step 3: the layers that are not here yet, in parallel, checked against their digests.
//	Step 4: unpack them from the lowest up, and list the image.
//
// Two pulls of one name at a time are one.
func (s *Store) Pull(ctx context.Context, ref string, auth authn.AuthConfig) (*Image, error) {
	parsed, err := parse(ref)
	if err != nil {
		return nil, err
	}
	if parsed.Context().RegistryStr() == LocalRegistry {
		img, err := s.Get(ref)
		if err != nil {
			return nil, fmt.Errorf("%w; images of %s are not pulled but loaded: hyperkube image load FILE.tar", err, LocalRegistry)
		}
		return img, nil
	}
	key := fmt.Sprint(display(parsed), auth)
	// The first caller's end must not end the pull of the others; but a pull that nobody waits for may.
	result := s.pulls.DoChan(key, func() (any, error) { return s.pull(context.WithoutCancel(ctx), parsed, auth) })
	select {
	case <-ctx.Done():
		s.pulls.Forget(key)
		return nil, context.Cause(ctx)
	case r := <-result:
		if r.Err != nil {
			return nil, explain(display(parsed), r.Err)
		}
		return r.Val.(*Image), nil
	}
}

func (s *Store) pull(ctx context.Context, ref name.Reference, auth authn.AuthConfig) (*Image, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(pullStall, func() { cancel(fmt.Errorf("the registry has sent nothing for %s", pullStall)) })
	defer stall.Stop()
	// Step 1
	desc, from, err := s.manifest(ctx, ref, auth)
	if err != nil {
		return nil, err
	}
	if desc.MediaType.IsIndex() {
		if err := offersPlatform(desc); err != nil {
			return nil, err
		}
	}
	remoteImage, err := desc.Image()
	if err != nil {
		return nil, err
	}
	// Step 2
	config, err := remoteImage.RawConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := remoteImage.Layers()
	if err != nil {
		return nil, err
	}
	src := &source{config: config, layers: make([]layerSource, len(layers))}
	if tag, ok := ref.(name.Tag); ok {
		src.tags = []string{display(tag)}
	}
	src.digests = []string{repository(ref) + "@" + desc.Digest.String()}
	if err := src.parse(); err != nil {
		return nil, err
	}
	// Step 3
	fetch, err := s.newDownload(ctx, from, display(ref))
	if err != nil {
		return nil, err
	}
	defer fetch.close()
	if err := fetch.layers(ctx, src, layers, func() { stall.Reset(pullStall) }); err != nil {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	stall.Stop()
	// Step 4
	img, err := s.add(src)
	if err == nil {
		s.dropPartials(layers)
	}
	return img, err
}

// manifest asks each place for the image, and returns what the first that has it
// says. When none has, the registry's own answer counts, which comes last.
func (s *Store) manifest(ctx context.Context, ref name.Reference, auth authn.AuthConfig) (*remote.Descriptor, place, error) {
	registries, err := s.registries()
	if err != nil {
		return nil, place{}, err
	}
	places, err := registries.places(ref, auth)
	if err != nil {
		return nil, place{}, err
	}
	var failed []error
	for _, from := range places {
		options := []remote.Option{remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}),
			remote.WithUserAgent("hyperkube"), remote.WithTransport(from.transport),
			remote.WithRetryBackoff(remote.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Steps: 2})}
		if from.auth != (authn.AuthConfig{}) {
			options = append(options, remote.WithAuth(authn.FromConfig(from.auth)))
		}
		desc, err := remote.Get(from.ref, options...)
		if err == nil {
			klog.FromContext(ctx).V(2).Info("Found an image", "image", display(ref), "mirror", from.mirror, "digest", desc.Digest)
			return desc, from, nil
		}
		if from.mirror != "" {
			err = fmt.Errorf("mirror %s: %w", from.mirror, err)
		}
		failed = append([]error{err}, failed...)
	}
	return nil, place{}, errors.Join(failed...)
}

// offersPlatform says what an index offers when it has nothing for this node (R66).
func offersPlatform(desc *remote.Descriptor) error {
	index, err := desc.ImageIndex()
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	return platformError(manifest.Manifests)
}

func platformError(offers []v1.Descriptor) error {
	var others []string
	for _, m := range offers {
		if m.Platform == nil || (m.Platform.OS == "linux" && m.Platform.Architecture == runtime.GOARCH) {
			return nil
		}
		if m.Platform.Architecture != "unknown" { // attestations
			others = append(others, archName(m.Platform.OS, m.Platform.Architecture))
		}
	}
	return wrongArch(strings.Join(others, ", "))
}

func archName(os, arch string) string {
	if os == "linux" || os == "" {
		return arch
	}
	return os + "/" + arch
}

func wrongArch(have string) error {
	return fmt.Errorf("image is %s, node is %s: use an image that is made for %s too", have, runtime.GOARCH, runtime.GOARCH)
}

// explain says what a registry's refusal means (R82).
func explain(ref string, err error) error {
	var refused *transport.Error
	if errors.As(err, &refused) {
		switch refused.StatusCode {
		case http.StatusTooManyRequests:
			return fmt.Errorf("pulling %s: the registry's rate limit is reached: log in, wait, or use a mirror: %w", ref, err)
		case http.StatusNotFound:
			return fmt.Errorf("%w: %s: not found in its registry: %w", ErrNotFound, ref, err)
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("pulling %s: the registry refuses: the image does not exist, or needs a login (imagePullSecrets): %w", ref, err)
		}
	}
	return fmt.Errorf("pulling %s: %w", ref, err)
}
