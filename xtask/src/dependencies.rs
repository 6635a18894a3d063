//! The check of the dependencies: licences, sources, versions, and known holes, by cargo-deny and `deny.toml`.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::{process, setup, workspace::Workspace};

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    setup::ensure_deny(workspace)?;
    let deny = setup::cargo_deny::find(workspace).context("find cargo-deny")?;
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&deny);
        command.current_dir(workspace.root()).args(arguments);
        command
    };
    process::run(&mut deny(&["check", "bans", "licenses", "sources"]))?;
    // The database of holes is a repository, which not every machine can fetch.
    let mut fetch = deny(&["fetch", "db"]);
    fetch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !fetch.status().context("fetch the advisories")?.success() {
        eprintln!(
            "skipped: known holes of dependencies, for the database of advisories cannot be fetched here"
        );
        return Ok(());
    }
    process::run(&mut deny(&["--offline", "check", "advisories"]))
}
