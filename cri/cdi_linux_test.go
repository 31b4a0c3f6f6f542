package cri

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A device that a file describes is in the container, with what belongs to it, whether a field or an annotation names it;
// the file may be written while the runtime runs.
func TestCDIDevice(t *testing.T) {
	n := startNode(t)
	n.halt()
	dir := t.TempDir()
	n.cfg.CDISpecDirs = []string{dir}
	n.start()
	driver := filepath.Join(t.TempDir(), "driver")
	if err := os.WriteFile(driver, []byte("driver\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := `
cdiVersion: 0.6.0
kind: vendor.com/gpu
containerEdits:
  env: [DRIVER=yes]
  mounts: [{hostPath: ` + driver + `, containerPath: /gpu/driver, options: [ro, bind]}]
devices:
- {name: "0", containerEdits: {deviceNodes: [{path: /dev/gpu0, hostPath: /dev/null}], additionalGids: [4242]}}
- {name: "1", containerEdits: {env: [SECOND=yes]}}
- {name: hooked, containerEdits: {hooks: [{hookName: createContainer, path: /bin/true}]}}
`
	if err := os.WriteFile(filepath.Join(dir, "vendor.yaml"), []byte(spec), 0o644); err != nil {
		t.Fatal(err)
	}
	config := n.podConfig("p")
	pod := n.runPod(config)
	container := tools("wait")
	container.CDIDevices = []*runtimeapi.CDIDevice{{Name: "vendor.com/gpu=0"}}
	container.Annotations = map[string]string{"cdi.k8s.io/plugin": "vendor.com/gpu=1"}
	id := n.run(pod, config, container)
	for command, want := range map[string]string{"env DRIVER": "yes\n", "env SECOND": "yes\n", "cat /gpu/driver": "driver\n", "cat /dev/gpu0": ""} {
		if got := n.exec(id, append([]string{"tool"}, strings.Fields(command)...)...); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	if got := n.exec(id, "tool", "cat", "/proc/self/status"); !strings.Contains(got, "4242") {
		t.Errorf("the group of the device is not the process's:\n%s", got)
	}
	for name, want := range map[string]string{"vendor.com/gpu=hooked": "this runtime does without hooks", "vendor.com/gpu=2": "unresolvable CDI devices vendor.com/gpu=2"} {
		other := tools("wait")
		other.Metadata, other.Image = &runtimeapi.ContainerMetadata{Name: "other"}, &runtimeapi.ImageSpec{Image: "hyperkube.local/demo"}
		other.CDIDevices = []*runtimeapi.CDIDevice{{Name: name}}
		_, err := n.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: other, SandboxConfig: config})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
