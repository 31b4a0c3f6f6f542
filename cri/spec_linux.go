package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cri/cgroups"
	"hyperkube/cri/images"
	"hyperkube/cri/podparent"
	"hyperkube/cri/seccomp"
)

// specBuilder turns what the kubelet asks for, and what the image says, into a
// container's specification. Here everything about a container is decided.
type specBuilder struct {
	c      *CRI
	s      *sandbox
	k      *container
	config *runtimeapi.ContainerConfig
	image  *images.Image
}

func (b *specBuilder) security() *runtimeapi.LinuxContainerSecurityContext {
	return b.config.GetLinux().GetSecurityContext()
}

func (b *specBuilder) privileged() bool { return b.security().GetPrivileged() }

func (b *specBuilder) build() (*podparent.ContainerSpec, error) {
	process, err := b.process()
	if err != nil {
		return nil, err
	}
	mounts, err := b.mounts()
	if err != nil {
		return nil, err
	}
	image := b.image.Config.Config
	spec := &podparent.ContainerSpec{
		ID: b.k.id, Args: command(b.config, b.image), Env: b.env(),
		Cwd: firstOf(b.config.WorkingDir, image.WorkingDir, "/"), Terminal: b.config.Tty,
		Stdin: b.config.Stdin, StdinOnce: b.config.StdinOnce,
		Root: b.root(), Mounts: mounts, Devices: b.devices(),
		Privileged: b.privileged(), PID: b.pidMode(),
		CgroupNS: b.c.cgroups.V2() && !b.privileged(),
		Cgroup:   b.c.cgroups.Dirs(b.k.rec.Cgroup),
		OOMScore: int(b.config.GetLinux().GetResources().GetOomScoreAdj()),
		Process:  process,
	}
	if b.config.LogPath != "" && b.s.rec.Config.LogDirectory != "" {
		spec.LogPath = filepath.Join(b.s.rec.Config.LogDirectory, b.config.LogPath)
	}
	if !b.privileged() {
		spec.Masked, spec.Readonly = b.protectedPaths()
	}
	return spec, nil
}

// command is the image's, unless the pod says otherwise: a pod's command
// replaces the image's entrypoint and its arguments, a pod's args only the latter.
func command(config *runtimeapi.ContainerConfig, image *images.Image) []string {
	entrypoint, args := config.Command, config.Args
	if len(entrypoint) == 0 {
		entrypoint = image.Config.Config.Entrypoint
		if len(args) == 0 {
			args = image.Config.Config.Cmd
		}
	}
	return slices.Concat(entrypoint, args)
}

// env is the image's environment, overlaid by the pod's.
func (b *specBuilder) env() []string {
	env := slices.Clone(b.image.Config.Config.Env)
	set := func(name, value string) {
		for i, e := range env {
			if strings.HasPrefix(e, name+"=") {
				env[i] = name + "=" + value
				return
			}
		}
		env = append(env, name+"="+value)
	}
	set("HOSTNAME", b.s.hostname())
	if name := b.image.Config.Config.Labels[images.NodeNameLabel]; name != "" {
		set(name, b.c.cfg.NodeName)
	}
	if b.config.Tty {
		set("TERM", "xterm")
	}
	for _, e := range b.config.Envs {
		set(e.Key, string(e.Value))
	}
	return env
}

func (b *specBuilder) root() podparent.RootSpec {
	root := podparent.RootSpec{Path: filepath.Join(b.k.dir, "rootfs"), Readonly: b.security().GetReadonlyRootfs()}
	if !b.c.images.Overlays() {
		return root
	}
	root.LayersDir = b.c.images.LayersDir()
	root.Layers = slices.Clone(b.image.Layers)
	slices.Reverse(root.Layers) // the kernel wants the topmost first
	root.Upper, root.Work = filepath.Join(b.k.dir, "upper"), filepath.Join(b.k.dir, "work")
	return root
}

func (b *specBuilder) pidMode() string {
	options := b.security().GetNamespaceOptions()
	switch options.GetPid() {
	case runtimeapi.NamespaceMode_POD:
		if b.s.rec.Config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetPid() == runtimeapi.NamespaceMode_POD {
			return podparent.PIDPod
		}
	case runtimeapi.NamespaceMode_NODE:
		return podparent.PIDNode
	case runtimeapi.NamespaceMode_TARGET:
		return options.GetTargetId()
	}
	return podparent.PIDContainer
}

