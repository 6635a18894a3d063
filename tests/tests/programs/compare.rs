//! Owns the comparison: frames through the loaded programs and on the host must leave the same behind.

use std::collections::BTreeMap;

use detector_ebpf::{
    counter::Counter,
    edge::{EdgeKey, EdgeValue},
    host::{Host, Settings},
};

use super::kernel::{self, Kernel};

/// A frame and whether the pod behind the interface sent it.
pub(crate) type Passed = (Vec<u8>, bool);

/// What frames have left in maps and counters, without times.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) edges: BTreeMap<String, String>,
    pub(crate) counters: BTreeMap<&'static str, u64>,
    pub(crate) events: usize,
    pub(crate) server_names: Vec<Vec<u8>>,
    pub(crate) flows: usize,
}

fn left(
    edges: Vec<(EdgeKey, EdgeValue)>,
    counters: [u64; Counter::COUNT as usize],
    (events, server_names): (usize, Vec<Vec<u8>>),
    flows: usize,
) -> Left {
    let edges = edges
        .into_iter()
        .map(|(key, value)| {
            (format!("{key:?}"), format!("{:?}", EdgeValue { first_ns: 0, last_ns: 0, ..value }))
        })
        .collect();
    let counters = Counter::ALL
        .iter()
        .zip(counters)
        .filter(|(_, count)| *count != 0)
        .map(|(counter, count)| (counter.name(), count))
        .collect();
    Left { edges, counters, events, server_names, flows }
}

pub(crate) fn on_host(frames: &[Passed], sample_below: u32) -> Left {
    let host = Host::new(kernel::IFINDEX, Settings { sample_below, ..Settings::default() });
    for (frame, from_pod) in frames {
        host.packet(frame, 1, *from_pod);
    }
    assert!(host.filter_is_exact());
    let names = host.take_hellos().iter().map(|hello| hello.hello.server_name().to_vec()).collect();
    left(host.edges(), host.counters(), (host.take_events().len(), names), host.flows())
}

/// Runs the frames through the kernel and, as far as it takes them, on the host: both must say the same.
pub(crate) fn compare(kernel: &mut Kernel, frames: &[Passed], sample_below: u32, name: &str) {
    kernel.reset();
    let taken: Vec<Passed> =
        frames.iter().filter(|(frame, from_pod)| kernel.packet(frame, *from_pod)).cloned().collect();
    // The filter is read as a whole by the caller, once: it is a quarter of a million reads.
    let found = left(kernel.edges(), kernel.counters(), kernel.events(), kernel.flows());
    assert_eq!(found, on_host(&taken, sample_below), "{name}: the kernel, and the host");
}
