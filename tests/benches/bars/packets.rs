//! Owns the rows of single packets, run through the loaded programs.
//!
//! Every round runs all programs, one after the other in changing order, and the rounds' differences count.

use anyhow::{Context as _, Result, ensure};
use detector_ebpf::{evidence::Evidence, verdict::Verdict};

use crate::{
    Effort,
    machine::Pinned,
    payloads::{Family, SYN_AT, client_hellos, request_head},
    report::{Bar, Row, Unit},
    stats::Figure,
    subject::{Drive, Settings, Subject, Target},
};

const TARGETS: [Target; 3] = [Target::Empty, Target::Record, Target::Detector];

/// What one packet costs, beyond an empty program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// The detector.
    pub(crate) detector: Figure,
    /// The flow exporter.
    pub(crate) record: f64,
    /// The empty program itself, with what it takes to vary the packet.
    pub(crate) empty: f64,
}

impl Cost {
    fn of(rounds: &[[f64; 3]]) -> Self {
        let beyond = |index: usize| {
            Figure::of(rounds.iter().filter_map(|round| Some(round.get(index)? - round.first()?)))
        };
        Self {
            detector: beyond(Target::Detector as usize),
            record: beyond(Target::Record as usize).value,
            empty: Figure::of(rounds.iter().filter_map(|round| round.first().copied())).value,
        }
    }

    fn row(&self, id: String, what: String) -> Row {
        Row::new(id, what, self.detector, Unit::Nanoseconds)
            .beside("flow exporter +", self.record, Unit::Nanoseconds)
            .beside("empty program", self.empty, Unit::Nanoseconds)
    }
}

/// Measures each target once a round; the order changes from round to round.
fn rounds(count: u32, mut measure: impl FnMut(u32, Target) -> Result<f64>) -> Result<Cost> {
    let mut all = Vec::new();
    // The first one warms caches up and fills maps.
    for round in 0..=count {
        let mut costs = [0.0; 3];
        let mut order = TARGETS;
        order.rotate_left((round % 3) as usize);
        for target in order {
            if let Some(cost) = costs.get_mut(target as usize) {
                *cost = measure(round, target)?;
            }
        }
        if round > 0 {
            all.push(costs);
        }
    }
    Ok(Cost::of(&all))
}

/// Packets of settled flows: sequence numbers and tuples jump about, as on a busy interface.
fn settled_cost(subject: &mut Subject, frame: &[u8], flows: u32, effort: Effort) -> Result<Cost> {
    let packets = effort.pick(20_000, 65_536);
    rounds(effort.pick(9, 51), |round, target| {
        let first = round.wrapping_mul(packets);
        let drive = Drive { tuples: flows, sequence: round, step: 0x6c07_8965, first };
        // The caches are the target's own when it is measured, as far as its memory fits into them.
        let ahead = Drive { first: first.wrapping_sub(packets), ..drive };
        subject.run(target, frame, ahead, packets / 2)?;
        subject.run(target, frame, drive, packets)
    })
}

fn count(flows: u32) -> String {
    match flows {
        1 => "1 open flow".to_owned(),
        1024 => "1 thousand open flows".to_owned(),
        65_536 => "65 thousand open flows".to_owned(),
        1_048_576 => "1 million open flows".to_owned(),
        _ => format!("{flows} open flows"),
    }
}

