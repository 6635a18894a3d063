//! Owns the work memory of a scan, and what a scan answers.
//!
//! In the kernel one CPU has one, in a map, for a BPF program's stack is too small. It is the only place where
//! bytes of a payload are ever copied to: one block, until the next is read.

use super::{Head, Phase};
use crate::{counter::Counter, event::HelloEvent, evidence::Evidence, flow::Side, packet::BLOCK};

/// Tokens that one block may hold; a power of two.
pub(super) const HITS: usize = 16;

/// What a scan has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Evidence of all messages that the bytes are of.
    pub evidence: u64,
    /// MCP methods of all messages that the bytes are of.
    pub methods: u64,
    /// The richest [`Protocol`](crate::verdict::Protocol) of them.
    pub protocol: u8,
    /// The answer to `HEAD` was read.
    pub answered_head: bool,
    /// A client's hello was read to its end; its names are in [`Work::record`].
    pub hello: bool,
}

/// Work memory of a scan: one for each CPU.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Work {
    /// The side that is read; copied in before a scan and out after it.
    pub side: Side,
    /// Evidence of the messages that ended in this scan.
    pub evidence: u64,
    /// MCP methods of the messages that ended in this scan.
    pub methods: u64,
    /// The richest [`Protocol`](crate::verdict::Protocol) of the messages of this scan.
    pub protocol: u32,
    /// Bytes of each body that are scanned.
    pub window: u32,
    /// A [`Counter`] plus one, 0 for none: why the scan lost its place.
    pub lost: u32,
    /// 1 while the other side waits for an answer to `HEAD`.
    pub asked_head: u32,
    /// Bytes that the automaton has read.
    pub scanned: u32,
    /// 1 when `record` is that of a client and whole.
    pub hello_is_whole: u32,
    /// Tokens of the block.
    pub(super) found: u32,
    /// Bytes of the block that are done with.
    pub(super) position: u32,
    pub(super) hits: [u32; HITS],
    pub(super) block: [u8; BLOCK],
    /// The hello that is read, as it is sent.
    pub record: HelloEvent,
}

impl Work {
    /// Work memory for the reading of one side.
    #[must_use]
    pub const fn new(side: Side, window: u32) -> Self {
        Self {
            side,
            evidence: 0,
            methods: 0,
            protocol: 0,
            window,
            lost: 0,
            asked_head: 0,
            scanned: 0,
            hello_is_whole: 0,
            record: HelloEvent::new(),
            position: 0,
            found: 0,
            hits: [0; HITS],
            block: [0; BLOCK],
        }
    }

    /// Makes the memory ready for a scan.
    #[inline(always)]
    pub fn prepare(&mut self, side: &Side, window: u32, asked_head: bool) {
        self.side = *side;
        self.evidence = 0;
        self.methods = 0;
        self.protocol = 0;
        // What is left of it is counted in 16 bits.
        self.window = if window > u16::MAX as u32 { u16::MAX as u32 } else { window };
        self.lost = 0;
        self.asked_head = u32::from(asked_head);
        self.scanned = 0;
        self.hello_is_whole = 0;
    }

    /// Whether the names of a client's hello are to be kept for its next segment.
    #[inline(always)]
    #[must_use]
    pub const fn reads_hello(&self) -> bool {
        self.side.is(Phase::Hello) && self.side.head & Head::CLIENT != 0
    }

    /// What the scan has shown.
    #[inline(always)]
    pub fn finish(&mut self, asked_head: bool) -> Scanned {
        self.fold();
        Scanned {
            evidence: self.evidence,
            methods: self.methods,
            protocol: self.protocol as u8,
            answered_head: asked_head && self.asked_head == 0,
            hello: self.hello_is_whole != 0,
        }
    }

    /// Adds what the message has shown so far to what the scan has found.
    #[inline(always)]
    pub fn fold(&mut self) {
        self.evidence |= self.side.evidence;
        self.methods |= self.side.methods;
        let protocol = Evidence(self.side.evidence).protocol() as u32;
        if protocol > self.protocol {
            self.protocol = protocol;
        }
    }

    /// Begins a message: what the one before has shown is kept, all else of it is forgotten.
    #[inline(always)]
    pub(super) fn begin(&mut self, phase: Phase) {
        self.fold();
        self.side.begin(phase);
    }

    /// Forgets the place in the stream, and why.
    #[inline(always)]
    pub fn lose(&mut self, why: Counter) {
        self.lost = why as u32 + 1;
        self.fold();
        self.side.lose();
    }
}
