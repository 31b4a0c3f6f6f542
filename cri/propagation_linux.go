package cri

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// propagate settles how a mount lets later ones through.
//
// What the node mounts below a path gets into a container, and the other way
// round, only if the mount that the path lies on has peers. On a private one the
// kernel takes every wish and does nothing: a pod that waits for a disk to be
// mounted beside it would wait forever. So it is refused here, as elsewhere.
func propagate(path string, wish runtimeapi.MountPropagation) (string, error) {
	switch wish {
	case runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		return "rslave", needPeers(path, "shared or slave", "shared:", "master:")
	case runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		return "rshared", needPeers(path, "shared", "shared:")
	}
	return "", nil
}

// needPeers wants one of the marks on the mount that path lies on (proc(5), optional fields of mountinfo).
func needPeers(path, kind string, marks ...string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("mount source: %w", err)
	}
	under, err := mountinfo.GetMounts(mountinfo.ParentsFilter(real))
	if err != nil {
		return err
	}
	var lies *mountinfo.Info // the deepest; of several in one place, the last covers the others
	for _, m := range under {
		if lies == nil || len(m.Mountpoint) >= len(lies.Mountpoint) {
			lies = m
		}
	}
	if lies == nil {
		return fmt.Errorf("path %q is on no mount that the runtime sees", path)
	}
	for _, mark := range marks {
		if strings.Contains(lies.Optional, mark) {
			return nil
		}
	}
	return fmt.Errorf("failed to generate spec: path %q is mounted on %q but it is not a %s mount", path, lies.Mountpoint, kind)
}
