//! The Python clients' packages: for each `requirements-<name>.txt` a venv `target/tools/venv-<name>`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Done, announce, log};
use crate::{process::quiet, workspace::Workspace};

pub(super) fn ensure(workspace: &Workspace) -> Result<Done> {
    let mut done = Done::Already;
    for (name, requirements) in requirements(&workspace.root().join("tests/clients"))? {
        if ensure_venv(workspace, &name, &requirements)? == Done::Installed {
            done = Done::Installed;
        }
    }
    Ok(done)
}

/// The requirements files and the names in theirs, in order.
fn requirements(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let named = |path: PathBuf| {
        let file = path.file_name()?.to_str()?;
        let name = file.strip_prefix("requirements-")?.strip_suffix(".txt")?.to_owned();
        Some((name, path))
    };
    let mut found: Vec<_> = entries.filter_map(|entry| named(entry.ok()?.path())).collect();
    found.sort();
    Ok(found)
}

/// Makes the venv `venv-<name>` with what a requirements file names.
pub(super) fn ensure_venv(workspace: &Workspace, name: &str, requirements: &Path) -> Result<Done> {
    let venv = workspace.tools().join(format!("venv-{name}"));
    let wanted =
        fs::read_to_string(requirements).with_context(|| format!("read {}", requirements.display()))?;
    // The stamp is written last: a venv without the right one is half made, or made from another file.
    let stamp = venv.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(Done::Already);
    }
    let packages: Vec<&str> = wanted.lines().filter(|line| !line.starts_with('#')).collect();
    announce(&packages.join(", "), &format!("from PyPI, in target/tools/venv-{name}"));
    let log = log(workspace, &format!("venv-{name}"));
    let mut create = Command::new("python3");
    create.args(["-m", "venv", "--clear"]).arg(&venv);
    quiet("python3 -m venv", &mut create, &log)?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--requirement"]).arg(requirements);
    quiet("pip install", &mut pip, &log)
        .with_context(|| format!("pip cannot get {}: make PyPI reachable", packages.join(", ")))?;
    fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))?;
    Ok(Done::Installed)
}
