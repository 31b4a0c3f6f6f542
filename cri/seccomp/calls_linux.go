package seccomp

import "golang.org/x/sys/unix"

// always are the calls that every container may make: those that ordinary
// programs need and that reach nothing beyond the container.
var always = []string{
	// files
	"access", "chdir", "chmod", "chown", "chown32", "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3", "faccessat", "faccessat2",
	"fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync", "fgetxattr",
	"flistxattr", "flock", "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync", "ftruncate", "futimesat", "getcwd", "getdents",
	"getdents64", "getxattr", "getxattrat", "ioctl", "lchown", "lgetxattr", "link", "linkat", "listxattr", "listxattrat", "llistxattr", "lremovexattr",
	"lseek", "lsetxattr", "lstat", "mkdir", "mkdirat", "mknod", "mknodat", "newfstatat", "open", "openat", "openat2", "pipe", "pipe2",
	"pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv",
	"removexattr", "removexattrat", "rename", "renameat", "renameat2", "rmdir", "sendfile", "setxattr", "setxattrat", "splice", "stat", "statfs",
	"statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "tee", "truncate", "umask", "unlink", "unlinkat", "utime",
	"utimensat", "utimes", "vmsplice", "write", "writev", "name_to_handle_at", "cachestat", "statmount", "listmount",
	// processes, threads, identity
	"arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork", "getegid", "geteuid", "getgid",
	"getgroups", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getresgid", "getresuid", "getrlimit", "getrusage",
	"getsid", "gettid", "getuid", "kill", "modify_ldt", "pidfd_open", "pidfd_send_signal", "prctl", "prlimit64", "ptrace", "process_vm_readv", "process_vm_writev", "process_mrelease",
	"restart_syscall", "rseq", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
	"sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity", "sched_setattr", "sched_setparam",
	"sched_setscheduler", "sched_yield", "seccomp", "set_robust_list", "get_robust_list", "set_tid_address", "set_thread_area", "get_thread_area", "setfsgid", "setfsuid", "setgid",
	"setgroups", "setpgid", "setpriority", "setregid", "setresgid", "setresuid", "setreuid", "setrlimit", "setsid", "setuid",
	"sysinfo", "tgkill", "time", "times", "tkill", "uname", "vfork", "wait4", "waitid", "getcpu", "ioprio_get", "ioprio_set", "membarrier", "alarm", "pause",
	"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "map_shadow_stack",
	// memory
	"brk", "madvise", "memfd_create", "memfd_secret", "mincore", "mlock", "mlock2", "mlockall", "mmap", "mprotect", "mremap", "mseal", "msync", "munlock",
	"munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "process_madvise", "remap_file_pages",
	// signals, timers, waiting
	"clock_getres", "clock_gettime", "clock_nanosleep", "clock_adjtime", "adjtimex", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2",
	"epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "futex", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "getitimer", "gettimeofday",
	"inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "io_destroy", "io_getevents",
	"io_pgetevents", "io_setup", "io_submit", "nanosleep", "poll", "ppoll", "pselect6", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
	"rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "select", "setitimer", "sigaltstack",
	"signalfd", "signalfd4", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime",
	"timerfd_create", "timerfd_gettime", "timerfd_settime", "getrandom",
	// network and messages
	"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom", "recvmmsg", "recvmsg",
	"sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socketpair",
	"mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd",
	"semctl", "semget", "semop", "semtimedop", "shmat", "shmctl", "shmdt", "shmget",
}

// withCapability are the calls that serve a capability, and are of no use to
// those who lack it.
var withCapability = map[uint][]string{
	unix.CAP_DAC_READ_SEARCH: {"open_by_handle_at"},
	unix.CAP_SYS_ADMIN: {"bpf", "clone", "clone3", "fanotify_init", "fanotify_mark", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie", "lsm_get_self_attr",
		"mount", "mount_setattr", "move_mount", "open_tree", "perf_event_open", "pivot_root", "quotactl", "quotactl_fd", "setdomainname",
		"sethostname", "setns", "syslog", "umount", "umount2", "unshare"},
	unix.CAP_SYS_BOOT:       {"reboot"},
	unix.CAP_SYS_CHROOT:     {"chroot"},
	unix.CAP_SYS_MODULE:     {"delete_module", "init_module", "finit_module"},
	unix.CAP_SYS_PACCT:      {"acct"},
	unix.CAP_SYS_PTRACE:     {"kcmp", "pidfd_getfd"},
	unix.CAP_SYS_RAWIO:      {"iopl", "ioperm"},
	unix.CAP_SYS_TIME:       {"settimeofday", "stime", "clock_settime"},
	unix.CAP_SYS_TTY_CONFIG: {"vhangup"},
	unix.CAP_SYS_NICE:       {"get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node", "migrate_pages", "move_pages"},
	unix.CAP_SYSLOG:         {"syslog"},
	unix.CAP_BPF:            {"bpf"},
	unix.CAP_PERFMON:        {"perf_event_open"},
}
