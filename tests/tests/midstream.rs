//! Every stream of every capture, met in mid-stream at every byte of the first four kilobytes of each direction: what
//! is said of it is what is said of the whole connection, or less, or nothing.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test panics where something is not as it should be"
)]

use std::collections::BTreeMap;

use detector_ebpf::{
    evidence::Evidence,
    host::{Host, Settings},
    verdict::{Protocol, Verdict},
};
use detector_tests::{
    pcap,
    segment::{self, Segment},
};

/// Bytes of each direction at which it is met.
const FIRST: usize = 4096;
/// Where the segment that is met ends: as it was captured, and at the sizes of Ethernet and of IPv4's minimum.
const SIZES: [usize; 3] = [usize::MAX, 1448, 536];

/// What is said of a connection: verdict, protocol, evidence.
type Said = Vec<(Verdict, Protocol, u64)>;

/// The edges that hold a connection at the end. Once its first segment has said nothing, a flow is met again with the
/// next, which is a start of its own: no more is read.
fn said<'a>(segments: impl IntoIterator<Item = &'a Segment>, sample_below: u32) -> Said {
    let host = Host::new(1, Settings { sample_below, ..Settings::default() });
    for segment in segments {
        host.packet(&segment.frame, 1, segment.from_pod);
        if host.flows() == 0 && host.edges().is_empty() {
            return Vec::new();
        }
    }
    host.expire(u64::MAX, 0);
    let edges = host.edges().into_iter().filter(|(_, value)| value.entered > value.left);
    edges
        .map(|(key, value)| {
            let protocol = Protocol::try_from(key.protocol).unwrap();
            (Verdict::try_from(key.verdict).unwrap(), protocol, value.evidence)
        })
        .collect()
}

/// Whether `part` may be said of a part of a connection of which `whole` is true.
fn agrees(part: (Verdict, Protocol, u64), whole: (Verdict, Protocol, u64)) -> bool {
    let verdict = match part.0 {
        Verdict::Undecided | Verdict::Opaque => true,
        // A hello that was not seen says of no mesh.
        Verdict::Tls => matches!(whole.0, Verdict::Tls | Verdict::MeshMtls),
        said => said == whole.0,
    };
    // HTTP that carries more is HTTP as long as that was not seen.
    let carriers: &[Protocol] = match whole.1 {
        Protocol::Mcp => &[Protocol::Http1, Protocol::H2c, Protocol::JsonRpc],
        Protocol::JsonRpc => &[Protocol::Http1, Protocol::H2c],
        _ => &[],
    };
    let protocol = part.1 == Protocol::None || part.1 == whole.1 || carriers.contains(&part.1);
    let password = part.2 & !whole.2 & Evidence::PASSWORD.0 == 0;
    verdict && protocol && password
}

#[test]
fn no_part_of_a_stream_is_taken_for_another_protocol() {
    let (mut met, mut told) = (0, 0);
    let mut wrong: BTreeMap<String, usize> = BTreeMap::new();
    for name in pcap::names().unwrap() {
        for segments in segment::connections(&name).unwrap() {
            let whole = said(&segments, 0);
            let mut read = [0, 0];
            for (index, segment) in segments.iter().enumerate() {
                let read = &mut read[usize::from(segment.from_pod)];
                let length = segment.payload().len();
                for at in 0..length.min(FIRST.saturating_sub(*read)) {
                    for end in SIZES.map(|size| length.min(size.saturating_add(at))) {
                        let halves = [segment.cut(at, end), segment.cut(end, length)];
                        let halves = halves.iter().filter(|half| !half.payload().is_empty());
                        let part = said(halves.chain(&segments[index + 1..]), u32::MAX);
                        met += 1;
                        told += usize::from(!part.is_empty());
                        if !part.iter().all(|part| whole.iter().any(|whole| agrees(*part, *whole))) {
                            let begins = segment.payload()[at..length.min(at + 24)].escape_ascii();
                            let what = format!("{name}: {:?} of {:?}", part[0], whole.first());
                            println!("{what}: {begins}");
                            *wrong.entry(what).or_default() += 1;
                        }
                    }
                }
                *read += length;
            }
        }
    }
    println!("met {met} times, of which {told} have said something");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(met > 100_000 && told > 1000, "{met}, {told}");
}
