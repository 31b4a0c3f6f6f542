//go:build !linux

package tools

import (
	"errors"
	"io/fs"
)

// The demo image runs on Linux; elsewhere these tools are only built.

func owner(fs.FileInfo) (uid, gid int, links uint64) { return 0, 0, 1 }

func isCrossDevice(error) bool { return false }

func mountFilesystem(_, _, _, _ string) error { return errors.New("needs Linux") }
