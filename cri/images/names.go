package images

import (
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// LocalRegistry is the host of images that exist only on the node. Pulling from
// it finds what is there, and never leaves the node.
const LocalRegistry = "hyperkube.local"

// DemoImage is always present (DESIGN.md, Offline).
const DemoImage = LocalRegistry + "/demo:latest"

// Normalize gives an image name in full: "busybox" is
// "docker.io/library/busybox:latest".
func Normalize(ref string) (string, error) {
	parsed, err := parse(ref)
	if err != nil {
		return "", err
	}
	return display(parsed), nil
}

// parse reads a name. A name with tag and digest is one with the digest.
func parse(ref string) (name.Reference, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return nil, fmt.Errorf("invalid image name %q: %w", ref, err)
	}
	return parsed, nil
}

func display(ref name.Reference) string {
	separator := ":"
	if _, ok := ref.(name.Digest); ok {
		separator = "@"
	}
	return repository(ref) + separator + ref.Identifier()
}

// repository is the name without tag or digest, with Docker Hub under the name
// that people use.
func repository(ref name.Reference) string {
	repo := ref.Context().Name()
	if rest, ok := strings.CutPrefix(repo, name.DefaultRegistry+"/"); ok {
		return "docker.io/" + rest
	}
	return repo
}
