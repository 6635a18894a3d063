//! Owns the reading of what daemons and Prometheus answer: the way back from the API's rows and from metrics.

pub(crate) mod prometheus;

use std::collections::HashMap;

use serde::Deserialize;

use crate::{
    cluster::objects::Name,
    flows::Timestamp,
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
struct NodeAnswer {
    node: String,
    observed_since: Option<String>,
}

#[derive(Deserialize)]
struct CoverageAnswer {
    truncated: bool,
    pods: Vec<PodRow>,
}

#[derive(Deserialize)]
struct PodRow {
    namespace: String,
    pod: String,
    observed: bool,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
struct FlowsAnswer {
    truncated: bool,
    #[serde(default)]
    next: Option<u64>,
    flows: Vec<FlowRow>,
}

#[derive(Deserialize)]
struct FlowRow {
    client: EndRow,
    server: EndRow,
    port: u16,
    verdict: String,
    protocol: String,
    evidence: Vec<String>,
    #[serde(default)]
    sni: Vec<String>,
    #[serde(default)]
    alpn: Vec<String>,
    count: u64,
    last_seen: String,
}

#[derive(Deserialize)]
struct EndRow {
    kind: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    workload: Option<WorkloadRow>,
    #[serde(default)]
    service_account: Option<String>,
    #[serde(default)]
    mesh: Option<String>,
    #[serde(default)]
    node: Option<String>,
    address: String,
}

#[derive(Deserialize)]
struct WorkloadRow {
    kind: String,
    name: String,
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

fn time(what: &'static str, text: &str) -> Result<Timestamp, ReadError> {
    let time: jiff::Timestamp = text.parse().map_err(|error| ReadError::new(what, error))?;
    Ok(Timestamp(u64::try_from(time.as_nanosecond()).unwrap_or_default()))
}

/// A daemon, from its answers on the node, on coverage and of its metrics.
pub(crate) fn daemon(node: &[u8], coverage: &[u8], metrics: &str) -> Result<Source, ReadError> {
    let NodeAnswer { node, observed_since } = parse("/api/v1/node", node)?;
    let since = observed_since.map(|since| time("/api/v1/node: observed_since", &since)).transpose()?;
    let CoverageAnswer { truncated, pods } = parse("/api/v1/coverage", coverage)?;
    let pods: HashMap<Name, Option<String>> = pods
        .into_iter()
        .map(|PodRow { namespace, pod, observed, reason }| {
            let reason = (!observed).then(|| reason.unwrap_or_else(|| "not observed".to_owned()));
            (Name::new(namespace, pod), reason)
        })
        .collect();
    let gap = if truncated { Some("it has more pods than it says".to_owned()) } else { forgets(metrics) };
    Ok(Source { name: format!("node {node}"), since, gap, pods: Some(pods) })
}

/// Why a daemon may not remember all that it has seen: it forgets silent edges once its map is half full, and
/// sees none when it is full.
fn forgets(metrics: &str) -> Option<String> {
    let value = |series: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        line.trim().parse::<f64>().ok()
    };
    let full = value("plainsight_kernel_events_total{reason=\"edge_map_full\"}").unwrap_or_default();
    if full > 0.0 {
        return Some("its map of edges was full, so connections are missing: raise --max-edges".to_owned());
    }
    let entries = value("plainsight_map_entries{map=\"edges\"}")?;
    let capacity = value("plainsight_map_capacity{map=\"edges\"}")?;
    // Below half for certain, whatever the moment of the question.
    (entries > capacity / 4.0).then(|| {
        "it has so many edges that it forgets those that are silent: ask Prometheus, or raise --max-edges"
            .to_owned()
    })
}

/// A page of a daemon's flows.
pub(crate) fn flows(text: &[u8]) -> Result<Flows, ReadError> {
    let FlowsAnswer { truncated, next, flows } = parse("/api/v1/flows", text)?;
    if truncated && next.is_none() {
        return Err(ReadError::new("/api/v1/flows", "truncated, and it does not say where to go on"));
    }
    let mut calls = Vec::with_capacity(flows.len());
    for row in flows {
        if let Some(call) = call(row)? {
            calls.push(call);
        }
    }
    Ok(Flows { calls, next: next.filter(|_| truncated) })
}

/// A row; `None` where it says nothing of a workload's traffic.
fn call(row: FlowRow) -> Result<Option<Call>, ReadError> {
    let FlowRow { client, server, port, verdict, protocol, evidence, sni, alpn, count, last_seen } = row;
    let Some(traffic) = Traffic::of(&verdict, &protocol) else { return Ok(None) };
    let EndRow { kind, namespace, service, workload, .. } = server;
    let (Some(namespace), Some(workload)) = (namespace, workload) else { return Ok(None) };
    Ok(Some(Call {
        client: caller(client),
        server_namespace: namespace,
        server_kind: Some(workload.kind),
        server_workload: workload.name,
        port: Some(port),
        service: service.filter(|_| kind == "service"),
        traffic,
        probe: evidence.iter().any(|name| name == "kube-probe"),
        met_in_the_middle: sni.is_empty() && alpn.is_empty(),
        connections: Some(count),
        last_seen: Some(time("/api/v1/flows: last_seen", &last_seen)?),
    }))
}

fn caller(end: EndRow) -> Client {
    let EndRow { kind, namespace, workload, service_account, mesh, node, address, .. } = end;
    match (kind.as_str(), namespace, workload) {
        (_, Some(namespace), Some(workload)) => Client::Workload {
            namespace,
            workload: workload.name,
            service_account: service_account.unwrap_or_default(),
            meshed: mesh.map(|mesh| mesh != "none"),
        },
        ("node", ..) => Client::Node { name: node.unwrap_or(address) },
        (kind, ..) => Client::Elsewhere { name: format!("{address} ({kind})") },
    }
}

#[cfg(test)]
mod tests;
