//! Owns the life of a flow: from its SYN, or from payload met in mid-stream, to a verdict in an edge.
//!
//! A packet of a flow that is not tracked costs one read of the filter. The filter counts the flows in each
//! of its slots, raised before a flow is inserted and lowered only by whoever removed it, so it may be too
//! high and never too low. Nothing here decides on a packet's fate.

use core::ops::DerefMut;

mod account;
mod attention;
mod pickup;
mod slot;
mod verdict;

use account::account;
pub use attention::attention;
use slot::Slot;
#[cfg(any(test, feature = "host"))]
pub use slot::filter_of;
use verdict::{judge, refuse, settle};

use crate::{
    budget::Claim,
    counter::Counter,
    edge::{EdgeKey, EdgeValue},
    evidence::Evidence,
    flow::{Flow, FlowKey, Side},
    packet::{Glance, Packet, Segment, glance, walk},
    scan::{Phase, Scanned},
    verdict::{Protocol, Verdict},
};

/// The maps, the clock and the settings that tracking works with.
///
/// In the kernel these are BPF maps, which other CPUs work on at the same time: every call stands alone.
pub trait Store {
    /// Nanoseconds of the monotonic clock.
    fn now(&self) -> u64;
    /// A packet that misses the filter is looked at if its hash is below this; 0 for none.
    fn sample_below(&self) -> u32;
    /// Index of the interface that the packet passes.
    fn ifindex(&self) -> u32;
    /// Counts one.
    fn count(&self, counter: Counter);

    /// A slot of the filter: how many flows it holds, and in its high half how many of them are quiet.
    fn filter(&self, slot: u32) -> u32;
    /// Adds to a slot of the filter, atomically; below zero by wrapping around.
    fn adjust(&self, slot: u32, by: u32);

    /// A flow, if it is tracked.
    fn flow<'a>(&'a self, key: &FlowKey) -> Option<impl DerefMut<Target = Flow> + use<'a, Self>>;
    /// Inserts a flow that is not there; false if it is, or if the map is full.
    fn insert_flow(&self, key: &FlowKey, flow: &Flow) -> bool;
    /// Removes a flow; false if it was not there.
    fn remove_flow(&self, key: &FlowKey) -> bool;

    /// Lets `with` work on an edge, if it is there.
    fn edge<R>(&self, key: &EdgeKey, with: impl FnOnce(&mut EdgeValue) -> R) -> Option<R>;
    /// Inserts an edge that is not there; false if it is, or if the map is full.
    fn insert_edge(&self, key: &EdgeKey, value: &EdgeValue) -> bool;
    /// Sends an event; false if there was no room for it.
    fn emit(&self, key: &EdgeKey, value: &EdgeValue, client_port: u16) -> bool;
    /// Sends the hello of the last scan, which made this edge; false if there was no room for it.
    fn emit_hello(&self, key: &EdgeKey) -> bool;

    /// Room for what is worked on; `None` while it is in use, which it never is.
    fn desk(&self) -> Option<impl DerefMut<Target = Desk>>;

    /// Reads payload as what a side says next.
    fn scan(&self, key: &FlowKey, side: &mut Side, reading: Reading) -> Scanned;

    /// Whether the budget of this CPU grants a claim.
    fn grants(&self, claim: Claim) -> bool;
    /// Charges the budget with the packet, which was begun at this time.
    fn spend(&self, began_ns: u64);
}

/// What is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Where the bytes begin in the packet.
    pub at: u32,
    /// How many they are.
    pub len: u32,
    /// The other side waits for an answer to `HEAD`.
    pub asked_head: bool,
}

/// Bytes of a client's commands that are read.
const COMMANDS_WINDOW: u16 = 4096;

/// Packets in a row without news after which a flow is one that keeps saying the same.
const QUIET: u8 = 16;

/// What is worked on for one packet. It is too much for the 512 bytes of stack that a BPF program has.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Desk {
    /// When the packet was begun, in nanoseconds of the monotonic clock.
    began_ns: u64,
    segment: Segment,
    key: FlowKey,
    new: Flow,
    edge: EdgeKey,
    value: EdgeValue,
    /// The packet ended a client's hello.
    hello: bool,
}

/// What is to be done after [`attend`]: a set of [`Todo::ACCOUNT`] and its siblings.
///
/// The parts of a packet's work are taken one after the other, not nested, for the stack's sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Todo(pub u32);

impl Todo {
    /// Nothing.
    pub const NOTHING: Self = Self(0);
    /// The flow is to be counted in its edge.
    pub const ACCOUNT: Self = Self(1 << 0);
    /// The flow is to be removed.
    pub const REMOVE: Self = Self(1 << 1);
    /// The packet opens another connection on the ports of the one that is removed: attend it again.
    pub const AGAIN: Self = Self(1 << 2);
    /// The flow is counted as quiet in its slot of the filter.
    const QUIET: Self = Self(1 << 3);
    /// The flow is to be counted as quiet if it has no news.
    const REST: Self = Self(1 << 4);

