//! Owns what Prometheus is asked, and what its answers mean.
//!
//! A counter of ours is there from the first connection on. So a series that was not there before the time
//! asked for has had a connection in it, even where nothing shows it grow: `increase` alone would miss the
//! first.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{ReadError, parse};
use crate::{
    flows::Timestamp,
    migration::{Call, Client, Source, Traffic},
};

/// The labels of an edge.
const EDGE: &str = "verdict, protocol, source_kind, source_namespace, source_workload, \
source_service_account, destination_namespace, destination_workload";

/// What is asked: a name for it, and the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// The expression.
    pub(crate) expression: String,
    /// Where the answer is a matrix: the step in seconds, over all of the quiet time.
    pub(crate) step: Option<u64>,
}

/// The questions, in the order that [`read`] takes the answers in.
pub(crate) fn queries(quiet: Duration) -> [Query; 4] {
    let seconds = quiet.as_secs().max(1);
    let instant = |expression: String| Query { expression, step: None };
    let metric = "plainsight_connections_total{verdict=~\"plaintext|tls|opaque\"}";
    let edges = format!(
        "sum by ({EDGE}) (increase({metric}[{seconds}s]) > 0 or (last_over_time({metric}[{seconds}s]) unless last_over_time({metric}[10m] offset {seconds}s)))"
    );
    let last = format!(
        "max by (destination_namespace, destination_workload) (max_over_time(plainsight_last_plaintext_timestamp_seconds[{seconds}s]))"
    );
    let gaps = format!(
        "sum by (coverage) (max_over_time(plainsight_node_pods{{coverage!=\"observed\"}}[{seconds}s])) > 0"
    );
    let up =
        Query { expression: "count(plainsight_build_info)".to_owned(), step: Some((seconds / 500).max(30)) };
    [instant(edges), instant(last), instant(gaps), up]
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(default)]
    value: Option<(f64, String)>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl Series {
    fn label(&self, name: &str) -> String {
        self.metric.get(name).cloned().unwrap_or_default()
    }

    fn number(&self) -> Option<f64> {
        self.value.as_ref()?.1.parse().ok()
    }
}

fn result(text: &[u8]) -> Result<Vec<Series>, ReadError> {
    let Answer { status, error, data } = parse("Prometheus", text)?;
    if status != "success" {
        return Err(ReadError::new("Prometheus", error));
    }
    Ok(data.map(|data| data.result).unwrap_or_default())
}

/// What the answers to [`queries`] say, at `now`.
pub(crate) fn read(
    answers: [&[u8]; 4],
    now: Timestamp,
    quiet: Duration,
) -> Result<(Source, Vec<Call>), ReadError> {
    let [edges, last, gaps, up] = answers;
    let mut calls: Vec<Call> = result(edges)?.iter().filter_map(edge).collect();
    let since = now.0.saturating_sub(u64::try_from(quiet.as_nanos()).unwrap_or(u64::MAX));
    let mut overflow = false;
    for series in result(last)? {
        let (namespace, workload) =
            (series.label("destination_namespace"), series.label("destination_workload"));
        let Some(at) = series.number().and_then(seconds) else { continue };
        if workload == "overflow" {
            overflow |= at.0 >= since;
            continue;
        }
        let mut known = false;
        for call in &mut calls {
            if call.server_namespace == namespace
                && call.server_workload == workload
                && matches!(call.traffic, Traffic::Plaintext(_))
            {
                // The newest of all its plaintext: no edge of it is newer.
                call.last_seen = Some(at);
                known = true;
            }
        }
        if !known && at.0 >= since {
            calls.push(Call {
                client: Client::Elsewhere { name: "somebody whose series is gone".to_owned() },
                server_namespace: namespace,
                server_kind: None,
                server_workload: workload,
                port: None,
                service: None,
                traffic: Traffic::Plaintext(String::new()),
                probe: false,
                met_in_the_middle: false,
                connections: None,
                last_seen: Some(at),
            });
        }
    }
    overflow |= calls.iter().any(|call| call.server_workload == "overflow");
    let mut gap: Vec<String> = result(gaps)?
        .iter()
        .map(|series| {
            let pods = series.number().unwrap_or_default();
            format!("{pods} pods were not observed: {}", series.label("coverage"))
        })
        .collect();
    if overflow {
        gap.push("there were more names than series, and callers are counted under `overflow`".to_owned());
    }
    let [.., question] = queries(quiet);
    let (since, fewer) = unbroken(&result(up)?, now, question.step.unwrap_or(30));
    if let Some((before, after)) = fewer {
        gap.push(format!("of {before} daemons there were {after} at times"));
    }
    let gap = (!gap.is_empty()).then(|| gap.join("; "));
    Ok((Source { name: "Prometheus".to_owned(), since, gap, pods: None }, calls))
}

/// Since when there are samples without a gap up to `now`, and whether there were fewer daemons at times.
fn unbroken(up: &[Series], now: Timestamp, step: u64) -> (Option<Timestamp>, Option<(u64, u64)>) {
    let mut samples: Vec<(Timestamp, f64)> = up
        .iter()
        .flat_map(|series| &series.values)
        .filter_map(|(at, value)| Some((seconds(*at)?, value.parse().ok()?)))
        .collect();
    samples.sort_by_key(|(at, _)| *at);
    // One sample may be late; two that are missing are a gap.
    let allowed = step.saturating_mul(2_500_000_000);
    let mut since = None;
    let mut next = now;
    let mut counts: Vec<u64> = Vec::new();
    for (at, count) in samples.into_iter().rev() {
        if next.0.saturating_sub(at.0) > allowed {
            break;
        }
        since = Some(at);
        next = at;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of daemons")]
        counts.push(count as u64);
    }
    let most = counts.iter().copied().max().unwrap_or_default();
    let least = counts.iter().copied().min().unwrap_or_default();
    // A cluster that grows has fewer before; one that had as many and then fewer has lost sight of some.
    let lost = counts.iter().rev().scan(0, |high, count| {
        *high = (*high).max(*count);
        Some(count < high)
    });
    let lost = lost.into_iter().any(|lost| lost);
    (since, lost.then_some((most, least)))
}

fn edge(series: &Series) -> Option<Call> {
    let traffic = Traffic::of(&series.label("verdict"), &series.label("protocol"))?;
    let workload = series.label("destination_workload");
    if workload.is_empty() {
        return None;
    }
    let kind = series.label("source_kind");
    let client = match (kind.as_str(), series.label("source_workload")) {
        ("node", _) => Client::Node { name: String::new() },
        (_, source) if !source.is_empty() => Client::Workload {
            namespace: series.label("source_namespace"),
            workload: source,
            service_account: series.label("source_service_account"),
            meshed: None,
        },
        _ => Client::Elsewhere { name: format!("an address ({kind})") },
    };
    // What `increase` extrapolates is no count; that there was one is what is known.
    Some(Call {
        client,
        server_namespace: series.label("destination_namespace"),
        server_kind: None,
        server_workload: workload,
        port: None,
        service: None,
        traffic,
        probe: false,
        met_in_the_middle: false,
        connections: None,
        last_seen: None,
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
fn seconds(at: f64) -> Option<Timestamp> {
    (0.0..1e10).contains(&at).then_some(Timestamp((at * 1e9) as u64))
}

#[cfg(test)]
mod tests;
