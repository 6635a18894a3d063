//! Owns the system calls that are left after the start, by seccomp.
//!
//! What is not named is refused with EPERM, and the program goes on. `clone3` is refused as if the kernel had it
//! not, for its flags are in memory that a filter cannot read; the C library takes `clone` then, of which threads
//! are let through and processes are not.

use std::{collections::BTreeMap, env::consts::ARCH};

use nix::{errno::Errno, libc};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op,
    SeccompCondition as Condition, SeccompFilter, SeccompRule, TargetArch,
};

/// `enum bpf_cmd`: what maps, links and runs of loaded programs take. `BPF_MAP_CREATE` (0), `BPF_PROG_LOAD` (5),
/// `BPF_BTF_LOAD` (18) and opening by number (13, 14, 19, 30) are not among them.
const BPF_COMMANDS: &[u64] = &[
    1,  // BPF_MAP_LOOKUP_ELEM
    2,  // BPF_MAP_UPDATE_ELEM
    3,  // BPF_MAP_DELETE_ELEM
    4,  // BPF_MAP_GET_NEXT_KEY
    6,  // BPF_OBJ_PIN
    9,  // BPF_PROG_DETACH
    10, // BPF_PROG_TEST_RUN
    15, // BPF_OBJ_GET_INFO_BY_FD
    16, // BPF_PROG_QUERY
    24, // BPF_MAP_LOOKUP_BATCH
    28, // BPF_LINK_CREATE
    29, // BPF_LINK_UPDATE
    34, // BPF_LINK_DETACH
];

/// Requests of `ioctl`: closing on exec, not blocking, bytes that wait, the terminal's size and kind, and a name
/// of an interface for its number.
const REQUESTS: &[u64] = &[
    libc::FIOCLEX,
    libc::FIONBIO,
    libc::FIONREAD,
    libc::TCGETS,
    libc::TIOCGWINSZ,
    libc::SIOCGIFINDEX,
    libc::SIOCGIFNAME,
];

/// Families of sockets: not `AF_PACKET`, which reads what others send, nor any that nobody needs.
const FAMILIES: &[u64] =
    &[libc::AF_UNIX as u64, libc::AF_INET as u64, libc::AF_INET6 as u64, libc::AF_NETLINK as u64];

/// Naming threads and memory.
const PRCTL: &[u64] = &[libc::PR_SET_NAME as u64, libc::PR_GET_NAME as u64, libc::PR_SET_VMA as u64];

/// Calls that are allowed whatever their arguments are.
const CALLS: &[libc::c_long] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_membarrier,
    // Threads, and the end.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_capget,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
    // Signals. `tgkill` is how a process aborts; Landlock keeps signals within it.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    // Time.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    // Files.
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    // Below the pins, says Landlock.
    libc::SYS_mkdirat,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    // The network.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// Calls that newer ones have taken the place of; a newer processor has them not.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_getdents,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

/// Closes off every system call but those that are needed.
pub(super) fn close() -> Result<(), String> {
    let filters = filters().map_err(|error| error.to_string())?;
    // The stricter answer of the two counts.
    for filter in &filters {
        seccompiler::apply_filter(filter).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn filters() -> Result<[BpfProgram; 2], BackendError> {
    let arch = TargetArch::try_from(ARCH)?;
    let missing = SeccompAction::Errno(Errno::ENOSYS as u32);
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let clone3 = SeccompFilter::new(clone3, SeccompAction::Allow, missing, arch)?.try_into()?;
    let refused = SeccompAction::Errno(Errno::EPERM as u32);
    let allowed = SeccompFilter::new(rules()?, refused, SeccompAction::Allow, arch)?.try_into()?;
    Ok([clone3, allowed])
}

fn rules() -> Result<BTreeMap<libc::c_long, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<_, _> = CALLS.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_clone3, Vec::new());
    rules.insert(libc::SYS_bpf, one_of(0, BPF_COMMANDS)?);
    rules.insert(libc::SYS_ioctl, one_of(1, REQUESTS)?);
    rules.insert(libc::SYS_socket, one_of(0, FAMILIES)?);
    rules.insert(libc::SYS_socketpair, one_of(0, FAMILIES)?);
    rules.insert(libc::SYS_prctl, one_of(0, PRCTL)?);
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    let thread = Condition::new(0, Length::Dword, Op::MaskedEq(thread), thread)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![thread])?]);
    // Memory, but none that can be executed: code is what the program came with.
    let executable = u64::from(libc::PROT_EXEC.cast_unsigned());
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let plain = Condition::new(2, Length::Dword, Op::MaskedEq(executable), 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![plain])?]);
    }
    // Reading limits: of this process, and without new ones.
    let own = Condition::new(0, Length::Dword, Op::Eq, 0)?;
    let none = Condition::new(2, Length::Qword, Op::Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![own, none])?]);
    Ok(rules)
}

/// The call is allowed if an argument is one of these.
fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |value: &u64| SeccompRule::new(vec![Condition::new(argument, Length::Dword, Op::Eq, *value)?]);
    values.iter().map(rule).collect()
}
