//! Owns the entries of the fuzz targets: what is done with any bytes, and what must hold whatever they are.
//!
//! `fuzz/` explores with them, the tests here replay its corpus, and the frames of [`frames`] go through the
//! loaded programs as well. An entry panics where a promise is broken.

use std::vec::Vec;

use crate::{
    counter::Counter,
    edge::{EdgeKey, EdgeValue},
    flow::{FlowKey, Side, slot_of},
    host::{Host, Settings},
    packet::{self, Frame, Glance},
    scan::{self, Phase, Scanned, Work},
};

mod input;

use input::{Input, Turn};

/// An entry: it takes any bytes.
pub type Entry = fn(&[u8]);

/// The entries under the names of their targets and of their folders in `fuzz/corpus`.
pub const TARGETS: [(&str, Entry); 4] =
    [("walk", walk), ("hello", hello), ("stream", stream), ("track", track)];

/// Walks a frame: a glance says nothing else, and what is found lies within the frame.
pub fn walk(frame: &[u8]) {
    let walked = packet::walk(&Frame(frame));
    match packet::glance(&Frame(frame)) {
        Glance::Segment(segment) => assert_eq!(walked, Ok(segment)),
        Glance::Other(counter) => assert_eq!(walked, Err(counter)),
        Glance::Unclear => {}
    }
    let Ok(segment) = walked else {
        return;
    };
    let end = u64::from(segment.payload_at) + u64::from(segment.payload_len);
    assert!(end <= frame.len() as u64, "{segment:?} ends in a frame of {}", frame.len());
    let mut turned = segment;
    (turned.source, turned.destination) = (segment.destination, segment.source);
    (turned.source_port, turned.destination_port) = (segment.destination_port, segment.source_port);
    let (mut key, mut turned_key) = (FlowKey::default(), FlowKey::default());
    FlowKey::of(&segment, 1, &mut key);
    FlowKey::of(&turned, 1, &mut turned_key);
    assert_eq!(key, turned_key, "both directions are one flow");
    assert_eq!(key.slot(), slot_of(&segment));
}

/// Reads a stream that begins with the eleven bytes of a hello, whole and split: it is TLS, and says the same, over
/// records of any size too.
pub fn hello(input: &[u8]) {
    let mut input = Input(input);
    let kind = input.byte();
    let cuts = input.cuts();
    let mut stream = input::HELLO.to_vec();
    stream.extend_from_slice(input.rest());
    let handshake = if kind & 1 == 0 { 1 } else { 2 };
    for (at, byte) in [(2, kind >> 1 & 3), (5, handshake), (10, kind >> 3 & 3)] {
        if let Some(place) = stream.get_mut(at) {
            *place = byte;
        }
    }
    let whole = read(&stream, &[], WINDOW, false);
    assert!(!whole.lost, "{whole:?}");
    assert!(whole.phase == Phase::Hello as u8 || whole.phase == Phase::Tls as u8, "{whole:?}");
    assert_eq!(read(&stream, &cuts, WINDOW, false), whole, "split at {cuts:?}");
    if kind >> 5 == 0 {
        return;
    }
    // The same handshake in one record, and in records of this size.
    let size = usize::from(kind >> 5) * RECORD_STEP;
    let one = input::records(&stream, usize::from(u16::MAX));
    let whole = read(&one, &[], WINDOW, false);
    let many = input::records(&stream, size);
    assert_eq!(read(&many, &[], WINDOW, false), whole, "in records of {size}");
    assert_eq!(read(&many, &cuts, WINDOW, false), whole, "in records of {size}, split at {cuts:?}");
}

/// Records of a hello are this long, or a few times as long.
const RECORD_STEP: usize = 24;

/// Reads any stream, whole and split: it shows the same, unless its place is lost.
///
/// Where a place is found again is a matter of segments: the next one that begins like a message is one.
pub fn stream(input: &[u8]) {
    let mut input = Input(input);
    let kind = input.byte();
    let cuts = input.cuts();
    let stream = input.rest();
    let window = match kind >> 1 & 3 {
        0 => WINDOW,
        1 => 100,
        2 => 0,
        _ => u32::MAX,
    };
    let whole = read(stream, &[], window, kind & 1 != 0);
    let split = read(stream, &cuts, window, kind & 1 != 0);
    if whole.lost || split.lost {
        return;
    }
    assert_eq!(split, whole, "split at {cuts:?}");
}

/// Bytes of a body that are scanned by default.
const WINDOW: u32 = 4096;

/// What a stream has shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    lost: bool,
    phase: u8,
    protocol: u8,
    evidence: u64,
    methods: u64,
    answered_head: bool,
    hello: bool,
    hash: u32,
    server_name: Vec<u8>,
    protocols: Vec<Vec<u8>>,
}

