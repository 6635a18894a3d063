//! What Prometheus answers, as its HTTP API writes it.

use std::time::Duration;

use super::{queries, read};
use crate::{
    flows::Timestamp,
    migration::{Call, Client, Source, Traffic},
};

const NOW: Timestamp = Timestamp(1_795_500_000_000_000_000);
const QUIET: Duration = Duration::from_secs(7 * 86_400);
const NONE: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

fn vector(series: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
}

/// The daemons that there were, each `every` seconds, the last at `NOW`.
fn up(counts: &[Option<u64>]) -> String {
    let step = queries(QUIET)[3].step.unwrap();
    let values: Vec<String> = counts
        .iter()
        .rev()
        .enumerate()
        .filter_map(|(back, count)| {
            let at = NOW.0 / 1_000_000_000 - u64::try_from(back).unwrap() * step;
            Some(format!(r#"[{at},"{}"]"#, (*count)?))
        })
        .collect();
    format!(
        r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},"values":[{}]}}]}}}}"#,
        values.join(",")
    )
}

fn ask(edges: &str, last: &str, gaps: &str, up: &str) -> (Source, Vec<Call>) {
    read([edges.as_bytes(), last.as_bytes(), gaps.as_bytes(), up.as_bytes()], NOW, QUIET).unwrap()
}

const EDGE: &str = r#"{"metric":{"verdict":"plaintext","protocol":"mcp","source_kind":"pod","source_namespace":"jobs","source_workload":"batch","source_service_account":"batch","destination_namespace":"mcp","destination_workload":"tools"},"value":[1795500000,"3.0001"]}"#;

#[test]
fn edges_and_the_last_plaintext_are_joined() {
    let last = vector(
        r#"{"metric":{"destination_namespace":"mcp","destination_workload":"tools"},"value":[1795500000,"1795413600"]},{"metric":{"destination_namespace":"mcp","destination_workload":"other"},"value":[1795500000,"1795413600"]},{"metric":{"destination_namespace":"mcp","destination_workload":"old"},"value":[1795500000,"1790000000"]}"#,
    );
    let (source, calls) = ask(&vector(EDGE), &last, NONE, &up(&[Some(3); 500]));
    assert_eq!((source.gap, source.pods), (None, None));
    assert_eq!(calls.len(), 2, "{calls:#?}");
    assert_eq!(calls[0].last_seen, Some(Timestamp(1_795_413_600_000_000_000)));
    assert_eq!(calls[0].traffic, Traffic::Plaintext("mcp".to_owned()));
    assert!(matches!(&calls[0].client, Client::Workload { namespace, .. } if namespace == "jobs"));
    assert_eq!((calls[1].server_workload.as_str(), calls[1].port), ("other", None));
}

#[test]
fn observation_begins_after_the_last_gap() {
    let step = queries(QUIET)[3].step.unwrap();
    let since = |counts: &[Option<u64>]| {
        let (source, _) = ask(NONE, NONE, NONE, &up(counts));
        source.since.map(|since| (NOW.0 - since.0) / 1_000_000_000 / step)
    };
    assert_eq!(since(&[Some(3); 500]), Some(499));
    assert_eq!(since(&[]), None);
    assert_eq!(since(&[Some(3), None, Some(3), Some(3)]), Some(3), "one sample may be late");
    assert_eq!(since(&[Some(3), None, None, Some(3), Some(3)]), Some(1));
    assert_eq!(since(&[Some(3), Some(3), None, None, None]), None, "it is gone now");
}

#[test]
fn what_is_missing_is_said() {
    let pods = vector(r#"{"metric":{"coverage":"netkit"},"value":[1795500000,"2"]}"#);
    let (source, _) = ask(NONE, NONE, &pods, &up(&[Some(3); 10]));
    assert_eq!(source.gap.unwrap(), "2 pods were not observed: netkit");
    let (source, _) = ask(NONE, NONE, NONE, &up(&[Some(3), Some(2), Some(3)]));
    assert_eq!(source.gap.unwrap(), "of 3 daemons there were 2 at times");
    let (source, _) = ask(NONE, NONE, NONE, &up(&[Some(1), Some(2), Some(3)]));
    assert_eq!(source.gap, None, "a cluster that grows");
    let over = EDGE.replace("\"tools\"", "\"overflow\"");
    let (source, _) = ask(&vector(&over), NONE, NONE, &up(&[Some(3); 10]));
    assert!(source.gap.unwrap().contains("overflow"));
}

#[test]
fn a_refusal_is_told_in_prometheus_words() {
    let refused = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    let error = read([refused.as_bytes(), b"{}", b"{}", b"{}"], NOW, QUIET).unwrap_err();
    assert_eq!(error.to_string(), "Prometheus: parse error");
    assert!(read([b"<html>", b"", b"", b""], NOW, QUIET).is_err());
}

#[test]
fn a_series_that_is_new_counts_though_nothing_shows_it_grow() {
    let [edges, ..] = queries(Duration::from_secs(3600));
    assert!(edges.expression.contains("[3600s]"), "{}", edges.expression);
    assert!(edges.expression.contains("unless last_over_time"), "{}", edges.expression);
    assert!(!edges.expression.contains("mesh-mtls"));
}
