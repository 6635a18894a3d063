//! Owns the subcommands that look once and end: what they read, what they print, and their exit status.

mod audit;
mod coverage;
mod crds;
mod declared;
mod detach;
mod explain;
mod http;
mod observed;
mod readiness;
mod top;

pub use self::{
    audit::audit, coverage::coverage, crds::crds, detach::detach, explain::explain, readiness::readiness,
    top::top,
};

use std::{
    future::Future,
    io::{self, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};

use crate::flows::Timestamp;

/// Exit status of a command that found what it was told to fail on.
pub const FOUND: u8 = 2;

/// Runs what waits for answers of others.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context("start the runtime")?.block_on(future))
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
