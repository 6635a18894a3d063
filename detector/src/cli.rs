//! Owns the subcommands that look once and end: what they read, what they print, and their exit status.

mod audit;
mod coverage;
mod crds;
mod explain;
mod top;

pub use self::{audit::audit, coverage::coverage, crds::crds, explain::explain, top::top};

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};

use crate::{
    cluster::{self, Manifests},
    flows::Timestamp,
};

/// Exit status of a command that found what it was told to fail on.
pub const FOUND: u8 = 2;

/// Reads manifests, and says on standard error what of them could not be read.
fn read(paths: &[PathBuf]) -> Result<Manifests> {
    let manifests = cluster::read(paths);
    for error in &manifests.errors {
        let mut cause = std::error::Error::source(error);
        eprint!("error: {error}");
        while let Some(error) = cause {
            eprint!(": {error}");
            cause = error.source();
        }
        eprintln!();
    }
    if manifests.objects.is_empty() && manifests.templates.is_empty() {
        bail!("nothing that could be used is in the manifests");
    }
    Ok(manifests)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Writes to standard output; a reader that has gone is no error.
fn print(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
