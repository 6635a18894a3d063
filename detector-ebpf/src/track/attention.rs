//! Owns the first look at a packet: whether it is to be looked at more closely, and whether there is time for it.
//!
//! For nearly every packet this is all: it reads the headers where they lie and one slot of the filter, and
//! writes nothing.

use super::{Slot, Store, pickup};
use crate::{
    budget::Claim,
    counter::Counter,
    flow::slot_of,
    packet::{Glance, Packet, Segment, glance},
};

/// Whether a packet is to be looked at: it opens a flow, may be of one that is tracked, or is of the sample, and
/// the budget grants it.
///
/// This is all that a packet of a settled flow costs.
#[inline(always)]
pub fn attention<P: Packet, S: Store>(packet: &P, store: &S) -> bool {
    let (claim, refused) = match glance(packet) {
        Glance::Segment(segment) => match claim(store, &segment) {
            Some(claim) => (claim, refusal(&claim)),
            None => return false,
        },
        // What it is shows only on a walk, which costs something.
        Glance::Unclear => (Claim::Open, Counter::UnclearRefused),
        Glance::Other(counter) => {
            store.count(counter);
            return false;
        }
    };
    let granted = store.grants(claim);
    if !granted {
        store.count(refused);
    }
    granted
}

/// What counts a claim that is not granted.
#[inline(always)]
const fn refusal(claim: &Claim) -> Counter {
    match claim {
        Claim::Open => Counter::OpenRefused,
        Claim::Repeat => Counter::Thinned,
        Claim::Read | Claim::End => Counter::BudgetSpent,
    }
}

/// What a segment wants to be looked at for, if for anything.
#[inline(always)]
fn claim<S: Store>(store: &S, segment: &Segment) -> Option<Claim> {
    let (opens, ends) = (segment.has(Segment::SYN), segment.has(Segment::FIN | Segment::RST));
    if segment.payload_len == 0 && !opens && !ends {
        // A bare acknowledgement says nothing; of a connection's packets nearly every other one is.
        return None;
    }
    let slot = slot_of(segment);
    let held = store.filter(slot);
    if opens {
        return Some(Claim::Open);
    }
    if held == 0 {
        return if pickup::is_sampled(store, segment, slot) { Some(Claim::Open) } else { None };
    }
    Some(if ends {
        Claim::End
    } else if Slot::is_quiet(held) {
        Claim::Repeat
    } else {
        Claim::Read
    })
}