// mounts are the pod's own, the shorter targets first, so that none covers
// another; before them, what every container has.
func (b *specBuilder) mounts() ([]podparent.Mount, error) {
	asked := func(target string) bool {
		return slices.ContainsFunc(b.config.Mounts, func(m *runtimeapi.Mount) bool { return filepath.Clean(m.ContainerPath) == target })
	}
	var mounts []podparent.Mount
	readonly := uint64(0)
	if b.security().GetReadonlyRootfs() {
		readonly = unix.MS_RDONLY
	}
	for _, shared := range []struct{ source, target string }{{b.s.hostsName(), "/etc/hostname"}, {b.s.resolvConf(), "/etc/resolv.conf"}} {
		if !asked(shared.target) {
			mounts = append(mounts, podparent.Mount{Type: "bind", Source: shared.source, Target: shared.target, Flags: readonly, IDMapped: b.s.ownUsers()})
		}
	}
	if !asked("/etc/hosts") {
		if path, err := b.hosts(); err != nil {
			return nil, err
		} else {
			mounts = append(mounts, podparent.Mount{Type: "bind", Source: path, Target: "/etc/hosts", Flags: readonly, IDMapped: b.s.ownUsers()})
		}
	}
	if !asked("/dev/shm") {
		shm := b.s.shm()
		if hostIPC(b.s.rec.Config) {
			shm = "/dev/shm"
		}
		mounts = append(mounts, podparent.Mount{Type: "bind", Source: shm, Target: "/dev/shm"})
	}
	if !asked("/sys/fs/cgroup") {
		mounts = append(mounts, b.cgroupMounts()...)
	}
	own := slices.Clone(b.config.Mounts)
	sort.SliceStable(own, func(i, j int) bool { return depth(own[i].ContainerPath) < depth(own[j].ContainerPath) })
	for _, m := range own {
		mount, err := b.mount(m)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, mount)
	}
	return mounts, nil
}

func depth(path string) int { return strings.Count(filepath.Clean(path), "/") }

func (b *specBuilder) mount(m *runtimeapi.Mount) (podparent.Mount, error) {
	mount := podparent.Mount{Type: "bind", Source: m.HostPath, Target: filepath.Clean(m.ContainerPath), Recursive: m.RecursiveReadOnly}
	if !filepath.IsAbs(mount.Target) {
		mount.Target = "/" + mount.Target
	}
	if m.RecursiveReadOnly && (!m.Readonly || m.Propagation != runtimeapi.MountPropagation_PROPAGATION_PRIVATE) {
		return mount, status.Errorf(codes.InvalidArgument, "mount %s: recursively read-only needs a read-only mount with private propagation", m.ContainerPath)
	}
	for _, option := range m.MountOptions {
		flag, known := mountOptions[option]
		if !known {
			return mount, status.Errorf(codes.InvalidArgument, "mount %s: unknown option %q", m.ContainerPath, option)
		}
		mount.Flags |= flag
	}
	if m.GetImage().GetImage() != "" {
		return mount, b.imageMount(m, &mount)
	}
	var err error
	if mount.IDMapped, err = b.idMapped(m); err != nil {
		return mount, err
	}
	// A path that does not exist is made, as a directory: other runtimes do so, and pods rely on it.
	if _, err := os.Stat(m.HostPath); os.IsNotExist(err) {
		if err := os.MkdirAll(m.HostPath, 0o755); err != nil {
			return mount, fmt.Errorf("mount source: %w", err)
		}
	}
	if m.Readonly {
		mount.Flags |= unix.MS_RDONLY
	}
	mount.Propagation, err = propagate(m.HostPath, m.Propagation)
	return mount, err
}

var mountOptions = map[string]uint64{"ro": unix.MS_RDONLY, "noexec": unix.MS_NOEXEC, "nodev": unix.MS_NODEV, "nosuid": unix.MS_NOSUID}

