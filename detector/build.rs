//! Puts the eBPF object into `OUT_DIR/detector-bpf`, for `datapath` to include.
//!
//! `PLAINSIGHT_EBPF_OBJECT=path` copies an object built elsewhere (container builds); `PLAINSIGHT_SKIP_EBPF=1`
//! writes an empty stub that cannot be loaded (checks and docs on a machine without the tools); otherwise the
//! object is built here.

use std::{env, fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, ensure};

#[path = "../xtask/src/ebpf.rs"]
mod ebpf;

const PREBUILT: &str = "PLAINSIGHT_EBPF_OBJECT";
const SKIP: &str = "PLAINSIGHT_SKIP_EBPF";

fn main() -> ExitCode {
    match provide() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error:#}");
            ExitCode::FAILURE
        }
    }
}

fn provide() -> Result<()> {
    println!("cargo::rerun-if-env-changed={PREBUILT}");
    println!("cargo::rerun-if-env-changed={SKIP}");
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?).join(ebpf::OBJECT);

    if let Some(prebuilt) = env::var_os(PREBUILT) {
        // Cargo runs this in the package; a relative path is meant from the workspace.
        let prebuilt = root()?.join(prebuilt);
        println!("cargo::rerun-if-changed={}", prebuilt.display());
        fs::copy(&prebuilt, &out).with_context(|| format!("copy {PREBUILT} {}", prebuilt.display()))?;
    } else if env::var_os(SKIP).is_some_and(|value| value == "1") {
        fs::write(&out, []).with_context(|| format!("write {}", out.display()))?;
    } else {
        let object = build()?;
        fs::copy(&object, &out).with_context(|| format!("copy {}", object.display()))?;
    }
    Ok(())
}

fn root() -> Result<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?;
    Ok(PathBuf::from(manifest).parent().context("the package lies in no workspace")?.to_owned())
}

fn build() -> Result<PathBuf> {
    let root = root()?;
    for input in ["detector-ebpf/src", "detector-ebpf/Cargo.toml", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let flavour = match env::var("PROFILE").as_deref() {
        Ok("release") => ebpf::Flavour::Release,
        _ => ebpf::Flavour::Debug,
    };
    let status = ebpf::Tools::find(&root)?.cargo("build", flavour).status().context("run cargo for BPF")?;
    ensure!(status.success(), "the eBPF object does not build: see the compiler's messages above");
    Ok(ebpf::object(&root, flavour))
}
