package tools

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
)

func owner(info fs.FileInfo) (uid, gid int, links uint64) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid), int(s.Gid), uint64(s.Nlink)
	}
	return 0, 0, 1
}

func isCrossDevice(err error) bool { return errors.Is(err, syscall.EXDEV) }

func mountFilesystem(source, target, kind, options string) error {
	var flags uintptr
	var data []string
	for _, option := range strings.Split(options, ",") {
		switch option {
		case "", "rw":
		case "ro":
			flags |= syscall.MS_RDONLY
		case "bind":
			flags |= syscall.MS_BIND
		case "remount":
			flags |= syscall.MS_REMOUNT
		default:
			data = append(data, option)
		}
	}
	return syscall.Mount(source, target, kind, flags, strings.Join(data, ","))
}
