//! The loaded programs: that the kernel takes them, at what cost to its verifier, and that they say of every
//! frame what the same source says on the host.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test panics where something is not as it should be"
)]

#[path = "programs/compare.rs"]
mod compare;
#[path = "programs/kernel.rs"]
mod kernel;
#[path = "programs/lengths.rs"]
mod lengths;
#[path = "programs/table.rs"]
mod table;

use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::Path};

use detector_ebpf::{
    budget::Budget,
    counter::Counter,
    evidence::Evidence,
    host::{Host, Settings},
    names,
};
use detector_tests::{netns, pcap};

use compare::{Passed, compare, on_host};
use kernel::Kernel;

/// A test run takes no more than a page, and captures hold what the hook saw: segments of many times this.
const SEGMENT: usize = 1448;

/// The kernel that `verifier.baseline` is measured on.
const BASELINE: &str = "6.18.";
/// A million is the kernel's limit.
const MOST_INSTRUCTIONS: u32 = 900_000;

/// Frames of a capture, which was taken at the interface of the server's pod.
fn capture(name: &str) -> Vec<Passed> {
    let server = Ipv4Addr::new(10, 244, 1, 2).octets();
    pcap::read(name)
        .unwrap()
        .into_iter()
        .flat_map(|captured| {
            let from_pod = captured.frame.get(26..30) == Some(server.as_slice());
            table::segmented(&captured.frame, SEGMENT).into_iter().map(move |frame| (frame, from_pod))
        })
        .collect()
}

fn captures() -> Vec<String> {
    let names = pcap::names().unwrap();
    assert!(names.len() >= 10, "the captures are gone");
    names
}

#[test]
fn every_program_loads_within_its_budget_of_instructions() {
    if !netns::require_root() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("verifier.baseline");
    let baseline = fs::read_to_string(&path).unwrap();
    let baseline: BTreeMap<&str, u32> = baseline
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, count)| (name, count.parse().unwrap()))
        .collect();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut kernel = Kernel::load(0);
    for name in [names::DETECT_INGRESS, names::DETECT_EGRESS, names::EXPIRE] {
        let Some(count) = kernel.verified_instructions(name) else {
            eprintln!("{name}: this kernel does not say how many instructions it verified");
            continue;
        };
        // Verifiers differ; the baseline is one kernel's. Where it is another, what counts is the room to the
        // million at which each gives up.
        let budget = if release.starts_with(BASELINE) {
            baseline[name] + baseline[name] / 10
        } else {
            MOST_INSTRUCTIONS
        };
        println!("{name}: {count} instructions verified, {} in the baseline", baseline[name]);
        assert!(count <= budget, "{name}: {count} instructions, over {budget}: see {}", path.display());
    }
}

#[test]
fn every_frame_of_the_table_gives_in_the_kernel_what_it_gives_on_the_host() {
    if !netns::require_root() {
        return;
    }
    for sample_below in [0, u32::MAX] {
        let mut kernel = Kernel::load(sample_below);
        for case in table::cases().into_iter().filter(|case| case.sample_below == sample_below) {
            let host = on_host(&case.frames, sample_below);
            println!("{}", case.name);
            (case.check)(&host.counters, &host.edges);
            compare(&mut kernel, &case.frames, sample_below, case.name);
        }
        kernel.assert_filter_is_exact();
    }
}

#[test]
fn every_length_that_a_header_can_claim_gives_in_the_kernel_what_it_gives_on_the_host() {
    if !netns::require_root() {
        return;
    }
    let mut kernel = Kernel::load(0);
    let groups = lengths::groups();
    for group in &groups {
        let host = on_host(&group.frames, 0);
        if group.verdict {
            assert_eq!(host.edges.len(), 1, "{}: {host:?}", group.name);
        }
        compare(&mut kernel, &group.frames, 0, &group.name);
    }
    let followed = groups.iter().filter(|group| group.verdict).count();
    println!("{} kinds of headers, {followed} of them true", groups.len());
    kernel.assert_filter_is_exact();
}

#[test]
fn a_frame_that_is_cut_at_any_byte_gives_in_the_kernel_what_it_gives_on_the_host() {
    if !netns::require_root() {
        return;
    }
    // Sampled, so that every frame whose headers are whole is looked into.
    let mut kernel = Kernel::load(u32::MAX);
    for group in lengths::cut() {
        for (frame, from_pod) in &group.frames {
            let name = format!("{} ({} bytes)", group.name, frame.len());
            compare(&mut kernel, &[(frame.clone(), *from_pod)], u32::MAX, &name);
        }
        compare(&mut kernel, &group.frames, u32::MAX, &group.name);
    }
    kernel.assert_filter_is_exact();
}

