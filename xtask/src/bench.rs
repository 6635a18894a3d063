//! `cargo xtask bench`: builds what ships, what it is measured against and the program that measures, and
//! runs it.

use anyhow::Result;

use crate::{
    ebpf::{self, Flavour, Tools},
    process, setup,
    workspace::Workspace,
};

/// The binary target with the programs that the detector is compared with.
pub(crate) const COMPARISON: &str = "bench-bpf";

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    workspace.require_root("the benchmark makes network namespaces and loads eBPF programs", "bench")?;
    setup::ensure_ebpf(workspace)?;
    // In the order in which each needs the one before; all as shipped.
    process::step("build the eBPF programs", || {
        let mut build = Tools::find(workspace.root())?.cargo("build", Flavour::Release);
        process::run(build.args(["--bin", COMPARISON]))
    })?;
    process::step("build plainsight", || {
        let build = ["build", "--release", "--package", "detector", "--bin", "plainsight"];
        process::run(&mut workspace.cargo(&build))
    })?;
    let bench = ["bench", "--package", "detector-tests", "--bench", "bars"];
    process::step("build the benchmark", || process::run(workspace.cargo(&bench).arg("--no-run")))?;
    let object = ebpf::object(workspace.root(), Flavour::Release);
    let mut bench = workspace.cargo(&bench);
    bench.arg("--").args(args);
    bench.env("PLAINSIGHT_BENCH_COMPARISON", object.with_file_name(COMPARISON));
    bench.env("PLAINSIGHT_BENCH_OBJECT", object);
    bench.env("PLAINSIGHT_BIN", ebpf::target(workspace.root()).join("release/plainsight"));
    process::run(&mut bench)
}
