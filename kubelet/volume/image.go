package volume

import (
	"context"

	v1 "k8s.io/api/core/v1"
)

// imagePlugin: an image as a volume (KEP-4639). Nothing is made here: the runtime
// manager pulls the image when a container that mounts it is started, and the
// runtime mounts it.
type imagePlugin struct{}

func (imagePlugin) Name() string                                { return "image" }
func (imagePlugin) CanSupport(volume *v1.Volume) bool           { return volume.Image != nil }
func (imagePlugin) SetUp(context.Context, Spec) (string, error) { return "", nil }
func (imagePlugin) TearDown(Spec) error                         { return nil }
