//! Owns the reading of a fuzzer's bytes: settings, places of cuts, and frames, where every byte means something.
//!
//! A frame is given whole, or as the few fields of a TCP segment that matter to the tracker: then the fuzzer
//! need not find out what a header looks like, nor which sequence number is the next.

use std::vec::Vec;

/// The eleven bytes that decide on a hello: record, handshake and version. The handshake's length is not looked at.
pub(super) const HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

/// The handshake of a hello in records of `size` bytes.
pub(super) fn records(hello: &[u8], size: usize) -> Vec<u8> {
    let (head, handshake) = hello.split_at(5);
    let mut stream = Vec::new();
    for piece in handshake.chunks(size) {
        stream.extend_from_slice(head.get(..3).unwrap_or_default());
        stream.extend((piece.len() as u16).to_be_bytes());
        stream.extend_from_slice(piece);
    }
    stream
}

/// Cuts of one stream.
const CUTS: u8 = 8;
/// Frames of one input.
const TURNS: u32 = 512;
/// `BPF_PROG_TEST_RUN` takes a frame that fits into a page beside what the kernel wants of it.
const FRAME_MAX: usize = 3000;

/// Bytes that are still to be read; behind their end stand zeros.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Ascending places in the bytes that follow.
    pub(super) fn cuts(&mut self) -> Vec<usize> {
        let count = self.byte() % CUTS;
        let cuts: Vec<u16> = (0..count).map(|_| self.short()).collect();
        let mut cuts: Vec<usize> =
            cuts.into_iter().map(|cut| usize::from(cut) % (self.0.len() + 1)).collect();
        cuts.sort_unstable();
        cuts
    }

    pub(super) fn turns(self) -> Turns<'a> {
        Turns { input: self, left: TURNS, next: [[1000; 2]; 2] }
    }
}

/// A frame that passes.
pub(super) struct Turn {
    pub(super) frame: Vec<u8>,
    pub(super) from_pod: bool,
    /// All that was tracked has been silent before it.
    pub(super) after_silence: bool,
}

/// Bits of the byte before a frame.
struct Op;

impl Op {
    const FROM_POD: u8 = 1 << 0;
    /// The frame follows as it is.
    const RAW: u8 = 1 << 1;
    const OTHER_CONNECTION: u8 = 1 << 2;
    const FROM_SERVER: u8 = 1 << 3;
    const AFTER_SILENCE: u8 = 1 << 4;
}

/// The frames of an input.
pub(super) struct Turns<'a> {
    input: Input<'a>,
    left: u32,
    /// The next sequence number of client and server, of both connections.
    next: [[u32; 2]; 2],
}

impl Turns<'_> {
    pub(super) fn next_turn(&mut self) -> Option<Turn> {
        if self.input.0.is_empty() || self.left == 0 {
            return None;
        }
        self.left -= 1;
        let op = self.input.byte();
        let frame = if op & Op::RAW != 0 {
            let len = usize::from(self.input.short()) % (FRAME_MAX + 1);
            self.input.take(len).to_vec()
        } else {
            self.segment(op & Op::OTHER_CONNECTION != 0, op & Op::FROM_SERVER != 0)
        };
        let from_pod = op & Op::FROM_POD != 0;
        Some(Turn { frame, from_pod, after_silence: op & Op::AFTER_SILENCE != 0 })
    }

    /// A segment of one of two connections: its flags, how far it lies from where it should, and its payload.
    fn segment(&mut self, other: bool, from_server: bool) -> Vec<u8> {
        let flags = self.input.byte();
        let ahead = i32::from(self.input.byte().cast_signed());
        let len = usize::from(self.input.short()) % (FRAME_MAX - 54 + 1);
        let payload = self.input.take(len);
        let [[first_client, first_server], [second_client, second_server]] = &mut self.next;
        let next = match (other, from_server) {
            (false, false) => first_client,
            (false, true) => first_server,
            (true, false) => second_client,
            (true, true) => second_server,
        };
        let sequence = next.wrapping_add_signed(ahead);
        // SYN and FIN stand for a byte each.
        let syn_fin = u32::from(flags & 1) + u32::from(flags >> 1 & 1);
        *next = sequence.wrapping_add(payload.len() as u32).wrapping_add(syn_fin);

        let client = ([10, 0, 0, 3], 40_000 + u16::from(other));
        let server = ([10, 0, 0, 2], 8000_u16);
        let (from, to) = if from_server { (server, client) } else { (client, server) };
        let mut frame = [0x02; 12].to_vec();
        let total = (40 + payload.len()) as u16;
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend(from.0.into_iter().chain(to.0));
        frame.extend([from.1, to.1].into_iter().flat_map(u16::to_be_bytes));
        frame.extend(sequence.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend_from_slice(payload);
        frame
    }
}
