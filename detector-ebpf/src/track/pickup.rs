//! Owns the picking up of flows whose beginning was not seen: open before the detector started, or hidden
//! from this interface (`bpf_redirect_peer` takes one direction away).
//!
//! Only packets that miss the filter come here, and of those only a sample is looked at. The sample is drawn
//! by a hash of the sequence number, so it costs no helper call and no write.

use super::Store;
use crate::packet::{Header as _, Packet, Segment};

/// Length of a TLS record's header (RFC 8446 §5.1).
const RECORD_HEADER: u32 = 5;
/// The longest protected record: 2^14 bytes and 256 of expansion (§5.2); TLS 1.2 allows 2,048 (RFC 5246 §6.2.3).
const RECORD_MAX: u32 = (1 << 14) + 2048;

/// Whether a packet of a flow that is not tracked is one of the sample.
#[inline(always)]
pub(super) fn is_sampled<S: Store>(store: &S, segment: &Segment, slot: u32) -> bool {
    (segment.sequence ^ slot).wrapping_mul(0x9e37_79b1) < store.sample_below()
        && segment.payload_len >= RECORD_HEADER
        && !segment.has(Segment::RST | Segment::FIN)
}

/// Whether the payload begins with a TLS record, and with a second one where the first ends within it.
#[inline(always)]
pub(super) fn is_record<P: Packet>(packet: &P, segment: &Segment) -> bool {
    let Some(length) = record(packet, segment.payload_at) else {
        return false;
    };
    let next = RECORD_HEADER + length;
    if next + RECORD_HEADER > segment.payload_len {
        return true;
    }
    record(packet, segment.payload_at + next).is_some()
}

/// The length of the record whose header stands at `at`.
#[inline(always)]
fn record<P: Packet>(packet: &P, at: u32) -> Option<u32> {
    let header = packet.header::<5>(at)?;
    let (kind, major, minor) = (header.byte::<0>(), header.byte::<1>(), header.byte::<2>());
    let length = u32::from(header.short::<3>());
    // change_cipher_spec, alert, handshake, application_data.
    let known = (20..=23).contains(&kind) && major == 3 && minor <= 4 && length > 0 && length <= RECORD_MAX;
    known.then_some(length)
}
