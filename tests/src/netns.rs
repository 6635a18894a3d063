//! Owns one network namespace: its name, what runs inside it, and its removal.
//!
//! Names carry the id and start time of the process that made them, so that parallel runs cannot collide
//! and what a killed run left behind is known for what it is. Dropping a namespace ends every process in it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid},
};

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";
const PREFIX: &str = "plainsight-";

/// Whether the caller may make network namespaces.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Tells a test that needs root whether to go on.
///
/// # Panics
///
/// Not root under `CI=true`: there a skipped test would look like one that passed.
#[must_use]
pub fn require_root() -> bool {
    if is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "this test needs root: it makes network namespaces");
    eprintln!("skipped: needs root, it makes network namespaces");
    false
}

/// A name for a group of namespaces, unique on this machine.
///
/// # Errors
///
/// `/proc` cannot be read.
pub(crate) fn unique_group() -> Result<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let pid = process::id();
    let start = start_time(pid).context("read the start time of this process")?;
    Ok(format!("{PREFIX}{pid}.{start}-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Removes the namespaces of runs whose process is gone.
///
/// # Errors
///
/// The list of namespaces cannot be read.
pub(crate) fn remove_leftovers() -> Result<()> {
    let entries = match fs::read_dir(NAMES) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("list {NAMES}")),
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if owner_is_gone(&name) {
            // Another run may be removing it just now.
            drop(NetNs { name });
        }
    }
    Ok(())
}

fn owner_is_gone(name: &str) -> bool {
    let Some((owner, _rest)) = name.strip_prefix(PREFIX).and_then(|name| name.split_once('-')) else {
        return false;
    };
    let Some((pid, start)) = owner.split_once('.') else { return false };
    match (pid.parse(), start.parse::<u64>()) {
        (Ok(pid), Ok(start)) => start_time(pid) != Some(start),
        _ => false,
    }
}

/// When a process started, in clock ticks since boot: with the id it names a process for good.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses, which may hold spaces; the start time is the 22nd.
    let (_command, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

/// A network namespace of our own.
#[derive(Debug)]
pub struct NetNs {
    name: String,
}

impl NetNs {
    /// Makes a namespace with its loopback up.
    ///
    /// # Errors
    ///
    /// `ip` is missing or refuses.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        ip(&format!("netns add {name}"))?;
        let netns = Self { name };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// The name that `ip netns` knows it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// Runs `ip` on this namespace, with arguments set apart by spaces.
    ///
    /// # Errors
    ///
    /// `ip` is missing or refuses.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        ip(&format!("-n {} {arguments}", self.name))
    }

    /// A command that runs `program` inside.
    ///
    /// `nsenter` changes the network namespace alone; `ip netns exec` would also mount a fresh `/sys`, and
    /// hide the BPF file system that the detector looks for.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs `job` on a thread of its own inside. Sockets that it opens stay there for good.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered, or `job` failed.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = fs::File::open(self.path()).with_context(|| format!("open namespace {}", self.name))?;
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&file, CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("enter namespace {}", self.name))?;
                    job()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Whether a socket listens on TCP `port` inside. Asks the kernel's table, so that no packet is sent.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered.
    pub fn listens(&self, port: u16) -> Result<bool> {
        const LISTEN: &str = "0A";
        let suffix = format!(":{port:04X}");
        let tables = self.run(|| {
            // The thread's own table: `/proc/net` would be that of the main thread.
            let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
            Ok(read("tcp")? + &read("tcp6").unwrap_or_default())
        })?;
        Ok(tables.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some(LISTEN)
        }))
    }

    /// The processes inside.
    fn processes(&self) -> Vec<Pid> {
        let identity = |path: PathBuf| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        let Some(own) = identity(self.path()) else { return Vec::new() };
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| pid.cast_unsigned() != process::id())
            .filter(|pid| identity(format!("/proc/{pid}/ns/net").into()) == Some(own))
            .map(Pid::from_raw)
            .collect()
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        // A process may fork while it is looked for: look until there is none.
        for _round in 0..200 {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            for pid in processes {
                let _ended_by_itself = kill(pid, Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(5));
        }
        if self.path().exists()
            && let Err(error) = ip(&format!("netns delete {}", self.name))
        {
            eprintln!("namespace {} stays behind: {error:#}", self.name);
        }
    }
}

/// Runs `ip` and gives its complaint as the error.
fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .map_err(|error| anyhow!(error).context("run `ip`: install the package iproute2"))?;
    if !output.status.success() {
        bail!("`ip {arguments}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