#[test]
fn every_capture_gives_in_the_kernel_what_it_gives_on_the_host() {
    if !netns::require_root() {
        return;
    }
    let mut kernel = Kernel::load(0);
    for name in captures() {
        let frames = capture(&name);
        assert!(!on_host(&frames, 0).edges.is_empty(), "{name} has no verdict");
        compare(&mut kernel, &frames, 0, &name);
    }
    kernel.assert_filter_is_exact();
}

#[test]
fn a_capture_that_is_met_in_the_middle_gives_in_the_kernel_what_it_gives_on_the_host() {
    if !netns::require_root() {
        return;
    }
    let mut kernel = Kernel::load(u32::MAX);
    for name in captures() {
        for skipped in [1, 3, 6] {
            let frames: Vec<Passed> = capture(&name).into_iter().skip(skipped).collect();
            compare(&mut kernel, &frames, u32::MAX, &name);
        }
    }
    kernel.assert_filter_is_exact();
}

#[test]
fn either_direction_alone_gives_a_verdict() {
    for name in ["py1-streamable.pcap", "py2-streamable.pcap", "node1-streamable.pcap", "py1-sse.pcap"] {
        for from_pod in [false, true] {
            let mut frames = capture(name);
            frames.retain(|(_, direction)| *direction == from_pod);
            let host = Host::new(1, Settings::default());
            for (frame, from_pod) in &frames {
                host.packet(frame, 1, *from_pod);
            }
            let mcp = host.edges().into_iter().any(|(key, value)| {
                key.protocol == detector_ebpf::verdict::Protocol::Mcp as u8 && value.entered > value.left
            });
            // A stateless server's answers carry MCP's namespace; a session's carry its header.
            assert!(
                mcp,
                "{name}, {}",
                if from_pod { "the server's answers" } else { "the client's requests" }
            );
        }
    }
}

#[test]
fn no_byte_of_a_payload_stays_in_a_map() {
    if !netns::require_root() {
        return;
    }
    const CANARY: &[u8] = b"zq7canary";
    let mut kernel = Kernel::load(0);
    for (frame, from_pod) in table::with_canary(CANARY) {
        kernel.packet(&frame, from_pod);
    }
    assert!(kernel.flows() > 0 && !kernel.edges().is_empty(), "nothing was tracked");
    for (map, bytes) in kernel.memory() {
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY);
        // The block that is being read is the one place that holds a copy, until the next is read.
        assert!(!found || map == names::SCRATCH, "{map} holds payload");
    }
    let credentials = kernel.edges().iter().any(|(_, value)| value.evidence().any(Evidence::AUTH_BEARER));
    assert!(credentials, "the head with the canary was not read");
}

#[test]
fn a_full_flow_map_costs_the_new_flows_only() {
    if !netns::require_root() {
        return;
    }
    let mut kernel = Kernel::load_with(0, 8, Budget::UNLIMITED);
    for (frame, from_pod) in table::connections(12) {
        kernel.packet(&frame, from_pod);
    }
    let counters = kernel.counters();
    assert_eq!(counters[Counter::FlowMapFull as usize], 4);
    let entered: u64 = kernel.edges().iter().map(|(_, value)| value.entered).sum();
    assert_eq!(entered, 8);
    kernel.assert_filter_is_exact();
}

#[test]
fn what_the_budget_refuses_is_counted_and_turns_into_no_verdict() {
    if !netns::require_root() {
        return;
    }
    let mut kernel = Kernel::load_with(0, 1024, 0);
    for (frame, from_pod) in table::connections(12) {
        kernel.packet(&frame, from_pod);
    }
    let opened = kernel.counters()[Counter::OpenRefused as usize];
    assert_eq!(opened, 12, "a SYN each");
    assert_eq!(kernel.flows(), 0);
    assert!(kernel.edges().is_empty());
    kernel.assert_filter_is_exact();
}

#[test]
fn a_flow_that_keeps_saying_the_same_is_quiet_in_the_filter_until_it_has_news() {
    if !netns::require_root() {
        return;
    }
    let mut kernel = Kernel::load(0);
    for (frame, from_pod) in table::repetitions(40) {
        kernel.packet(&frame, from_pod);
    }
    kernel.assert_filter_is_exact();
    assert_eq!(kernel.quiet_flows(), 1);
    let (frame, from_pod) = table::news_after(40);
    kernel.packet(&frame, from_pod);
    kernel.assert_filter_is_exact();
    assert_eq!(kernel.quiet_flows(), 0);
}

#[test]
fn idle_flows_are_removed_and_the_filter_with_them() {
    if !netns::require_root() {
        return;
    }
    let mut kernel = Kernel::load(0);
    for (frame, from_pod) in table::connections(70) {
        kernel.packet(&frame, from_pod);
    }
    assert_eq!(kernel.flows(), 70);
    assert_eq!(kernel.expire(), 70);
    assert_eq!(kernel.flows(), 0);
    assert_eq!(kernel.counters()[Counter::Expired as usize], 70);
    kernel.assert_filter_is_exact();
}
