//! Owns what is asked of the machine: its name, its CPUs, clocks, and what a process takes.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// The machine, as far as figures depend on it.
pub(crate) fn name() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    let mut parts = release.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let cpus = cpus();
    Ok(format!("{}, {cpus} CPUs, Linux {major}.{minor}", std::env::consts::ARCH))
}

pub(crate) fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Keeps this thread, and all that it starts, on one CPU until dropped.
pub(crate) struct Pinned {
    all: CpuSet,
}

impl Pinned {
    /// On the last CPU: the first one serves more interrupts.
    pub(crate) fn new() -> Result<Self> {
        let this = Pid::from_raw(0);
        let all = nix::sched::sched_getaffinity(this).context("read the CPU affinity")?;
        let mut allowed = (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu).unwrap_or(false));
        let last = allowed.next_back().context("no CPU is allowed")?;
        let mut one = CpuSet::new();
        one.set(last).context("name a CPU")?;
        sched_setaffinity(this, &one).context("set the CPU affinity")?;
        Ok(Self { all })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _as_it_was_allowed_before = sched_setaffinity(Pid::from_raw(0), &self.all);
    }
}

/// CPU time of this thread: what others do on its CPU is not in it.
pub(crate) fn thread_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("read the thread's clock")?.into())
}

/// CPU time of all threads of this process.
pub(crate) fn process_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).context("read the process's clock")?.into())
}

/// CPU time of all live threads of another process.
pub(crate) fn cpu_time_of(pid: u32) -> Result<Duration> {
    let folder = PathBuf::from(format!("/proc/{pid}/task"));
    let mut total = 0;
    for task in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        total += text.split(' ').next().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(total))
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// The most resident memory that a process ever had, in bytes.
pub(crate) fn resident_peak(pid: u32) -> Result<u64> {
    status(pid, "VmHWM:")
}

/// A size from a process's status, in bytes.
fn status(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read the process's status")?;
    let field = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = field.and_then(|field| field.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("the process's status has no {name}"))? * 1024)
}

/// Kernel memory of the eBPF maps, and of the programs, that a process holds open, in bytes.
pub(crate) fn bpf_memory(pid: u32) -> Result<(u64, u64)> {
    let folder = PathBuf::from(format!("/proc/{pid}/fdinfo"));
    let (mut maps, mut programs) = (Vec::new(), Vec::new());
    for file in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let Ok(text) = fs::read_to_string(file?.path()) else { continue };
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let Some(memory) = field("memlock:") else { continue };
        if let Some(id) = field("map_id:") {
            maps.push((id, memory));
        } else if let Some(id) = field("prog_id:") {
            programs.push((id, memory));
        }
    }
    // A map may be open twice.
    let sum = |mut held: Vec<(u64, u64)>| {
        held.sort_unstable();
        held.dedup_by_key(|(id, _)| *id);
        held.iter().map(|(_, memory)| memory).sum()
    };
    Ok((sum(maps), sum(programs)))
}
