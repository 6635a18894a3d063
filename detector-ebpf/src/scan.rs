//! Owns the reading of one side's bytes: framing, and what the automaton's tokens mean where they stand.
//!
//! A step takes at most one block of [`BLOCK`] bytes. Framing is exact (`Content-Length`, chunks, HTTP/2
//! frames), so a message begins where the one before ended and a body can neither hide a head nor forge one.
//! What is not read (past the window, or content of which nothing counts) is skipped by its length alone.

use crate::{
    automaton::{self, CHUNK_SIZE, COMMAND, CONTENT, LINE, START, Step},
    counter::Counter,
    evidence::Evidence,
    flow::Side,
    packet::{BLOCK, Packet},
    verdict::Protocol,
};

/// Bytes of a message that are read before anything is known of it.
const START_BLOCK: u32 = 16;

/// Bytes of one head that are followed to its end; servers refuse longer ones (nginx and Node at 16 KiB).
pub const HEAD_LIMIT: u16 = 32 * 1024;

/// Steps of one scan: a head and a body at their limits in full blocks, and room for short ones.
pub const STEPS: u32 = 400;

/// What a side is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The beginning of the stream, or of a message on it.
    Start = 0,
    /// An HTTP head, or that of the LSP base protocol.
    Head = 1,
    /// A body of known length, or one that ends with the connection.
    Body = 2,
    /// The line before a chunk.
    ChunkSize = 3,
    /// A chunk.
    Chunk = 4,
    /// The lines after the last chunk.
    Trailer = 5,
    /// JSON texts on the stream, without framing.
    Lines = 6,
    /// An HTTP/2 frame's header.
    FrameHeader = 7,
    /// An HTTP/2 frame.
    Frame = 8,
    /// The place in the stream was lost: the next segment that begins like a message is one.
    Lost = 9,
    /// A TLS hello, after its first eleven bytes.
    Hello = 10,
    /// Lines, or XML, of a protocol that may turn to TLS between two of them.
    Commands = 11,
    /// TLS: nothing more is read.
    Tls = 12,
    /// The stream began with nothing known: nothing more is read.
    Opaque = 13,
    /// A plaintext protocol of which the beginning says all: nothing more is read.
    Named = 14,
}

/// What the head said of the message that it begins; bits of [`Side::head`].
pub struct Head;

impl Head {
    /// The message is a response.
    pub const RESPONSE: u8 = 1 << 0;
    /// `Content-Length` was given.
    pub const LENGTH: u8 = 1 << 1;
    /// `Transfer-Encoding: chunked`.
    pub const CHUNKED: u8 = 1 << 2;
    /// There is no body, whatever the head says: 1xx, 204, 304, an answer to `HEAD`.
    pub const NO_BODY: u8 = 1 << 3;
    /// The request's method is `HEAD`.
    pub const HEAD_METHOD: u8 = 1 << 4;
    /// The body's JSON text is a batch: members stand one bracket deeper.
    pub const BATCH: u8 = 1 << 5;
    /// The hello is a client's.
    pub const CLIENT: u8 = 1 << 6;
}

impl Default for Side {
    fn default() -> Self {
        Self::new()
    }
}

