//! Owns a BPF file system of a test's own, so that what one run pins no other run finds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A mounted BPF file system; what is pinned in it goes when this is dropped.
#[derive(Debug)]
pub struct Bpffs {
    folder: tempfile::TempDir,
}

impl Bpffs {
    /// Mounts one.
    ///
    /// # Errors
    ///
    /// Not root, or the kernel refuses.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("plainsight-")
            .tempdir()
            .context("make a folder for a BPF file system")?;
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&Path>)
            .context("mount a BPF file system")?;
        Ok(Self { folder })
    }

    /// Where a daemon of the test pins.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.folder.path().join("plainsight")
    }

    /// The names of the links that are pinned.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn links(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = fs::read_dir(self.pins().join("links"))
            .context("list the pinned links")?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    }

    /// The folders of maps.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn maps(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(self.pins()).context("list the pins")?;
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        Ok(paths.into_iter().filter(|path| !path.ends_with("links")).collect())
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.folder.path(), MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {error}", self.folder.path().display());
        }
    }
}
