//! cargo-deny, which holds the dependencies to `deny.toml`: what is on PATH, or built under `target/tools`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{Done, announce, log};
use crate::{process::quiet, workspace::Workspace};

const VERSION: &str = "0.20.2";

/// The program, if there is one that runs.
pub(crate) fn find(workspace: &Workspace) -> Option<PathBuf> {
    [workspace.tools().join("bin/cargo-deny"), PathBuf::from("cargo-deny")]
        .into_iter()
        .find(|path| works(path))
}

pub(super) fn ensure(workspace: &Workspace) -> Result<Done> {
    if find(workspace).is_some() {
        return Ok(Done::Already);
    }
    announce(&format!("cargo-deny {VERSION}"), "by cargo, under target/tools; about two minutes");
    let tools = workspace.tools();
    let build = tools.join("build-deny");
    let mut cargo = workspace.cargo(&["install", "cargo-deny", "--version", VERSION, "--locked", "--force"]);
    cargo.arg("--root").arg(&tools).arg("--target-dir").arg(&build);
    quiet("building cargo-deny", &mut cargo, &log(workspace, "cargo-deny"))
        .context("no cargo-deny: put one on PATH")?;
    fs::remove_dir_all(&build).with_context(|| format!("remove {}", build.display()))?;
    match find(workspace) {
        Some(_) => Ok(Done::Installed),
        None => bail!("cargo-deny was built and does not run"),
    }
}

fn works(program: &Path) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