// imageMount makes an image a volume (KEP-4639). It is mounted when the container is born.
func (b *specBuilder) imageMount(m *runtimeapi.Mount, mount *podparent.Mount) error {
	if !m.Readonly || m.HostPath != "" {
		return status.Errorf(codes.InvalidArgument, "mount %s: an image is mounted read-only, and instead of a path of the node", m.ContainerPath)
	}
	img, err := b.c.images.Get(m.Image.Image)
	if err != nil {
		return fmt.Errorf("mount %s: %w", m.ContainerPath, err)
	}
	mount.Source = filepath.Join(b.k.dir, "image-volumes", strconv.Itoa(len(b.k.rec.ImageVolumes)))
	if err := os.MkdirAll(mount.Source, 0o755); err != nil {
		return err
	}
	mount.Flags |= unix.MS_RDONLY
	mount.Image = &podparent.ImageMount{SubPath: m.ImageSubPath}
	b.k.rec.ImageVolumes = append(b.k.rec.ImageVolumes, imageVolume{ContainerPath: m.ContainerPath, ImageRef: img.ID})
	if b.c.images.Overlays() {
		mount.Image.LayersDir, mount.Image.Layers = b.c.images.LayersDir(), slices.Clone(img.Layers)
		slices.Reverse(mount.Image.Layers)
	} else if err := b.c.images.CopyTo(img, mount.Source); err != nil {
		return err
	}
	// Now, not at the container's birth: a sub-path that is not there is the pod's mistake.
	if err := podparent.TryImage(mount); err != nil {
		return fmt.Errorf("mount %s: %q of image %s: %w", m.ContainerPath, m.ImageSubPath, m.Image.Image, err)
	}
	return nil
}

// hosts is an /etc/hosts for clients that bring none; the kubelet does.
func (b *specBuilder) hosts() (string, error) {
	if hostNetwork(b.s.rec.Config) {
		return "/etc/hosts", nil
	}
	text := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	for _, ip := range b.s.rec.IPs {
		text += ip + "\t" + b.s.hostname() + "\n"
	}
	path := filepath.Join(b.s.dir, "hosts")
	return path, writeFile(path, []byte(text), 0o644)
}

// cgroupMounts show a container its cgroups, read-only but for privileged ones. Those share the node's cgroup namespace, and
// get the node's own mount there: a new one would set the options of them all, and take nsdelegate and memory_recursiveprot
// from the node's (cgroups(7) has them as options of the file system, not of a mount).
func (b *specBuilder) cgroupMounts() []podparent.Mount {
	flags := uint64(unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV | unix.MS_RDONLY)
	if b.privileged() {
		flags &^= unix.MS_RDONLY
	}
	if b.c.cgroups.V2() && b.privileged() {
		return []podparent.Mount{{Type: "bind", Source: b.c.cgroups.Unified, Target: "/sys/fs/cgroup", Flags: flags}}
	}
	if b.c.cgroups.V2() {
		return []podparent.Mount{{Type: "cgroup2", Source: "cgroup", Target: "/sys/fs/cgroup", Flags: flags}}
	}
	// v1: the container's own directory of each tree, in the place where the tree would be.
	mounts := []podparent.Mount{{Type: "tmpfs", Source: "tmpfs", Target: "/sys/fs/cgroup", Flags: flags &^ unix.MS_RDONLY, Data: "mode=755,size=64k"}}
	for _, dir := range b.c.cgroups.Dirs(b.k.rec.Cgroup) {
		tree := strings.TrimSuffix(dir, b.k.rec.Cgroup)
		mounts = append(mounts, podparent.Mount{Type: "bind", Source: dir, Target: "/sys/fs/cgroup/" + filepath.Base(tree), Flags: flags, Optional: true})
	}
	return mounts
}

// devices are those the pod names; a privileged container has all of the node's.
func (b *specBuilder) devices() (devices []podparent.Device) {
	for _, d := range b.config.Devices {
		devices = append(devices, podparent.Device{Host: d.HostPath, Container: d.ContainerPath})
	}
	if !b.privileged() {
		return devices
	}
	filepath.WalkDir("/dev", func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if entry.IsDir() {
			if name := entry.Name(); name == "pts" || name == "shm" || name == "mqueue" || name == "fd" {
				return filepath.SkipDir
			}
			return nil
		}
		if entry.Type()&os.ModeDevice != 0 && entry.Name() != "console" && entry.Name() != "ptmx" {
			devices = append(devices, podparent.Device{Host: path, Container: path})
		}
		return nil
	})
	return devices
}

// deviceRules say which devices the container may open.
func (b *specBuilder) deviceRules() []cgroups.DeviceRule {
	if b.privileged() {
		return nil // all
	}
	rules := cgroups.StandardDevices()
	for _, d := range b.config.Devices {
		var st unix.Stat_t
		if err := unix.Stat(d.HostPath, &st); err != nil {
			continue // birth will say so
		}
		kind := byte('c')
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			kind = 'b'
		}
		rules = append(rules, cgroups.DeviceRule{Kind: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), Access: firstOf(d.Permissions, "rwm")})
	}
	return rules
}

