//! Owns the identity of what the maps hold: two builds of the same fingerprint can take over each other's.
//!
//! A daemon that ends leaves its maps behind, pinned, and the next one goes on with them. Sizes alone do not
//! make two builds alike: a flow holds states of the automaton, which another grammar numbers anew.

use crate::{
    automaton,
    counter::Counter,
    edge::{EdgeKey, EdgeValue},
    event::{Event, HelloEvent},
    flow::{FILTER_SLOTS, Flow, FlowKey},
    tls::Hello,
};

/// Raised when a field changes its meaning and no size tells.
pub const VERSION: u32 = 1;

/// A number that is the same for builds whose maps mean the same.
///
/// Counters may be added at the end: their number is in it, because it is the size of a map.
#[must_use]
pub fn fingerprint() -> u64 {
    let sizes = [
        VERSION,
        Event::VERSION.into(),
        Counter::COUNT,
        FILTER_SLOTS,
        size::<FlowKey>(),
        size::<Flow>(),
        size::<EdgeKey>(),
        size::<EdgeValue>(),
        size::<Event>(),
        size::<HelloEvent>(),
        size::<Hello>(),
    ];
    let sizes = sizes.into_iter().flat_map(u32::to_ne_bytes);
    fnv(sizes.chain(automaton::table_bytes()))
}

const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

/// FNV-1a: what is hashed is no secret, and must give the same number in every build.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::{fingerprint, fnv};

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv(b"foobar".iter().copied()), 0x8594_4171_f739_67e8);
        assert_eq!(fingerprint(), fingerprint());
    }
}
