//! `cargo xtask vm`: the suites that load programs, on every kernel that the README claims.
//!
//! Debian's cloud kernels boot in QEMU with the host's files as their root, read-only and under a layer of
//! memory, so that a suite finds there what it finds here. Nothing of the machine outlives it but its logs.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use detector_tests::vm::Suite;

use self::{
    kernel::{KERNELS, Kernel},
    machine::{Accelerator, Machine},
    report::{Report, table},
};
use crate::{process, setup, workspace::Workspace};

mod initramfs;
mod kernel;
mod machine;
mod report;

/// The suites: test programs of the package `detector-tests`.
const SUITES: [&str; 5] = ["programs", "corpus", "netns", "restart", "clsact"];

/// How many times longer than here every wait of a suite may take in an emulated machine.
const PATIENCE: u32 = 15;

/// What is to be run.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// The kernels' versions; none for all.
    pub(crate) versions: Vec<String>,
    /// The suites; none for all.
    pub(crate) suites: Vec<String>,
    /// The tests of the suites, each by a part of its name; none for all.
    pub(crate) tests: Vec<String>,
}

/// Boots the kernels and prints what became of each suite.
pub(crate) fn run(workspace: &Workspace, selection: &Selection) -> Result<()> {
    let Selection { versions, suites, tests } = selection;
    let kernels = chosen(versions)?;
    let names = chosen_suites(suites)?;
    workspace.require_root("the machines have this one's files for their root", "vm")?;
    setup::ensure_vm(workspace)?;
    let programs = process::step("build the suites", || build(workspace, &names))?;
    let init = workspace.binary("vm-init");
    let kernels = process::step("get the kernels", || Kernel::get(workspace, &kernels))?;
    let suites = prepared(workspace, &programs, &names, tests)?;
    let accelerator = process::step("probe KVM", || Accelerator::probe(workspace, &kernels, &init))?;

    let mut reports: Vec<Report> = Vec::new();
    for kernel in &kernels {
        let machine = Machine::new(workspace, kernel, accelerator, suites.len());
        let name = format!("Linux {}", kernel.version);
        reports.push(process::step(&name, || machine.run(&init, &suites))?);
    }
    println!("{}", table(&reports));
    let failed: Vec<&str> = reports.iter().filter(|report| !report.passed()).map(Report::version).collect();
    if !failed.is_empty() {
        bail!("not everything passed on {}: see {}", failed.join(", "), folder(workspace).display());
    }
    Ok(())
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

fn chosen_suites(names: &[String]) -> Result<Vec<&'static str>> {
    if names.is_empty() {
        return Ok(SUITES.to_vec());
    }
    let find = |name: &String| {
        let found = SUITES.into_iter().find(|suite| suite == name);
        found.with_context(|| format!("no suite {name}: there are {}", SUITES.join(", ")))
    };
    names.iter().map(find).collect()
}

/// Builds the daemon, the suites and the machines' first process; answers where each suite's program is.
fn build(workspace: &Workspace, suites: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    // As the tests build: another selection of packages would compile what they depend on a second time.
    process::run(&mut workspace.cargo(&["build", "--workspace", "--all-targets"]))?;
    let mut list = workspace.cargo(&["test", "--workspace", "--no-run", "--message-format=json"]);
    for name in suites {
        list.args(["--test", name]);
    }
    let said = process::output(&mut list)?;
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

/// Copies a program to where no build replaces it while a machine runs it; answers the copy.
fn stage(workspace: &Workspace, name: &str, program: &Path) -> Result<String> {
    let stage = folder(workspace).join("programs");
    fs::create_dir_all(&stage).with_context(|| format!("create {}", stage.display()))?;
    let copy = stage.join(name);
    // Never in place: what runs from it keeps its file.
    let _not_there = fs::remove_file(&copy);
    fs::copy(program, &copy).with_context(|| format!("copy {}", program.display()))?;
    Ok(copy.display().to_string())
}

/// The suites as a machine runs them.
fn prepared(
    workspace: &Workspace,
    programs: &BTreeMap<String, PathBuf>,
    names: &[&str],
    tests: &[String],
) -> Result<Vec<Suite>> {
    let text = |path: &Path| path.display().to_string();
    let folder = text(&workspace.root().join("tests"));
    let path = env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    let environment = BTreeMap::from([
        // No test may be skipped for want of rights, which a machine has.
        ("CI".to_owned(), "true".to_owned()),
        ("PATH".to_owned(), path),
        ("PLAINSIGHT_BIN".to_owned(), stage(workspace, "plainsight", &workspace.binary("plainsight"))?),
        ("PLAINSIGHT_PATIENCE".to_owned(), PATIENCE.to_string()),
        ("PLAINSIGHT_TOOLS".to_owned(), text(&workspace.tools())),
        ("RUST_BACKTRACE".to_owned(), "0".to_owned()),
    ]);
    let suite = |name: &&str| {
        let program = programs.get(*name).with_context(|| format!("cargo built no test program {name}"))?;
        let mut arguments = vec!["--show-output".to_owned(), "--test-threads=2".to_owned()];
        arguments.extend(tests.iter().cloned());
        Ok(Suite {
            name: (*name).to_owned(),
            folder: folder.clone(),
            program: stage(workspace, name, program)?,
            arguments,
            environment: environment.clone(),
        })
    };
    names.iter().map(suite).collect()
}
