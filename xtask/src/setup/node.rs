//! The JavaScript clients' packages: `tests/clients/package.json`, installed in `target/tools/node`.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use super::{Done, announce, log};
use crate::{process::quiet, workspace::Workspace};

pub(super) fn ensure(workspace: &Workspace) -> Result<Done> {
    let source = workspace.root().join("tests/clients/package.json");
    let wanted = fs::read_to_string(&source).with_context(|| format!("read {}", source.display()))?;
    let folder = workspace.tools().join("node");
    // Written last, as a venv's is.
    let stamp = folder.join("installed.json");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(Done::Already);
    }
    announce("the packages of tests/clients/package.json", "from npm, in target/tools/node");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    fs::write(folder.join("package.json"), &wanted).context("copy package.json")?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-package-lock", "--no-audit", "--no-fund"]).current_dir(&folder);
    quiet("npm install", &mut npm, &log(workspace, "npm"))
        .context("npm cannot get the packages of tests/clients/package.json: make its registry reachable")?;
    fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))?;
    Ok(Done::Installed)
}
