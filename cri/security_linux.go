package cri

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cri/images"
	"hyperkube/cri/podparent"
)

// capabilityNames are in the order of their numbers (linux/capability.h).
var capabilityNames = []string{"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO",
	"SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
	"LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND",
	"AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"}

// usualCapabilities are what a container has unless its pod says otherwise.
var usualCapabilities = []string{"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
	"NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"}

var allCapabilities = uint64(1)<<len(capabilityNames) - 1

// capabilities computes a container's sets: the usual ones, changed by what the
// pod drops and adds. "ALL" comes first, whatever its place in the list.
func capabilities(sec *runtimeapi.LinuxContainerSecurityContext) (podparent.Caps, error) {
	set := uint64(0)
	for _, name := range usualCapabilities {
		bit, _ := capability(name)
		set |= bit
	}
	asked := sec.GetCapabilities()
	if slices.ContainsFunc(asked.GetAddCapabilities(), isAll) || sec.GetPrivileged() {
		set = allCapabilities
	}
	if slices.ContainsFunc(asked.GetDropCapabilities(), isAll) {
		set = 0
	}
	ambient := uint64(0)
	for _, list := range []struct {
		names []string
		use   func(bit uint64)
	}{
		{asked.GetAddCapabilities(), func(bit uint64) { set |= bit }},
		{asked.GetDropCapabilities(), func(bit uint64) { set &^= bit }},
		{asked.GetAddAmbientCapabilities(), func(bit uint64) { set |= bit; ambient |= bit }},
	} {
		for _, name := range list.names {
			if isAll(name) {
				continue
			}
			bit, err := capability(name)
			if err != nil {
				return podparent.Caps{}, err
			}
			list.use(bit)
		}
	}
	// Inheritable stays empty but for the ambient ones, which need it: with it, a
	// program with file capabilities could get more than the set (CVE-2022-24769).
	return podparent.Caps{Bounding: set, Effective: set, Permitted: set, Inheritable: ambient, Ambient: ambient}, nil
}

func isAll(name string) bool { return strings.EqualFold(name, "ALL") }

func capability(name string) (bit uint64, err error) {
	i := slices.Index(capabilityNames, strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
	if i < 0 {
		return 0, fmt.Errorf("unknown capability %q", name)
	}
	return 1 << i, nil
}

// stopSignal is the pod's, else the image's, else SIGTERM.
func stopSignal(config *runtimeapi.ContainerConfig, image *images.Image) string {
	if config.StopSignal != runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT {
		return strings.TrimPrefix(config.StopSignal.String(), "SIGNAL_")
	}
	return firstOf(image.Config.Config.StopSignal, "SIGTERM")
}

// signalNumber reads "SIGTERM", "TERM", "15" or "SIGRTMIN+3" (CRI writes
// SIGRTMINPLUS3). What cannot be read is SIGTERM.
func signalNumber(name string) int {
	if n, err := strconv.Atoi(name); err == nil {
		return n
	}
	full := strings.ToUpper(name)
	if !strings.HasPrefix(full, "SIG") {
		full = "SIG" + full
	}
	if n := unix.SignalNum(full); n != 0 {
		return int(n)
	}
	const rtmin, rtmax = 34, 64
	full = strings.NewReplacer("PLUS", "+", "MINUS", "-").Replace(full)
	if offset, ok := strings.CutPrefix(full, "SIGRTMIN"); ok {
		if n, err := strconv.Atoi("0" + strings.TrimPrefix(offset, "+")); err == nil && rtmin+n <= rtmax {
			return rtmin + n
		}
	}
	if offset, ok := strings.CutPrefix(full, "SIGRTMAX"); ok {
		if n, err := strconv.Atoi("0" + strings.TrimPrefix(offset, "-")); err == nil && rtmax-n >= rtmin {
			return rtmax - n
		}
	}
	return int(unix.SIGTERM)
}
