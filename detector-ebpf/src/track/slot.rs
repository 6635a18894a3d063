//! Owns the meaning of a slot of the filter.

#[cfg(any(test, feature = "host"))]
use std::vec::Vec;

#[cfg(any(test, feature = "host"))]
use crate::flow::{FILTER_SLOTS, Flow, FlowKey};

/// A slot of the filter: how many flows there are in its low half, and how many of them are quiet in its high
/// half. One addition changes both at once.
pub(super) struct Slot;

impl Slot {
    /// One flow.
    pub(super) const FLOW: u32 = 1;
    /// A flow that keeps saying the same.
    pub(super) const QUIET: u32 = 1 << 16;

    /// Whether all flows of the slot keep saying the same.
    #[inline(always)]
    pub(super) const fn is_quiet(slot: u32) -> bool {
        slot >> 16 == slot & 0xffff
    }
}

/// The filter as it must be while these flows are tracked.
#[cfg(any(test, feature = "host"))]
pub fn filter_of<'a>(flows: impl Iterator<Item = (&'a FlowKey, &'a Flow)>) -> Vec<u32> {
    let mut filter = std::vec![0_u32; FILTER_SLOTS as usize];
    for (key, flow) in flows {
        if let Some(slot) = filter.get_mut(key.slot() as usize) {
            *slot += Slot::FLOW;
            *slot += if flow.flags & Flow::QUIET != 0 { Slot::QUIET } else { 0 };
        }
    }
    filter
}
