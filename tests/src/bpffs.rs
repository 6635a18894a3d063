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

    /// The names of what is in a folder of the pins, such as `links`; none if there is no such folder.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn names(&self, folder: &str) -> Result<Vec<String>> {
        let folder = self.pins().join(folder);
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut names: Vec<String> = fs::read_dir(&folder)
            .with_context(|| format!("list {}", folder.display()))?
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
        let is_maps = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("maps-"))
        };
        Ok(paths.into_iter().filter(is_maps).collect())
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.folder.path(), MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {error}", self.folder.path().display());
        }
    }
}