    const fn with(self, other: Self, wanted: bool) -> Self {
        if wanted { Self(self.0 | other.0) } else { self }
    }

    /// Whether `other` is in the set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Looks at one packet: all parts of its work in their order.
pub fn packet<P: Packet, S: Store>(packet: &P, store: &S, from_pod: bool) {
    if !attention(packet, store) {
        return;
    }
    if begin(packet, packet, store) {
        let todo = attend(packet, store, from_pod);
        conclude(store, todo);
        if todo.has(Todo::AGAIN) {
            conclude(store, attend(packet, store, from_pod));
        }
    }
    end(store);
}

/// Begins the work on a packet: puts its segment on the desk; false if it has none.
///
/// Headers are read in place where they lie there, in `linear`, and else from `paged`.
#[inline(always)]
pub fn begin<L: Packet, P: Packet, S: Store>(linear: &L, paged: &P, store: &S) -> bool {
    let now = store.now();
    let Some(mut desk) = store.desk() else {
        return false;
    };
    desk.began_ns = now;
    if let Glance::Segment(segment) = glance(linear) {
        desk.segment = segment;
        return true;
    }
    match walk(paged) {
        Ok(segment) => {
            desk.segment = segment;
            true
        }
        Err(counter) => {
            store.count(counter);
            false
        }
    }
}

/// Ends the work on a packet: charges the budget with what it has cost.
#[inline(always)]
pub fn end<S: Store>(store: &S) {
    let Some(began_ns) = store.desk().map(|desk| desk.began_ns) else {
        return;
    };
    store.spend(began_ns);
}

/// Looks at the segment on the desk. `from_pod` says that the pod behind the interface sent it.
#[inline(always)]
pub fn attend<P: Packet, S: Store>(packet: &P, store: &S, from_pod: bool) -> Todo {
    let Some(mut desk) = store.desk() else {
        return Todo::NOTHING;
    };
    let desk: &mut Desk = &mut desk;
    desk.hello = false;
    let side = FlowKey::of(&desk.segment, store.ifindex(), &mut desk.key);
    let slot = desk.key.slot();
    let reached = store.filter(slot) != 0;
    let mut flow = if reached { store.flow(&desk.key) } else { None };
    let mut met = false;
    if flow.is_none() {
        if reached {
            store.count(Counter::FilterFalseHit);
        }
        let flags = if (side == 0) == from_pod { Flow::LOW_IS_POD } else { 0 };
        if desk.segment.has(Segment::SYN) {
            // Whoever answers a SYN is the server.
            let client = if desk.segment.has(Segment::ACK) { 1 - side } else { side };
            store.count(Counter::Opened);
            desk.new.begin(desk.began_ns, client, flags);
        } else if pickup::is_sampled(store, &desk.segment, slot) {
            met = true;
            desk.new.begin(desk.began_ns, Flow::UNKNOWN_SIDE, flags | Flow::PICKED_UP);
            let [low, high] = &mut desk.new.sides;
            (low.flags, high.flags) = (Side::MET, Side::MET);
        } else {
            return Todo::NOTHING;
        }
        if !insert(store, &desk.key, &desk.new, slot) {
            return Todo::NOTHING;
        }
        flow = store.flow(&desk.key);
    }
    let Some(mut flow) = flow else {
        return Todo::NOTHING;
    };
    let flow: &mut Flow = &mut flow;
    if (met || missed_start(flow, &desk.segment, side)) && pickup::is_record(packet, &desk.segment) {
        flow.verdict = Verdict::Tls as u8;
        let [low, high] = &mut flow.sides;
        (low.phase, high.phase) = (Phase::Tls as u8, Phase::Tls as u8);
    }
    advance(store, desk, flow, side)
}

/// Whether the first words of a side were never seen, and nothing is known of its flow yet: its segments are
/// then like those of a flow that is met in mid-stream.
#[inline(always)]
const fn missed_start(flow: &mut Flow, segment: &Segment, side: u8) -> bool {
    let undecided = flow.verdict == Verdict::Undecided as u8;
    let (this, _other) = flow.sides_of(side);
    let ahead = segment.sequence.wrapping_sub(this.next) as i32;
    undecided
        && ahead > 0
        && this.flags & (Side::SYNCED | Side::KNOWN) == Side::SYNCED
        && !this.is(Phase::Hello)
        && !segment.has(Segment::SYN | Segment::RST)
}

/// Does what [`attend`] has left to do with the flow of the packet.
#[inline(always)]
pub fn conclude<S: Store>(store: &S, todo: Todo) {
    if todo == Todo::NOTHING {
        return;
    }
    let Some(mut desk) = store.desk() else {
        return;
    };
    let desk: &mut Desk = &mut desk;
    let mut quiet = todo.has(Todo::QUIET);
    if todo.has(Todo(Todo::ACCOUNT.0 | Todo::REST.0))
        && let Some(mut flow) = store.flow(&desk.key)
    {
        if todo.has(Todo::ACCOUNT) {
            account(store, desk, &mut flow);
        }
        if todo.has(Todo::REST) {
            rest(store, &desk.key, &mut flow);
        }
        quiet = flow.flags & Flow::QUIET != 0;
    }
    if todo.has(Todo::REMOVE) {
        remove(store, &desk.key, quiet);
    }
}

/// Removes a flow that has been silent for `idle_ns`; true if it did.
#[inline(always)]
pub fn expire<S: Store>(store: &S, key: &FlowKey, idle_ns: u64) -> bool {
    let Some(mut desk) = store.desk() else {
        return false;
    };
    let Some(mut flow) = store.flow(key) else {
        return false;
    };
    if store.now().saturating_sub(flow.last_ns) < idle_ns {
        return false;
    }
    desk.key = *key;
    desk.hello = false;
    if settle(store, &mut flow) {
        account(store, &mut desk, &mut flow);
    }
    let quiet = flow.flags & Flow::QUIET != 0;
    drop(flow);
    if !remove(store, key, quiet) {
        return false;
    }
    store.count(Counter::Expired);
    true
}

/// Inserts a flow under the filter; false if the map is full.
#[inline(always)]
fn insert<S: Store>(store: &S, key: &FlowKey, flow: &Flow, slot: u32) -> bool {
    store.adjust(slot, Slot::FLOW);
    if store.insert_flow(key, flow) {
        return true;
    }
    store.adjust(slot, Slot::FLOW.wrapping_neg());
    store.count(Counter::FlowMapFull);
    false
}

/// Removes a flow and lowers the filter; false if somebody else did.
#[inline(always)]
fn remove<S: Store>(store: &S, key: &FlowKey, quiet: bool) -> bool {
    if !store.remove_flow(key) {
        return false;
    }
    let held = if quiet { Slot::FLOW + Slot::QUIET } else { Slot::FLOW };
    store.adjust(key.slot(), held.wrapping_neg());
    true
}

/// A segment of a flow that is tracked.
#[inline(always)]
fn advance<S: Store>(store: &S, desk: &mut Desk, flow: &mut Flow, side: u8) -> Todo {
    let segment = &desk.segment;
    if segment.has(Segment::SYN) && synchronise(flow, segment, side) {
        let todo = Todo::REMOVE.with(Todo::AGAIN, true).with(Todo::QUIET, flow.flags & Flow::QUIET != 0);
        return todo.with(Todo::ACCOUNT, settle(store, flow));
    }
    flow.last_ns = desk.began_ns;
    let reset = segment.has(Segment::RST);
    // RFC 9293 §3.5.2: a reset may carry a diagnostic text, which is no data.
    let is_record = flow.flags & Flow::PICKED_UP != 0 && flow.verdict == Verdict::Tls as u8;
    let goes_on = {
        let settled = flow.verdict == Verdict::Tls as u8;
        let (this, _other) = flow.sides_of(side);
        settled && segment.payload_len > 0 && this.is_settled()
    };
    if segment.payload_len > 0 && !reset && !is_record {
        desk.hello = payload(store, &desk.key, flow, segment, side);
        judge(flow, side);
        flow.quiet = flow.quiet.saturating_add(1);
    }
    let mut over = reset;
    if reset || segment.has(Segment::FIN) {
        refuse(flow, side);
        let (this, other) = flow.sides_of(side);
        this.flags |= Side::FIN;
        over |= other.flags & Side::FIN != 0;
    }
    let met_now = flow.flags & (Flow::PICKED_UP | Flow::COUNTED) == Flow::PICKED_UP;
    if met_now {
        // A flow that is met in mid-stream is none if it does not say at once what it is.
        if flow.verdict == Verdict::Undecided as u8 || flow.verdict == Verdict::Opaque as u8 {
            return Todo::REMOVE.with(Todo::QUIET, flow.flags & Flow::QUIET != 0);
        }
        store.count(Counter::PickedUp);
    }
    let settled = if over { settle(store, flow) } else { flow.verdict != Verdict::Undecided as u8 };
    let watched = match flow.verdict {
        v if v == Verdict::Undecided as u8 => true,
        // What its beginning has named is read no further; only the first word of its answer is waited for.
        v if v == Verdict::Plaintext as u8 => {
            let [low, high] = &flow.sides;
            let named = low.is(Phase::Named) || high.is(Phase::Named);
            let answers = in_first_word(low) || in_first_word(high);
            !named || flow.flags & Flow::ANSWERED == 0 || answers
        }
        // The server's hello says which version it chose; a client that goes on has had it already.
        v if v == Verdict::Tls as u8 => !is_record && !goes_on && !both_settled(flow),
        _ => false,
    };
    let quiet = flow.flags & Flow::QUIET != 0;
    Todo::NOTHING
        .with(Todo::ACCOUNT, settled)
        .with(Todo::REST, !quiet && flow.quiet >= QUIET)
        .with(Todo::REMOVE, over || !watched)
        .with(Todo::QUIET, quiet)
}

/// Counts the flow as quiet if it has been without news for long.
#[inline(always)]
fn rest<S: Store>(store: &S, key: &FlowKey, flow: &mut Flow) {
    if flow.quiet >= QUIET && flow.flags & Flow::QUIET == 0 {
        flow.flags |= Flow::QUIET;
        store.adjust(key.slot(), Slot::QUIET);
    }
}

/// The flow has news.
#[inline(always)]
fn wake<S: Store>(store: &S, key: &FlowKey, flow: &mut Flow) {
    flow.quiet = 0;
    if flow.flags & Flow::QUIET != 0 {
        flow.flags &= !Flow::QUIET;
        store.adjust(key.slot(), Slot::QUIET.wrapping_neg());
    }
}

/// Whether a side has said too little to tell what it says.
#[inline(always)]
const fn in_first_word(side: &Side) -> bool {
    side.is(Phase::Start) && side.flags & Side::SPOKE != 0
}

#[inline(always)]
const fn both_settled(flow: &Flow) -> bool {
    let [low, high] = &flow.sides;
    low.is_settled() && high.is_settled()
}

/// A SYN: the first word of a side, or a retransmission of it. True if it opens another connection.
#[inline(always)]
const fn synchronise(flow: &mut Flow, segment: &Segment, side: u8) -> bool {
    let first = segment.sequence.wrapping_add(1);
    let (this, _other) = flow.sides_of(side);
    if this.flags & Side::SPOKE == 0 {
        this.next = first;
        this.flags |= Side::SYNCED;
        return false;
    }
    this.next != first && !segment.has(Segment::ACK)
}

/// The payload of a segment, as far as it is new. True if it ends a client's hello.
#[inline(always)]
fn payload<S: Store>(store: &S, key: &FlowKey, flow: &mut Flow, segment: &Segment, side: u8) -> bool {
    let mut at = segment.payload_at;
    let mut len = segment.payload_len;
    // TCP Fast Open (RFC 7413): data with a SYN stands one past its sequence number.
    let first = segment.sequence.wrapping_add(u32::from(segment.has(Segment::SYN)));
    let (this, other) = flow.sides_of(side);
    if this.flags & Side::SYNCED != 0 {
        let ahead = first.wrapping_sub(this.next) as i32;
        if ahead < 0 {
            let old = ahead.unsigned_abs();
            if old >= len {
                // A retransmission, or a keep-alive probe (RFC 9293 §3.8.4).
                store.count(Counter::Retransmission);
                return false;
            }
            at += old;
            len -= old;
        } else if ahead > 0 {
            store.count(Counter::SequenceGap);
            this.lose();
        }
    }
    this.next = first.wrapping_add(segment.payload_len);
    this.flags |= Side::SYNCED | Side::SPOKE;
    if this.is_settled() {
        return false;
    }
    if this.is(Phase::Start) && other.speaks_frames() {
        // Only the client sends a preface (RFC 9113 §3.4): the other side begins with a frame.
        this.begin_frames();
    }
    let answers_greeting = other.greeting == Protocol::Imap as u8 || other.greeting == Protocol::Pop3 as u8;
    if this.is(Phase::Start) && other.is(Phase::Commands) && answers_greeting {
        // These clients begin with a tag or a word of their own, which says nothing without the greeting.
        this.begin_commands(other.greeting, COMMANDS_WINDOW);
    }
    let asked_head = other.flags & Side::ASKED_HEAD != 0;
    let found = store.scan(key, this, Reading { at, len, asked_head });
    let sni_hash = this.hash;
    if found.answered_head {
        other.flags &= !Side::ASKED_HEAD;
    }
    let counted_tls = flow.verdict == Verdict::Tls as u8 && flow.flags & Flow::COUNTED != 0;
    // The edge of a TLS connection is that of its first hello; the server adds what it chose.
    flow.evidence |= if counted_tls { found.evidence & Evidence::CHOSEN.0 } else { found.evidence };
    flow.methods |= found.methods;
    if found.protocol > flow.protocol {
        flow.protocol = found.protocol;
    }
    if found.hello && !counted_tls {
        flow.sni_hash = sni_hash;
    }
    found.hello && !counted_tls
}

#[cfg(test)]
mod tests;
