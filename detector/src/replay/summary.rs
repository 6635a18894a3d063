//! Owns the summary: what a capture held, and what of it was not read, by reason.

use detector_ebpf::{counter::Counter, verdict::Verdict};

use super::tracker::{Tally, Tracked};
use crate::{
    findings::{Finding, Severity},
    flows::Flow,
};

/// What a capture held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What was counted of the packets.
    pub tally: Tally,
    /// Flows.
    pub flows: usize,
    /// Connections by verdict; those that ended without one are `undecided`.
    pub connections: Vec<(Verdict, u64)>,
    /// Why connections have no verdict.
    pub undecided: Undecided,
    /// Connections that were open when the capture ended.
    pub open: u64,
    /// Findings by severity, worst first.
    pub findings: Vec<(Severity, usize)>,
    /// What was not read.
    pub not_read: NotRead,
}

/// Connections without a verdict, by why they have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undecided {
    /// Neither side sent any payload in the capture.
    pub no_payload: u64,
    /// What was sent is the beginning of more than one thing, or of one that may still turn to TLS.
    pub too_little: u64,
}

/// What was not read, by the tracker's counters. Those that are zero are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotRead {
    /// Packets that are of no TCP connection, or whose headers were not followed.
    pub packets: Vec<(Counter, u64)>,
    /// Losses within connections: what was sent there was not all read, or not counted.
    pub losses: Vec<(Counter, u64)>,
}

/// Verdicts in the order of the summary.
const VERDICTS: [Verdict; 4] = [Verdict::Plaintext, Verdict::MeshMtls, Verdict::Tls, Verdict::Opaque];

impl Summary {
    pub(super) fn new(tracked: &Tracked, flows: &[Flow], findings: &[Finding]) -> Self {
        let mut connections: Vec<(Verdict, u64)> = VERDICTS
            .into_iter()
            .map(|verdict| {
                let of_verdict = flows.iter().filter(|flow| flow.verdict == verdict);
                (verdict, of_verdict.map(|flow| flow.connections).sum())
            })
            .collect();
        let counted = |counter: Counter| tracked.counters.get(counter as usize).copied().unwrap_or_default();
        let undecided = Undecided {
            no_payload: counted(Counter::ClosedSilent),
            too_little: counted(Counter::ClosedUndecided),
        };
        connections.push((Verdict::Undecided, undecided.no_payload + undecided.too_little));
        let mut not_read = NotRead::default();
        for counter in Counter::ALL {
            let count = counted(counter);
            match kind(counter) {
                Some(Kind::Packet) if count > 0 => not_read.packets.push((counter, count)),
                Some(Kind::Loss) if count > 0 => not_read.losses.push((counter, count)),
                _ => {}
            }
        }
        Self {
            tally: tracked.tally,
            flows: flows.len(),
            connections,
            undecided,
            open: tracked.open,
            findings: Severity::ALL
                .into_iter()
                .rev()
                .map(|severity| {
                    (severity, findings.iter().filter(|finding| finding.severity == severity).count())
                })
                .collect(),
            not_read,
        }
    }
}

enum Kind {
    Packet,
    Loss,
}

/// What a counter of the tracker says of a capture, if anything.
const fn kind(counter: Counter) -> Option<Kind> {
    match counter {
        Counter::NotIp
        | Counter::NotTcp
        | Counter::Fragment
        | Counter::Malformed
        | Counter::VlanDepth
        | Counter::Ipv6Extension => Some(Kind::Packet),
        Counter::PayloadUnreadable
        | Counter::FlowMapFull
        | Counter::EdgeMapFull
        | Counter::SequenceGap
        | Counter::StepLimit
        | Counter::TokenLimit
        | Counter::HeadTooLong => Some(Kind::Loss),
        // How the tracker works, what belongs to it, or what a replay has not: a ring and a budget.
        _ => None,
    }
}
