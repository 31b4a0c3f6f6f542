package podparent

// The names of the files in a pod's directory that cri and the parent share.
const (
	SocketName    = "parent.sock"   // the parent listens here
	PodSpecName   = "parent.json"   // PodSpec, written by cri before the launch
	StateName     = "state.json"    // PodState, written by the parent once it serves
	LogName       = "parent.log"    // the parent's own stderr
	ContainersDir = "containers"    // one directory a container
	SpecName      = "spec.json"     // ContainerSpec, in the container's directory, written by cri
	StatusName    = "status.json"   // ContainerStatus, in the container's directory, written by the parent
	Argv0         = "podparent"     // argv[0] under which any binary that links this package acts as a parent
	readyMessage  = "ready"         // what the parent writes to its ready pipe when it serves
	shmSizeData   = "size=67108864" // /dev/shm is 64 MiB, as every container runtime has it
	logLineLimit  = 16 * 1024       // longer lines are split into P entries (CRI log format)
	startFailCode = 128             // exit code of a container whose command could not be started
	pathDefault   = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// PodSpec is what a parent is told about its pod, once, before it exists.
type PodSpec struct {
	ID          string            `json:"id"`
	Hostname    string            `json:"hostname,omitempty"`    // of the pod's own UTS namespace; empty with HostNetwork
	HostNetwork bool              `json:"hostNetwork,omitempty"` // stay in the node's network and UTS namespaces
	HostIPC     bool              `json:"hostIPC,omitempty"`     // stay in the node's IPC namespace
	SharePID    bool              `json:"sharePID,omitempty"`    // one PID namespace for all containers, held by a pause process
	Sysctls     map[string]string `json:"sysctls,omitempty"`     // namespaced kernel parameters, dotted names
	Cgroup      []string          `json:"cgroup,omitempty"`      // directories of the parent's own cgroup, one a hierarchy
	// UIDs and GIDs map the numbers of a user namespace of the pod's own; empty: the node's
	// users are the pod's. Not with HostNetwork or HostIPC: a namespace must belong to it.
	UIDs []IDMap `json:"uids,omitempty"`
	GIDs []IDMap `json:"gids,omitempty"`
}

// IDMap says that Size numbers from Container on, as the pod sees them, are those from Host on at the node.
type IDMap struct {
	Container uint32 `json:"container"`
	Host      uint32 `json:"host"`
	Size      uint32 `json:"size"`
}

// OnHost is what a number of the pod is on the node; one that is not mapped is false.
func OnHost(maps []IDMap, id uint32) (uint32, bool) {
	for _, m := range maps {
		if id >= m.Container && id-m.Container < m.Size {
			return m.Host + id - m.Container, true
		}
	}
	return 0, false
}

// PodState is what a serving parent says about itself, for adoption and inspection.
type PodState struct {
	Pid       int    `json:"pid"`
	StartTime uint64 `json:"startTime"`          // clock ticks since boot, from /proc/<pid>/stat: tells a reused pid apart
	PausePid  int    `json:"pausePid,omitempty"` // holder of the shared PID namespace
}

// ContainerSpec is a container, completely: what birth needs to make one. It
// knows no Kubernetes; cri has already decided everything.
type ContainerSpec struct {
	ID         string   `json:"id"`
	Args       []string `json:"args"`
	Env        []string `json:"env"`
	Cwd        string   `json:"cwd"`
	Terminal   bool     `json:"terminal,omitempty"`
	Stdin      bool     `json:"stdin,omitempty"`
	StdinOnce  bool     `json:"stdinOnce,omitempty"` // stdin ends with the first attached client
	LogPath    string   `json:"logPath,omitempty"`   // empty: output is discarded
	Root       RootSpec `json:"root"`
	Mounts     []Mount  `json:"mounts,omitempty"` // in order; after /proc, /dev and /sys
	Devices    []Device `json:"devices,omitempty"`
	Masked     []string `json:"maskedPaths,omitempty"`
	Readonly   []string `json:"readonlyPaths,omitempty"`
	Privileged bool     `json:"privileged,omitempty"` // /sys and cgroups writable
	PID        string   `json:"pid,omitempty"`        // PIDContainer, PIDPod, PIDNode, or the id of the container to join
	CgroupNS   bool     `json:"cgroupNS,omitempty"`   // a cgroup namespace of its own
	Cgroup     []string `json:"cgroup,omitempty"`     // directories to join, one a hierarchy
	OOMScore   int      `json:"oomScoreAdj,omitempty"`
	Process    Process  `json:"process"`
}

// The values of ContainerSpec.PID that are not a container's id.
const (
	PIDContainer = ""     // its own PID namespace
	PIDPod       = "pod"  // the pod's shared one
	PIDNode      = "node" // the node's
)

// RootSpec is where the root filesystem comes from: overlay layers below a
// writable directory, or, where overlay cannot be mounted, a ready copy.
type RootSpec struct {
	Path      string   `json:"path"`                // the mount point; without Layers, the directory itself
	LayersDir string   `json:"layersDir,omitempty"` // the directory that Layers are relative to
	Layers    []string `json:"layers,omitempty"`    // topmost first
	Upper     string   `json:"upper,omitempty"`
	Work      string   `json:"work,omitempty"`
	Readonly  bool     `json:"readonly,omitempty"`
}

// Mount is one filesystem put into the container.
type Mount struct {
	Type        string `json:"type"` // bind, tmpfs, proc, sysfs, cgroup, cgroup2, mqueue, devpts
	Source      string `json:"source"`
	Target      string `json:"target"`
	Flags       uint64 `json:"flags,omitempty"`       // MS_RDONLY, MS_NOSUID, ...
	Data        string `json:"data,omitempty"`        // the filesystem's own options
	Propagation string `json:"propagation,omitempty"` // bind only: "private" (default), "rslave", "rshared"
	Recursive   bool   `json:"recursiveReadonly,omitempty"`
	Optional    bool   `json:"optional,omitempty"` // a failure is not the container's
	// IDMapped shows the owners of a bind mount's files as the pod's numbers: who is 0 on disk is
	// root in the pod. It means something only in a pod with a user namespace of its own.
	IDMapped bool `json:"idMapped,omitempty"`
	// Image, in a bind mount, is an image that is mounted at Source first.
	Image *ImageMount `json:"image,omitempty"`
}

// ImageMount is an image used as a volume: its layers, mounted read-only in the
// container's mount namespace only.
type ImageMount struct {
	LayersDir string   `json:"layersDir,omitempty"`
	Layers    []string `json:"layers,omitempty"`  // topmost first; none: Source is a ready copy
	SubPath   string   `json:"subPath,omitempty"` // what of it is mounted; links in it lead nowhere outside
}

// Device is a device node copied from the node's into the container.
type Device struct {
	Host      string `json:"host"`
	Container string `json:"container"`
}

// Process is who runs and with what rights: the part that an exec session shares
// with the container it enters.
type Process struct {
	User         User     `json:"user"`
	Capabilities Caps     `json:"capabilities"`
	NoNewPrivs   bool     `json:"noNewPrivs,omitempty"`
	Seccomp      []Filter `json:"seccomp,omitempty"` // a compiled BPF program; empty: unconfined
	Rlimits      []Rlimit `json:"rlimits,omitempty"`
	AppArmor     string   `json:"apparmor,omitempty"` // profile to change to at exec
}

// User names the identity to take on; names are looked up in the container's
// own /etc/passwd and /etc/group.
type User struct {
	Name   string `json:"name,omitempty"` // "user", "uid", "user:group"; empty: UID
	UID    uint32 `json:"uid"`
	GID    *int64 `json:"gid,omitempty"`    // nil: the user's primary group, else 0
	Groups []int  `json:"groups,omitempty"` // supplementary
	// Strict leaves out the groups that /etc/group gives the user.
	Strict bool `json:"strict,omitempty"`
}

// Identity is a User after the look-up.
type Identity struct {
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	Groups []int  `json:"groups,omitempty"`
	Home   string `json:"-"`
}

// Caps are the capability sets, a bit a capability.
type Caps struct {
	Bounding    uint64 `json:"bounding"`
	Effective   uint64 `json:"effective"`
	Permitted   uint64 `json:"permitted"`
	Inheritable uint64 `json:"inheritable"`
	Ambient     uint64 `json:"ambient"`
}

// Filter is one instruction of a classic BPF program (struct sock_filter).
type Filter struct {
	Code   uint16 `json:"c"`
	Jt, Jf uint8
	K      uint32
}

// Rlimit is one resource limit (RLIMIT_NOFILE = 7, ...).
type Rlimit struct {
	Type int    `json:"type"`
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// ContainerStatus is what became of a container. It is kept on disk, so that it
// outlives cri and the parent.
type ContainerStatus struct {
	ID         string    `json:"id"`
	Pid        int       `json:"pid,omitempty"` // in the parent's PID namespace; 0 when it has ended
	StartedAt  int64     `json:"startedAt"`     // Unix nanoseconds
	FinishedAt int64     `json:"finishedAt,omitempty"`
	ExitCode   int       `json:"exitCode"`
	Reason     string    `json:"reason,omitempty"` // OOMKilled, StartError, Error, Completed
	Message    string    `json:"message,omitempty"`
	User       *Identity `json:"user,omitempty"`
}

// Exited says whether the container has ended.
func (s *ContainerStatus) Exited() bool { return s.FinishedAt != 0 }

// ExecSpec is a process that enters a running container.
type ExecSpec struct {
	Args     []string `json:"args"`
	Env      []string `json:"env"`
	Cwd      string   `json:"cwd"`
	Terminal bool     `json:"terminal,omitempty"`
	Process  Process  `json:"process"`
	CgroupNS bool     `json:"cgroupNS,omitempty"`
}

// Request is what cri sends, one a connection. File descriptors travel beside it.
type Request struct {
	// Op is the name of the operation:
	//   start   {ID}              → Response; the container runs, or Error says why not
	//   exec    {ID, Exec} + 0..3 descriptors (stdin, stdout, stderr; none with a terminal)
	//                             → Response (+ the terminal), then Response with Code at the end
	//   attach  {ID} + stdout, stderr to copy to
	//                             → Response + stdin or terminal; then nothing until the end
	//   closein {ID}              → Response; stdin of the container ends
	//   signal  {ID, Signal, All} → Response
	//   reopen  {ID}              → Response; the log is opened anew under its path
	//   forget  {ID}              → Response; an ended container is no longer reported
	//   dial    {Port}            → Response + a socket connected to that port of the pod
	//   watch                     → Response with all Statuses, then one for each change
	//   stop                      → Response; every container is killed and the parent ends
	Op     string    `json:"op"`
	ID     string    `json:"id,omitempty"`
	Exec   *ExecSpec `json:"exec,omitempty"`
	Signal int       `json:"signal,omitempty"`
	All    bool      `json:"all,omitempty"`
	Port   int       `json:"port,omitempty"`
}

// Response answers a Request.
type Response struct {
	Error    string            `json:"error,omitempty"`
	Pid      int               `json:"pid,omitempty"`
	Code     *int              `json:"code,omitempty"` // an exec session's exit code
	Statuses []ContainerStatus `json:"statuses,omitempty"`
}
