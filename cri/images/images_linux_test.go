package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// The tests run as root, in a mount namespace of their own.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Println("SKIP: layers hold device nodes and owners, which needs root")
		os.Exit(0)
	}
	if os.Getenv("IMAGES_TEST_INSIDE") == "" {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), "IMAGES_TEST_INSIDE=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		if cmd.Run() != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// file is one entry of a layer; a name ending in "/" is a directory.
type file struct {
	name, content string
	link          string
	kind          byte
	xattr         map[string]string
}

func archive(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content)), Typeflag: f.kind, Linkname: f.link, PAXRecords: map[string]string{}}
		if f.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		for k, v := range f.xattr {
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, f.content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// build makes an image of layers for an architecture.
func build(t *testing.T, arch string, layers ...[]byte) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: arch, Config: v1.Config{Cmd: []string{"/run"}, User: "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range layers {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func open(t *testing.T, dir string, driver Driver) *Store {
	t.Helper()
	s, err := Open(dir, driver, func() map[string]bool { return map[string]bool{} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.synced.Wait) // before the directory is removed
	return s
}

// registryServer is a registry on loopback, reached without TLS, that counts requests.
func registryServer(t *testing.T, intercept func(http.ResponseWriter, *http.Request) bool) (host string) {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if intercept == nil || !intercept(w, r) {
			handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func push(t *testing.T, ref string, img v1.Image) {
	t.Helper()
	tag, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
}

// view shows an image's root filesystem: mounted as an overlay, or copied.
func view(t *testing.T, s *Store, img *Image) string {
	t.Helper()
	dir := t.TempDir()
	if !s.Overlays() {
		if err := s.CopyTo(img, dir); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	var lower []string
	for i := len(img.Layers) - 1; i >= 0; i-- {
		lower = append(lower, filepath.Join(s.LayersDir(), img.Layers[i]))
	}
	upper, work, merged := t.TempDir(), t.TempDir(), dir
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(lower, ":"), upper, work)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(merged, unix.MNT_DETACH) })
	return merged
}

func TestWhiteoutsLinksAndAttributes(t *testing.T) {
	base := archive(t, file{name: "etc/"}, file{name: "etc/keep", content: "old"}, file{name: "etc/gone", content: "x"},
		file{name: "dir/"}, file{name: "dir/below", content: "x"}, file{name: "bin/prog", content: "prog", xattr: map[string]string{"user.note": "hi"}})
	top := archive(t, file{name: "etc/.wh.gone"}, file{name: "etc/keep", content: "new"}, file{name: "dir/"}, file{name: "dir/.wh..wh..opq"}, file{name: "dir/above", content: "y"},
		file{name: "bin/alias", kind: tar.TypeLink, link: "bin/prog"}, file{name: "abs", kind: tar.TypeSymlink, link: "/etc"}, file{name: "abs/through", content: "z"},
		file{name: "../../escape", content: "no"}, file{name: "out", kind: tar.TypeSymlink, link: "../../.."}, file{name: "out/escape2", content: "no"})
	for _, driver := range []Driver{Overlay, Copy} {
		t.Run(string(driver), func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "images"), driver)
			host := registryServer(t, nil)
			push(t, host+"/app:v1", build(t, runtime.GOARCH, base, top))
			img, err := s.Pull(context.Background(), host+"/app:v1", authn.AuthConfig{})
			if err != nil {
				t.Fatal(err)
			}
			root := view(t, s, img)
			for path, want := range map[string]string{"etc/keep": "new", "dir/above": "y", "bin/alias": "prog", "bin/prog": "prog", "etc/through": "z", "escape": "no", "escape2": "no"} {
				if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(got) != want {
					t.Errorf("%s: %q %v", path, got, err)
				}
			}
			for _, path := range []string{"etc/gone", "dir/below", "etc/.wh.gone", "dir/.wh..wh..opq"} {
				if _, err := os.Lstat(filepath.Join(root, path)); err == nil {
					t.Errorf("%s is there", path)
				}
			}
			value := make([]byte, 10)
			if n, err := unix.Getxattr(filepath.Join(root, "bin/prog"), "user.note", value); err != nil || string(value[:n]) != "hi" {
				t.Errorf("attribute %q %v", value[:max(n, 0)], err)
			}
		})
	}
}

