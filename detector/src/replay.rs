//! Owns the replay of a capture: the tracker of the kernel, compiled for the host, over a file or a stream.
//!
//! Needs no privilege and no kernel. Packets go through one at a time and nothing of them is kept, so memory
//! depends on the connections that are open at once and on the edges, both bounded, and not on the capture's
//! length. Flows, policy and findings are those of `run`; only what feeds them is another.

mod capture;
mod link;
mod progress;
mod report;
mod summary;
mod table;
#[cfg(test)]
mod testing;
mod tracker;

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use detector_ebpf::host::Settings;

use self::{
    capture::Capture,
    progress::Progress,
    tracker::{Tracked, Tracker},
};
pub use self::{
    capture::CaptureError,
    report::Report,
    summary::{NotRead, Summary, Undecided},
    tracker::Tally,
};
use crate::{
    cluster::{self, Store},
    findings::{Rules, Severity},
};

/// The name of a file that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// What is to be replayed, and how it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The capture; `-` for standard input.
    pub file: PathBuf,
    /// Where identities and policy are read from.
    pub manifests: Vec<PathBuf>,
    /// Trust domain of SPIFFE ids.
    pub trust_domain: String,
    /// What is cried about.
    pub rules: Rules,
    /// Whether lines of JSON are written instead of a table.
    pub json: bool,
    /// The mildest finding that fails the command.
    pub fail_on: Option<Severity>,
    /// Capacities and windows.
    pub limits: Limits,
}

/// Capacities and windows of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are followed at once.
    pub max_flows: usize,
    /// Edges that are counted apart.
    pub max_edges: usize,
    /// Bytes of a message that are read.
    pub scan_window: u32,
}

/// How a replay came out, where nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is no finding that fails the command.
    Passed,
    /// There is a finding of the severity that was to fail the command, or a worse one.
    Failed,
}

/// Replays a capture and writes what was found to standard output.
///
/// # Errors
///
/// The capture or a manifest cannot be read. What was read before is reported all the same.
pub fn run(options: &Options) -> Result<Outcome> {
    let store = identities(&options.manifests)?;
    let (input, size) = open(options)?;
    let mut report = replay(input, &store, options.limits, options.rules, Progress::start(size));
    let nothing = report.summary.tally.packets == 0;
    if let Some(error) = report.error.take_if(|_| nothing && !options.json) {
        // A table of nothing would say that there are no findings.
        return Err(error).with_context(|| name_of(options));
    }
    let written = if options.json {
        report.write_json(&options.trust_domain, io::stdout().lock())
    } else {
        report.write_text(io::stdout().lock())
    };
    match written {
        // Whoever read the beginning has what they wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("write to standard output")?,
    }
    let worst = report.worst();
    if let Some(error) = report.error {
        return Err(error).with_context(|| name_of(options));
    }
    match options.fail_on {
        Some(limit) if worst >= Some(limit) => Ok(Outcome::Failed),
        _ => Ok(Outcome::Passed),
    }
}

/// What the capture is called where something is said of it.
fn name_of(options: &Options) -> String {
    if options.file.as_os_str() == STANDARD_INPUT {
        "standard input".to_owned()
    } else {
        options.file.display().to_string()
    }
}

/// Replays a capture: everything but input and output.
fn replay(input: impl Read, store: &Store, limits: Limits, rules: Rules, progress: Progress) -> Report {
    let Limits { max_flows, max_edges, scan_window } = limits;
    let settings =
        Settings { max_flows, max_edges, sample_below: u32::MAX, scan_window, ..Settings::default() };
    let mut tracker = Tracker::new(store, settings);
    let error = track(input, &mut tracker, progress).err();
    let tracked = tracker.finish();
    let error = error.or_else(|| nothing_read(&tracked));
    Report::new(store, rules, &tracked, error)
}

fn track(input: impl Read, tracker: &mut Tracker<'_>, mut progress: Progress) -> Result<(), CaptureError> {
    let mut capture = Capture::open(input)?;
    while let Some(packet) = capture.next()? {
        tracker.packet(&packet);
        if progress.is_due(tracker.packets()) {
            progress.show(capture.offset(), tracker.packets());
        }
    }
    Ok(())
}

/// A capture of which no packet is of a link type that is read has said nothing.
fn nothing_read(tracked: &Tracked) -> Option<CaptureError> {
    let Tracked { tally, unread_link, .. } = tracked;
    unread_link.filter(|_| tally.unread == tally.packets).map(CaptureError::LinkType)
}

/// The input, and its length where it is known.
fn open(options: &Options) -> Result<(Box<dyn Read>, Option<u64>)> {
    if options.file.as_os_str() == STANDARD_INPUT {
        let input = io::stdin().lock();
        if input.is_terminal() {
            bail!("standard input is a terminal: give a file, or pipe a capture in");
        }
        return Ok((Box::new(input), None));
    }
    let path = options.file.display();
    let file = File::open(&options.file).with_context(|| format!("{path}: open"))?;
    let metadata = file.metadata().with_context(|| format!("{path}: open"))?;
    if metadata.is_dir() {
        bail!("{path}: a folder, and no capture");
    }
    let size = Some(metadata.len()).filter(|_| metadata.is_file());
    Ok((Box::new(file), size))
}

fn identities(paths: &[PathBuf]) -> Result<Store> {
    let mut store = Store::default();
    if paths.is_empty() {
        return Ok(store);
    }
    for path in paths {
        path.metadata().with_context(|| format!("{}: cannot be read", path.display()))?;
    }
    let manifests = cluster::read(paths);
    for error in &manifests.errors {
        eprintln!("warning: {}", Chain(error));
    }
    store.reset(manifests.objects);
    for (sources, account) in store.unknown_expected_accounts() {
        eprintln!("warning: ExpectedSources {sources} names service account {account}, which is not there");
    }
    if store.is_blind() {
        eprintln!("warning: the manifests hold no pod: addresses stay without identity");
    }
    Ok(store)
}

/// An error with its causes on one line.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(error) = self;
        write!(f, "{error}")?;
        let mut cause = error.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
