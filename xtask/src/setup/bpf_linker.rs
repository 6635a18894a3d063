//! bpf-linker, built against the LLVM that the compiler brings along, so that no LLVM package is needed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::{Done, announce, compiler, log};
use crate::{ebpf::Compiler, process::quiet, workspace::Workspace};

const VERSION: &str = "0.13.0";

pub(super) fn ensure(workspace: &Workspace) -> Result<Done> {
    let compiler = compiler(workspace)?;
    if compiler.linker(workspace.root())?.is_some() {
        return Ok(Done::Already);
    }
    announce(&format!("bpf-linker {VERSION}"), "by cargo, under target/tools; about two minutes");
    install(workspace, &compiler).with_context(|| {
        let llvm = compiler.llvm_major;
        format!("no bpf-linker: put one that is built for LLVM {llvm} on PATH")
    })?;
    Ok(Done::Installed)
}

fn install(workspace: &Workspace, compiler: &Compiler) -> Result<()> {
    let tools = workspace.tools();
    let build = tools.join("build");
    let mut cargo = workspace.cargo(&["install", "bpf-linker", "--version", VERSION, "--locked", "--force"]);
    cargo.args(["--no-default-features", "--features", &format!("llvm-{}", compiler.llvm_major)]);
    cargo.arg("--root").arg(&tools).arg("--target-dir").arg(&build);
    cargo.env("LLVM_PREFIX", llvm_prefix(&tools, compiler)?);
    // The linker finds the compiler's libLLVM at run time by this path.
    let lib = compiler.sysroot.join("lib");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", format!("-Clink-arg=-Wl,-rpath,{}", lib.display()));
    quiet("building bpf-linker", &mut cargo, &log(workspace, "bpf-linker"))?;
    fs::remove_dir_all(&build).with_context(|| format!("remove {}", build.display()))?;
    ensure!(
        compiler.accepts_linker(&tools.join("bin/bpf-linker"))?,
        "bpf-linker cannot read rustc's bitcode"
    );
    Ok(())
}

/// A folder that looks like an installed LLVM, with the compiler's library in it.
fn llvm_prefix(tools: &Path, compiler: &Compiler) -> Result<PathBuf> {
    let prefix = tools.join("llvm");
    let lib = prefix.join("lib");
    fs::create_dir_all(&lib).with_context(|| format!("create {}", lib.display()))?;
    let link = lib.join("libLLVM.so");
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link).with_context(|| format!("remove {}", link.display()))?;
    }
    let library = compiler_llvm(compiler)?;
    symlink(&library, &link).with_context(|| format!("link {}", link.display()))?;
    Ok(prefix)
}

/// The compiler's libLLVM, in its real file: beside it lies a linker script of a similar name.
fn compiler_llvm(compiler: &Compiler) -> Result<PathBuf> {
    let lib = compiler.sysroot.join("lib");
    let start = format!("libLLVM.so.{}.", compiler.llvm_major);
    let files = fs::read_dir(&lib).with_context(|| format!("read {}", lib.display()))?;
    let mut names = files.filter_map(|entry| Some(entry.ok()?.file_name()));
    let name = names.find(|name| name.to_string_lossy().starts_with(&start));
    Ok(lib.join(name.with_context(|| format!("the compiler brings no {start}* in {}", lib.display()))?))
}