// Two pulls of one name download once; a second image shares the layers it has in common.
func TestPullsDownloadOnce(t *testing.T) {
	var blobs atomic.Int32
	host := registryServer(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			blobs.Add(1)
		}
		return false
	})
	common := archive(t, file{name: "a", content: "common"})
	push(t, host+"/one:v1", build(t, runtime.GOARCH, common, archive(t, file{name: "b", content: "1"})))
	push(t, host+"/two:v1", build(t, runtime.GOARCH, common, archive(t, file{name: "b", content: "2"})))
	s := open(t, filepath.Join(t.TempDir(), "images"), Overlay)
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := s.Pull(context.Background(), host+"/one:v1", authn.AuthConfig{}); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if got := blobs.Load(); got > 6 { // config and two layers, twice if the pulls did not all meet
		t.Errorf("%d blobs for one image", got)
	}
	blobs.Store(0)
	if _, err := s.Pull(context.Background(), host+"/two:v1", authn.AuthConfig{}); err != nil {
		t.Fatal(err)
	}
	if got := blobs.Load(); got != 2 { // its config, and the layer of its own
		t.Errorf("%d blobs for an image with a common layer", got)
	}
	if err := s.Remove(host + "/one:v1"); err != nil {
		t.Fatal(err)
	}
	entries, _ := filepath.Glob(filepath.Join(s.LayersDir(), "*"+metaSuffix))
	if len(entries) != 2 {
		t.Errorf("layers left: %v", entries)
	}
}

// R66, R82: what is wrong is said in words that help.
func TestPullErrors(t *testing.T) {
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	host := registryServer(t, func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.Contains(r.URL.Path, "/busy/"):
			http.Error(w, `{"errors":[{"code":"TOOMANYREQUESTS"}]}`, http.StatusTooManyRequests)
			return true
		case strings.Contains(r.URL.Path, "/private/") && r.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return true
		case r.URL.Path == "/v2/" && r.Header.Get("X-Test") != "":
			return true
		}
		return false
	})
	push(t, host+"/foreign:v1", build(t, other, archive(t, file{name: "a"})))
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: build(t, other, archive(t, file{name: "a"})),
		Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: other}}})
	tag, _ := name.ParseReference(host + "/index:v1")
	if err := remote.WriteIndex(tag, index); err != nil {
		t.Fatal(err)
	}
	s := open(t, filepath.Join(t.TempDir(), "images"), Overlay)
	wrong := fmt.Sprintf("image is %s, node is %s", other, runtime.GOARCH)
	for ref, want := range map[string]string{
		host + "/foreign:v1": wrong, host + "/index:v1": wrong, host + "/none:v1": "not found in its registry",
		host + "/busy/x:v1": "rate limit", host + "/private/x:v1": "needs a login", "UPPER/case": "invalid image name",
		LocalRegistry + "/absent": "hyperkube image load",
	} {
		_, err := s.Pull(context.Background(), ref, authn.AuthConfig{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", ref, err, want)
		}
	}
	if len(s.List()) != 0 {
		t.Errorf("images %v", s.List())
	}
}

func TestIndexPicksThisPlatformAndDigestsPull(t *testing.T) {
	host := registryServer(t, nil)
	mine := build(t, runtime.GOARCH, archive(t, file{name: "mine", content: "1"}))
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: build(t, "riscv64", archive(t, file{name: "a"})), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "riscv64"}}},
		mutate.IndexAddendum{Add: mine, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}})
	tag, _ := name.ParseReference(host + "/app:v1")
	if err := remote.WriteIndex(tag, index); err != nil {
		t.Fatal(err)
	}
	s := open(t, filepath.Join(t.TempDir(), "images"), Overlay)
	digest, _ := index.Digest()
	config, _ := mine.ConfigName()
	for _, ref := range []string{host + "/app:v1", host + "/app@" + digest.String()} {
		img, err := s.Pull(context.Background(), ref, authn.AuthConfig{})
		if err != nil || img.ID != config.String() {
			t.Fatalf("%s: %v %v", ref, img, err)
		}
	}
	img, err := s.Get(host + "/app@" + digest.String())
	if err != nil || len(img.Tags) != 1 || len(img.Digests) != 1 {
		t.Errorf("%+v %v", img, err)
	}
	if by, err := s.Get(img.ID[:20]); err != nil || by.ID != img.ID {
		t.Errorf("by the beginning of the id: %v %v", by, err)
	}
}

