//! Owns the flow: what is remembered of a connection while it is undecided or worth watching.
//!
//! A flow holds positions, automaton states and evidence bits. No byte of payload is ever stored in it.

use crate::{
    packet::{Segment, Words},
    verdict::{Protocol, Verdict},
};

/// A connection on one interface, the same for both directions: the lower endpoint comes first.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
#[repr(C)]
pub struct FlowKey {
    /// Address of the lower endpoint.
    pub low: Words,
    /// Address of the higher endpoint.
    pub high: Words,
    /// Interface that the packets passed.
    pub ifindex: u32,
    /// Port of the lower endpoint, in host order.
    pub low_port: u16,
    /// Port of the higher endpoint, in host order.
    pub high_port: u16,
}

const _: () = assert!(size_of::<FlowKey>() == 40);

impl FlowKey {
    /// Makes `key` that of a segment's flow; answers the side that sent it: 0 for the lower endpoint.
    #[inline(always)]
    pub fn of(segment: &Segment, ifindex: u32, key: &mut Self) -> u8 {
        key.ifindex = ifindex;
        if low_first(segment) {
            key.low = segment.source;
            key.high = segment.destination;
            key.low_port = segment.source_port;
            key.high_port = segment.destination_port;
            0
        } else {
            key.low = segment.destination;
            key.high = segment.source;
            key.low_port = segment.destination_port;
            key.high_port = segment.source_port;
            1
        }
    }

    /// The endpoint of a side: address and port.
    #[inline(always)]
    #[must_use]
    pub const fn endpoint(&self, side: u8) -> (&Words, u16) {
        if side == 0 { (&self.low, self.low_port) } else { (&self.high, self.high_port) }
    }

    /// The key as the kernel's maps hold it.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; size_of::<Self>()] {
        let Self { low, high, ifindex, low_port, high_port } = self;
        let mut bytes = [0; size_of::<Self>()];
        let words = low.iter().chain(high).chain([ifindex]);
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        if let Some((_, ports)) = bytes.split_last_chunk_mut::<4>() {
            let ([a, b], [c, d]) = (low_port.to_ne_bytes(), high_port.to_ne_bytes());
            *ports = [a, b, c, d];
        }
        bytes
    }

    /// Slot of the filter that stands for this flow and some others: the same connection on another interface
    /// is one of them.
    #[inline(always)]
    #[must_use]
    pub fn slot(&self) -> u32 {
        slot(&self.low, &self.high, self.low_port, self.high_port)
    }
}

/// Slots of the filter: a power of two.
pub const FILTER_SLOTS: u32 = 65_536;

/// Slot of a segment's flow, the same for both directions.
#[inline(always)]
#[must_use]
pub fn slot_of(segment: &Segment) -> u32 {
    slot(&segment.source, &segment.destination, segment.source_port, segment.destination_port)
}

#[inline(always)]
fn slot(one: &Words, other: &Words, one_port: u16, other_port: u16) -> u32 {
    // Exclusive or and sums make the hash the same for both directions; the multiplications spread
    // neighbouring ports and addresses (constants of Knuth's multiplicative hashing, and of splitmix64).
    let [a0, a1, a2, a3] = *one;
    let [b0, b1, b2, b3] = *other;
    let address = (a0 ^ b0).wrapping_add((a1 ^ b1).rotate_left(8)) ^ (a2 ^ b2).rotate_left(16) ^ (a3 ^ b3);
    let low = u64::from(u32::from(one_port) * u32::from(other_port)) << 16 | u64::from(one_port ^ other_port);
    let mixed = (u64::from(address) << 32 ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as u32 & (FILTER_SLOTS - 1)
}

#[inline(always)]
fn low_first(segment: &Segment) -> bool {
    if segment.source_port != segment.destination_port {
        return segment.source_port < segment.destination_port;
    }
    let [a0, a1, a2, a3] = segment.source;
    let [b0, b1, b2, b3] = segment.destination;
    if a3 != b3 {
        return a3 < b3;
    }
    if a2 != b2 {
        return a2 < b2;
    }
    if a1 != b1 {
        return a1 < b1;
    }
    a0 <= b0
}

/// What one side of a connection is in the middle of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Side {
    /// Evidence of the message that is being read.
    pub evidence: u64,
    /// MCP methods of the message that is being read.
    pub methods: u64,
    /// Sequence number of the next byte that was not read yet.
    pub next: u32,
    /// Bytes of the body, chunk or frame that are still to come; [`Side::UNTIL_CLOSE`] without an end.
    pub left: u32,
    /// State of the automaton.
    pub state: u16,
    /// State of the automaton in the content, while a chunk's or a frame's header is read.
    pub content: u16,
    /// Bytes of this message that may still be scanned; of a TLS hello, what is left of its record.
    pub window: u16,
    /// A [`crate::scan::Phase`].
    pub phase: u8,
    /// Open brackets of the JSON text.
    pub depth: u8,
    /// What the head said of the message, see [`crate::scan::Head`]; of a frame, see `scan::frame`.
    pub head: u8,
    /// What is known of this side, see [`Side::SYNCED`] and its siblings.
    pub flags: u8,
    /// Low bits of the HTTP/2 stream whose message goes on in its next frame, 0 for none.
    pub stream: u16,
    /// The content's window, while a chunk's or a frame's header is read.
    pub saved: u16,
    /// Low bits of the HTTP/2 stream of the frame that is read.
    pub incoming: u16,
    /// Hash of the TLS server name so far.
    pub hash: u32,
    /// The [`Protocol`] that the side began with, if nothing of it is plaintext for good yet.
    pub greeting: u8,
    /// Bytes that were read of the header of a TLS record, in which the hello goes on.
    pub record: u8,
    /// Zero.
    pub _pad: [u8; 2],
}

