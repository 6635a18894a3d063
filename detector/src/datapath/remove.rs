//! Owns the removal of what daemons have left: links, filters, qdiscs, maps.

use std::path::Path;

use super::{
    attach,
    clsact::{self, Cleared, Owner},
    pins::{Pins, PinsError, Unpinned},
};

/// What [`remove`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// TCX links, each of one direction of an interface.
    pub links: usize,
    /// Filters of clsact, each of one direction of an interface.
    pub filters: usize,
    /// Qdiscs that a daemon had made for its filters, and that hold no filter of anybody else.
    pub qdiscs: usize,
    /// Maps.
    pub maps: usize,
}

/// Removes what is pinned at `pin`, and the filters that go with it from every interface of the calling thread's
/// network namespace. Filters of a daemon without pins, which stay if it is killed, are removed too.
///
/// # Errors
///
/// Another process has the pins, or the kernel refuses.
pub fn remove(pin: &Path) -> Result<Removed, PinsError> {
    let pins = Pins::existing(pin)?;
    let failed = |source| PinsError::Filters { source };
    let cleared = filters(pins.as_ref(), |_| false).map_err(failed)?;
    // The folder may have gone, and the filters that were named for it not.
    let named = clsact::remove_all(&Owner::new(Some(pin)), &[], |_| false).map_err(failed)?;
    let unpinned = clsact::remove_all(&Owner::new(None), &[], |_| false).map_err(failed)?;
    let Unpinned { links, maps } = pins.map(Pins::remove).transpose()?.unwrap_or_default();
    let all = [cleared, named, unpinned];
    let filters = all.iter().map(|cleared| cleared.filters).sum();
    let qdiscs = all.iter().map(|cleared| cleared.qdiscs).sum();
    Ok(Removed { links, filters, qdiscs, maps })
}

/// Removes the filters that go with the pins, and the qdiscs that were made for them, but for the interfaces that
/// are in use.
pub(super) fn filters(pins: Option<&Pins>, in_use: impl Fn(u32) -> bool) -> std::io::Result<Cleared> {
    let qdiscs = pins.map(Pins::qdiscs).unwrap_or_default();
    let cleared = clsact::remove_all(&attach::owner(pins), &qdiscs, &in_use)?;
    if let Some(pins) = pins {
        for ifindex in qdiscs.into_iter().filter(|ifindex| !in_use(*ifindex)) {
            pins.forget_qdisc(ifindex);
        }
    }
    Ok(cleared)
}
