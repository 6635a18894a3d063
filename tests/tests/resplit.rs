//! Every stream of every capture, split once more at every byte of its first two kilobytes: wherever a segment ends,
//! the connection is in the same edge, and no evidence is lost.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test panics where something is not as it should be"
)]

use std::collections::BTreeMap;

use detector_ebpf::host::{Host, Settings};
use detector_tests::{
    pcap,
    segment::{self, Segment},
};

/// Bytes of each direction at which it is split.
const FIRST: usize = 2048;

/// An edge, its connections, and whether they were answered and refused; and what was seen of them.
type Outcome = BTreeMap<(String, u64, u64, u64), (u64, u64)>;

/// The edges that hold connections at the end.
fn outcome<'a>(segments: impl IntoIterator<Item = &'a Segment>) -> Outcome {
    // What is met in mid-stream is another matter: where a segment ends decides on what it seems to begin with.
    let host = Host::new(1, Settings { sample_below: 0, ..Settings::default() });
    for segment in segments {
        host.packet(&segment.frame, 1, segment.from_pod);
    }
    host.expire(u64::MAX, 0);
    let edges = host.edges().into_iter().filter(|(_, value)| value.entered > value.left);
    edges
        .map(|(key, value)| {
            let count = value.entered - value.left;
            let (answered, refused) = (value.answered.min(1), value.refused.min(1));
            ((format!("{key:?}"), count, answered, refused), (value.evidence, value.methods))
        })
        .collect()
}

#[test]
fn every_stream_of_every_capture_says_the_same_wherever_it_is_split() {
    let mut splits = 0;
    let mut wrong = Vec::new();
    for name in pcap::names().unwrap() {
        for segments in segment::connections(&name).unwrap() {
            // What follows such an answer is frames, of which a segment that begins like a message is taken for one.
            if segments.iter().any(Segment::switches) {
                continue;
            }
            let whole = outcome(&segments);
            let mut read = [0, 0];
            for (index, segment) in segments.iter().enumerate() {
                let read = &mut read[usize::from(segment.from_pod)];
                for at in 1..segment.payload().len().min(FIRST.saturating_sub(*read)) {
                    let halves = segment.split(at);
                    let split = segments[..index].iter().chain(&halves).chain(&segments[index + 1..]);
                    let split = outcome(split);
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
                *read += segment.payload().len();
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {splits}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(splits > 20_000, "{splits}");
}
