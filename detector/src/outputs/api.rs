//! Owns the answers of the JSON API: what a node knows, as the lines have it.
//!
//! A flow or finding is the object that its line is, so that there is one set of field names. An answer has at
//! most [`Page::ROWS`] rows and stops after [`Page::BYTES`]; `truncated` says so, and `next` is what to ask
//! `after`.

pub mod read;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    json,
    lines::{Lines, time},
    rows::{FlowRow, NodeRow, PodRow, PodRows},
};
use crate::{
    cluster::kubernetes::ResourceHealth,
    coverage::PodCoverage,
    findings::Finding,
    flows::{Flow, FlowId, Timestamp},
};

/// Turns what is known into answers.
#[derive(Clone, Debug)]
pub struct Api {
    lines: Lines,
    node: String,
}

/// What `/api/v1/node` says.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// When the process began.
    pub started: SystemTime,
    /// Since when every pod is accounted for.
    pub observed_since: Option<SystemTime>,
    /// What readiness waits for.
    pub waiting_for: Vec<&'static str>,
    /// The pods of the node.
    pub pods: Vec<PodCoverage>,
}

/// Rows of an answer, filled until it is full.
#[derive(Debug)]
pub struct Page {
    limit: usize,
    bytes: usize,
    rows: Vec<Box<RawValue>>,
    last: Option<u64>,
    truncated: bool,
}

impl Page {
    /// Rows of an answer at most.
    pub const ROWS: usize = 2000;

    /// Bytes after which an answer takes no more rows. One flow's rows stay together, so it may be passed.
    pub const BYTES: usize = 2 * 1024 * 1024;

    /// A page of `limit` rows at most.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.min(Self::ROWS), bytes: 0, rows: Vec::new(), last: None, truncated: false }
    }

    /// Puts in what is said of one flow; false when the page is full and it was left out.
    fn put(&mut self, flow: FlowId, rows: Vec<Box<RawValue>>) -> bool {
        let full = self.bytes >= Self::BYTES || self.rows.len() + rows.len() > self.limit;
        if full && !self.rows.is_empty() && !rows.is_empty() {
            self.truncated = true;
            return false;
        }
        self.bytes += rows.iter().map(|row| row.get().len()).sum::<usize>();
        self.rows.extend(rows);
        self.last = Some(flow.number());
        true
    }
}

impl Api {
    /// Answers in the name of `node`.
    #[must_use]
    pub fn new(lines: Lines, node: &str) -> Self {
        Self { lines, node: node.to_owned() }
    }

    /// The node and the process.
    ///
    /// # Errors
    ///
    /// It cannot be written as JSON, which it always can.
    pub fn node(&self, facts: NodeFacts) -> serde_json::Result<Vec<u8>> {
        let NodeFacts { started, observed_since, waiting_for, pods } = facts;
        let view = self.node_row(observed_since);
        let observed = pods.iter().filter(|pod| pod.reason.is_none()).count();
        json::to_vec(&NodeBody {
            view,
            time: wall(SystemTime::now()),
            version: env!("CARGO_PKG_VERSION"),
            trust_domain: self.lines.trust_domain(),
            started: wall(started),
            ready: waiting_for.is_empty(),
            waiting_for,
            pods: PodsBody { observed, not_observed: pods.len() - observed },
        })
    }

    /// One page of flows, in the order given. `total` is how many flows are remembered.
    ///
    /// # Errors
    ///
    /// It cannot be written as JSON, which it always can.
    pub fn flows<'a>(
        &self,
        flows: impl IntoIterator<Item = (FlowId, &'a Flow)>,
        total: usize,
        mut page: Page,
    ) -> serde_json::Result<Vec<u8>> {
        for (id, flow) in flows {
            if !page.put(id, vec![row(self.lines.flow(flow)?)?]) {
                break;
            }
        }
        let Page { rows, last, truncated, .. } = page;
        let next = last.filter(|_| truncated);
        json::to_vec(&FlowsBody { page: self.head(truncated, next), total, flows: rows })
    }