const _: () = assert!(size_of::<Side>() == 48);

impl Side {
    /// `next` is known.
    pub const SYNCED: u8 = 1 << 0;
    /// The side has sent payload.
    pub const SPOKE: u8 = 1 << 1;
    /// The side has sent FIN.
    pub const FIN: u8 = 1 << 2;
    /// Some message of this side was recognised.
    pub const KNOWN: u8 = 1 << 3;
    /// The side has sent a `HEAD` request that was not answered yet.
    pub const ASKED_HEAD: u8 = 1 << 4;
    /// The side was met in mid-stream: its first bytes are not those of the stream.
    pub const MET: u8 = 1 << 5;

    /// A body that ends with the connection.
    pub const UNTIL_CLOSE: u32 = u32::MAX;
}

/// What is remembered of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// The sides, in the key's order.
    pub sides: [Side; 2],
    /// Evidence of all messages so far.
    pub evidence: u64,
    /// MCP methods of all messages so far.
    pub methods: u64,
    /// Time of the last packet, in nanoseconds of the monotonic clock.
    pub last_ns: u64,
    /// Hash of the TLS server name, 0 without one.
    pub sni_hash: u32,
    /// A [`crate::verdict::Verdict`].
    pub verdict: u8,
    /// A [`crate::verdict::Protocol`].
    pub protocol: u8,
    /// Side that opened the connection, or [`Flow::UNKNOWN_SIDE`].
    pub client: u8,
    /// What is known of the flow, see [`Flow::COUNTED`] and its siblings.
    pub flags: u8,
    /// Flags of the edge that the flow is counted in, see [`crate::edge::EdgeKey`].
    pub counted_flags: u8,
    /// Verdict of the edge that the flow is counted in.
    pub counted_verdict: u8,
    /// Protocol of the edge that the flow is counted in.
    pub counted_protocol: u8,
    /// Packets in a row that were read and showed nothing new, up to 255.
    pub quiet: u8,
    /// Zero.
    pub _pad: [u8; 4],
}

const _: () = assert!(size_of::<Flow>() == 136);

impl Flow {
    /// A flow of which nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sides: [Side::new(), Side::new()],
            evidence: 0,
            methods: 0,
            last_ns: 0,
            sni_hash: 0,
            verdict: Verdict::Undecided as u8,
            protocol: Protocol::None as u8,
            client: Self::UNKNOWN_SIDE,
            flags: 0,
            counted_flags: 0,
            counted_verdict: 0,
            counted_protocol: 0,
            quiet: 0,
            _pad: [0; 4],
        }
    }

    /// Begins anew in place, for a BPF program has no stack to build a flow on.
    #[inline(always)]
    pub const fn begin(&mut self, now: u64, client: u8, flags: u8) {
        let Self {
            sides: [low, high],
            evidence,
            methods,
            last_ns,
            sni_hash,
            verdict,
            protocol,
            client: this_client,
            flags: this_flags,
            counted_flags,
            counted_verdict,
            counted_protocol,
            quiet,
            _pad,
        } = self;
        low.reset();
        high.reset();
        *evidence = 0;
        *methods = 0;
        *last_ns = now;
        *sni_hash = 0;
        *verdict = Verdict::Undecided as u8;
        *protocol = Protocol::None as u8;
        *this_client = client;
        *this_flags = flags;
        *counted_flags = 0;
        *counted_verdict = 0;
        *counted_protocol = 0;
        *quiet = 0;
        *_pad = [0; 4];
    }

    /// A side, and the one opposite.
    #[inline(always)]
    pub const fn sides_of(&mut self, side: u8) -> (&mut Side, &mut Side) {
        let [low, high] = &mut self.sides;
        if side == 0 { (low, high) } else { (high, low) }
    }

    /// It is not known which side opened the connection.
    pub const UNKNOWN_SIDE: u8 = 2;

    /// The flow is counted in an edge.
    pub const COUNTED: u8 = 1 << 0;
    /// The flow was not seen from its start.
    pub const PICKED_UP: u8 = 1 << 1;
    /// A plaintext message of the client was answered with payload.
    pub const ANSWERED: u8 = 1 << 2;
    /// The lower endpoint is the pod behind the interface.
    pub const LOW_IS_POD: u8 = 1 << 3;
    /// The other side ended the connection without a word to a plaintext message.
    pub const REFUSED: u8 = 1 << 4;
    /// The answer is counted in the edge.
    pub const ANSWER_COUNTED: u8 = 1 << 5;
    /// The refusal is counted in the edge.
    pub const REFUSAL_COUNTED: u8 = 1 << 6;
    /// The flow is counted as quiet in its slot of the filter.
    pub const QUIET: u8 = 1 << 7;
}

impl Default for Flow {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: repr(C), no padding (asserted by the size above), any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for FlowKey {}

// SAFETY: repr(C), no padding (asserted by the size above), any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Flow {}
