package volume

import (
	"context"
	"fmt"
	"os"

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
	if kind == v1.HostPathUnset {
		return nil
	}
	info, err := os.Stat(path)
	missing := os.IsNotExist(err)
	switch kind {
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
		err = fmt.Errorf("path %q does not exist", path)
	}
	if err != nil {
		return fmt.Errorf("hostPath type check failed, %s is not %s, unable to determine its type: %w", path, typeNames[kind], err)
	}
	if name := typeNames[kind]; name != "" && !isType(info.Mode(), kind) {
		return fmt.Errorf("hostPath type check failed: %s is not %s, it's a %s", path, name, typeOf(info.Mode()))
	}
	return nil
}

// typeOf is what lies there, in the words of the types.
func typeOf(mode os.FileMode) v1.HostPathType {
	for _, kind := range []v1.HostPathType{v1.HostPathDirectory, v1.HostPathFile, v1.HostPathSocket, v1.HostPathCharDev, v1.HostPathBlockDev} {
		if isType(mode, kind) {
			return kind
		}
	}
	return "pipe"
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
	f, err := os.OpenFile(path, os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}
