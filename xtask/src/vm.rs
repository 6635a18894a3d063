//! `cargo xtask vm`: the suites that load programs, on every kernel that the README claims.
//!
//! Debian's cloud kernels boot in QEMU with the host's files as their root, read-only and under a layer of
//! memory, so that a suite finds there what it finds here. Nothing of the machine outlives it but its logs.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use detector_tests::vm::{PROGRAMS, Suite};

use self::{
    kernel::{KERNELS, Kernel},
    machine::{Accelerator, Contents, Machine},
    report::{Report, table},
};
use crate::{interrupt, process, setup, workspace::Workspace};

mod initramfs;
mod kernel;
mod machine;
mod report;

/// The suites: test programs of the package `detector-tests`.
const SUITES: [&str; 6] = ["programs", "corpus", "netns", "restart", "clsact", "sandbox"];

/// The daemon and the machines' first process.
const DAEMON: &str = "plainsight";
const INIT: &str = "vm-init";

/// How many times a kernel is booted until it comes up.
const BOOTS: u32 = 3;

/// The longest that a suite may take in a machine.
const DEADLINE: Duration = Duration::from_secs(1800);

/// How many times longer than here every wait of a suite may take in an emulated machine.
const PATIENCE: u32 = 15;

/// What is to be run.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// The kernels' versions; none for all.
    pub(crate) versions: Vec<String>,
    /// The suites, in whole or in part.
    pub(crate) parts: Vec<Part>,
}

/// Some of a suite's tests.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The suite.
    pub(crate) suite: String,
    /// Its tests, each by a part of its name; none for all.
    pub(crate) tests: Vec<String>,
}

impl Selection {
    /// The same tests of some suites; no suite for all.
    pub(crate) fn new(versions: Vec<String>, suites: &[String], tests: &[String]) -> Self {
        let names: Vec<&str> =
            if suites.is_empty() { SUITES.to_vec() } else { suites.iter().map(String::as_str).collect() };
        let part = |suite: &str| Part { suite: suite.to_owned(), tests: tests.to_vec() };
        Self { versions, parts: names.into_iter().map(part).collect() }
    }
}

/// Boots the kernels and prints what became of each suite.
pub(crate) fn run(workspace: &Workspace, selection: &Selection) -> Result<()> {
    let Selection { versions, parts } = selection;
    let kernels = chosen(versions)?;
    for Part { suite, .. } in parts {
        ensure!(SUITES.contains(&suite.as_str()), "no suite {suite}: there are {}", SUITES.join(", "));
    }
    workspace.require_root("the machines have this one's files for their root", "vm")?;
    setup::ensure_vm(workspace)?;
    let programs = process::step("build the suites", || build(workspace, parts))?;
    let kernels = process::step("get the kernels", || Kernel::get(workspace, &kernels))?;
    let contents = prepared(workspace, &programs, parts)?;
    let accelerator = process::step("probe KVM", || Accelerator::probe(workspace, &kernels, &contents.init))?;

    let mut reports: Vec<Report> = Vec::new();
    for kernel in &kernels {
        let machine = Machine::new(workspace, kernel, accelerator);
        let name = format!("Linux {}", kernel.version);
        let report = process::step(&name, || booted(&machine, &contents));
        interrupt::check()?;
        // The other kernels are run all the same.
        reports.push(report.unwrap_or_else(|error| Report::of_none(kernel.version, &error)));
    }
    println!("{}", table(&reports));
    let failed: Vec<&str> = reports.iter().filter(|report| !report.passed()).map(Report::version).collect();
    if !failed.is_empty() {
        bail!("not everything passed on {}: see {}", failed.join(", "), folder(workspace).display());
    }
    Ok(())
}

/// Runs a machine, and once more if its kernel has not come as far as our first process. QEMU's emulation of two
/// processors sometimes runs into an instruction that the kernel has just changed (`int3`, jump labels) and lets it
/// panic at its boot. Whatever happens after that is told as it is.
fn booted(machine: &Machine<'_>, contents: &Contents) -> Result<Report> {
    for _ in 1..BOOTS {
        let report = machine.run(contents)?;
        if report.kernel().is_some() {
            return Ok(report);
        }
        interrupt::check()?;
        eprintln!(
            "    the kernel did not come up, and is booted once more; see {}",
            machine.console().display()
        );
    }
    machine.run(contents)
}

