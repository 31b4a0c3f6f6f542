package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
)

// hostPathPlugin: something of the node itself.
type hostPathPlugin struct{}

func (hostPathPlugin) Name() string                      { return "host-path" }
func (hostPathPlugin) CanSupport(volume *v1.Volume) bool { return volume.HostPath != nil }
func (hostPathPlugin) TearDown(Spec) error               { return nil }

func (hostPathPlugin) SetUp(_ context.Context, spec Spec) (string, error) {
	source := spec.Volume.HostPath
	if source.Type != nil {
		if err := checkType(source.Path, *source.Type); err != nil {
			return "", err
		}
	}
	return source.Path, nil
}

// checkType holds the path to its type; the …OrCreate types make what is missing.
func checkType(path string, kind v1.HostPathType) error {
	info, err := os.Stat(path)
	missing := os.IsNotExist(err)
	if err != nil && !missing {
		return err
	}
	switch kind {
	case v1.HostPathUnset:
		return nil
	case v1.HostPathDirectoryOrCreate:
		if missing {
			return os.MkdirAll(path, 0o755)
		}
	case v1.HostPathFileOrCreate:
		if missing {
			return makeFile(path)
		}
	}
	if missing {
		return fmt.Errorf("hostPath type check failed: %s is not %s", path, typeNames[kind])
	}
	if name := typeNames[kind]; name != "" && !isType(info.Mode(), kind) {
		return fmt.Errorf("hostPath type check failed: %s is not %s", path, name)
	}
	return nil
}

var typeNames = map[v1.HostPathType]string{
	v1.HostPathDirectory: "a directory", v1.HostPathDirectoryOrCreate: "a directory",
	v1.HostPathFile: "a file", v1.HostPathFileOrCreate: "a file",
	v1.HostPathSocket: "a socket file", v1.HostPathCharDev: "a character device", v1.HostPathBlockDev: "a block device",
}

func isType(mode os.FileMode, kind v1.HostPathType) bool {
	switch kind {
	case v1.HostPathDirectory, v1.HostPathDirectoryOrCreate:
		return mode.IsDir()
	case v1.HostPathFile, v1.HostPathFileOrCreate:
		return mode.IsRegular()
	case v1.HostPathSocket:
		return mode&os.ModeSocket != 0
	case v1.HostPathCharDev:
		return mode&os.ModeCharDevice != 0
	case v1.HostPathBlockDev:
		return mode&os.ModeDevice != 0 && mode&os.ModeCharDevice == 0
	}
	return true
}

func makeFile(path string) error {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// persistentVolumeClaimPlugin follows a claim to its volume, where that is a
// path of this node.
type persistentVolumeClaimPlugin struct{ host Host }

func (persistentVolumeClaimPlugin) Name() string        { return "persistent-volume-claim" }
func (persistentVolumeClaimPlugin) TearDown(Spec) error { return nil }
func (persistentVolumeClaimPlugin) CanSupport(volume *v1.Volume) bool {
	return volume.PersistentVolumeClaim != nil || volume.Ephemeral != nil
}

func (p persistentVolumeClaimPlugin) SetUp(ctx context.Context, spec Spec) (string, error) {
	claim := spec.Pod.Name + "-" + spec.Volume.Name // of an ephemeral volume
	if spec.Volume.PersistentVolumeClaim != nil {
		claim = spec.Volume.PersistentVolumeClaim.ClaimName
	}
	pv, err := p.host.GetPersistentVolume(ctx, spec.Pod.Namespace, claim)
	if err != nil {
		return "", err
	}
	switch {
	case pv.Spec.HostPath != nil:
		kind := v1.HostPathUnset
		if pv.Spec.HostPath.Type != nil {
			kind = *pv.Spec.HostPath.Type
		}
		if kind == v1.HostPathUnset {
			kind = v1.HostPathDirectoryOrCreate
		}
		if err := checkType(pv.Spec.HostPath.Path, kind); err != nil {
			return "", err
		}
		return pv.Spec.HostPath.Path, setDirOwnership(pv.Spec.HostPath.Path, fsGroup(spec.Pod))
	case pv.Spec.Local != nil:
		return pv.Spec.Local.Path, setDirOwnership(pv.Spec.Local.Path, fsGroup(spec.Pod))
	}
	return "", fmt.Errorf("persistent volume %q is of a kind this node cannot mount", pv.Name)
}
