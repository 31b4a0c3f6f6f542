package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// boxImage is an image of one layer with the demo image's program, that says a word.
func boxImage(t *testing.T, architecture, word string) v1.Image {
	t.Helper()
	program, err := os.ReadFile(filepath.Join(filepath.Dir(binary), "box"))
	if err != nil {
		t.Skipf("no bin/box: %v", err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	files := []struct {
		name, content string
		mode          int64
	}{{"bin/box", string(program), 0o755}, {"word", word + "\n", 0o644}}
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	made, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, made)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	config.Config = v1.Config{Entrypoint: []string{"/bin/box", "cat"}, Cmd: []string{"/word"}, Env: []string{"PATH=/bin"}, User: "1234"}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

// TestImagesFromRegistry: an image pulled over loopback runs by its own command and
// user; one that isn't there, for another machine, or damaged is named as that (R66, R04).
func TestImagesFromRegistry(t *testing.T) {
	r := shared(t).room(t)
	blobs := registry.NewInMemoryBlobHandler()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithBlobHandler(blobs)))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	push := func(path string, image v1.Image) {
		t.Helper()
		ref, err := name.ParseReference(host+"/"+path, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, image); err != nil {
			t.Fatal(err)
		}
	}
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	push("good:1", boxImage(t, runtime.GOARCH, "hello"))
	push("other:1", boxImage(t, other, "hello"))
	bad := boxImage(t, runtime.GOARCH, "to be damaged")
	push("bad:1", bad)
	layers, err := bad.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	damage(t, blobs, digest)
	for _, pod := range []string{"good", "other", "bad", "absent"} {
		r.create(t, fmt.Sprintf(imagePod, pod, host+"/"+pod+":1"))
	}
	t.Run("pulled, and run by its own command and user", func(t *testing.T) {
		r.becomes(t, "pod/good", ".status.phase", "Succeeded")
		holds(t, r.k(t, "logs", "good"), "hello")
		holds(t, r.field(t, "pod/good", ".status.containerStatuses[0].user"), `"uid":1234`)
		holds(t, r.field(t, "pod/good", ".status.containerStatuses[0].imageID"), "sha256:")
	})
	for pod, text := range map[string]string{
		"other":  "image is " + other + ", node is " + runtime.GOARCH,
		"bad":    "Failed to pull image",
		"absent": "Failed to pull image",
	} {
		t.Run(pod, func(t *testing.T) {
			r.becomes(t, "pod/"+pod, ".status.containerStatuses[0].state.waiting.reason", "ImagePullBackOff")
			holds(t, r.k(t, "get", "events", "--field-selector=involvedObject.name="+pod), text, "Error: ErrImagePull", "Back-off pulling image")
		})
	}
	t.Run("recovered when the cause is gone", func(t *testing.T) {
		for _, pod := range []string{"other", "bad", "absent"} {
			push(pod+":1", boxImage(t, runtime.GOARCH, "at last"))
		}
		for _, pod := range []string{"other", "bad", "absent"} {
			r.becomes(t, "pod/"+pod, ".status.phase", "Succeeded")
			holds(t, r.k(t, "logs", pod), "at last")
		}
	})
	t.Run("never pulled", func(t *testing.T) {
		r.create(t, strings.Replace(fmt.Sprintf(imagePod, "never", host+"/good:2"), "IfNotPresent", "Never", 1))
		r.becomes(t, "pod/never", ".status.containerStatuses[0].state.waiting.reason", "ErrImageNeverPull")
	})
}

// damage replaces a layer's bytes in the registry.
func damage(t *testing.T, blobs registry.BlobHandler, digest v1.Hash) {
	t.Helper()
	put, ok := blobs.(registry.BlobPutHandler)
	if !ok {
		t.Fatal("the registry takes no blobs")
	}
	data, err := blobs.Get(t.Context(), "bad", digest)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(data)
	if err != nil {
		t.Fatal(err)
	}
	clear(content[len(content)/2:])
	if err := put.Put(t.Context(), "bad", digest, io.NopCloser(bytes.NewReader(content))); err != nil {
		t.Fatal(err)
	}
}

const imagePod = `
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec: {restartPolicy: Never, containers: [{name: c, image: %q, imagePullPolicy: IfNotPresent}]}
`

// TestImageCommand: `hyperkube image` pulls, lists, removes and loads, and a broken
// archive leaves nothing (R81).
func TestImageCommand(t *testing.T) {
	r := shared(t).room(t)
	image := func(args ...string) (string, error) {
		out, _, err := r.run(exec.Command(binary, append(append([]string{"image"}, args...), "--data-dir="+r.dir)...))
		return out, err
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	tag, err := name.NewTag("example.test/loaded:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, tag, boxImage(t, runtime.GOARCH, "from a file")); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "broken.tar")
	if err := os.WriteFile(broken, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := image("load", broken); err == nil {
		t.Error("half an archive was loaded")
	}
	if out, err := image("ls"); err != nil || strings.Contains(out, "example.test/loaded") || !strings.Contains(out, "hyperkube.local/demo") {
		t.Errorf("after a failed load: %s, %v", out, err)
	}
	if _, err := image("load", file); err != nil {
		t.Fatal(err)
	}
	if out, err := image("ls"); err != nil || !strings.Contains(out, "example.test/loaded") {
		t.Errorf("after a load: %s, %v", out, err)
	}
	r.create(t, fmt.Sprintf(imagePod, "loaded", "example.test/loaded:1"))
	r.becomes(t, "pod/loaded", ".status.phase", "Succeeded")
	holds(t, r.k(t, "logs", "loaded"), "from a file")
	r.k(t, "delete", "pod", "loaded")
	eventually(t, "the image is removed", func() error {
		if _, err := image("rm", "example.test/loaded:1"); err != nil {
			return err
		}
		if out, err := image("ls"); err != nil || strings.Contains(out, "example.test/loaded") {
			return errors.Join(errors.New(out), err)
		}
		return nil
	})
	if _, err := image("pull", "127.0.0.1:1/nothing:1"); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("pull from nowhere: %v", err)
	}
}
