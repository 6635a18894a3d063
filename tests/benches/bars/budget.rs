//! Owns the rows of the kernel time that plaintext takes: the scan budget is its ceiling.
//!
//! The kernel's own statistics say what the programs take. What a packet of a settled flow takes under the
//! same statistics is measured beside it and taken off.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    programs::{ProgramInfo, loaded_programs},
    sys::{Stats, enable_stats},
};
use detector_ebpf::names;

use crate::{
    Effort,
    machine::Pinned,
    payloads,
    report::{Bar, Row, Unit},
    stats::Figure,
    traffic::{Pair, Rate, Talk},
    wire,
};

/// What the programs have done so far.
#[derive(Clone, Copy)]
struct Spent {
    time: Duration,
    runs: u64,
}

/// The programs that this process loaded.
struct Programs(Vec<u32>);

impl Programs {
    fn ids() -> Result<HashSet<u32>> {
        loaded_programs().map(|info| Ok(info.context("list programs")?.id())).collect()
    }

    fn loaded_since(before: &HashSet<u32>) -> Result<Self> {
        let mut ours = Vec::new();
        for info in loaded_programs() {
            let info = info.context("list programs")?;
            let name = info.name_as_str().unwrap_or_default();
            let known =
                [names::DETECT_INGRESS, names::DETECT_EGRESS].iter().any(|known| known.starts_with(name));
            if known && !name.is_empty() && !before.contains(&info.id()) {
                ours.push(info.id());
            }
        }
        ensure!(!ours.is_empty(), "none of the loaded programs is the detector's");
        Ok(Self(ours))
    }

    fn spent(&self) -> Result<Spent> {
        let mut spent = Spent { time: Duration::ZERO, runs: 0 };
        for info in loaded_programs() {
            let info: ProgramInfo = info.context("list programs")?;
            if self.0.contains(&info.id()) {
                spent.time += info.run_time();
                spent.runs += info.run_count();
            }
        }
        Ok(spent)
    }
}

/// Id and name of some traffic, and what makes it.
type Kind<'a> = (&'static str, &'static str, &'a dyn Fn() -> Result<Rate>);

pub(crate) fn share(effort: Effort) -> Result<Vec<Row>> {
    /// Percent of a core.
    const MOST: f64 = 2.0;
    let _pinned = Pinned::new()?;
    let pair = Pair::new()?;
    let before = Programs::ids()?;
    let datapath = wire::datapath()?;
    let programs = Programs::loaded_since(&before)?;
    let _counting = enable_stats(Stats::RunTime).context("have the kernel count")?;
    wire::attach(&pair, &datapath, true)?;

    let (tls, http) = (wire::tls()?, wire::http());
    let mcp = Talk { request: payloads::mcp_request(4096), ..http.clone() };
    pair.serve_talk(1, &tls)?;
    pair.serve_talk(2, &http)?;
    pair.serve_talk(3, &mcp)?;
    pair.serve_once(4, mcp.request.len(), mcp.response.clone())?;
    let lasting = Duration::from_millis(effort.pick(300, 1000));
    let kinds: [Kind<'_>; 3] = [
        ("budget-http", "small requests of plain HTTP on one connection", &|| {
            pair.exchanges(2, &http, lasting)
        }),
        ("budget-mcp", "MCP requests of 4 KiB on one connection", &|| pair.exchanges(3, &mcp, lasting)),
        ("budget-connections", "a new connection for each MCP request of 4 KiB", &|| {
            pair.connections(4, &mcp.request, lasting)
        }),
    ];
    let mut rows = Vec::new();
    for (id, what, run) in kinds {
        eprintln!("    {what}");
        let (mut shares, mut packets) = (Vec::new(), Vec::new());
        for _ in 0..effort.pick(3, 9) {
            let settled = spent_by(&programs, || pair.exchanges(1, &tls, lasting))?;
            let settled = settled.0.time.as_secs_f64() / settled.0.runs as f64;
            let (spent, took, rate) = spent_by(&programs, run)?;
            let beyond = spent.time.as_secs_f64() - settled * spent.runs as f64;
            shares.push(beyond / took.as_secs_f64() * 100.0);
            packets.push((rate.wall, settled * 1e9, spent.time.as_secs_f64() / spent.runs as f64 * 1e9));
        }
        let median = |pick: fn(&(f64, f64, f64)) -> f64| Figure::of(packets.iter().map(pick)).value;
        rows.push(
            Row::new(
                id,
                format!("kernel time of all programs beyond settled packets, of one core: {what}"),
                Figure::of(shares),
                Unit::Percent,
            )
            .bar(Bar::AtMost(MOST))
            .beside("exchanges", median(|(rate, _, _)| *rate), Unit::PerSecond)
            .beside("a packet", median(|(_, _, each)| *each), Unit::Nanoseconds)
            .beside("a settled one", median(|(_, settled, _)| *settled), Unit::Nanoseconds)
            .note("by the kernel's statistics, which take their own time"),
        );
    }
    // The namespaces go at once after this.
    wire::attach(&pair, &datapath, false)?;
    Ok(rows)
}

/// What the programs take while `run` runs.
fn spent_by(programs: &Programs, run: impl FnOnce() -> Result<Rate>) -> Result<(Spent, Duration, Rate)> {
    // The budget of the run before is filled up again.
    thread::sleep(Duration::from_millis(150));
    let (before, start) = (programs.spent()?, Instant::now());
    let rate = run()?;
    let (after, took) = (programs.spent()?, start.elapsed());
    Ok((Spent { time: after.time - before.time, runs: after.runs - before.runs }, took, rate))
}
