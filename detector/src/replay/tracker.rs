//! Owns the way of packets into the host's flow tracker, and what is counted on it.
//!
//! All interfaces of a capture go into one store: a packet that was captured on several of them is a
//! retransmission to it, so a connection counts once. The kernel looks at one in many packets of connections
//! that it does not track; here every one is looked at, so the connections that were settled must be
//! remembered, or each record of a TLS connection would count as another.

mod settled;

use std::net::{IpAddr, Ipv6Addr};

use detector_ebpf::{
    counter::Counter,
    edge::{EdgeKey, EdgeValue},
    event::HelloEvent,
    flow::FlowKey,
    host::{Host, Settings},
    packet::{Frame, Segment, Words, walk},
};

use self::settled::Settled;
use super::capture::Packet;
use crate::{
    cluster::{Holder, Store},
    flows::is_private,
};

/// Silence after which a connection is no longer followed, as `run` has it by default.
const IDLE: u64 = 300_000_000_000;
/// How often, in the capture's time, silent connections are looked for.
const EXPIRE: u64 = 10_000_000_000;
/// Settled connections that are remembered; twice as many at the most.
const SETTLED: usize = 131_072;

/// What was counted of the packets themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes of them that were captured.
    pub bytes: u64,
    /// Packets of which less was captured than was on the wire.
    pub truncated: u64,
    /// Packets of link types that are not read.
    pub unread: u64,
    /// Time of the earliest packet, in nanoseconds since 1970.
    pub first: Option<u64>,
    /// Time of the latest packet, in nanoseconds since 1970.
    pub last: Option<u64>,
}

impl Tally {
    fn add(&mut self, packet: &Packet<'_>) {
        let Self { packets, bytes, truncated, unread, first, last } = self;
        *packets += 1;
        *bytes += packet.data.len() as u64;
        *truncated += u64::from(packet.data.len() < packet.original_len);
        *unread += u64::from(packet.link.is_err());
        if let Some(time) = packet.time {
            *first = Some(first.map_or(time, |first| first.min(time)));
            *last = Some(last.map_or(time, |last| last.max(time)));
        }
    }
}

/// What a capture was found to hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracked {
    pub(super) tally: Tally,
    pub(super) edges: Vec<(EdgeKey, EdgeValue)>,
    /// The hellos that made edges: as many as there are edges, at the most.
    pub(super) hellos: Vec<HelloEvent>,
    /// The tracker's counters, in the order of [`Counter::ALL`].
    pub(super) counters: [u64; Counter::COUNT as usize],
    /// Connections that were open when the capture ended.
    pub(super) open: u64,
    /// A link type that is not read.
    pub(super) unread_link: Option<u32>,
}

/// Tracks the flows of one capture.
pub(super) struct Tracker<'s> {
    store: &'s Store,
    host: Host,
    settled: Settled,
    scratch: Vec<u8>,
    /// Time of the last packet that had one.
    now: u64,
    expired: u64,
    rotated: u64,
    tally: Tally,
    hellos: Vec<HelloEvent>,
    max_edges: usize,
    unread_link: Option<u32>,
}

impl<'s> Tracker<'s> {
    pub(super) fn new(store: &'s Store, settings: Settings) -> Self {
        Self {
            store,
            host: Host::new(0, settings),
            settled: Settled::new(SETTLED),
            scratch: Vec::new(),
            now: 0,
            expired: 0,
            rotated: 0,
            tally: Tally::default(),
            hellos: Vec::new(),
            max_edges: settings.max_edges,
            unread_link: None,
        }
    }

    pub(super) const fn packets(&self) -> u64 {
        self.tally.packets
    }