// process is who the container runs as, and with what rights.
func (b *specBuilder) process() (podparent.Process, error) {
	sec := b.security()
	p := podparent.Process{NoNewPrivs: sec.GetNoNewPrivs(), User: b.user()}
	if sec.GetRunAsGroup() != nil && sec.GetRunAsUser() == nil && sec.GetRunAsUsername() == "" {
		return p, status.Error(codes.InvalidArgument, "a group to run as needs a user to run as (run_as_group without run_as_user)")
	}
	var err error
	if p.Capabilities, err = capabilities(sec); err != nil {
		return p, err
	}
	if b.privileged() {
		return p, nil
	}
	if profile := sec.GetApparmor(); profile.GetProfileType() == runtimeapi.SecurityProfile_Localhost {
		p.AppArmor = strings.TrimPrefix(profile.LocalhostRef, "localhost/")
	}
	switch profile := sec.GetSeccomp(); {
	case profile == nil || profile.ProfileType == runtimeapi.SecurityProfile_Unconfined:
	case profile.ProfileType == runtimeapi.SecurityProfile_RuntimeDefault:
		p.Seccomp, err = seccomp.Default(p.Capabilities.Bounding)
	default:
		p.Seccomp, err = seccomp.FromFile(strings.TrimPrefix(profile.LocalhostRef, "localhost/"))
	}
	return p, err
}

func (b *specBuilder) user() podparent.User {
	sec := b.security()
	u := podparent.User{Strict: sec.GetSupplementalGroupsPolicy() == runtimeapi.SupplementalGroupsPolicy_Strict}
	switch {
	case sec.GetRunAsUser() != nil:
		u.Name = strconv.FormatInt(sec.RunAsUser.Value, 10)
	case sec.GetRunAsUsername() != "":
		u.Name = sec.RunAsUsername
	default:
		u.Name = b.image.Config.Config.User
	}
	if group := sec.GetRunAsGroup(); group != nil {
		u.GID = &group.Value
		u.Name, _, _ = strings.Cut(u.Name, ":")
	}
	for _, g := range sec.GetSupplementalGroups() {
		u.Groups = append(u.Groups, int(g))
	}
	return u
}

// protectedPaths are the parts of /proc and /sys that the kubelet wants covered
// or read-only; for clients that name none, the usual ones.
func (b *specBuilder) protectedPaths() (masked, readonly []string) {
	masked, readonly = b.security().GetMaskedPaths(), b.security().GetReadonlyPaths()
	if len(masked)+len(readonly) > 0 {
		return masked, readonly
	}
	return []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
			"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"},
		[]string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// limits translates CRI's limits.
func limits(r *runtimeapi.LinuxContainerResources) cgroups.Limits {
	if r == nil {
		return cgroups.Limits{}
	}
	l := cgroups.Limits{CPUShares: r.CpuShares, CPUQuota: r.CpuQuota, CPUPeriod: r.CpuPeriod, Memory: r.MemoryLimitInBytes,
		MemorySwap: r.MemorySwapLimitInBytes, CPUs: r.CpusetCpus, Mems: r.CpusetMems, Unified: r.Unified, HugePages: map[string]uint64{}}
	for _, h := range r.HugepageLimits {
		l.HugePages[h.PageSize] = h.Limit
	}
	return l
}

// mergeResources is what is in force after an update: zero leaves a value as it was.
func mergeResources(old, update *runtimeapi.LinuxContainerResources) *runtimeapi.LinuxContainerResources {
	if old == nil {
		return update
	}
	number := func(was *int64, is int64) {
		if is != 0 {
			*was = is
		}
	}
	number(&old.CpuPeriod, update.CpuPeriod)
	number(&old.CpuQuota, update.CpuQuota)
	number(&old.CpuShares, update.CpuShares)
	number(&old.MemoryLimitInBytes, update.MemoryLimitInBytes)
	number(&old.MemorySwapLimitInBytes, update.MemorySwapLimitInBytes)
	number(&old.OomScoreAdj, update.OomScoreAdj)
	old.CpusetCpus, old.CpusetMems = firstOf(update.CpusetCpus, old.CpusetCpus), firstOf(update.CpusetMems, old.CpusetMems)
	for file, value := range update.Unified {
		if old.Unified == nil {
			old.Unified = map[string]string{}
		}
		old.Unified[file] = value
	}
	return old
}
