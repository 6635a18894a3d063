//! Owns `detach`: what daemons have left on the node is removed, and said.

use std::path::Path;

use anyhow::Result;

use super::print;
use crate::datapath::{self, Removed};

/// Removes the pins at `pin` and the filters on the interfaces of this network namespace.
///
/// # Errors
///
/// A daemon runs, or the kernel refuses.
pub fn detach(pin: &Path) -> Result<()> {
    let Removed { links, filters, qdiscs, maps } = datapath::remove(pin)?;
    print(&format!("removed {links} links, {filters} filters, {qdiscs} qdiscs, {maps} maps\n"))
}