// R81: what docker save and OCI tools write is loaded; a partial multi-arch
// archive too; what is broken leaves nothing.
func TestLoad(t *testing.T) {
	img := build(t, runtime.GOARCH, archive(t, file{name: "a", content: "1"}))
	foreign := build(t, "riscv64", archive(t, file{name: "a", content: "2"}))
	docker := saveDocker(t, "app:v1", img)
	oci := saveOCI(t, "registry.example/oci:v2", img, foreign)
	var zipped, zstded bytes.Buffer
	gz := gzip.NewWriter(&zipped)
	gz.Write(docker)
	gz.Close()
	zw, _ := zstd.NewWriter(&zstded)
	zw.Write(docker)
	zw.Close()
	for name, c := range map[string]struct {
		data []byte
		tag  string
	}{"docker": {docker, "docker.io/library/app:v1"}, "gzip": {zipped.Bytes(), "docker.io/library/app:v1"}, "zstd": {zstded.Bytes(), "docker.io/library/app:v1"},
		"oci": {oci, "registry.example/oci:v2"}} {
		s := open(t, filepath.Join(t.TempDir(), "images"), Overlay)
		loaded, err := s.Load(bytes.NewReader(c.data))
		if err != nil || len(loaded) != 1 || len(loaded[0].Tags) != 1 || loaded[0].Tags[0] != c.tag {
			t.Errorf("%s: %+v %v", name, loaded, err)
			continue
		}
		root := view(t, s, loaded[0])
		if got, _ := os.ReadFile(filepath.Join(root, "a")); string(got) != "1" {
			t.Errorf("%s: content %q", name, got)
		}
		// It survives the store's end.
		if again, err := open(t, s.dir, Overlay).Get(c.tag); err != nil || again.Config.Config.User != "1000" {
			t.Errorf("%s: reopened: %v %v", name, again, err)
		}
	}
}

func TestLoadOfBrokenArchivesLeavesNothing(t *testing.T) {
	img := build(t, runtime.GOARCH, archive(t, file{name: "a", content: "1"}), archive(t, file{name: "b", content: "2"}))
	docker := saveDocker(t, "app:v1", img)
	for name, data := range map[string][]byte{
		"cut short":     docker[:len(docker)/2],
		"not an image":  archive(t, file{name: "README", content: "x"}),
		"not a tar":     []byte("hello"),
		"other content": bytes.Replace(saveDocker(t, "app:v1", img), []byte("\x1f\x8b"), []byte("\x1f\x00"), 1),
		"missing layer": withoutFile(t, docker, ".tar.gz"),
	} {
		s := open(t, filepath.Join(t.TempDir(), "images"), Overlay)
		if loaded, err := s.Load(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: loaded %v", name, loaded)
		}
		for _, dir := range []string{s.LayersDir(), s.blobDir(), s.tempDir()} {
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("%s: left in %s: %v", name, filepath.Base(dir), left)
			}
		}
	}
}

// A layer that may not have reached the disk before the machine went down is not
// believed; neither is an image that stands on it.
func TestCrashOfTheMachine(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "images"), Overlay)
	loaded, err := s.Load(bytes.NewReader(saveDocker(t, "app:v1", build(t, runtime.GOARCH, archive(t, file{name: "a", content: "1"})))))
	if err != nil {
		t.Fatal(err)
	}
	s.synced.Wait()
	place := filepath.Join(s.LayersDir(), loaded[0].Layers[0])
	if meta, err := readMeta(place); err != nil || meta.Boot != "" {
		t.Errorf("after it has reached the disk: %+v %v", meta, err)
	}
	if err := writeMeta(place, layerMeta{Boot: "another boot"}); err != nil {
		t.Fatal(err)
	}
	again := open(t, s.dir, Overlay)
	if _, err := again.Get("app:v1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("image on a doubtful layer: %v", err)
	}
	if left, _ := os.ReadDir(again.LayersDir()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestTagsMoveAndUntag(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "images"), Overlay)
	for _, content := range []string{"1", "2"} {
		if _, err := s.Load(bytes.NewReader(saveDocker(t, "app:v1", build(t, runtime.GOARCH, archive(t, file{name: "a", content: content}))))); err != nil {
			t.Fatal(err)
		}
	}
	named := 0
	for _, img := range s.List() {
		named += len(img.Tags)
	}
	if len(s.List()) != 2 || named != 1 {
		t.Errorf("images %v", s.List())
	}
	if err := s.Untag("app:v1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("app:v1"); !errors.Is(err, ErrNotFound) || len(s.List()) != 1 {
		t.Errorf("after untag: %v, %d images", err, len(s.List()))
	}
}

