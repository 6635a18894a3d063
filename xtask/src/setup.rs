//! Set-up: gets what the other commands need, only what is missing, under `target/tools` where possible.
//!
//! A second run finds everything in place and says so in one line. What cannot be had does not stop the rest;
//! the error names all of it, each with what to do.

use std::{path::PathBuf, time::Instant};

use anyhow::{Result, bail};

use crate::{ebpf::Compiler, interrupt, workspace::Workspace};

pub(crate) mod apt;
mod bpf_linker;
pub(crate) mod cargo_deny;
pub(crate) mod kubernetes;
mod node;
mod programs;
mod prometheus;
mod python;
mod rust_src;

/// One thing to get: looks whether it is there, and if not installs it.
type Concern = fn(&Workspace) -> Result<Done>;

/// What became of a concern.
#[derive(Debug, PartialEq, Eq)]
enum Done {
    /// It was there.
    Already,
    /// It had to be installed.
    Installed,
}

/// Everything that building for BPF takes.
const EBPF: [Concern; 2] = [rust_src::ensure, bpf_linker::ensure];

/// What the demo and the tests run; the programs first, for the others use them.
const RUN: [Concern; 4] = [programs::ensure, python::ensure, node::ensure, prometheus::ensure];

/// Gets everything.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    let all: Vec<Concern> = RUN.into_iter().chain(EBPF).collect();
    ensure_each(workspace, &all)
}

/// Gets what building for BPF takes.
pub(crate) fn ensure_ebpf(workspace: &Workspace) -> Result<()> {
    ensure_each(workspace, &EBPF)
}

/// Gets everything, and what virtual machines take.
pub(crate) fn ensure_vm(workspace: &Workspace) -> Result<()> {
    let all: Vec<Concern> = [programs::ensure_vm as Concern].into_iter().chain(RUN).chain(EBPF).collect();
    ensure_each(workspace, &all)
}

/// Gets what the manifests are rendered and checked with, and what building plainsight takes.
pub(crate) fn ensure_manifests(workspace: &Workspace) -> Result<()> {
    let concerns: Vec<Concern> =
        [programs::ensure as Concern, kubernetes::ensure].into_iter().chain(EBPF).collect();
    ensure_each(workspace, &concerns)
}

/// Gets what the dependencies are checked with.
pub(crate) fn ensure_deny(workspace: &Workspace) -> Result<()> {
    ensure_each(workspace, &[cargo_deny::ensure])
}

fn ensure_each(workspace: &Workspace, concerns: &[Concern]) -> Result<()> {
    let start = Instant::now();
    let mut installed = 0;
    let mut failures = Vec::new();
    for concern in concerns {
        match concern(workspace) {
            Ok(Done::Already) => {}
            Ok(Done::Installed) => installed += 1,
            Err(error) => failures.push(format!("{error:#}")),
        }
        interrupt::check()?;
    }
    if !failures.is_empty() {
        bail!("set-up is not complete: {}", failures.join("; "));
    }
    let seconds = start.elapsed().as_secs_f64();
    match installed {
        0 => eprintln!("set-up: everything is in place ({seconds:.1} s)"),
        _ => eprintln!("set-up: done ({seconds:.1} s)"),
    }
    Ok(())
}

/// Says what is about to be installed, and where to.
fn announce(what: &str, place: &str) {
    eprintln!("set-up: installing {what} ({place})");
}

/// Where an installer's output is kept.
fn log(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.tools().join("logs").join(format!("{name}.log"))
}

/// The compiler that all concerns must agree with.
fn compiler(workspace: &Workspace) -> Result<Compiler> {
    Compiler::find(workspace.root())
}
