//! Owns the framing of HTTP/2 with prior knowledge: which bytes are data, and of which stream.
//!
//! Heads are compressed and not read. The text of a DATA frame is scanned like any body; one that goes on in
//! the next frame of its stream keeps its place.

use super::{Phase, Work};
use crate::{automaton::CONTENT, counter::Counter, evidence::Evidence, flow::Side, packet::Packet};

/// Length of a frame's header (RFC 9113 §4.1): length, type, flags, stream.
const HEADER: u32 = 9;
/// While a header is read, `left` holds the length so far below this bit, and above it the bytes taken.
const TAKEN_SHIFT: u32 = 24;
const LENGTH_MASK: u32 = (1 << TAKEN_SHIFT) - 1;

/// Type of a DATA frame (§6.1).
const DATA: u8 = 0;
/// Flag: the message ends with this frame.
const END_STREAM: u8 = 0x01;
/// Flag: padding stands around the data. Nobody pads, and a padded frame is not read.
const PADDED: u8 = 0x08;

/// Bit of `head`: the frame is data that is read.
const IS_DATA: u8 = 1 << 0;
/// Bit of `head`: the frame ends its message.
const IS_LAST: u8 = 1 << 1;

/// Begins the frames.
#[inline(always)]
pub(super) const fn begin(side: &mut Side) {
    side.phase = Phase::FrameHeader as u8;
    side.stream = 0;
    side.head = 0;
    side.left = 0;
}

/// Ends a frame: the next one's header follows.
#[inline(always)]
pub(super) const fn end(side: &mut Side) {
    if side.head & IS_DATA != 0 {
        side.content = side.state;
        side.saved = side.window;
        side.stream = if side.head & IS_LAST != 0 { 0 } else { side.incoming };
    }
    side.phase = Phase::FrameHeader as u8;
    side.head = 0;
    side.left = 0;
}

/// Takes bytes of a frame's header, which may be split over segments at any byte.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "a masked index is below the length")]
pub(super) fn header<P: Packet>(packet: &P, work: &mut Work, at: u32, len: u32) -> u32 {
    let mut take = HEADER.saturating_sub(work.side.left >> TAKEN_SHIFT);
    if take > len {
        take = len;
    }
    if take == 0 || take > HEADER || !packet.block(at, take, &mut work.block) {
        work.lose(Counter::PayloadUnreadable);
        return len;
    }
    for index in 0..HEADER {
        if index >= take {
            break;
        }
        let byte = work.block[index as usize];
        field(&mut work.side, byte);
    }
    if work.side.left >> TAKEN_SHIFT >= HEADER {
        frame(work);
    }
    take
}

#[inline(always)]
fn field(side: &mut Side, byte: u8) {
    match side.left >> TAKEN_SHIFT {
        0..=2 => {
            let length = (side.left & 0xffff) << 8 | u32::from(byte);
            side.left = side.left & !LENGTH_MASK | length;
        }
        3 if byte == DATA => side.head = IS_DATA,
        4 if byte & PADDED != 0 => side.head = 0,
        4 if byte & END_STREAM != 0 && side.head == IS_DATA => side.head |= IS_LAST,
        7 => side.incoming = u16::from(byte) << 8,
        8 => side.incoming |= u16::from(byte),
        _ => {}
    }
    side.left += 1 << TAKEN_SHIFT;
}

/// Begins the frame whose header was read.
#[inline(always)]
fn frame(work: &mut Work) {
    work.side.left &= LENGTH_MASK;
    work.side.phase = Phase::Frame as u8;
    if work.side.head & IS_DATA == 0 {
        work.side.window = 0;
    } else if work.side.stream == work.side.incoming {
        work.side.state = work.side.content;
        work.side.window = work.side.saved;
    } else {
        work.fold();
        let window = work.window as u16;
        let side = &mut work.side;
        side.evidence = Evidence::H2C_PREFACE.0;
        side.methods = 0;
        side.state = CONTENT;
        side.window = window;
        side.depth = 0;
    }
    if work.side.left == 0 {
        end(&mut work.side);
    }
}
