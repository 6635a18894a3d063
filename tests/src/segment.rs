//! Owns a captured IPv4 segment that tests take apart: whose it is, what it carries, and the same bytes cut otherwise.

use std::{collections::HashMap, net::Ipv4Addr};

use anyhow::Result;

use crate::pcap;

/// The pod behind the interface on which the captures were taken.
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const ETHERNET: usize = 14;
const FIN: u8 = 1;

/// An IPv4 frame of a capture.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The frame, from the Ethernet header on.
    pub frame: Vec<u8>,
    /// The pod behind the interface has sent it.
    pub from_pod: bool,
    transport: usize,
    payload: usize,
}

/// The connections of a capture that comes with the tests, each with its segments in order.
///
/// # Errors
///
/// The capture cannot be read.
///
/// # Panics
///
/// As [`Segment::of`].
pub fn connections(capture: &str) -> Result<Vec<Vec<Segment>>> {
    let mut connections: HashMap<[Vec<u8>; 2], Vec<Segment>> = HashMap::new();
    for captured in pcap::read(capture)? {
        let segment = Segment::of(captured.frame);
        connections.entry(segment.connection()).or_default().push(segment);
    }
    Ok(connections.into_values().collect())
}

#[expect(clippy::indexing_slicing, reason = "captures are whole; a test panics where one is not")]
impl Segment {
    /// Finds the headers of an Ethernet frame that carries TCP over IPv4.
    ///
    /// # Panics
    ///
    /// The frame is cut short.
    #[must_use]
    pub fn of(frame: Vec<u8>) -> Self {
        let transport = ETHERNET + usize::from(frame[ETHERNET] & 0x0f) * 4;
        let payload = transport + usize::from(frame[transport + 12] >> 4) * 4;
        let from_pod = frame[26..30] == POD.octets();
        Self { frame, from_pod, transport, payload }
    }

    /// Both ends, the same for both directions.
    #[must_use]
    pub fn connection(&self) -> [Vec<u8>; 2] {
        let end = |address: usize, port: usize| {
            [&self.frame[address..address + 4], &self.frame[port..port + 2]].concat()
        };
        let mut ends = [end(26, self.transport), end(30, self.transport + 2)];
        ends.sort_unstable();
        ends
    }

    /// What it carries.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.frame[self.payload..]
    }

    /// Whether it is a server's agreement to speak WebSocket (RFC 6455 §4.2.2).
    #[must_use]
    pub fn switches(&self) -> bool {
        self.payload().starts_with(b"HTTP/1.1 101 ")
    }

    /// The segment as two, of which the first has `at` bytes.
    #[must_use]
    pub fn split(&self, at: usize) -> [Self; 2] {
        [self.cut(0, at), self.cut(at, self.payload().len())]
    }

    /// The bytes of it from `begin` up to `end`, as a segment.
    ///
    /// # Panics
    ///
    /// It has no so many bytes.
    #[must_use]
    pub fn cut(&self, begin: usize, end: usize) -> Self {
        let mut cut = self.clone();
        if end < self.payload().len() {
            cut.frame[self.transport + 13] &= !FIN;
        }
        cut.frame.truncate(self.payload + end);
        cut.frame.drain(self.payload..self.payload + begin);
        let mut moved = u32::try_from(begin).unwrap_or_default();
        for byte in cut.frame[self.transport + 4..self.transport + 8].iter_mut().rev() {
            let sum = u32::from(*byte) + moved;
            *byte = (sum & 0xff) as u8;
            moved = sum >> 8;
        }
        let length = u16::try_from(cut.frame.len() - ETHERNET).unwrap_or_default();
        cut.frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&length.to_be_bytes());
        cut
    }
}
