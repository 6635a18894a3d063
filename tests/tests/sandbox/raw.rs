//! Owns system calls by their number, as code that was smuggled in would make them.

use nix::{
    errno::Errno,
    libc::{self, c_long},
};

/// Makes a call whose arguments are numbers, and gives its error.
///
/// No argument is a pointer to anything, so that a call that is let through fails by it.
pub(crate) fn call(number: c_long, arguments: [c_long; 6]) -> Result<c_long, Errno> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: callers pass numbers, and addresses that are not mapped; none of the calls takes memory that is ours.
    Errno::result(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

/// The version of Landlock's interface that this kernel has; 0 is none.
pub(crate) fn landlock() -> c_long {
    const LANDLOCK_CREATE_RULESET_VERSION: c_long = 1;
    call(libc::SYS_landlock_create_ruleset, [0, 0, LANDLOCK_CREATE_RULESET_VERSION, 0, 0, 0]).unwrap_or(0)
}

/// Calls that nothing of the daemon makes once it has started.
pub(crate) const REFUSED: &[(&str, c_long)] = &[
    // Being somebody else.
    ("setuid", libc::SYS_setuid),
    ("setgid", libc::SYS_setgid),
    ("setresuid", libc::SYS_setresuid),
    ("setgroups", libc::SYS_setgroups),
    ("capset", libc::SYS_capset),
    ("personality", libc::SYS_personality),
    // Other processes.
    ("execve", libc::SYS_execve),
    ("execveat", libc::SYS_execveat),
    ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    ("kill", libc::SYS_kill),
    ("tkill", libc::SYS_tkill),
    ("kcmp", libc::SYS_kcmp),
    // The file system.
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("move_mount", libc::SYS_move_mount),
    ("open_tree", libc::SYS_open_tree),
    ("fsopen", libc::SYS_fsopen),
    ("pivot_root", libc::SYS_pivot_root),
    ("chroot", libc::SYS_chroot),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("openat2", libc::SYS_openat2),
    ("fchmodat", libc::SYS_fchmodat),
    ("fchownat", libc::SYS_fchownat),
    ("truncate", libc::SYS_truncate),
    ("renameat2", libc::SYS_renameat2),
    ("linkat", libc::SYS_linkat),
    ("symlinkat", libc::SYS_symlinkat),
    ("mknodat", libc::SYS_mknodat),
    ("setxattr", libc::SYS_setxattr),
    ("quotactl", libc::SYS_quotactl),
    ("fanotify_init", libc::SYS_fanotify_init),
    // Namespaces.
    ("unshare", libc::SYS_unshare),
    ("setns", libc::SYS_setns),
    ("sethostname", libc::SYS_sethostname),
    // The kernel.
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("delete_module", libc::SYS_delete_module),
    ("kexec_load", libc::SYS_kexec_load),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("memfd_create", libc::SYS_memfd_create),
    ("keyctl", libc::SYS_keyctl),
    ("add_key", libc::SYS_add_key),
    ("reboot", libc::SYS_reboot),
    ("swapon", libc::SYS_swapon),
    ("syslog", libc::SYS_syslog),
    ("acct", libc::SYS_acct),
    ("clock_settime", libc::SYS_clock_settime),
    ("setpriority", libc::SYS_setpriority),
    ("seccomp", libc::SYS_seccomp),
];

/// Commands of `bpf(2)` that make something or open what is another's, and none that a daemon needs.
pub(crate) const BPF: &[(&str, c_long)] = &[
    ("BPF_MAP_CREATE", 0),
    ("BPF_PROG_LOAD", 5),
    ("BPF_OBJ_GET", 7),
    ("BPF_PROG_ATTACH", 8),
    ("BPF_PROG_GET_NEXT_ID", 11),
    ("BPF_PROG_GET_FD_BY_ID", 13),
    ("BPF_MAP_GET_FD_BY_ID", 14),
    ("BPF_RAW_TRACEPOINT_OPEN", 17),
    ("BPF_BTF_LOAD", 18),
    ("BPF_BTF_GET_FD_BY_ID", 19),
    ("BPF_TASK_FD_QUERY", 20),
    ("BPF_LINK_GET_FD_BY_ID", 30),
    ("BPF_ENABLE_STATS", 32),
    ("BPF_ITER_CREATE", 33),
    ("BPF_PROG_BIND_MAP", 35),
    ("BPF_TOKEN_CREATE", 36),
];
