//! Every stream of every capture, split once more at every byte of its first two kilobytes: wherever a segment ends,
//! the connection is in the same edge, and of HTTP and MCP no evidence is lost.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test panics where something is not as it should be"
)]

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::Ipv4Addr,
};

use detector_ebpf::{
    edge::EdgeKey,
    evidence::Evidence,
    host::{Host, Settings},
    verdict::Protocol,
};
use detector_tests::pcap;

/// Bytes of each direction at which it is split.
const FIRST: usize = 2048;
const ETHERNET: usize = 14;
const FIN: u8 = 1;

/// An IPv4 frame of a capture.
#[derive(Clone)]
struct Segment {
    frame: Vec<u8>,
    transport: usize,
    payload: usize,
    from_pod: bool,
}

impl Segment {
    fn of(frame: Vec<u8>) -> Self {
        let transport = ETHERNET + usize::from(frame[ETHERNET] & 0x0f) * 4;
        let payload = transport + usize::from(frame[transport + 12] >> 4) * 4;
        let from_pod = frame[26..30] == Ipv4Addr::new(10, 244, 1, 2).octets();
        Self { frame, transport, payload, from_pod }
    }

    /// Both ends, the same for both directions.
    fn connection(&self) -> [[u8; 6]; 2] {
        let end = |address: usize, port: usize| {
            let (address, port) = (&self.frame[address..address + 4], &self.frame[port..port + 2]);
            [address, port].concat().try_into().unwrap()
        };
        let mut ends = [end(26, self.transport), end(30, self.transport + 2)];
        ends.sort_unstable();
        ends
    }

    fn len(&self) -> usize {
        self.frame.len() - self.payload
    }

    /// Whether it is a server's agreement to speak WebSocket (RFC 6455 §4.2.2).
    fn switches(&self) -> bool {
        self.frame[self.payload..].starts_with(b"HTTP/1.1 101 ")
    }

    /// The segment as two, of which the first has `at` bytes.
    fn split(&self, at: usize) -> [Self; 2] {
        let [mut first, mut second] = [self.clone(), self.clone()];
        first.frame.truncate(self.payload + at);
        first.frame[self.transport + 13] &= !FIN;
        second.frame.drain(self.payload..self.payload + at);
        let sequence = &mut second.frame[self.transport + 4..self.transport + 8];
        let moved =
            u32::from_be_bytes((&*sequence).try_into().unwrap()).wrapping_add(u32::try_from(at).unwrap());
        sequence.copy_from_slice(&moved.to_be_bytes());
        for half in [&mut first, &mut second] {
            let length = u16::try_from(half.frame.len() - ETHERNET).unwrap_or_default();
            half.frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&length.to_be_bytes());
        }
        [first, second]
    }
}

/// An edge, its connections, and whether they were answered and refused; and what was seen of them.
type Outcome = BTreeMap<(String, u64, u64, u64), (u64, u64)>;

/// The edges that hold connections at the end.
fn outcome<'a>(segments: impl IntoIterator<Item = &'a Segment>, hello_first: bool) -> Outcome {
    // What is met in mid-stream is another matter: where a segment ends decides on what it seems to begin with.
    let host = Host::new(1, Settings { sample_below: 0, ..Settings::default() });
    for segment in segments {
        host.packet(&segment.frame, 1, segment.from_pod);
    }
    host.expire(u64::MAX, 0);
    let edges = host.edges().into_iter().filter(|(_, value)| value.entered > value.left);
    edges
        .map(|(mut key, value)| {
            // Behind a STARTTLS whose answer was split the server's hello may be missed, and with it the version.
            if !hello_first {
                key.tls_version = 0;
            }
            // A login is known by how its message begins, and in these protocols a message begins with a segment.
            let login = value.evidence & Evidence::PASSWORD.0 != 0;
            if login {
                key.flags &= !EdgeKey::CREDENTIALS;
            }
            // What is seen besides the verdict is promised for HTTP and what it carries alone: a greeting that is split
            // may hide which version the server chose later.
            let http = [Protocol::Mcp, Protocol::JsonRpc, Protocol::Http1, Protocol::H2c];
            let promised = http.iter().any(|protocol| *protocol as u8 == key.protocol);
            let seen = if promised { value.evidence } else { 0 };
            let count = value.entered - value.left;
            let (answered, refused) = (value.answered.min(1), value.refused.min(1));
            ((format!("{key:?}"), count, answered, refused), (seen, value.methods))
        })
        .collect()
}

#[test]
fn every_stream_of_every_capture_says_the_same_wherever_it_is_split() {
    let mut splits = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(pcap::folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".pcap") {
            continue;
        }
        let mut connections: HashMap<[[u8; 6]; 2], Vec<Segment>> = HashMap::new();
        for captured in pcap::read(&name).unwrap() {
            let segment = Segment::of(captured.frame);
            connections.entry(segment.connection()).or_default().push(segment);
        }
        for segments in connections.into_values() {
            // What follows such an answer is frames, of which a segment that begins like a message is taken for one.
            if segments.iter().any(Segment::switches) {
                continue;
            }
            let first = segments.iter().find(|segment| segment.len() > 0);
            let hello_first = first.is_some_and(|segment| segment.frame[segment.payload] == 0x16);
            let whole = outcome(&segments, hello_first);
            let mut read = [0, 0];
            for (index, segment) in segments.iter().enumerate() {
                let read = &mut read[usize::from(segment.from_pod)];
                for at in 1..segment.len().min(FIRST.saturating_sub(*read)) {
                    let halves = segment.split(at);
                    let split = segments[..index].iter().chain(&halves).chain(&segments[index + 1..]);
                    let split = outcome(split, hello_first);
                    let same = split.keys().eq(whole.keys())
                        && split.values().zip(whole.values()).all(|(split, whole)| {
                            split.0 & whole.0 == whole.0 && split.1 & whole.1 == whole.1
                        });
                    if !same {
                        wrong.push(format!(
                            "{name}: segment {index}, split behind {at} bytes: {split:?}, not {whole:?}"
                        ));
                    }
                    splits += 1;
                }
                *read += segment.len();
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {splits}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(splits > 20_000, "{splits}");
}
