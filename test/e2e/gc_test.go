package e2e

import (
	"errors"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// TestUnusedImagesGoUnderDiskPressure: images that nothing uses are removed before
// any pod, those that the node cannot do without stay (R64).
func TestUnusedImagesGoUnderDiskPressure(t *testing.T) {
	c := withKubelet(t, nil, "--eviction-hard=imagefs.available<99%")
	file := filepath.Join(t.TempDir(), "image.tar")
	tag, err := name.NewTag("example.test/unused:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, tag, boxImage(t, runtime.GOARCH, "never run")); err != nil {
		t.Fatal(err)
	}
	image := func(args ...string) string {
		t.Helper()
		out, _, err := c.run(exec.Command(binary, append(append([]string{"image"}, args...), "--data-dir="+c.dir)...))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	image("load", file)
	eventually(t, "the unused image goes, the pinned one stays", func() error {
		out := image("ls")
		if !strings.Contains(out, "hyperkube.local/demo") {
			t.Fatalf("the demo image is gone: %s", out)
		}
		if strings.Contains(out, "example.test/unused") {
			return errors.New(out)
		}
		return nil
	})
	node := c.kubectl(t, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	holds(t, c.kubectl(t, "get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="DiskPressure")].message}`), "kubelet has disk pressure: imagefs.available is ", "hyperkube image rm")
}
