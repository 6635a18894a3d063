//! Owns the report of a replay: flows and findings in their order, as a table and as lines of JSON.

use std::{
    cmp::Reverse,
    collections::HashMap,
    io::{self, BufWriter, Write},
};

use detector_ebpf::{counter::Counter, verdict::Verdict};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    capture::CaptureError,
    progress::size_of_bytes,
    summary::{NotRead, Summary, Undecided},
    table,
    tracker::{Tally, Tracked},
};
use crate::{
    cluster::{Store, TrustDomain},
    findings::{Finding, Rules, Severity, evaluate},
    flows::{Clock, Flow, Flows, Timestamp},
    outputs::lines::{Lines, line, time},
    policy::PolicyView,
    printable::printable,
};

/// What a replay found.
#[derive(Debug)]
pub struct Report {
    /// The flows, plaintext first and MCP before all else.
    pub flows: Vec<Flow>,
    /// The findings, worst first.
    pub findings: Vec<Finding>,
    /// What the capture held.
    pub summary: Summary,
    /// Why the capture was not read to its end.
    pub error: Option<CaptureError>,
}

impl Report {
    pub(super) fn new(store: &Store, rules: Rules, tracked: &Tracked, error: Option<CaptureError>) -> Self {
        let now = tracked.tally.last.unwrap_or_default();
        // Packets carry wall time already.
        let mut flows = Flows::new(Clock::default()).with_hellos(tracked.hellos.len() + 1);
        for hello in &tracked.hellos {
            flows.hello(hello);
        }
        flows.snapshot(store, &tracked.edges, now);
        let mut flows: Vec<Flow> = flows.finish(store, now).into_iter().map(|update| update.flow).collect();
        flows.sort_by_cached_key(|flow| {
            let ends = (flow.client.address(), flow.server.address(), flow.port);
            (Reverse((flow.verdict, flow.protocol, flow.connections)), ends)
        });
        let mut findings: Vec<Finding> =
            flows.iter().flat_map(|flow| evaluate(flow, &PolicyView::of(store, flow), rules)).collect();
        findings.sort_by_key(|finding| Reverse(finding.severity));
        let summary = Summary::new(tracked, &flows, &findings);
        Self { flows, findings, summary, error }
    }

