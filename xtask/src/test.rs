//! `cargo xtask test`: everything there is to test, in one run.

use std::env;

use anyhow::Result;

use crate::{
    process, setup,
    workspace::{self, Workspace},
};

/// What multiplies every wait of a test, unless the user says it: a wait is over when its condition holds, so only
/// a failure takes longer, and a busy machine fails nothing.
const PATIENCE: (&str, &str) = ("PLAINSIGHT_PATIENCE", "4");

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    let root = workspace::is_root();
    if workspace::is_ci() {
        workspace.require_root("under CI no test may be skipped, and some load eBPF programs", "test")?;
    }
    setup::ensure(workspace)?;
    // Built ahead and in full: the scenarios start the binaries as a user would, and a second selection of
    // packages would compile their dependencies a second time.
    process::step("build the tests", || {
        process::run(&mut workspace.cargo(&["build", "--workspace", "--all-targets"]))
    })?;
    let mut test = workspace.cargo(&["test", "--workspace"]);
    test.env("PLAINSIGHT_BIN", workspace.binary("plainsight")).env("PLAINSIGHT_TOOLS", workspace.tools());
    let (patience, times) = PATIENCE;
    if env::var_os(patience).is_none() {
        test.env(patience, times);
    }
    process::step("test", || process::run(test.args(args)))?;
    if !root {
        eprintln!(
            "not root: tests that load eBPF programs were skipped; to run them: {}",
            workspace::as_root("test")
        );
    }
    Ok(())
}
