package stats

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Filesystem is the one that path lies on.
func Filesystem(path string, now time.Time) (*statsapi.FsStats, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return nil, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	number := func(n uint64) *uint64 { return &n }
	size := uint64(s.Bsize)
	return &statsapi.FsStats{Time: metav1.NewTime(now), CapacityBytes: number(s.Blocks * size), AvailableBytes: number(s.Bavail * size), UsedBytes: number((s.Blocks - s.Bfree) * size),
		Inodes: number(s.Files), InodesFree: number(s.Ffree), InodesUsed: number(s.Files - s.Ffree)}, nil
}

// SameFilesystem tells whether two paths lie on one device.
func SameFilesystem(a, b string) bool {
	var x, y unix.Stat_t
	return unix.Stat(a, &x) == nil && unix.Stat(b, &y) == nil && x.Dev == y.Dev
}

// diskUsage adds up the blocks of all files below path, each once however many
// names it has, and nothing of what is mounted there.
func diskUsage(path string) (bytes, inodes uint64) {
	var root unix.Stat_t
	if unix.Lstat(path, &root) != nil {
		return 0, 0
	}
	seen := map[uint64]bool{}
	_ = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it went while we looked
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case !ok:
			return nil
		case stat.Dev != root.Dev && entry.IsDir():
			return filepath.SkipDir
		case stat.Dev != root.Dev:
			return nil
		case stat.Nlink > 1 && !entry.IsDir():
			if seen[stat.Ino] {
				return nil
			}
			seen[stat.Ino] = true
		}
		bytes += uint64(stat.Blocks) * 512
		inodes++
		return nil
	})
	return bytes, inodes
}

// Rlimit is how many process numbers there are, and are in use: threads count.
func Rlimit(now time.Time) *statsapi.RlimitStats {
	limits := &statsapi.RlimitStats{Time: metav1.NewTime(now)}
	for _, file := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && (limits.MaxPID == nil || n < *limits.MaxPID) {
			limits.MaxPID = &n
		}
	}
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		if fields := strings.Fields(string(data)); len(fields) >= 4 { // running/all
			_, all, _ := strings.Cut(fields[3], "/")
			if n, err := strconv.ParseInt(all, 10, 64); err == nil {
				limits.NumOfRunningProcesses = &n
			}
		}
	}
	return limits
}

// Network counts what went through an interface of the node.
func Network(name string, now time.Time) *statsapi.NetworkStats {
	file, err := os.Open("/proc/net/dev")
	if err != nil {
		return nil
	}
	defer file.Close()
	result := &statsapi.NetworkStats{Time: metav1.NewTime(now)}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		device, counters, ok := strings.Cut(strings.TrimSpace(lines.Text()), ":")
		fields := strings.Fields(counters)
		if !ok || device == "lo" || len(fields) < 11 {
			continue
		}
		number := func(i int) *uint64 {
			n, _ := strconv.ParseUint(fields[i], 10, 64)
			return &n
		}
		one := statsapi.InterfaceStats{Name: device, RxBytes: number(0), RxErrors: number(2), TxBytes: number(8), TxErrors: number(10)}
		result.Interfaces = append(result.Interfaces, one)
		if device == name || result.Name == "" {
			result.InterfaceStats = one
		}
	}
	return result
}