/// Settled flows are in no map, so that there are many only shows in the caches.
pub(crate) fn settled(effort: Effort) -> Result<Vec<Row>> {
    const MOST: f64 = 6.0;
    let _pinned = Pinned::new()?;
    let mut rows = Vec::new();
    for family in [Family::V4, Family::V6] {
        let frame = family.settled();
        for flows in [1, 1024, 65_536, 1_048_576] {
            let records = flows.max(32_768) * 2;
            let mut subject = Subject::load(Settings { records, ..Settings::product()? })?;
            // Every flow has its record before the flow exporter is measured.
            let all = Drive { tuples: flows, sequence: 0, step: 0x6c07_8965, first: 0 };
            subject.run(Target::Record, &frame, all, flows)?;
            let cost = settled_cost(&mut subject, &frame, flows, effort)?;
            let id = format!("settled-{}-{flows}", family.name().to_lowercase());
            let what = format!(
                "settled packet, 1,400 bytes, {}, {}, over an empty program",
                family.name(),
                count(flows)
            );
            rows.push(cost.row(id, what).bar(Bar::AtMost(MOST)));
        }
    }
    let frame = Family::V4.settled();
    let mut subject = Subject::load(Settings { sample_one_in: 0, ..Settings::product()? })?;
    let cost = settled_cost(&mut subject, &frame, 65_536, effort)?;
    let what = "the same at 65 thousand, IPv4, without sampling for flows met in mid-stream";
    rows.push(cost.row("settled-unsampled".to_owned(), what.to_owned()));
    let cost =
        rounds(effort.pick(9, 51), |_, target| subject.repeat(target, &frame, effort.pick(20_000, 65_536)))?;
    let what = "the same, one and the same packet again and again";
    rows.push(cost.row("settled-same".to_owned(), what.to_owned()));
    Ok(rows)
}

/// Settled packets while other flows are watched: how long the filter keeps them apart.
pub(crate) fn watched(effort: Effort) -> Result<Vec<Row>> {
    let _pinned = Pinned::new()?;
    let frame = Family::V4.settled();
    let mut rows = Vec::new();
    for flows in [1024_u32, 8192, 65_536, 1_048_576] {
        let max_flows = flows.max(32_768) * 2;
        let mut subject = Subject::load(Settings { max_flows, ..Settings::unlimited()? })?;
        let syn = Family::V4.syn(2);
        let open = Drive { tuples: flows, sequence: SYN_AT, step: 0, first: 0 };
        subject.run(Target::Detector, &syn, open, flows)?;
        let held = subject.flows()?;
        ensure!(held >= flows as usize, "{held} of {flows} flows are in the flow map");
        let cost = settled_cost(&mut subject, &frame, 65_536, effort)?;
        let what = format!("settled packet, IPv4, beside {flows} watched flows, over an empty program");
        rows.push(cost.row(format!("watched-{flows}"), what));
    }
    Ok(rows)
}

/// A packet of a connection, and whether its cost is asked for.
pub(crate) struct Step {
    sequence: u32,
    frame: Vec<u8>,
    asked: bool,
}

/// The packets of a client from its SYN to its reset, which are asked for nothing until [`Steps::ask`].
pub(crate) struct Steps(Vec<Step>);

impl Steps {
    const FAMILY: Family = Family::V4;
    const SUBNET: u8 = 3;

    /// A connection on which the client says so much, in segments as long as a test run takes.
    pub(crate) fn new(said: &[&[u8]]) -> Result<Self> {
        const LONGEST: usize = 2048;
        let mut steps = vec![Step { sequence: SYN_AT, frame: Self::FAMILY.syn(Self::SUBNET), asked: false }];
        let mut at = 0;
        for payload in said {
            // Without payload it is an acknowledgement.
            let parts = if payload.is_empty() { vec![*payload] } else { payload.chunks(LONGEST).collect() };
            for part in parts {
                let frame = Self::FAMILY.says(Self::SUBNET, at, part);
                steps.push(Step { sequence: SYN_AT + 1 + u32::try_from(at)?, frame, asked: false });
                at += part.len();
            }
        }
        let frame = Self::FAMILY.reset(Self::SUBNET);
        steps.push(Step { sequence: SYN_AT + 1 + u32::try_from(at)?, frame, asked: false });
        Ok(Self(steps))
    }

    /// Asks for the cost of the packets from one to before another.
    pub(crate) fn ask(mut self, which: impl std::ops::RangeBounds<usize>) -> Self {
        for (index, step) in self.0.iter_mut().enumerate() {
            step.asked = which.contains(&index);
        }
        self
    }

