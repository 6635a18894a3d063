//! Owns the check before the start: what the machine and our privileges lack, all of it at once.
//!
//! [`check`] is pure; [`Facts::gather`] looks. A line says what is missing, what for, and how to grant it.

use std::{fmt, fs, path::Path};

/// What the check looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Effective capabilities, one bit each.
    pub capabilities: u64,
    /// Whether the kernel tells its types.
    pub btf: bool,
    /// Whether a BPF file system is mounted at its usual place.
    pub bpffs: bool,
    /// The kernel's major and minor version, if it could be read.
    pub kernel: Option<(u32, u32)>,
}

/// How much a missing thing matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Nothing works without it.
    Fatal,
    /// It works, with less.
    Note,
}

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// How much it matters.
    pub weight: Weight,
    /// What is missing and what it is for.
    pub what: &'static str,
    /// How to grant it.
    pub grant: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.grant)
    }
}

// linux/capability.h
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// The oldest kernel that the programs are built for.
const OLDEST: (u32, u32) = (5, 10);

/// The first kernel with TCX.
const TCX: (u32, u32) = (6, 6);

impl Facts {
    /// Looks at this process and this machine.
    #[must_use]
    pub fn gather() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self {
            capabilities: effective_capabilities(&status),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            bpffs: has_bpffs(&mounts),
            kernel: kernel(),
        }
    }
}

/// The running kernel's major and minor version, if it can be read.
#[must_use]
pub fn kernel() -> Option<(u32, u32)> {
    kernel_version(&fs::read_to_string("/proc/sys/kernel/osrelease").ok()?)
}

/// What is missing.
#[must_use]
pub fn check(facts: &Facts) -> Vec<Missing> {
    let Facts { capabilities, btf, bpffs, kernel } = facts;
    let has = |capability: u32| capabilities & (1 << capability) != 0;
    let mut missing = Vec::new();
    let mut miss = |weight, what, grant| missing.push(Missing { weight, what, grant });
    // Before Linux 5.8 there was no CAP_BPF, and CAP_SYS_ADMIN still stands in for it.
    if !has(CAP_BPF) && !has(CAP_SYS_ADMIN) {
        miss(
            Weight::Fatal,
            "CAP_BPF is missing: it is needed to load the programs",
            "Kubernetes: securityContext.capabilities.add: [BPF]; shell: run as root, or `setcap cap_bpf,cap_net_admin,cap_perfmon+ep plainsight`",
        );
    }
    // Without it the verifier guards every computed pointer against speculation, refuses many of the
    // programs' own, and slows down the rest (Linux v6.18, `sanitize_ptr_alu` in kernel/bpf/verifier.c).
    if !has(CAP_PERFMON) && !has(CAP_SYS_ADMIN) {
        miss(
            Weight::Fatal,
            "CAP_PERFMON is missing: the verifier refuses the programs' pointer arithmetic without it",
            "Kubernetes: securityContext.capabilities.add: [PERFMON]; shell: run as root, or `setcap cap_bpf,cap_net_admin,cap_perfmon+ep plainsight`",
        );
    }
    if !has(CAP_NET_ADMIN) {
        miss(
            Weight::Fatal,
            "CAP_NET_ADMIN is missing: it is needed to attach the programs to interfaces",
            "Kubernetes: securityContext.capabilities.add: [NET_ADMIN]; shell: run as root, or `setcap cap_bpf,cap_net_admin,cap_perfmon+ep plainsight`",
        );
    }
    match kernel {
        Some(version) if *version < OLDEST => miss(
            Weight::Fatal,
            "the kernel is older than 5.10: the programs need its ring buffer and verifier",
            "use a node image with a newer kernel",
        ),
        Some(version) if *version < TCX => miss(
            Weight::Note,
            "the kernel is older than 6.6 and has no TCX: clsact filters are used",
            "a program that comes later sits in front of ours, and may hide packets, until ours are put back; a newer kernel rules that out",
        ),
        _ => {}
    }
    if !btf {
        miss(
            Weight::Note,
            "/sys/kernel/btf/vmlinux is missing: the kernel tells no types, so programs and maps are harder to inspect",
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y, and mount /sys in the container",
        );
    }
    if !bpffs {
        miss(
            Weight::Note,
            "no BPF file system at /sys/fs/bpf: links and maps end with this process, and a restart is a gap",
            "Kubernetes: a hostPath volume of /sys/fs/bpf; shell: `mount -t bpf bpf /sys/fs/bpf`",
        );
    }
    missing
}

fn effective_capabilities(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

fn has_bpffs(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some("/sys/fs/bpf") && fields.next() == Some("bpf")
    })
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Facts, Weight, check, effective_capabilities, has_bpffs, kernel_version};

    const GOOD: Facts = Facts {
        capabilities: (1 << 39) | (1 << 38) | (1 << 12),
        btf: true,
        bpffs: true,
        kernel: Some((6, 18)),
    };

    fn missing(facts: &Facts) -> Vec<(Weight, &'static str)> {
        check(facts)
            .into_iter()
            .map(|missing| (missing.weight, missing.what.split([' ', ':']).next().unwrap()))
            .collect()
    }

    #[test]
    fn bpf_perfmon_and_net_admin_are_enough() {
        assert_eq!(missing(&GOOD), []);
    }

    #[test]
    fn everything_that_is_missing_is_told_at_once() {
        let facts = Facts { capabilities: 0, btf: false, bpffs: false, kernel: Some((5, 4)) };
        assert_eq!(
            missing(&facts),
            [
                (Weight::Fatal, "CAP_BPF"),
                (Weight::Fatal, "CAP_PERFMON"),
                (Weight::Fatal, "CAP_NET_ADMIN"),
                (Weight::Fatal, "the"),
                (Weight::Note, "/sys/kernel/btf/vmlinux"),
                (Weight::Note, "no"),
            ]
        );
    }

    #[test]
    fn sys_admin_stands_in_for_bpf_and_perfmon_and_not_for_net_admin() {
        assert_eq!(missing(&Facts { capabilities: 1 << 21, ..GOOD }), [(Weight::Fatal, "CAP_NET_ADMIN")]);
    }

    #[test]
    fn a_kernel_without_tcx_is_noted() {
        assert_eq!(missing(&Facts { kernel: Some((6, 1)), ..GOOD }), [(Weight::Note, "the")]);
    }

    #[test]
    fn proc_files_are_read_as_the_kernel_writes_them() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t0000008000001000\n"), (1 << 39) | (1 << 12));
        assert!(has_bpffs("sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw,nosuid 0 0\n"));
        assert!(!has_bpffs("tmpfs /sys/fs/bpf tmpfs rw 0 0\n"));
        assert_eq!(kernel_version("6.18.5-cloud-amd64\n"), Some((6, 18)));
        assert_eq!(kernel_version("?"), None);
    }
}
