//! Builds the eBPF object, and the detector for the demo.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    ebpf::{self, Flavour, Tools},
    process, setup,
    workspace::Workspace,
};

/// `cargo xtask build-ebpf`: prints the object's path and size.
pub(crate) fn ebpf(workspace: &Workspace, flavour: Flavour) -> Result<()> {
    setup::ensure_ebpf(workspace)?;
    process::run(&mut Tools::find(workspace.root())?.cargo("build", flavour))?;
    let object = ebpf::object(workspace.root(), flavour);
    let size = fs::metadata(&object).with_context(|| format!("look at {}", object.display()))?.len();
    println!("{} ({size} bytes)", object.display());
    Ok(())
}

/// Builds `plainsight` and returns its path.
pub(crate) fn plainsight(workspace: &Workspace) -> Result<PathBuf> {
    process::step("build plainsight", || {
        process::run(&mut workspace.cargo(&["build", "--package", "detector", "--bin", "plainsight"]))
    })?;
    Ok(workspace.binary("plainsight"))
}
