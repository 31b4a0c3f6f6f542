package cri

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cri/images"
)

// imageRef is how a container's image is named for ever: by digest, if a
// registry gave it one, else by its id.
func imageRef(img *images.Image) string {
	if len(img.Digests) > 0 {
		return img.Digests[0]
	}
	return img.ID
}

func describeImage(img *images.Image) *runtimeapi.Image {
	out := &runtimeapi.Image{Id: img.ID, RepoTags: img.Tags, RepoDigests: img.Digests, Size: uint64(img.Size), Pinned: img.Pinned,
		Spec: &runtimeapi.ImageSpec{Image: img.ID}}
	user, _, _ := strings.Cut(img.Config.Config.User, ":")
	if uid, err := strconv.ParseInt(user, 10, 64); err == nil {
		out.Uid = &runtimeapi.Int64Value{Value: uid}
	} else {
		out.Username = user
	}
	if user == "" {
		out.Uid = &runtimeapi.Int64Value{Value: 0}
	}
	return out
}

// ListImages lists the node's images.
func (c *CRI) ListImages(_ context.Context, req *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	resp := &runtimeapi.ListImagesResponse{}
	if name := req.GetFilter().GetImage().GetImage(); name != "" {
		if img, err := c.images.Get(name); err == nil {
			resp.Images = append(resp.Images, describeImage(img))
		}
		return resp, nil
	}
	for _, img := range c.images.List() {
		resp.Images = append(resp.Images, describeImage(img))
	}
	return resp, nil
}

// ImageStatus describes an image; an answer without one says that it is not here.
func (c *CRI) ImageStatus(_ context.Context, req *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	img, err := c.images.Get(req.GetImage().GetImage())
	if err != nil {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	resp := &runtimeapi.ImageStatusResponse{Image: describeImage(img)}
	if req.Verbose {
		resp.Info = info(map[string]any{"chain": img.Layers, "layersDir": c.images.LayersDir(), "imageSpec": img.Config})
	}
	return resp, nil
}

// PullImage fetches an image from its registry.
func (c *CRI) PullImage(ctx context.Context, req *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	auth := req.GetAuth()
	img, err := c.images.Pull(ctx, req.GetImage().GetImage(), authn.AuthConfig{Username: auth.GetUsername(), Password: auth.GetPassword(),
		Auth: auth.GetAuth(), IdentityToken: auth.GetIdentityToken(), RegistryToken: auth.GetRegistryToken()})
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PullImageResponse{ImageRef: img.ID}, nil
}

// RemoveImage removes an image with all its names. Containers made from it go on.
func (c *CRI) RemoveImage(_ context.Context, req *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	if err := c.images.Remove(req.GetImage().GetImage()); err != nil {
		return nil, fmt.Errorf("removing image: %w", err)
	}
	return &runtimeapi.RemoveImageResponse{}, nil
}

// ImageFsInfo says what images take on disk, and what containers wrote.
func (c *CRI) ImageFsInfo(context.Context, *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	usage := func(dir string, bytes, inodes uint64) []*runtimeapi.FilesystemUsage {
		return []*runtimeapi.FilesystemUsage{{Timestamp: time.Now().UnixNano(), FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: dir},
			UsedBytes: &runtimeapi.UInt64Value{Value: bytes}, InodesUsed: &runtimeapi.UInt64Value{Value: inodes}}}
	}
	imageBytes, imageInodes := c.images.Usage()
	var bytes, inodes uint64
	for _, k := range c.sortedContainers(nil) {
		k.mu.Lock()
		b, n := c.written(k, time.Now())
		k.mu.Unlock()
		bytes, inodes = bytes+b, inodes+n
	}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: usage(c.imageDir(), imageBytes, imageInodes),
		ContainerFilesystems: usage(c.podsDir(), bytes, inodes)}, nil
}

// written is what a container's writable layer took diskSampleAge ago at most. k.mu is held.
func (c *CRI) written(k *container, now time.Time) (bytes, inodes uint64) {
	if now.Sub(k.usage.diskAt) > diskSampleAge {
		k.usage.bytes, k.usage.inodes = c.writtenBy(k)
		k.usage.diskAt = now
	}
	return k.usage.bytes, k.usage.inodes
}

// writtenBy is what a container's writable layer takes.
func (c *CRI) writtenBy(k *container) (bytes, inodes uint64) {
	if k.spec.Root.Upper != "" {
		return images.DiskUsage(k.spec.Root.Upper)
	}
	return images.DiskUsage(k.spec.Root.Path)
}
