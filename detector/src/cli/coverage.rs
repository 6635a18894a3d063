//! Owns `plainsight coverage`.

use anyhow::{Context as _, Result};

use super::print;
use crate::{
    admin::client::{Client, ClientError},
    args::CoverageArgs,
};

/// Prints every pod of the node of a running daemon.
///
/// # Errors
///
/// Nobody answers there, or not to us.
pub fn coverage(args: CoverageArgs) -> Result<()> {
    let CoverageArgs { admin } = args;
    let asked = || {
        let client = Client::new(admin.admin, &admin.how)?;
        match client.get("/readyz?verbose") {
            // A daemon that is not ready yet says what it waits for, and knows its pods all the same.
            Err(ClientError::Status { status: 503, body }) => Ok(body),
            other => other,
        }
    };
    print(&asked().with_context(|| format!("ask the daemon at {}", admin.admin))?)
}