/// Where logs and file systems of the machines lie.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target().join("vm")
}

/// The versions of the first and the last kernel.
pub(crate) fn oldest_and_newest() -> Vec<String> {
    [KERNELS.first(), KERNELS.last()].into_iter().flatten().map(|kernel| kernel.version.to_owned()).collect()
}

fn chosen(versions: &[String]) -> Result<Vec<&'static kernel::Wanted>> {
    if versions.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    let find = |version: &String| {
        let known = || KERNELS.iter().map(|kernel| kernel.version).collect::<Vec<_>>().join(", ");
        let found = KERNELS.iter().find(|kernel| kernel.version == version);
        found.with_context(|| format!("no kernel {version}: there are {}", known()))
    };
    versions.iter().map(find).collect()
}

/// Builds the daemon, the suites and the machines' first process; answers where each suite's program is.
fn build(workspace: &Workspace, parts: &[Part]) -> Result<BTreeMap<String, PathBuf>> {
    // Of the packages that the tests are built of: another selection would compile what they depend on a second
    // time.
    let mut build = workspace.cargo(&["build", "--workspace", "--message-format=json-render-diagnostics"]);
    build.args(["--bin", DAEMON, "--bin", INIT]);
    for part in parts {
        build.args(["--test", &part.suite]);
    }
    let said = process::output(build.stderr(Stdio::inherit()))?;
    let mut programs = BTreeMap::new();
    for line in said.lines() {
        let Some((_, path)) = line.split_once("\"executable\":\"") else { continue };
        let Some((path, _)) = path.split_once('"') else { continue };
        let file = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
        let name = file.rsplit_once('-').map_or(&*file, |(name, _hash)| name);
        programs.insert(name.to_owned(), workspace.root().join(path));
    }
    Ok(programs)
}

/// Copies a program to where no build replaces it while a machine runs it, without what a debugger wants: a
/// machine has it in memory. Its symbols stay, for backtraces.
fn stage(workspace: &Workspace, name: &str, program: &Path) -> Result<PathBuf> {
    let stage = folder(workspace).join("programs");
    fs::create_dir_all(&stage).with_context(|| format!("create {}", stage.display()))?;
    let copy = stage.join(name);
    process::output(Command::new("strip").arg("--strip-debug").arg("-o").arg(&copy).arg(program))?;
    Ok(copy)
}

/// The daemon, and the suites as a machine runs them.
fn prepared(workspace: &Workspace, built: &BTreeMap<String, PathBuf>, parts: &[Part]) -> Result<Contents> {
    let text = |path: &Path| path.display().to_string();
    let folder = text(&workspace.root().join("tests"));
    let path = env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    let environment = BTreeMap::from([
        // No test may be skipped for want of rights, which a machine has.
        ("CI".to_owned(), "true".to_owned()),
        ("PATH".to_owned(), path),
        ("PLAINSIGHT_BIN".to_owned(), format!("{PROGRAMS}/{DAEMON}")),
        ("PLAINSIGHT_PATIENCE".to_owned(), PATIENCE.to_string()),
        ("PLAINSIGHT_TOOLS".to_owned(), text(&workspace.tools())),
        ("RUST_BACKTRACE".to_owned(), "0".to_owned()),
    ]);
    let daemon = stage(workspace, DAEMON, &workspace.binary(DAEMON))?;
    let mut programs = BTreeMap::from([(DAEMON.to_owned(), daemon)]);
    let mut suites = Vec::new();
    for Part { suite: name, tests } in parts {
        let program = built.get(name).with_context(|| format!("cargo built no test program {name}"))?;
        programs.insert(name.clone(), stage(workspace, name, program)?);
        let mut arguments = vec!["--show-output".to_owned(), "--test-threads=2".to_owned()];
        arguments.extend(tests.iter().cloned());
        suites.push(Suite {
            name: name.clone(),
            folder: folder.clone(),
            program: format!("{PROGRAMS}/{name}"),
            arguments,
            environment: environment.clone(),
            deadline: DEADLINE,
        });
    }
    let init = stage(workspace, INIT, &workspace.binary(INIT))?;
    Ok(Contents { init, programs, suites })
}
