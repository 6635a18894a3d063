//! Owns the way back from the API's rows, and from metrics, to what was observed: those of other daemons, which
//! come as JSON, and those of this one, which are at hand.

pub(crate) mod prometheus;

use std::{borrow::Cow, collections::HashMap};

use detector_ebpf::counter::Counter;
use serde::Deserialize;

use super::{
    metrics::{Fill, KernelReading},
    rows::{EndRow, FlowRow, NodeRow, PodRow, PodRows},
};
use crate::{
    cluster::objects::Name,
    migration::{Call, Client, Source, Traffic},
};

/// An answer that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub(crate) struct ReadError {
    what: &'static str,
    why: String,
}

impl ReadError {
    fn new(what: &'static str, why: impl ToString) -> Self {
        Self { what, why: why.to_string() }
    }
}

#[derive(Deserialize)]
struct CoverageAnswer {
    truncated: bool,
    pods: Vec<PodRow>,
}

#[derive(Deserialize)]
struct FlowsAnswer {
    truncated: bool,
    #[serde(default)]
    next: Option<u64>,
    flows: Vec<FlowRow<'static>>,
}

/// What the map of edges says of a daemon's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EdgeMap {
    /// Whether it was ever full.
    pub(crate) was_full: bool,
    /// How full it is, where that is known.
    pub(crate) fill: Option<Fill>,
}

impl EdgeMap {
    /// What metrics, as text, say of it.
    fn read(metrics: &str) -> Self {
        let value = |series: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
            line.trim().parse::<u64>().ok()
        };
        let full = value("plainsight_kernel_events_total{reason=\"edge_map_full\"}");
        let entries = value("plainsight_map_entries{map=\"edges\"}");
        let capacity = value("plainsight_map_capacity{map=\"edges\"}");
        let fill = entries.zip(capacity).map(|(entries, capacity)| Fill { entries, capacity });
        Self { was_full: full.is_some_and(|full| full > 0), fill }
    }

    /// Why a daemon may not remember all that it has seen: it forgets silent edges once its map is half full, and
    /// sees none when it is full.
    fn forgets(self) -> Option<String> {
        if self.was_full {
            return Some(
                "its map of edges was full, so connections are missing: raise --max-edges".to_owned(),
            );
        }
        // Below half for certain, whatever the moment of the question.
        self.fill.is_some_and(|Fill { entries, capacity }| entries.saturating_mul(4) > capacity).then(|| {
            "it has so many edges that it forgets those that are silent: ask Prometheus, or raise --max-edges"
                .to_owned()
        })
    }
}

impl From<&KernelReading> for EdgeMap {
    fn from(reading: &KernelReading) -> Self {
        let full = reading.counters.and_then(|counters| counters.get(Counter::EdgeMapFull as usize).copied());
        let fill = reading.maps.iter().find(|(map, _)| *map == "edges").map(|(_, fill)| *fill);
        Self { was_full: full.is_some_and(|full| full > 0), fill }
    }
}

/// A page of flows: the calls, and what to ask for next.
#[derive(Debug)]
pub(crate) struct Flows {
    pub(crate) calls: Vec<Call>,
    pub(crate) next: Option<u64>,
}

fn parse<'a, T: Deserialize<'a>>(what: &'static str, text: &'a [u8]) -> Result<T, ReadError> {
    let mut json = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| ReadError::new(what, error))
}

/// A daemon, from its answers on the node, on coverage and of its metrics.
pub(crate) fn daemon(node: &[u8], coverage: &[u8], metrics: &str) -> Result<Source, ReadError> {
    let node = parse("/api/v1/node", node)?;
    let CoverageAnswer { truncated, pods } = parse("/api/v1/coverage", coverage)?;
    Ok(source(node, PodRows { pods, truncated }, EdgeMap::read(metrics)))
}

/// A daemon, from what it says of itself.
pub(crate) fn source(node: NodeRow<'_>, pods: PodRows, edges: EdgeMap) -> Source {
    let NodeRow { node, observed_since } = node;
    let PodRows { pods, truncated } = pods;
    let pods: HashMap<Name, Option<String>> = pods
        .into_iter()
        .map(|PodRow { namespace, pod, observed, reason, .. }| {
            let reason =
                (!observed).then(|| reason.map_or_else(|| "not observed".to_owned(), Cow::into_owned));
            (Name::new(namespace, pod), reason)
        })
        .collect();
    let gap = if truncated { Some("it has more pods than it says".to_owned()) } else { edges.forgets() };
    Source { name: format!("node {node}"), since: observed_since.map(Into::into), gap, pods: Some(pods) }
}

/// A page of a daemon's flows.
pub(crate) fn flows(text: &[u8]) -> Result<Flows, ReadError> {
    let FlowsAnswer { truncated, next, flows } = parse("/api/v1/flows", text)?;
    if truncated && next.is_none() {
        return Err(ReadError::new("/api/v1/flows", "truncated, and it does not say where to go on"));
    }
    Ok(Flows { calls: flows.into_iter().filter_map(call).collect(), next: next.filter(|_| truncated) })
}

/// A row; `None` where it says nothing of a workload's traffic.
pub(crate) fn call(row: FlowRow<'_>) -> Option<Call> {
    let FlowRow { client, server, port, verdict, protocol, evidence, sni, alpn, count, last_seen, .. } = row;
    let traffic = Traffic::of(&verdict, &protocol)?;
    let EndRow { kind, namespace, service, workload, .. } = server;
    let (namespace, workload) = (namespace?, workload?);
    Some(Call {
        client: caller(client),
        server_namespace: namespace.into_owned(),
        server_kind: Some(workload.kind.into_owned()),
        server_workload: workload.name.into_owned(),
        port: Some(port),
        service: service.filter(|_| kind == "service").map(Cow::into_owned),
        traffic,
        probe: evidence.iter().any(|name| name == "kube-probe"),
        met_in_the_middle: sni.is_empty() && alpn.is_empty(),
        connections: Some(count),
        last_seen: Some(last_seen.into()),
    })
}

fn caller(end: EndRow<'_>) -> Client {
    let EndRow { kind, namespace, workload, service_account, mesh, node, address, .. } = end;
    match (&*kind, namespace, workload) {
        (_, Some(namespace), Some(workload)) => Client::Workload {
            namespace: namespace.into_owned(),
            workload: workload.name.into_owned(),
            service_account: service_account.unwrap_or_default().into_owned(),
            meshed: mesh.map(|mesh| mesh != "none"),
        },
        ("node", ..) => Client::Node { name: node.map_or(address, Cow::into_owned) },
        (kind, ..) => Client::Elsewhere { name: format!("{address} ({kind})") },
    }
}

#[cfg(test)]
mod tests;