    /// The severity of the worst finding.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.first().map(|finding| finding.severity)
    }

    /// Writes the lines of `run`, and one of kind `summary` at the end.
    ///
    /// # Errors
    ///
    /// `out` cannot be written to.
    pub fn write_json(&self, trust_domain: &str, out: impl Write) -> io::Result<()> {
        let mut out = BufWriter::new(out);
        let lines = Lines::new(TrustDomain::new(Some(trust_domain)));
        for flow in &self.flows {
            out.write_all(&lines.flow(flow)?)?;
        }
        for finding in &self.findings {
            out.write_all(&lines.finding(finding)?)?;
        }
        out.write_all(&line(&SummaryLine::new(&self.summary, self.error.as_ref()))?)?;
        out.flush()
    }

    /// Writes a table of flows, the findings with their remedies, and the summary.
    ///
    /// # Errors
    ///
    /// `out` cannot be written to.
    pub fn write_text(&self, out: impl Write) -> io::Result<()> {
        let mut out = BufWriter::new(out);
        if !self.flows.is_empty() {
            table::write(&self.flows, &mut out)?;
            writeln!(out)?;
        }
        self.write_findings(&mut out)?;
        write_summary(&self.summary, &mut out)?;
        if self.error.is_some() {
            writeln!(out, "The capture was not read to its end: this is what came before the error.")?;
        }
        out.flush()
    }

    fn write_findings(&self, out: &mut impl Write) -> io::Result<()> {
        let mut fixes: HashMap<&str, usize> = HashMap::new();
        for (index, finding) in (1..).zip(&self.findings) {
            let Finding { id, severity, flow: _, why, fix, decided_by } = finding;
            writeln!(out, "{index}. {} {}: {}", severity.as_str(), id.as_str(), printable(why))?;
            if let Some(decided_by) = decided_by {
                writeln!(out, "   Decided by {}.", printable(decided_by))?;
            }
            match fixes.get(fix.as_str()) {
                Some(first) => writeln!(out, "   What to do: as under {first}.")?,
                None => {
                    fixes.insert(fix, index);
                    for text in fix.lines() {
                        writeln!(out, "     {}", printable(text))?;
                    }
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

fn write_summary(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let Summary { tally, flows, connections, undecided, open, findings, not_read } = summary;
    let Tally { packets, bytes, truncated, unread, first, last } = tally;
    write!(out, "packets: {packets}, {}", size_of_bytes(*bytes))?;
    if let (Some(first), Some(last)) = (first, last) {
        write!(out, ", {} to {}", time(Timestamp(*first)), time(Timestamp(*last)))?;
    }
    writeln!(out)?;
    let total: u64 = connections.iter().map(|(_, count)| count).sum();
    write!(out, "flows: {flows}; connections: {total}")?;
    let some = connections.iter().filter(|(_, count)| *count > 0);
    let some: Vec<String> = some.map(|(verdict, count)| format!("{} {count}", verdict.name())).collect();
    if !some.is_empty() {
        write!(out, " ({})", some.join(", "))?;
    }
    if *open > 0 {
        write!(out, "; open at the end: {open}")?;
    }
    writeln!(out)?;
    let Undecided { no_payload, too_little } = undecided;
    if no_payload + too_little > 0 {
        let why = [(no_payload, "sent no payload"), (too_little, "sent too little to tell")];
        let why: Vec<String> = why
            .into_iter()
            .filter(|(count, _)| **count > 0)
            .map(|(count, why)| format!("{count} {why}"))
            .collect();
        writeln!(out, "undecided, and in no flow: {}", why.join(", "))?;
    }
    let some = findings.iter().filter(|(_, count)| *count > 0);
    let some: Vec<String> = some.map(|(severity, count)| format!("{} {count}", severity.as_str())).collect();
    writeln!(out, "findings: {}", if some.is_empty() { "none".to_owned() } else { some.join(", ") })?;
    let NotRead { packets, losses } = not_read;
    let mut packets: Vec<String> =
        packets.iter().map(|(counter, count)| format!("{} {count}", counter.name())).collect();
    if *unread > 0 {
        packets.push(format!("link_type {unread}"));
    }
    if !packets.is_empty() {
        writeln!(out, "packets not looked into: {}", packets.join(", "))?;
    }
    if *truncated > 0 {
        writeln!(
            out,
            "packets captured in part: {truncated}; what is missing was not read (tcpdump -s 0 captures all)"
        )?;
    }
    let losses: Vec<String> =
        losses.iter().map(|(counter, count)| format!("{} {count}", counter.name())).collect();
    if !losses.is_empty() {
        writeln!(out, "not all was read: {}", losses.join(", "))?;
        let full = |counter| not_read.losses.iter().any(|(known, _)| *known == counter);
        if full(Counter::FlowMapFull) || full(Counter::EdgeMapFull) {
            writeln!(out, "connections are missing here: raise --max-flows or --max-edges")?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct SummaryLine {
    kind: &'static str,
    complete: bool,
    error: Option<String>,
    packets: u64,
    bytes: u64,
    truncated_packets: u64,
    first_seen: Option<String>,
    last_seen: Option<String>,
    flows: usize,
    connections: Map<String, Value>,
    undecided: Map<String, Value>,
    open: u64,
    findings: Map<String, Value>,
    packets_not_read: Map<String, Value>,
    losses: Map<String, Value>,
}

impl SummaryLine {
    fn new(summary: &Summary, error: Option<&CaptureError>) -> Self {
        let Summary { tally, flows, connections, undecided, open, findings, not_read } = summary;
        let Tally { packets, bytes, truncated, unread, first, last } = tally;
        let mut packets_not_read =
            object(not_read.packets.iter().map(|(counter, count)| (counter.name(), *count)));
        if *unread > 0 {
            packets_not_read.insert("link_type".to_owned(), (*unread).into());
        }
        Self {
            kind: "summary",
            complete: error.is_none(),
            error: error.map(|error| super::Chain(error).to_string()),
            packets: *packets,
            bytes: *bytes,
            truncated_packets: *truncated,
            first_seen: first.map(|ns| time(Timestamp(ns))),
            last_seen: last.map(|ns| time(Timestamp(ns))),
            flows: *flows,
            connections: object(connections.iter().map(|(verdict, count)| (Verdict::name(*verdict), *count))),
            undecided: object(
                [("no_payload", undecided.no_payload), ("too_little", undecided.too_little)].into_iter(),
            ),
            open: *open,
            findings: object(findings.iter().map(|(severity, count)| (severity.as_str(), *count as u64))),
            packets_not_read,
            losses: object(not_read.losses.iter().map(|(counter, count)| (counter.name(), *count))),
        }
    }
}

fn object(entries: impl Iterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    entries.map(|(name, count)| (name.to_owned(), count.into())).collect()
}