impl Side {
    /// A side that has sent nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            evidence: 0,
            methods: 0,
            next: 0,
            left: 0,
            state: START,
            content: 0,
            window: HEAD_LIMIT,
            phase: Phase::Start as u8,
            depth: 0,
            head: 0,
            flags: 0,
            stream: 0,
            saved: 0,
            incoming: 0,
            hash: 0,
            greeting: 0,
            record: 0,
            _pad: [0; 2],
        }
    }

    /// Begins anew in place.
    #[inline(always)]
    pub const fn reset(&mut self) {
        self.begin(Phase::Start);
        self.next = 0;
        self.content = 0;
        self.flags = 0;
        self.stream = 0;
        self.saved = 0;
        self.incoming = 0;
        self.hash = 0;
        self.greeting = 0;
        self.record = 0;
        self._pad = [0; 2];
    }

    /// Whether what only a stream's beginning says may be said here: nothing was said before, or the same protocol.
    #[inline(always)]
    const fn may_open(&self, protocol: u8) -> bool {
        let first = self.flags & (Self::KNOWN | Self::MET) == 0 && !self.is(Phase::Lost);
        first || protocol != 0 && self.greeting == protocol
    }

    /// Whether nothing more is read of this side.
    #[inline(always)]
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.phase >= Phase::Tls as u8
    }

    /// Whether the side speaks HTTP/2 with prior knowledge.
    #[inline(always)]
    #[must_use]
    pub const fn speaks_frames(&self) -> bool {
        self.is(Phase::FrameHeader) || self.is(Phase::Frame)
    }

    /// The side's next byte is the first of an HTTP/2 frame.
    #[inline(always)]
    pub const fn begin_frames(&mut self) {
        self.evidence = Evidence::H2C_PREFACE.0;
        frame::begin(self);
    }

    /// The side's next byte is the first of a command, of a protocol that may turn to TLS.
    #[inline(always)]
    pub const fn begin_commands(&mut self, greeting: u8, window: u16) {
        self.enter(Phase::Commands, COMMAND);
        self.greeting = greeting;
        self.window = window;
        self.flags |= Self::KNOWN;
    }

    /// Forgets the place in the stream: bytes were lost, or could not be read.
    #[inline(always)]
    pub const fn lose(&mut self) {
        if self.is(Phase::Hello) {
            // It stays TLS; only its names are lost.
            self.phase = Phase::Tls as u8;
        } else {
            self.begin(Phase::Lost);
        }
    }

    #[inline(always)]
    const fn begin(&mut self, phase: Phase) {
        self.enter(phase, START);
        self.window = HEAD_LIMIT;
        self.depth = 0;
        self.head = 0;
        self.left = 0;
        self.evidence = 0;
        self.methods = 0;
    }

    #[inline(always)]
    const fn enter(&mut self, phase: Phase, state: u16) {
        self.phase = phase as u8;
        self.state = state;
    }

    #[inline(always)]
    pub(crate) const fn is(&self, phase: Phase) -> bool {
        self.phase == phase as u8
    }
}

/// Takes one step into the `len` bytes of payload at `at`; answers how many of them are done with.
///
/// The answer is between 1 and `len`, and `len` when nothing more is to be read.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "a masked index is below the length")]
pub fn step<P: Packet>(packet: &P, work: &mut Work, at: u32, len: u32) -> u32 {
    if work.side.is_settled() {
        return len;
    }
    if work.side.is(Phase::FrameHeader) {
        return frame::header(packet, work, at, len);
    }
    if work.side.is(Phase::Hello) {
        return hello::step(packet, work, at, len);
    }
    let mut take = len;
    let bounded = work.side.is(Phase::Body) || work.side.is(Phase::Chunk) || work.side.is(Phase::Frame);
    if bounded {
        if take > work.side.left {
            take = work.side.left;
        }
        if work.side.window == 0 {
            leave(work, take);
            return take;
        }
    } else if work.side.window == 0 {
        // The first lines of a stream say enough; a head must end.
        if !work.side.is(Phase::Lines) && !work.side.is(Phase::Commands) {
            work.lose(Counter::HeadTooLong);
        }
        return len;
    }
    if take > u32::from(work.side.window) {
        take = u32::from(work.side.window);
    }
    // The first bytes decide on TLS, of which no more is to be read.
    let block = if work.side.is(Phase::Start) { START_BLOCK } else { BLOCK as u32 };
    if take > block {
        take = block;
    }
    if take == 0 {
        // A body without bytes is none: `apply` does not begin one.
        return len;
    }
    if !packet.block(at, take, &mut work.block) {
        work.lose(Counter::PayloadUnreadable);
        return len;
    }
    let hits = run(work, take);
    if hits > HITS as u32 {
        work.lose(Counter::TokenLimit);
        return len;
    }
    let mut taken = take;
    work.position = 0;
    for index in 0..HITS as u32 {
        if index >= hits {
            break;
        }
        // In memory that the compiler knows nothing of, as in `run`.
        let work = core::hint::black_box(&mut *work);
        let hit = work.hits[index as usize & (HITS - 1)];
        let position = hit >> 16 & (BLOCK as u32 - 1);
        // A token may set the window for what comes after it: the bytes up to it are taken off before.
        narrow(work, position + 1);
        if apply(work, hit as u16, work.block[position as usize], (hit >> 24) as u8) {
            taken = position + 1;
            break;
        }
    }
    narrow(work, taken);
    if bounded {
        leave(work, taken);
    } else if work.side.is_settled() || work.side.is(Phase::Lost) {
        // Nothing that begins a message stands here; the next segment may.
        return len;
    }
    taken
}

