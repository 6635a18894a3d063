//! The first process of a virtual machine that `cargo xtask vm` boots.
//!
//! It makes the host's files, read-only and under a layer of memory, the root of the machine, runs the suites
//! that `/suites` names, tells the host of them over the second serial port, and turns the machine off. What
//! goes wrong is a line there; the machine goes off in any case.
#![expect(clippy::print_stderr, reason = "it has no other way to say what it is")]

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::chroot,
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use detector_tests::vm::{MACHINE, PROGRAMS, REPORT, SHARE, Suite};
use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        signal::{Signal, kill},
        wait::wait,
    },
    unistd::{Pid, getpid, getppid, sync},
};

/// Where the host's files become the root.
const ROOT: &str = "/root";

/// How often a suite is looked at.
const POLL: Duration = Duration::from_millis(100);

/// The argument that makes it the process that runs the suites.
const RUN: &str = "--run-suites";

fn main() -> ExitCode {
    // It ends every process that it finds, so it must be the machine's own: the child of the first one.
    if getppid() == Pid::from_raw(1) && env::args().any(|argument| argument == RUN) {
        return if run_suites().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if getpid() != Pid::from_raw(1) {
        eprintln!("this is the first process of a virtual machine: run `cargo xtask vm`");
        return ExitCode::FAILURE;
    }
    let outcome = boot();
    if let Ok(mut report) = File::options().write(true).open(REPORT) {
        let last = match outcome {
            Ok(()) => format!("{MACHINE} done"),
            Err(error) => format!("{MACHINE} error {error:#}"),
        };
        let _nobody_listens = writeln!(report, "\n{last}");
    }
    sync();
    let _no_way_back = reboot(RebootMode::RB_POWER_OFF);
    ExitCode::FAILURE
}

/// Makes the machine, and waits for the suites.
fn boot() -> Result<()> {
    attach("proc", "/proc", "proc")?;
    attach("dev", "/dev", "devtmpfs")?;
    let mut modules: Vec<_> = fs::read_dir("/modules").context("read /modules")?.flatten().collect();
    modules.sort_by_key(fs::DirEntry::file_name);
    for module in modules {
        let file = File::open(module.path()).context("open a module")?;
        match finit_module(&file, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno).with_context(|| format!("load {}", module.path().display())),
        }
    }
    let suites = fs::read_to_string("/suites").context("read /suites")?;
    root()?;
    fs::write("/run/suites", suites).context("write the suites into the machine")?;
    let looped = Command::new("ip").args(["link", "set", "lo", "up"]).status().context("run ip")?;
    anyhow::ensure!(looped.success(), "the loopback cannot be set up");
    // By a child, so that this process can do what the first one must: take note of every orphan's end.
    let runner = Command::new("/proc/self/exe").arg(RUN).spawn().context("run the suites")?;
    loop {
        let ended = wait().context("wait for the suites")?;
        if ended.pid() == Some(Pid::from_raw(runner.id().cast_signed())) {
            return Ok(());
        }
    }
}

/// Makes the host's files the root of this machine. Whatever is written stays in memory.
fn root() -> Result<()> {
    fs::create_dir_all("/host").context("create /host")?;
    fs::create_dir_all(ROOT).context("create the root")?;
    mount(Some(SHARE), "/host", Some("virtiofs"), MsFlags::MS_RDONLY, None::<&str>)
        .context("mount the host's files")?;
    attach("memory", "/memory", "tmpfs")?;
    for folder in ["/memory/upper", "/memory/work"] {
        fs::create_dir_all(folder).with_context(|| format!("create {folder}"))?;
    }
    let layers = "lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work";
    mount(Some("overlay"), ROOT, Some("overlay"), MsFlags::empty(), Some(layers))
        .context("mount the root")?;
    for (kind, folder) in [
        ("proc", "proc"),
        ("sysfs", "sys"),
        ("devtmpfs", "dev"),
        ("devpts", "dev/pts"),
        ("tmpfs", "dev/shm"),
        ("tmpfs", "run"),
        ("bpf", "sys/fs/bpf"),
        ("cgroup2", "sys/fs/cgroup"),
    ] {
        attach(kind, Path::new(ROOT).join(folder), kind)?;
    }
    // They are in memory already, and a page of them is had sooner there than from the host.
    let programs = Path::new(ROOT).join(PROGRAMS.trim_start_matches('/'));
    fs::create_dir_all(&programs).context("create the folder of programs")?;
    mount(Some("/programs"), &programs, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .context("mount the programs")?;
    chroot(ROOT).context("enter the root")?;
    env::set_current_dir("/").context("enter the root")
}

fn attach(source: &str, folder: impl AsRef<Path>, kind: &str) -> Result<()> {
    let folder = folder.as_ref();
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    mount(Some(source), folder, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mount {}", folder.display()))
}

/// Runs the suites one after the other, with both outputs on the report.
fn run_suites() -> Result<()> {
    let mut report = File::options().write(true).open(REPORT).with_context(|| format!("open {REPORT}"))?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    writeln!(report, "{MACHINE} kernel {}", release.trim())?;
    for suite in Suite::read_all(&fs::read_to_string("/run/suites").context("read the suites")?) {
        writeln!(report, "{MACHINE} begin {}", suite.name)?;
        let start = Instant::now();
        let mut command = Command::new(&suite.program);
        command.args(&suite.arguments).current_dir(&suite.folder).env_clear().envs(suite.environment);
        command.stdin(Stdio::null()).stdout(report.try_clone()?).stderr(report.try_clone()?);
        let ended = ending(&mut command, suite.deadline).unwrap_or_else(|error| format!("{error:#}"));
        // Of a suite that failed or was late, nothing may be in the way of the next.
        let _nobody_is_left = kill(Pid::from_raw(-1), Signal::SIGKILL);
        // The line before may have no end.
        writeln!(report, "\n{MACHINE} end {} {:.1} {ended}", suite.name, start.elapsed().as_secs_f64())?;
    }
    Ok(())
}

/// Runs a suite; answers in words how it ended.
fn ending(command: &mut Command, deadline: Duration) -> Result<String> {
    let start = Instant::now();
    let mut child = command.spawn().context("start it")?;
    loop {
        if let Some(status) = child.try_wait().context("wait for it")? {
            return Ok(if status.success() { "passed".to_owned() } else { status.to_string() });
        }
        if start.elapsed() > deadline {
            child.kill().context("kill it")?;
            child.wait().context("wait for its end")?;
            return Ok(format!("killed after {} s", deadline.as_secs()));
        }
        thread::sleep(POLL);
    }
}
