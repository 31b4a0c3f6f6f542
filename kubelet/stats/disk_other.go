//go:build !linux

package stats

import (
	"io/fs"
	"path/filepath"
	"time"

	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Filesystem is a made-up one: elsewhere than on Linux only simulated pods run.
func Filesystem(string, time.Time) (*statsapi.FsStats, error) {
	capacity, left, inodes := uint64(100<<30), uint64(90<<30), uint64(1<<20)
	used, none := capacity-left, uint64(0)
	return &statsapi.FsStats{CapacityBytes: &capacity, AvailableBytes: &left, UsedBytes: &used, Inodes: &inodes, InodesFree: &inodes, InodesUsed: &none}, nil
}

// SameFilesystem there is one.
func SameFilesystem(string, string) bool { return true }

func diskUsage(path string) (bytes, inodes uint64) {
	_ = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			bytes, inodes = bytes+uint64(info.Size()), inodes+1
		}
		return nil
	})
	return bytes, inodes
}

// Rlimit is not known.
func Rlimit(time.Time) *statsapi.RlimitStats { return nil }

// Network is not known.
func Network(string, time.Time) *statsapi.NetworkStats { return nil }
