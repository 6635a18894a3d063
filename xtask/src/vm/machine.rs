//! Owns a virtual machine: QEMU, the server of the host's files, its logs and its deadline.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use detector_tests::{
    process::Process,
    vm::{SHARE, Suite},
};

use super::{folder, initramfs::Archive, kernel::Kernel, report::Report};
use crate::{interrupt, process::output, workspace::Workspace};

/// A machine that works needs a few seconds by KVM; one that does not never comes up.
const PROBE: Duration = Duration::from_secs(10);
/// From power on to the first suite.
const BOOT: Duration = Duration::from_secs(300);
/// How often a running machine's report is looked at.
const POLL: Duration = Duration::from_millis(200);
/// Where Debian 12 (qemu-system-common) and later ones (virtiofsd) have the server of the host's files.
const SERVERS: [&str; 2] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"];

/// What runs the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU.
    Emulation,
}

impl Accelerator {
    /// Looks whether a kernel comes up by KVM. That `/dev/kvm` is there says little: in a machine that is
    /// virtual itself a kernel may hang at its first instructions.
    pub(super) fn probe(workspace: &Workspace, kernels: &[Kernel], init: &Path) -> Result<Self> {
        let Some(kernel) = kernels.first() else { return Ok(Self::Emulation) };
        if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
            eprintln!("    no /dev/kvm: the machines are emulated");
            return Ok(Self::Emulation);
        }
        let machine =
            Machine { folder: folder(workspace).join("probe"), kernel, accelerator: Self::Kvm, boot: PROBE };
        let works = machine.run(&Contents::nothing(init)).is_ok_and(|report| report.came_up());
        interrupt::check()?;
        let outcome = if works { Self::Kvm } else { Self::Emulation };
        eprintln!("    the machines run by {outcome}");
        Ok(outcome)
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Emulation => "emulation, for no kernel comes up by KVM here",
        })
    }
}

/// What a machine's first file system holds beside its kernel's modules.
#[derive(Debug)]
pub(super) struct Contents {
    /// The first process.
    pub(super) init: PathBuf,
    /// The programs, by their names.
    pub(super) programs: BTreeMap<String, PathBuf>,
    /// What is run.
    pub(super) suites: Vec<Suite>,
}

impl Contents {
    fn nothing(init: &Path) -> Self {
        Self { init: init.to_owned(), programs: BTreeMap::new(), suites: Vec::new() }
    }
}

/// A machine for one kernel.
pub(super) struct Machine<'a> {
    folder: PathBuf,
    kernel: &'a Kernel,
    accelerator: Accelerator,
    boot: Duration,
}

impl<'a> Machine<'a> {
    pub(super) fn new(workspace: &Workspace, kernel: &'a Kernel, accelerator: Accelerator) -> Self {
        Self { folder: folder(workspace).join(kernel.version), kernel, accelerator, boot: BOOT }
    }

    /// Where the kernel's own messages are.
    pub(super) fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// Boots the machine and reads its report to the end, or until the deadline.
    pub(super) fn run(&self, contents: &Contents) -> Result<Report> {
        fs::create_dir_all(&self.folder).with_context(|| format!("create {}", self.folder.display()))?;
        let first_files = self.folder.join("initramfs.cpio");
        fs::write(&first_files, self.archive(contents)?)
            .with_context(|| format!("write {}", first_files.display()))?;
        let socket = self.folder.join("files.socket");
        let _stale = fs::remove_file(&socket);
        let mut server = Process::spawn("virtiofsd", server(&socket)?)?;
        server
            .wait_while_running("socket", Duration::from_secs(10), |_| Ok(socket.exists().then_some(())))?;
        let mut machine =
            Process::spawn(format!("Linux {}", self.kernel.version), self.qemu(&first_files, &socket))?;

        let mut report = Report::new(self.kernel.version);
        let log = self.folder.join("report.log");
        let mut written = fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        // Each suite has a deadline that the machine keeps; this one is for a machine that hangs.
        let deadline = self.boot + contents.suites.iter().map(|suite| suite.deadline).sum::<Duration>();
        let start = Instant::now();
        let mut read = 0;
        loop {
            interrupt::check()?;
            let ended = machine.ended()?.is_some();
            if ended {
                let _all_of_its_output = machine.wait(Duration::from_secs(10));
            }
            let lines = machine.stdout();
            for line in lines.iter().skip(read) {
                writeln!(written, "{line}").with_context(|| format!("write {}", log.display()))?;
                if let Some(progress) = report.line(line.trim_end_matches('\r')) {
                    eprintln!("    {progress} ({:.0} s after power on)", start.elapsed().as_secs_f64());
                }
            }
            read = lines.len();
            if ended {
                break;
            }
            if start.elapsed() > deadline || (report.kernel().is_none() && start.elapsed() > self.boot) {
                report.give_up(start.elapsed());
                break;
            }
            thread::sleep(POLL);
        }
        let errors = machine.stderr().join("\n");
        fs::write(self.folder.join("qemu.log"), errors).context("write QEMU's log")?;
        Ok(report)
    }

