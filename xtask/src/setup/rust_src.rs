//! The source of core, which is compiled for BPF, in exactly the compiler's version.
//!
//! From the toolchain, from rustup, or from Debian's package of the same version, in this order.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{
    Done, announce,
    apt::{PrivateApt, Source},
    compiler, log,
};
use crate::{
    ebpf::Compiler,
    interrupt,
    process::{on_path, quiet},
    workspace::Workspace,
};

const PACKAGE: &str = "rust-src";

/// Where other versions of it may stand.
const SOURCES: [Source; 3] =
    [Source::Debian("trixie-backports"), Source::Debian("testing"), Source::Debian("sid")];

pub(super) fn ensure(workspace: &Workspace) -> Result<Done> {
    let compiler = compiler(workspace)?;
    if compiler.core_source(workspace.root()).is_some() {
        return Ok(Done::Already);
    }
    announce(
        &format!("{PACKAGE} {}", compiler.release),
        "into the toolchain by rustup, else from Debian under target/tools",
    );
    if on_path("rustup") && from_rustup(workspace).is_ok() && found(workspace, &compiler) {
        return Ok(Done::Installed);
    }
    interrupt::check()?;
    from_debian(workspace, &compiler).with_context(|| {
        format!(
            "run `rustup component add {PACKAGE}` where it can download, or make a Debian mirror reachable \
             that has {PACKAGE} {}",
            compiler.release
        )
    })?;
    Ok(Done::Installed)
}

fn found(workspace: &Workspace, compiler: &Compiler) -> bool {
    compiler.core_source(workspace.root()).is_some()
}

fn from_rustup(workspace: &Workspace) -> Result<()> {
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", PACKAGE]).current_dir(workspace.root());
    quiet("rustup component add rust-src", &mut rustup, &log(workspace, "rustup"))
}

fn from_debian(workspace: &Workspace, compiler: &Compiler) -> Result<()> {
    ensure!(!compiler.release.contains('-'), "Debian packages no {} compiler", compiler.release);
    let log = log(workspace, "debian-rust-src");
    let apt = PrivateApt::create(workspace.tools().join("apt"), &SOURCES, &log)?;
    let version = apt.version_of(PACKAGE, &compiler.release)?;
    let library = format!("usr/src/rustc-{}/library", compiler.release);
    apt.extract(PACKAGE, &version, &library, &compiler.unpacked_source(workspace.root()), &log)?;
    ensure!(found(workspace, compiler), "Debian's {PACKAGE} {version} has no core where it is expected");
    Ok(())
}
