//! Prometheus and promtool, which the tests try the alerts with: from the system's Debian, unpacked and not
//! installed, for the package starts a server on the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{Done, announce, log};
use crate::{
    process::{on_path, quiet},
    workspace::{self, Workspace},
};

const PACKAGE: &str = "prometheus";
const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

pub(super) fn ensure(workspace: &Workspace) -> Result<Done> {
    let folder = workspace.tools().join(PACKAGE);
    if PROGRAMS.iter().all(|program| works(&folder.join(program))) {
        return Ok(Done::Already);
    }
    if !on_path("apt-get") || !on_path("dpkg-deb") {
        bail!("put prometheus and promtool, 2.42 or newer, into {}", folder.display());
    }
    announce("Prometheus and promtool, not as a service", &folder.display().to_string());
    let scratch = workspace.tools().join("prometheus.new");
    remove(&scratch)?;
    fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    let fetched = fetch(workspace, &scratch).and_then(|archive| {
        let unpacked = scratch.join("unpacked");
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.arg("-x").arg(archive).arg(&unpacked);
        quiet("unpacking prometheus", &mut dpkg, &log(workspace, "prometheus-unpack"))?;
        remove(&folder)?;
        let programs = unpacked.join("usr/bin");
        fs::rename(&programs, &folder)
            .with_context(|| format!("rename {} to {}", programs.display(), folder.display()))
    });
    remove(&scratch)?;
    fetched?;
    match PROGRAMS.iter().find(|program| !works(&folder.join(program))) {
        None => Ok(Done::Installed),
        Some(program) => bail!("{program} of Debian's package does not run"),
    }
}

/// Downloads the package; its file.
fn fetch(workspace: &Workspace, into: &Path) -> Result<PathBuf> {
    let download = || {
        let mut apt = Command::new("apt-get");
        // The sandbox's user cannot write into a checkout in somebody's home.
        apt.args(["-o", "APT::Sandbox::User=root", "download", PACKAGE]).current_dir(into);
        quiet("downloading prometheus", &mut apt, &log(workspace, "prometheus-download"))
    };
    if let Err(error) = download() {
        // The lists may be old or missing; they are the system's, and root's to renew.
        if !workspace::is_root() {
            return Err(error.context("run `sudo apt-get update`, then again"));
        }
        let mut update = Command::new("apt-get");
        quiet("apt-get update", update.arg("update"), &log(workspace, "apt-update"))?;
        download()?;
    }
    let mut files = fs::read_dir(into).with_context(|| format!("read {}", into.display()))?;
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let archive = files.find_map(|file| file.ok().map(|file| file.path()).filter(is_package));
    archive.with_context(|| format!("apt-get downloaded nothing into {}", into.display()))
}

fn works(program: &Path) -> bool {
    let mut command = Command::new(program);
    let status = command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    status.status().is_ok_and(|status| status.success())
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}