    fn archive(&self, contents: &Contents) -> Result<Vec<u8>> {
        let Contents { init, programs, suites } = contents;
        let mut archive = Archive::default();
        for folder in ["dev", "proc", "modules", "programs"] {
            archive.folder(folder)?;
        }
        let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
        archive.file("init", &read(init)?)?;
        for library in libraries(init)? {
            // Folders come before what is in them.
            let parents: Vec<&Path> = library.ancestors().skip(1).collect();
            for folder in parents.into_iter().rev().filter_map(|folder| folder.strip_prefix("/").ok()) {
                if !folder.as_os_str().is_empty() {
                    archive.folder(&folder.display().to_string())?;
                }
            }
            archive.file(library.display().to_string().trim_start_matches('/'), &read(&library)?)?;
        }
        for (name, program) in programs {
            archive.file(&format!("programs/{name}"), &read(program)?)?;
        }
        archive.file("suites", suites.iter().map(Suite::write).collect::<String>().as_bytes())?;
        for (index, (name, content)) in self.kernel.needed_modules()?.iter().enumerate() {
            archive.file(&format!("modules/{index:03}-{name}.ko"), content)?;
        }
        archive.finish()
    }

    fn qemu(&self, first_files: &Path, socket: &Path) -> Command {
        const MEMORY: &str = "3G";
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-reboot", "-display", "none"]);
        match self.accelerator {
            Accelerator::Kvm => qemu.args(["-accel", "kvm", "-cpu", "host"]),
            Accelerator::Emulation => qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max"]),
        };
        qemu.args(["-smp", "2", "-m", MEMORY]);
        // The server of the host's files reads and writes the machine's memory.
        qemu.arg("-object").arg(format!("memory-backend-memfd,id=memory,size={MEMORY},share=on"));
        qemu.args(["-numa", "node,memdev=memory"]);
        qemu.arg("-chardev").arg(format!("socket,id=files,path={}", socket.display()));
        qemu.arg("-device").arg(format!("vhost-user-fs-pci,chardev=files,tag={SHARE},queue-size=1024"));
        qemu.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(first_files);
        qemu.args(["-append", "console=ttyS0 panic=-1 no_timer_check loglevel=5"]);
        // The first serial port is the kernel's, the second one the report's.
        qemu.arg("-serial").arg(format!("file:{}", self.console().display()));
        qemu.args(["-serial", "stdio"]);
        qemu
    }
}

/// The files that a program is loaded with: its libraries, and what loads them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let list = output(Command::new("ldd").arg(program))?;
    let paths = list.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

/// The server of the host's files. The machine mounts them read-only.
fn server(socket: &Path) -> Result<Command> {
    let [old, new] = SERVERS.map(Path::new);
    let mut server;
    if old.exists() {
        server = Command::new(old);
        server.arg(format!("--socket-path={}", socket.display()));
        server.args(["-o", "source=/", "-o", "cache=always", "-o", "sandbox=chroot"]);
    } else {
        ensure!(new.exists(), "virtiofsd is not installed");
        server = Command::new(new);
        server.arg(format!("--socket-path={}", socket.display()));
        server.args(["--shared-dir=/", "--cache=always", "--sandbox=chroot"]);
    }
    Ok(server)
}

impl Report {
    /// Whether the machine came as far as its suites.
    pub(super) fn came_up(&self) -> bool {
        self.kernel().is_some()
    }
}
