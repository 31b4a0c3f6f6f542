package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// PauseImage holds a sandbox's namespaces where the runtime needs a process for
// that; ours has the pod's parent.
const PauseImage = LocalRegistry + "/pause:latest"

// SaveLocal writes the images that exist only on nodes, for a runtime other than
// ours: an archive as of `docker save`, with the demo image and a pause image, both
// of the same layer, made from one program that is all tools.
func SaveLocal(w io.Writer, box string, tools []string) error {
	program, err := os.Open(box)
	if err != nil {
		return err
	}
	defer program.Close()
	f, err := os.CreateTemp("", "hyperkube-layer-*.tar")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	archive := tar.NewWriter(f)
	if err := errors.Join(writeDemo(archive, program, tools), archive.Close(), f.Close()); err != nil {
		return err
	}
	layer, err := tarball.LayerFromFile(f.Name())
	if err != nil {
		return err
	}
	images := map[name.Tag]v1.Image{}
	for ref, command := range map[string]string{DemoImage: "/bin/serve", PauseImage: "/bin/pause"} {
		tag, err := name.NewTag(ref)
		if err != nil {
			return err
		}
		if images[tag], err = imageOf(layer, command); err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
	}
	return tarball.MultiWrite(images, w)
}

func imageOf(layer v1.Layer, command string) (v1.Image, error) {
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = runtime.GOARCH, "linux"
	config.Config = v1.Config{Cmd: []string{command}, WorkingDir: "/", Env: []string{"PATH=/bin"}}
	return mutate.ConfigFile(image, config)
}

// writeDemo writes what a small system has: a user or two, a home, a place for
// temporary files.
func writeDemo(archive *tar.Writer, program *os.File, tools []string) error {
	put := func(h tar.Header, content string) error {
		h.ModTime, h.Size = time.Unix(0, 0), int64(len(content))
		if err := archive.WriteHeader(&h); err != nil {
			return err
		}
		_, err := io.WriteString(archive, content)
		return err
	}
	var errs []error
	for _, dir := range []string{"bin", "etc", "home", "root", "var", "run", "proc", "sys", "dev"} {
		errs = append(errs, put(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, ""))
	}
	errs = append(errs,
		put(tar.Header{Typeflag: tar.TypeDir, Name: "tmp", Mode: 0o1777}, ""),
		put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"),
		put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, "root:x:0:\nnobody:x:65534:\n"),
		put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/nsswitch.conf", Mode: 0o644}, "hosts: files dns\n"))
	for _, tool := range tools {
		errs = append(errs, put(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + tool, Linkname: "box", Mode: 0o777}, ""))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	info, err := program.Stat()
	if err != nil {
		return err
	}
	if _, err := program.Seek(0, io.SeekStart); err != nil {
		return err
	}
	header := tar.Header{Typeflag: tar.TypeReg, Name: "bin/box", Mode: 0o755, Size: info.Size(), ModTime: time.Unix(0, 0)}
	if err := archive.WriteHeader(&header); err != nil {
		return err
	}
	_, err = io.Copy(archive, program)
	return err
}