// R80: the demo image is there without a network, and made anew only for another program.
func TestDemoImage(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "images"), Overlay)
	box := filepath.Join(t.TempDir(), "box")
	var ids []string
	for _, content := range []string{"one", "one", "two"} {
		if err := os.WriteFile(box, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := s.EnsureDemo(box, []string{"serve", "sh"}); err != nil {
			t.Fatal(err)
		}
		img, err := s.Pull(context.Background(), "hyperkube.local/demo", authn.AuthConfig{})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, img.ID)
		root := view(t, s, img)
		if got, err := os.ReadFile(filepath.Join(root, "bin/sh")); err != nil || string(got) != content {
			t.Errorf("bin/sh: %q %v", got, err)
		}
		if info, err := os.Stat(filepath.Join(root, "tmp")); err != nil || info.Mode()&os.ModeSticky == 0 {
			t.Errorf("tmp: %v %v", info, err)
		}
	}
	if ids[0] != ids[1] || ids[1] == ids[2] || len(s.List()) != 1 {
		t.Errorf("ids %v, %d images", ids, len(s.List()))
	}
}

// R60: what the kernel can do is tried, not guessed.
func TestProbe(t *testing.T) {
	dir := t.TempDir()
	driver, reason, err := Probe(dir)
	if err != nil || driver == Overlay && reason != "" || driver == Copy && reason == "" {
		t.Errorf("%s %q %v", driver, reason, err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if driver != Overlay {
		t.Skip("no overlay here: ", reason)
	}
	// On an overlay itself, upper directories cannot be had.
	s := open(t, filepath.Join(t.TempDir(), "images"), Overlay)
	if err := os.WriteFile(filepath.Join(dir, "box"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.EnsureDemo(filepath.Join(dir, "box"), nil); err != nil {
		t.Fatal(err)
	}
	img, _ := s.Get(DemoImage)
	if driver, reason, err := Probe(filepath.Join(view(t, s, img), "data")); err != nil || driver != Copy || reason == "" {
		t.Errorf("on an overlay: %s %q %v", driver, reason, err)
	}
}

func TestNormalize(t *testing.T) {
	for in, want := range map[string]string{
		"busybox": "docker.io/library/busybox:latest", "a/b:1": "docker.io/a/b:1", "localhost:5000/x": "localhost:5000/x:latest",
		"hyperkube.local/demo": DemoImage, "docker.io/library/busybox:1": "docker.io/library/busybox:1",
		"x@sha256:" + strings.Repeat("a", 64): "docker.io/library/x@sha256:" + strings.Repeat("a", 64),
	} {
		if got, err := Normalize(in); err != nil || got != want {
			t.Errorf("%s: %s %v, want %s", in, got, err, want)
		}
	}
}

// saveDocker writes what docker save writes.
func saveDocker(t *testing.T, tag string, img v1.Image) []byte {
	t.Helper()
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tarball.Write(ref, img, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// saveOCI writes an OCI layout of one name for two platforms; the second one's blobs are missing.
func saveOCI(t *testing.T, ref string, mine, missing v1.Image) []byte {
	t.Helper()
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: mine, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}},
		mutate.IndexAddendum{Add: missing, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "riscv64"}}})
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{"io.containerd.image.name": ref})); err != nil {
		t.Fatal(err)
	}
	digest, _ := missing.Digest()
	if err := os.Remove(filepath.Join(dir, "blobs", "sha256", digest.Hex)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.Bytes()
}

// withoutFile leaves the first file with such an end of its name out of an archive.
func withoutFile(t *testing.T, data []byte, suffix string) []byte {
	t.Helper()
	var b bytes.Buffer
	r, w := tar.NewReader(bytes.NewReader(data)), tar.NewWriter(&b)
	for left := false; ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(h.Name, suffix) && !left {
			left = true
			continue
		}
		w.WriteHeader(h)
		io.Copy(w, r)
	}
	w.Close()
	return b.Bytes()
}

// The index is written as a whole, so that it can be read at any time.
func TestIndexIsReadable(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "images"), Overlay)
	if _, err := s.Load(bytes.NewReader(saveDocker(t, "app:v1", build(t, runtime.GOARCH, archive(t, file{name: "a"}))))); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(s.indexFile())
	var list []Image
	if err != nil || json.Unmarshal(data, &list) != nil || len(list) != 1 {
		t.Errorf("%s %v", data, err)
	}
}
