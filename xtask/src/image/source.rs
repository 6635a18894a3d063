//! Owns what is known of the source: the commit and its time, which stands in for every other time.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::process;

/// The commit that is built.
pub(super) struct Commit {
    hash: String,
    /// Seconds since 1970.
    pub(super) time: u64,
    /// The same as RFC 3339, in UTC.
    pub(super) created: String,
    /// Whether files differ from it.
    pub(super) changed: bool,
}

impl Commit {
    pub(super) fn of(root: &Path) -> Result<Self> {
        let git = |args: &[&str]| {
            let mut git = Command::new("git");
            git.args(args).current_dir(root).env("TZ", "UTC");
            process::output(&mut git).map(|text| text.trim().to_owned())
        };
        let show = |format: &str| {
            git(&["show", "--no-patch", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", format, "HEAD"])
        };
        Ok(Self {
            hash: show("--format=%H")?,
            time: show("--format=%ct")?.parse().context("the commit's time is no number")?,
            created: show("--format=%cd")?,
            changed: !git(&["status", "--porcelain"])?.is_empty(),
        })
    }

    /// The commit, and whether it is all of the truth.
    pub(super) fn revision(&self) -> String {
        if self.changed { format!("{}-dirty", self.hash) } else { self.hash.clone() }
    }
}