/// Takes the bytes of the block before `position` off the window, but for those that are already.
#[inline(always)]
const fn narrow(work: &mut Work, position: u32) {
    let more = position.saturating_sub(work.position) as u16;
    work.side.window = work.side.window.saturating_sub(more);
    work.position = position;
}

/// Runs the automaton over the first `take` bytes of the block; answers the number of tokens.
///
/// This loop is what scanning costs: a token is rare and may cost more than the bytes before it.
#[expect(clippy::indexing_slicing, reason = "a masked index is below the length")]
#[inline(always)]
fn run(work: &mut Work, take: u32) -> u32 {
    work.found = 0;
    let mut step = Step::at(work.side.state);
    let mut depth = i32::from(work.side.depth);
    for index in 0..BLOCK as u32 {
        if index >= take {
            break;
        }
        step = step.next(work.block[index as usize]);
        depth = depth.wrapping_add(step.bracket());
        if step.has_token() {
            // Kept in memory that the compiler knows nothing of: a number of tokens in a register would be
            // a path of its own to the verifier, for each number, from here to the end of the step.
            let work = core::hint::black_box(&mut *work);
            work.hits[work.found as usize & (HITS - 1)] =
                u32::from(step.state()) | index << 16 | (depth as u32) << 24;
            work.found += 1;
        }
    }
    work.side.state = step.state();
    work.side.depth = depth as u8;
    work.scanned = work.scanned.wrapping_add(take);
    core::hint::black_box(work).found
}

/// Counts bytes of a body, a chunk or a frame as gone, and ends it with the last.
#[inline(always)]
fn leave(work: &mut Work, taken: u32) {
    if work.side.left == Side::UNTIL_CLOSE {
        return;
    }
    work.side.left = work.side.left.saturating_sub(taken);
    if work.side.left != 0 {
        return;
    }
    if work.side.is(Phase::Chunk) {
        work.side.content = work.side.state;
        work.side.saved = work.side.window;
        begin_chunk_size(&mut work.side);
    } else if work.side.is(Phase::Frame) {
        frame::end(&mut work.side);
    } else {
        work.begin(Phase::Start);
    }
}

/// Passes over the next `left` bytes; after them a message begins.
#[inline(always)]
const fn pass(side: &mut Side, left: u32) {
    if left > 0 {
        side.phase = Phase::Body as u8;
        side.left = left;
        side.window = 0;
    }
}

#[inline(always)]
const fn begin_chunk_size(side: &mut Side) {
    side.enter(Phase::ChunkSize, CHUNK_SIZE);
    side.window = HEAD_LIMIT;
    side.left = 0;
}

