//! Builds the binary of the image: static, so that the image needs no system, and without a path of the
//! machine in it, so that every machine makes the same.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use crate::{ebpf, process};

/// What the image runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "aarch64")]
    Aarch64,
}

impl Architecture {
    /// The machine's own.
    pub(crate) const fn own() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 }
    }

    /// As OCI names it.
    pub(super) const fn oci(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// glibc, linked statically: it is what the tests run with, and its allocator what was measured. musl would
    /// need a target that not every toolchain can be given.
    pub(super) const fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The C compiler, which links too. Debian's package is `gcc-<its name's middle>`.
    const fn compiler(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu-gcc",
            Self::Aarch64 => "aarch64-linux-gnu-gcc",
        }
    }
}

/// Builds the binary of the workspace at `root` below `folder`, and returns its path.
pub(super) fn build(root: &Path, folder: &Path, architecture: Architecture) -> Result<PathBuf> {
    let target = architecture.target();
    let compiler = ebpf::Compiler::find(root)?;
    let standard = compiler.sysroot.join("lib/rustlib").join(target).join("lib");
    ensure!(
        standard.is_dir(),
        "the toolchain has no standard library for {target}: run `rustup target add {target}`"
    );
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(ebpf::remap(root, &compiler.sysroot)?);
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["rustc", "--locked", "--release", "--package", "detector", "--bin", "plainsight"]);
    cargo.args(["--target", target, "--target-dir"]).arg(folder).current_dir(root);
    if architecture != Architecture::own() {
        let gcc = architecture.compiler();
        if !process::on_path(gcc) {
            bail!("no {gcc}: run `apt-get install gcc-{}`", gcc.trim_end_matches("-gcc"));
        }
        let variable = target.to_uppercase().replace('-', "_");
        cargo.env(format!("CARGO_TARGET_{variable}_LINKER"), gcc);
        cargo.env(format!("CC_{}", target.replace('-', "_")), gcc);
    }
    // The C of ring names its files too.
    cargo.env("CFLAGS", format!("-ffile-prefix-map={}=/cargo", ebpf::cargo_home()?.display()));
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_BUILD_TARGET").env_remove("CARGO_TARGET_DIR");
    process::run(cargo.args(["--", "-Cstrip=symbols"]))?;
    let binary = folder.join(target).join("release/plainsight");
    let bytes = fs::read(&binary).with_context(|| format!("read {}", binary.display()))?;
    let traces = traces(&bytes, root)?;
    ensure!(traces.is_empty(), "the binary names folders of this machine: {}", traces.join(", "));
    Ok(binary)
}

/// Folders of this machine that a binary names.
fn traces(bytes: &[u8], root: &Path) -> Result<Vec<String>> {
    let folders = [root.to_owned(), ebpf::cargo_home()?, ebpf::Compiler::find(root)?.sysroot];
    let found = |folder: &PathBuf| {
        let folder = folder.as_os_str().as_encoded_bytes();
        bytes.windows(folder.len()).any(|window| window == folder)
    };
    Ok(folders.iter().filter(|folder| found(folder)).map(|folder| folder.display().to_string()).collect())
}
