//! Owns `detach`: what daemons have left on the node is removed, and said.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::print;
use crate::datapath::{self, Pins, Removed};

/// Removes the pins at `pin` and the filters on the interfaces of this network namespace.
///
/// # Errors
///
/// A daemon runs, or the kernel refuses.
pub fn detach(pin: &Path) -> Result<()> {
    let Removed { links, maps } = match Pins::existing(pin)? {
        Some(pins) => pins.remove()?,
        None => Removed::default(),
    };
    let filters = datapath::remove_filters().context("remove the filters of clsact")?;
    print(&format!("removed {links} links, {filters} filters, {maps} maps\n"))
}