/// Applies a token where it stands; true if what follows is to be read from another state.
#[inline(always)]
fn apply(work: &mut Work, state: u16, byte: u8, depth: u8) -> bool {
    let meaning = token::meaning(automaton::token(state));
    let side = &mut work.side;
    if meaning.action == Action::Member && depth != token::member_depth(side) {
        return false;
    }
    if meaning.opening && !side.may_open(meaning.protocol) {
        unknown(work);
        return true;
    }
    side.evidence |= meaning.evidence;
    side.methods |= meaning.methods;
    side.head |= meaning.head;
    match meaning.action {
        Action::None | Action::Member => false,
        Action::Hello => {
            hello::begin(work);
            true
        }
        Action::Tls => {
            side.phase = Phase::Tls as u8;
            true
        }
        Action::Named => {
            side.phase = Phase::Named as u8;
            side.flags |= Side::KNOWN;
            if meaning.protocol != 0 {
                side.greeting = meaning.protocol;
            }
            work.protocol = work.protocol.max(u32::from(work.side.greeting));
            true
        }
        Action::Commands => {
            side.phase = Phase::Commands as u8;
            side.flags |= Side::KNOWN;
            side.greeting = meaning.protocol;
            side.window = work.window as u16;
            false
        }
        Action::Introduced | Action::IntroducedBy => {
            side.flags |= Side::KNOWN;
            side.greeting = meaning.protocol;
            let left = side.left.saturating_sub(u32::from(meaning.skip));
            work.protocol = work.protocol.max(u32::from(meaning.protocol));
            if meaning.action == Action::Introduced {
                return false;
            }
            work.begin(Phase::Start);
            pass(&mut work.side, left);
            true
        }
        Action::Greeting => {
            side.greeting = meaning.protocol;
            let left = side.left.saturating_sub(u32::from(meaning.skip));
            work.begin(Phase::Lost);
            pass(&mut work.side, left);
            true
        }
        Action::Preamble => {
            // What is left of it is passed over; then the stream begins.
            let left = u32::from(meaning.skip);
            work.begin(Phase::Start);
            pass(&mut work.side, left);
            true
        }
        Action::LengthByte => {
            side.left = side.left << 8 | u32::from(byte);
            false
        }
        Action::EndOfPreambleLength => {
            let left = side.left << 8 | u32::from(byte);
            work.begin(Phase::Start);
            pass(&mut work.side, left);
            true
        }
        Action::Unknown => {
            unknown(work);
            true
        }
        Action::Preface => {
            side.flags |= Side::KNOWN;
            frame::begin(side);
            true
        }
        Action::Head => {
            side.phase = Phase::Head as u8;
            side.flags |= Side::KNOWN;
            false
        }
        Action::Lines => {
            side.phase = Phase::Lines as u8;
            side.window = work.window as u16;
            false
        }
        Action::LengthDigit => {
            side.left =
                side.left.saturating_mul(10).saturating_add(u32::from(byte.wrapping_sub(b'0') & 0x0f));
            false
        }
        Action::ChunkDigit => {
            // Letters of both cases stand at 1 in their low four bits.
            let digit = u32::from(byte & 0x0f) + if byte >= b'A' { 9 } else { 0 };
            side.left = if side.left >> 28 == 0 { side.left << 4 | digit } else { Side::UNTIL_CLOSE };
            false
        }
        Action::EndOfChunkSize => {
            if side.left == 0 {
                side.enter(Phase::Trailer, LINE);
            } else {
                side.enter(Phase::Chunk, side.content);
                side.window = side.saved;
            }
            true
        }
        Action::EndOfHead => {
            end_of_head(work);
            true
        }
        Action::Skip => {
            side.window = 0;
            true
        }
    }
}

/// Ends the reading where nothing known begins.
#[inline(always)]
fn unknown(work: &mut Work) {
    let side = &mut work.side;
    let known = side.flags & Side::KNOWN != 0;
    if known && Protocol::is_introduced(side.greeting) {
        // The protocol was told, and what follows is no login.
        side.phase = Phase::Named as u8;
    } else if known || side.greeting != 0 || side.is(Phase::Lost) {
        work.begin(Phase::Lost);
    } else {
        side.phase = Phase::Opaque as u8;
    }
}

/// Decides how long the body is (RFC 9112 §6.3), and begins it.
#[inline(always)]
fn end_of_head(work: &mut Work) {
    let response = work.side.head & Head::RESPONSE != 0;
    let mut no_body = work.side.head & Head::NO_BODY != 0 || work.side.is(Phase::Trailer);
    if response && work.asked_head != 0 {
        work.asked_head = 0;
        no_body = true;
    }
    if work.side.head & Head::HEAD_METHOD != 0 {
        work.side.flags |= Side::ASKED_HEAD;
    }
    let window = work.window as u16;
    let side = &mut work.side;
    side.depth = 0;
    if no_body {
        work.begin(Phase::Start);
    } else if side.head & Head::CHUNKED != 0 {
        side.content = CONTENT;
        side.saved = window;
        begin_chunk_size(side);
    } else if side.head & Head::LENGTH != 0 && side.left > 0 || response && side.head & Head::LENGTH == 0 {
        if side.head & Head::LENGTH == 0 {
            side.left = Side::UNTIL_CLOSE;
        }
        side.enter(Phase::Body, CONTENT);
        side.window = window;
    } else {
        work.begin(Phase::Start);
    }
}

mod frame;
mod hello;
mod token;
mod work;

use token::Action;
use work::HITS;
pub use work::{Scanned, Work};

#[cfg(test)]
mod tests;
