//! `cargo xtask ci`: the one list of what must hold; stops at the first step that fails.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    bench, dependencies,
    ebpf::{Flavour, Tools},
    manifests, process, setup, test,
    workspace::{self, Workspace},
};

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
