//! `cargo xtask image`: the container image as an OCI archive, and its SBOM beside it, without a container
//! engine.
//!
//! The image holds one static binary, with the eBPF object in it, and the licence. The same commit makes the
//! same bytes on every machine with the same compiler; `--check` builds it twice, from two folders, to see.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use self::{
    binary::Architecture,
    layout::{Archive, Description, File},
    source::Commit,
};
use crate::{ebpf, process::step, setup, workspace::Workspace};

pub(crate) mod binary;
mod check;
mod layout;
mod sbom;
mod source;
mod unpack;

/// What the archive may take.
const MOST_BYTES: usize = 20 << 20;

/// Where the image is before anyone pushes it. By that name no registry is asked.
pub(crate) const REPOSITORY: &str = "localhost/plainsight";

/// What is asked for.
pub(crate) struct Options {
    pub(crate) architecture: Architecture,
    /// Build it a second time elsewhere, compare, and run it.
    pub(crate) check: bool,
}

/// A finished image, on disk.
pub(crate) struct Image {
    pub(crate) archive: PathBuf,
    pub(crate) name: String,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<Image> {
    let Options { architecture, check } = options;
    setup::ensure_ebpf(workspace)?;
    let commit = Commit::of(workspace.root())?;
    let folder = ebpf::target(workspace.root()).join("image");
    let binary = step("build the static binary", || binary::build(workspace.root(), &folder, *architecture))?;
    let bytes = fs::read(&binary).with_context(|| format!("read {}", binary.display()))?;
    let image = archive(workspace, *architecture, &commit, &bytes)?;
    let sbom = sbom::make(workspace.root(), *architecture, &commit)?;

    let stem = format!("plainsight-{}-{}", env!("CARGO_PKG_VERSION"), architecture.oci());
    let write = |ending: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = folder.join(format!("{stem}.{ending}"));
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
        println!("{} ({} bytes)", path.display(), bytes.len());
        Ok(path)
    };
    let path = write("oci.tar", &image.bytes)?;
    write("cdx.json", &sbom)?;
    println!("{}@{}", name(), image.digest);
    if commit.changed {
        println!("made of files that are not committed: the revision says so, and nobody else can make it");
    }
    ensure!(
        image.bytes.len() <= MOST_BYTES,
        "the archive has {} bytes, and {MOST_BYTES} are the limit",
        image.bytes.len()
    );
    if *check {
        check::run(workspace, *architecture, &commit, &image, &sbom)?;
    }
    Ok(Image { archive: path, name: name() })
}

/// Repository and tag.
fn name() -> String {
    format!("{REPOSITORY}:{}", env!("CARGO_PKG_VERSION"))
}

/// The archive of a binary.
fn archive(
    workspace: &Workspace,
    architecture: Architecture,
    commit: &Commit,
    binary: &[u8],
) -> Result<Archive> {
    let licence = fs::read(workspace.root().join("LICENSE")).context("read LICENSE")?;
    let files = [
        File { path: "plainsight", bytes: binary, mode: 0o755 },
        File { path: "licenses/LICENSE", bytes: &licence, mode: 0o644 },
    ];
    let description = Description {
        architecture: architecture.oci(),
        name: &name(),
        time: commit.time,
        created: &commit.created,
        labels: labels(commit),
    };
    layout::archive(&files, &description)
}

fn labels(commit: &Commit) -> Value {
    json!({
        "org.opencontainers.image.created": commit.created,
        "org.opencontainers.image.description": "Finds plaintext MCP, and who speaks it, on the wire of a Kubernetes node",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.revision": commit.revision(),
        "org.opencontainers.image.title": "plainsight",
        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
    })
}