    /// One page of the findings of flows, in the order given.
    ///
    /// # Errors
    ///
    /// It cannot be written as JSON, which it always can.
    pub fn findings(
        &self,
        findings: impl IntoIterator<Item = (FlowId, Vec<Finding>)>,
        mut page: Page,
    ) -> serde_json::Result<Vec<u8>> {
        for (id, findings) in findings {
            let rows =
                findings.iter().map(|finding| row(self.lines.finding(finding)?)).collect::<Result<_, _>>()?;
            if !page.put(id, rows) {
                break;
            }
        }
        let Page { rows, last, truncated, .. } = page;
        let next = last.filter(|_| truncated);
        json::to_vec(&FindingsBody { page: self.head(truncated, next), findings: rows })
    }

    /// Every pod of the node, and how the watches do.
    ///
    /// # Errors
    ///
    /// It cannot be written as JSON, which it always can.
    pub fn coverage(
        &self,
        pods: &[PodCoverage],
        watches: Vec<ResourceHealth>,
    ) -> serde_json::Result<Vec<u8>> {
        let PodRows { pods, truncated } = Self::pod_rows(pods);
        let watch = |ResourceHealth { resource, state, stale, .. }: ResourceHealth| WatchBody {
            resource,
            state: state.as_str(),
            stale_seconds: stale.as_secs(),
        };
        json::to_vec(&CoverageBody {
            page: self.head(truncated, None),
            pods,
            watches: watches.into_iter().map(watch).collect(),
        })
    }

    /// What the node says of its view, without writing it.
    pub(crate) fn node_row(&self, observed_since: Option<SystemTime>) -> NodeRow<'_> {
        NodeRow { node: self.node.as_str().into(), observed_since: observed_since.map(|at| stamp(at).into()) }
    }

    /// What is said of each pod of the node, without writing it.
    pub(crate) fn pod_rows(pods: &[PodCoverage]) -> PodRows {
        let row = |PodCoverage { pod, interface, reason }: &PodCoverage| PodRow {
            namespace: pod.namespace.to_string(),
            pod: pod.name.to_string(),
            interface: interface.clone(),
            observed: reason.is_none(),
            reason: reason.map(|reason| reason.as_str().into()),
            advice: reason.map(|reason| reason.advice().into()),
        };
        PodRows { pods: pods.iter().take(Page::ROWS).map(row).collect(), truncated: pods.len() > Page::ROWS }
    }

    /// What is said of a flow, without writing it.
    pub(crate) fn flow_row<'a>(&self, flow: &'a Flow) -> FlowRow<'a> {
        self.lines.row(flow)
    }

    fn head(&self, truncated: bool, next: Option<u64>) -> PageBody<'_> {
        PageBody { node: &self.node, time: wall(SystemTime::now()), truncated, next }
    }
}

/// A refusal, in words.
#[must_use]
pub fn error(text: &str) -> Vec<u8> {
    // A string and nothing else: it can always be written.
    json::to_vec(&ErrorBody { error: text }).unwrap_or_default()
}

/// A line without its end.
fn row(line: Vec<u8>) -> serde_json::Result<Box<RawValue>> {
    serde_json::from_slice(&line)
}

fn stamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn wall(at: SystemTime) -> String {
    time(stamp(at))
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

#[derive(Serialize)]
struct NodeBody<'a> {
    #[serde(flatten)]
    view: NodeRow<'a>,
    time: String,
    version: &'static str,
    trust_domain: String,
    started: String,
    ready: bool,
    waiting_for: Vec<&'static str>,
    pods: PodsBody,
}

#[derive(Serialize)]
struct PodsBody {
    observed: usize,
    not_observed: usize,
}

#[derive(Serialize)]
struct PageBody<'a> {
    node: &'a str,
    time: String,
    truncated: bool,
    /// What to ask `after` for what was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

#[derive(Serialize)]
struct FlowsBody<'a> {
    #[serde(flatten)]
    page: PageBody<'a>,
    total: usize,
    flows: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct FindingsBody<'a> {
    #[serde(flatten)]
    page: PageBody<'a>,
    findings: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct CoverageBody<'a> {
    #[serde(flatten)]
    page: PageBody<'a>,
    pods: Vec<PodRow>,
    watches: Vec<WatchBody>,
}

#[derive(Serialize)]
struct WatchBody {
    resource: String,
    state: &'static str,
    stale_seconds: u64,
}

#[cfg(test)]
mod tests;
