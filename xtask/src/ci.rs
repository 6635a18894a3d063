//! `cargo xtask ci`: the one list of what must hold; stops at the first step that fails.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    bench, dependencies,
    ebpf::{Flavour, Tools},
    manifests, process, setup, test, vm,
    workspace::{self, Workspace},
};

/// What CI runs on the oldest and the newest kernel, of what `cargo xtask vm` does: tests of each suite. By emulation
/// a kernel takes many minutes for all of them.
const KERNELS: [(&str, &[&str]); 5] = [
    ("programs", &["every_program_loads_within_its_budget", "every_frame_of_the_table"]),
    ("netns", &["a_broken_manifest_is_named"]),
    ("restart", &["edges_of_the_daemon_before"]),
    ("clsact", &["an_interface_that_is_not_observed_any_more"]),
    ("sandbox", &["every_thread_of_the_daemon"]),
];

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    if workspace::is_ci() {
        workspace.require_root("under CI no test may be skipped, and some load eBPF programs", "ci")?;
    }
    let cargo = |args: &[&str]| process::run(&mut workspace.cargo(args));
    let steps: [(&str, &dyn Fn() -> Result<()>); _] = [
        ("format", &|| cargo(&["fmt", "--all", "--check"])),
        ("set-up", &|| setup::ensure(workspace)),
        ("clippy (host)", &|| cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ("clippy (BPF)", &|| clippy_bpf(workspace)),
        ("dependencies", &|| dependencies::run(workspace)),
        ("docs", &|| docs(workspace)),
        ("manifests", &|| manifests::run(workspace, true)),
        ("tests", &|| test::run(workspace, &[])),
        ("kernels", &|| kernels(workspace)),
    ];

    let mut took: Vec<(&str, Duration)> = Vec::new();
    for (name, work) in steps {
        let start = Instant::now();
        process::step(name, work)?;
        took.push((name, start.elapsed()));
    }
    eprintln!("==> all passed");
    for (name, taken) in took {
        eprintln!("    {name:<14} {:>6.1} s", taken.as_secs_f64());
    }
    Ok(())
}

/// The oldest and the newest kernel, with some tests; `cargo xtask vm` has all of both.
fn kernels(workspace: &Workspace) -> Result<()> {
    if !workspace::is_root() {
        eprintln!("not root: no kernel was booted; to do it: {}", workspace::as_root("vm"));
        return Ok(());
    }
    let part = |(suite, tests): (&str, &[&str])| vm::Part {
        suite: suite.to_owned(),
        tests: tests.iter().map(|test| (*test).to_owned()).collect(),
    };
    let selection =
        vm::Selection { versions: vm::oldest_and_newest(), parts: KERNELS.map(part).into_iter().collect() };
    vm::run(workspace, &selection)
}

fn clippy_bpf(workspace: &Workspace) -> Result<()> {
    let tools = Tools::find(workspace.root())?;
    for flavour in [Flavour::Debug, Flavour::Release] {
        let mut clippy = tools.cargo("clippy", flavour);
        process::run(clippy.args(["--bin", bench::COMPARISON, "--", "-D", "warnings"]))?;
    }
    Ok(())
}

fn docs(workspace: &Workspace) -> Result<()> {
    let mut doc = workspace.cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
    process::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}
