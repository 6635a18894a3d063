//! Owns `plainsight crds`.

use anyhow::Result;

use super::print;
use crate::cluster::crds::definitions;

/// Prints the definitions of our resources, for `kubectl apply -f -`.
///
/// # Errors
///
/// They could not be written.
pub fn crds() -> Result<()> {
    let mut text = String::new();
    for definition in definitions()? {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition)?);
    }
    print(&text)
}
