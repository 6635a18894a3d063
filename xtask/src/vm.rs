//! `cargo xtask vm`: the suites that load programs, on every kernel that the README claims.
//!
//! Debian's cloud kernels boot in QEMU with the host's files as their root, read-only and under a layer of
//! memory, so that a suite finds there what it finds here. Nothing of the machine outlives it but its logs.

use std::{
    collections::BTreeMap,
    env,
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

/// The suites: test programs of the package `detector-tests`, and the tests of each that a machine runs.
const SUITES: [(&str, &[&str]); 3] = [("programs", &[]), ("netns", &[]), ("corpus", &[])];

/// How many times longer than here every wait of a suite may take in an emulated machine.
const PATIENCE: u32 = 15;

/// Boots the kernels of these versions, or all, and prints what became of each suite.
pub(crate) fn run(workspace: &Workspace, versions: &[String]) -> Result<()> {
    let kernels = chosen(versions)?;
    workspace.require_root("the machines have this one's files for their root", "vm")?;
    setup::ensure_vm(workspace)?;
    let programs = process::step("build the suites", || build(workspace))?;
    let init = workspace.binary("vm-init");
    let kernels = process::step("get the kernels", || Kernel::get(workspace, &kernels))?;
    let suites = suites(workspace, &programs);
    let accelerator = process::step("probe KVM", || Accelerator::probe(workspace, &kernels, &init))?;

    let mut reports: Vec<Report> = Vec::new();
    for kernel in &kernels {
        let machine = Machine::new(workspace, kernel, accelerator);
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
fn build(workspace: &Workspace) -> Result<BTreeMap<String, PathBuf>> {
    // As the tests build: another selection of packages would compile what they depend on a second time.
    process::run(&mut workspace.cargo(&["build", "--workspace", "--all-targets"]))?;
    let mut list = workspace.cargo(&["test", "--workspace", "--no-run", "--message-format=json"]);
    for (name, _) in SUITES {
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

fn suites(workspace: &Workspace, programs: &BTreeMap<String, PathBuf>) -> Vec<Suite> {
    let text = |path: &Path| path.display().to_string();
    let tests = text(&workspace.root().join("tests"));
    let path = env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    let environment = BTreeMap::from([
        // No test may be skipped for want of rights, which a machine has.
        ("CI".to_owned(), "true".to_owned()),
        ("PATH".to_owned(), path),
        ("PLAINSIGHT_BIN".to_owned(), text(&workspace.binary("plainsight"))),
        ("PLAINSIGHT_PATIENCE".to_owned(), PATIENCE.to_string()),
        ("PLAINSIGHT_TOOLS".to_owned(), text(&workspace.tools())),
        ("RUST_BACKTRACE".to_owned(), "0".to_owned()),
    ]);
    let suite = |(name, left_out): &(&str, &[&str])| {
        let program = programs.get(*name)?;
        let mut arguments = vec!["--show-output".to_owned(), "--test-threads=2".to_owned()];
        arguments.extend(left_out.iter().flat_map(|test| ["--skip".to_owned(), (*test).to_owned()]));
        Some(Suite {
            name: (*name).to_owned(),
            folder: tests.clone(),
            program: text(program),
            arguments,
            environment: environment.clone(),
        })
    };
    SUITES.iter().filter_map(suite).collect()
}