/// Reads a stream in segments that end at `cuts`, and at its end.
fn read(stream: &[u8], cuts: &[usize], window: u32, mut asked_head: bool) -> Shown {
    let mut work = Work::new(Side::new(), window);
    let mut shown = Shown::default();
    let mut from = 0;
    for end in cuts.iter().copied().chain([stream.len()]) {
        let mut rest = stream.get(from..end).unwrap_or_default();
        from += rest.len();
        let side = work.side;
        work.prepare(&side, window, asked_head);
        while !rest.is_empty() {
            let len = rest.len() as u32;
            let taken = scan::step(&Frame(rest), &mut work, 0, len);
            assert!((1..=len).contains(&taken), "a step takes something, and no more than there is");
            rest = rest.get(taken as usize..).unwrap_or_default();
            shown.lost |= work.lost != 0 || work.side.is(Phase::Lost);
        }
        let Scanned { evidence, methods, protocol, answered_head, hello } = work.finish(asked_head);
        shown.evidence |= evidence;
        shown.methods |= methods;
        shown.protocol = shown.protocol.max(protocol);
        shown.answered_head |= answered_head;
        shown.hello |= hello;
        asked_head &= !answered_head;
    }
    shown.phase = work.side.phase;
    shown.hash = work.side.hash;
    shown.server_name = work.record.hello.server_name().to_vec();
    shown.protocols = work.record.hello.protocols().map(<[u8]>::to_vec).collect();
    shown
}

/// Tracks the flows of any frames: the filter is exact, no map outgrows its limit, and the counts add up.
pub fn track(input: &[u8]) {
    let mut input = Input(input);
    let settings = settings(input.byte());
    let host = Host::new(1, settings);
    let mut now = TICK;
    let mut news = 0;
    let mut tcp = 0;
    let mut turns = input.turns();
    while let Some(Turn { frame, from_pod, after_silence }) = turns.next_turn() {
        now += TICK;
        if after_silence {
            now += SILENCE;
            host.expire(now, SILENCE);
        }
        tcp += u64::from(packet::walk(&Frame(&frame)).is_ok());
        host.packet(&frame, now, from_pod);
        news += host.take_events().len();
        assert!(host.flows() <= settings.max_flows);
    }
    assert!(host.filter_is_exact());
    let counted = Totals::of(&host);
    assert!(counted.opened + counted.picked_up <= 2 * tcp, "{counted:?} of {tcp} segments");
    assert!(host.edges().len() <= settings.max_edges);
    assert!(news >= host.edges().len(), "every new edge is news");
    counted.add_up(&host, &settings);

    host.expire(u64::MAX, 0);
    assert_eq!(host.flows(), 0);
    assert!(host.filter_is_exact());
    Totals::of(&host).add_up(&host, &settings);
}

/// The frames of an input of `track`, with whether the pod sent them, and the sample that it is read with.
#[must_use]
pub fn frames(input: &[u8]) -> (u32, Vec<(Vec<u8>, bool)>) {
    let mut input = Input(input);
    let Settings { sample_below, .. } = settings(input.byte());
    let mut turns = input.turns();
    let mut frames = Vec::new();
    while let Some(turn) = turns.next_turn() {
        frames.push((turn.frame, turn.from_pod));
    }
    (sample_below, frames)
}

/// Between two frames.
const TICK: u64 = 1_000_000;
/// Before flows are expired.
const SILENCE: u64 = 1_000_000_000;

fn settings(bits: u8) -> Settings {
    let default = Settings::default();
    Settings {
        sample_below: if bits & 1 == 0 { 0 } else { u32::MAX },
        max_flows: if bits & 2 == 0 { default.max_flows } else { 2 },
        max_edges: if bits & 4 == 0 { default.max_edges } else { 2 },
        budget: if bits & 8 == 0 { default.budget } else { 200 },
        scan_window: if bits & 16 == 0 { WINDOW } else { 100 },
        ..default
    }
}

/// What a host store has counted.
#[derive(Debug)]
struct Totals {
    opened: u64,
    picked_up: u64,
    closed_undecided: u64,
    flow_map_full: u64,
    edge_map_full: u64,
    entered: u64,
    left: u64,
}

impl Totals {
    fn of(host: &Host) -> Self {
        let counters = host.counters();
        let count = |counter: Counter| counters.get(counter as usize).copied().unwrap_or(0);
        let edges = host.edges();
        let sum = |field: fn(&EdgeValue) -> u64| edges.iter().map(|(_, value)| field(value)).sum();
        Self {
            opened: count(Counter::Opened),
            picked_up: count(Counter::PickedUp),
            closed_undecided: count(Counter::ClosedUndecided) + count(Counter::ClosedSilent),
            flow_map_full: count(Counter::FlowMapFull),
            edge_map_full: count(Counter::EdgeMapFull),
            entered: sum(|value| value.entered),
            left: sum(|value| value.left),
        }
    }

    /// A flow is in one edge, was closed undecided, or is tracked.
    fn add_up(&self, host: &Host, settings: &Settings) {
        for (key, value) in host.edges() {
            assert!(value.entered >= value.left, "{key:?} {value:?}");
            // A TLS connection that is met in mid-stream again may be answered, and enters nothing.
            let again = key.flags & EdgeKey::PICKED_UP != 0;
            assert!(again || value.answered <= value.entered, "{key:?} {value:?}");
            assert!(again || value.refused <= value.entered, "{key:?} {value:?}");
        }
        if self.edge_map_full != 0 {
            return;
        }
        let flows = host.flows() as u64;
        let known = self.entered - self.left + self.closed_undecided;
        // Whoever finds the map full was counted as opened, or not at all.
        let met = self.opened + self.picked_up;
        assert!(known <= met, "{self:?}");
        if settings.sample_below == 0 {
            let inserted = met - self.flow_map_full;
            assert!(known <= inserted && inserted <= known + flows, "{self:?} and {flows} flows");
        } else {
            assert!(self.opened <= known + flows + self.flow_map_full, "{self:?} and {flows} flows");
        }
    }
}

#[cfg(test)]
mod tests;