    pub(super) fn packet(&mut self, packet: &Packet<'_>) {
        let Packet { link, time, data, original_len, received } = *packet;
        self.tally.add(packet);
        self.now = time.unwrap_or(self.now);
        self.forget();
        match link {
            Err(code) => {
                self.unread_link = Some(code);
            }
            Ok(link) => {
                let received = received.or_else(|| link.received(data));
                let mut scratch = std::mem::take(&mut self.scratch);
                self.frame(link.frame(data, original_len, &mut scratch), received);
                self.scratch = scratch;
            }
        }
        // All that an event says stands in its edge as well.
        drop(self.host.take_events());
        let room = self.max_edges.saturating_sub(self.hellos.len());
        self.hellos.extend(self.host.take_hellos().into_iter().take(room));
    }

    /// Ends all connections that are still open, and gives what was found.
    pub(super) fn finish(self) -> Tracked {
        let Self { host, now, tally, hellos, unread_link, .. } = self;
        let open = host.expire(now, 0) as u64;
        let mut counters = host.counters();
        // Those did not fall silent.
        if let Some(expired) = counters.get_mut(Counter::Expired as usize) {
            *expired = expired.saturating_sub(open);
        }
        Tracked { tally, edges: host.edges(), hellos, counters, open, unread_link }
    }

    fn frame(&mut self, frame: &[u8], received: Option<bool>) {
        // What cannot be walked is counted by the tracker.
        let Ok(segment) = walk(&Frame(frame)) else { return self.host.packet(frame, self.now, false) };
        let mut key = FlowKey::default();
        FlowKey::of(&segment, 0, &mut key);
        if segment.has(Segment::SYN) && !segment.has(Segment::ACK) {
            self.settled.remove(&key);
        } else if self.settled.contains(&key) {
            return;
        }
        let (flows, met) = (self.host.flows(), self.met());
        self.host.packet(frame, self.now, self.is_from_pod(&segment, received));
        let now = self.host.flows();
        if now < flows || now == flows && self.met() != met {
            self.settled.insert(key);
        }
    }

    /// Connections that were met in mid-stream and counted.
    fn met(&self) -> u64 {
        self.host.counters().get(Counter::PickedUp as usize).copied().unwrap_or_default()
    }

    /// Whether the pod's side sent a segment, for the store and for the class of the addresses.
    ///
    /// A capture does not say which side is the pod's, so that is decided by who has the addresses. Where
    /// both or neither can be a pod's, what a node received came from the client's pod and what it sent out
    /// goes to the server's: so the two views of a connection before and after DNAT are told apart.
    fn is_from_pod(&self, segment: &Segment, received: Option<bool>) -> bool {
        let from_client = if segment.has(Segment::SYN) {
            !segment.has(Segment::ACK)
        } else {
            // As the tracker guesses: servers listen on lower ports than clients are given.
            segment.source_port > segment.destination_port
        };
        let (client, server) = if from_client {
            (&segment.source, &segment.destination)
        } else {
            (&segment.destination, &segment.source)
        };
        let client_is_pod = match (self.may_be_pod(client), self.may_be_pod(server)) {
            (true, false) => true,
            (false, true) => false,
            _ => received.is_none_or(|received| received == from_client),
        };
        client_is_pod == from_client
    }

    fn may_be_pod(&self, words: &Words) -> bool {
        let [a, b, c, d] = words.map(|word| u128::from(u32::from_be(word)));
        let address: IpAddr = Ipv6Addr::from_bits(a << 96 | b << 64 | c << 32 | d).to_canonical();
        match self.store.lookup(address) {
            Some(Holder::Pod(_)) => true,
            Some(Holder::Service(_) | Holder::Node(_)) => false,
            None => is_private(address),
        }
    }

    /// Keeps memory flat: what is silent is let go as the capture's time goes on.
    fn forget(&mut self) {
        if self.now.abs_diff(self.expired) >= EXPIRE {
            self.expired = self.now;
            self.host.expire(self.now, IDLE);
        }
        if self.now.abs_diff(self.rotated) >= IDLE {
            self.rotated = self.now;
            self.settled.rotate();
        }
    }
}