    /// Takes as many connections through all packets at the same time, and so again and again.
    pub(crate) fn cost(&self, subject: &mut Subject, connections: u32, count: u32) -> Result<Cost> {
        rounds(count, |_, target| {
            let mut total = 0.0;
            for Step { sequence, frame, asked } in &self.0 {
                let drive = Drive { tuples: connections, sequence: *sequence, step: 0, first: 0 };
                let took = subject.run(target, frame, drive, connections)?;
                if *asked {
                    total += took;
                }
            }
            Ok(total)
        })
    }
}

/// What a client's first message costs on new connections: without their SYN, and with the flow's entry there.
pub(crate) fn message_cost(subject: &mut Subject, payload: &[u8], flows: u32, count: u32) -> Result<Cost> {
    let steps = Steps::new(&[payload])?;
    let last = steps.0.len() - 1;
    steps.ask(1..last).cost(subject, flows, count)
}

pub(crate) fn deciding(effort: Effort) -> Result<Vec<Row>> {
    const FLOWS: u32 = 1024;
    let _pinned = Pinned::new()?;
    let mut rows = Vec::new();
    let count = effort.pick(15, 151);

    let hellos = client_hellos()?;
    let all = [(&hellos.short, FLOWS), (&hellos.long, FLOWS), (&hellos.short, 32_768)];
    for (hello, flows) in all {
        let mut subject = Subject::load(Settings::unlimited()?)?;
        let cost = message_cost(&mut subject, hello, flows, if flows == FLOWS { count } else { count / 5 })?;
        let (connections, _) = subject.counted(&[Verdict::Tls, Verdict::MeshMtls])?;
        ensure!(connections >= u64::from(flows), "{connections} connections were found to be TLS");
        let bytes = hello.len();
        let what = format!("packet that decides TLS ({bytes} bytes), {flows} connections at once");
        let row = cost.row(format!("tls-{bytes}-{flows}"), what);
        rows.push(if flows == FLOWS { row.bar(Bar::AtMost(150.0)) } else { row });
    }

    let mut costs = Vec::new();
    for length in [512, 2048, 4096] {
        let mut subject = Subject::load(Settings::unlimited()?)?;
        let cost = message_cost(&mut subject, &request_head(length), FLOWS, count)?;
        let (connections, evidence) = subject.counted(&[Verdict::Plaintext])?;
        ensure!(connections >= u64::from(FLOWS), "{connections} connections were found to be plaintext");
        let all = [Evidence::CREDENTIALS, Evidence::MCP_SESSION, Evidence::MCP_METHOD, Evidence::MCP_VERSION];
        ensure!(
            all.iter().all(|some| Evidence(evidence).any(*some)),
            "not all evidence was found: {evidence:#x}"
        );
        costs.push((length, cost));
    }
    let of = |length: usize| {
        costs.iter().find(|(of, _)| *of == length).map(|(_, cost)| *cost).context("a length was not measured")
    };
    let head = of(512)?;
    let what = "plaintext request head of 512 bytes, all evidence";
    rows.push(head.row("head-512".to_owned(), what.to_owned()).bar(Bar::AtMost(2000.0)));
    for length in [2048, 4096] {
        let cost = of(length)?;
        let by = 1.0 / (length - 512) as f64;
        let error = cost.detector.error.hypot(head.detector.error);
        let slope = Figure { value: cost.detector.value - head.detector.value, error }.scaled(by);
        let what = format!("per byte beyond, head of {length} bytes");
        let row = Row::new(format!("head-{length}-per-byte"), what, slope, Unit::Nanoseconds)
            .beside("the whole head", cost.detector.value, Unit::Nanoseconds)
            .bar(Bar::AtMost(3.0));
        rows.push(if length > 2048 { row.note("in two segments") } else { row });
    }
    Ok(rows)
}
