//! When a report is written, and when it goes.

use serde_json::Value;

use super::{OF_A_NODE, ReportWrite, Reports, Rested, SECOND};
use crate::{
    cluster::objects::{Name, Pod, Uid},
    findings::{Finding, FindingId, Severity},
    flows::{End, FlowId},
    outputs::kubernetes::{Flavour, Subject},
    testing,
};

const KIND: Flavour = Flavour::WgPolicy;

fn reports() -> Reports {
    Reports::new("node1", 0)
}

fn finding(id: FindingId) -> Finding {
    Finding { id, ..testing::finding(testing::mcp_flow()) }
}

/// A finding about another pod.
fn about(name: &str) -> Finding {
    let mut flow = testing::mcp_flow();
    let pod = Pod { name: Name::new("mcp", name), ..testing::pod("mcp", name, &["10.244.0.9"]) };
    flow.server = End::Pod { pod: pod.into(), address: testing::ip("10.244.0.9") };
    testing::finding(flow)
}

/// Findings of flow number `flow`, which has a port of its own.
fn found(reports: &mut Reports, flow: u64, findings: &[Finding], now: u64) -> usize {
    let mut findings = findings.to_vec();
    for finding in &mut findings {
        finding.flow.port = u16::try_from(8000 + flow).unwrap();
    }
    found_at(reports, flow, &findings, now)
}

fn found_at(reports: &mut Reports, flow: u64, findings: &[Finding], now: u64) -> usize {
    let findings: Vec<_> =
        findings.iter().map(|finding| (finding, Subject::of(finding, "node1").unwrap())).collect();
    reports.found(FlowId::of(flow), &findings, now)
}

fn flush(reports: &mut Reports, now: u64) -> Vec<ReportWrite> {
    let mut all = Vec::new();
    while let Some(write) = reports.next(KIND, now) {
        reports.rested(&write, Rested::Done, now);
        all.push(write);
    }
    all
}

fn policies(write: &ReportWrite) -> Vec<String> {
    let body: Value = serde_json::from_slice(write.body.as_ref().unwrap()).unwrap();
    let results = body["results"].as_array().unwrap();
    results.iter().map(|result| result["policy"].as_str().unwrap().to_owned()).collect()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn what_stands_for_a_pod_is_one_report_and_repetitions_write_nothing() {
    let mut reports = reports();
    let both = [finding(FindingId::PlaintextMcp), finding(FindingId::UnexpectedSource)];
    assert_eq!(found(&mut reports, 1, &both, 0), 0);
    assert_eq!(flush(&mut reports, Reports::GATHER - 1), [], "changes are gathered");
    let written = flush(&mut reports, Reports::GATHER);
    assert_eq!(written.len(), 1);
    assert_eq!(policies(&written[0]), strings(&["plaintext-mcp", "unexpected-source"]));
    for second in 0..600 {
        let mut again = both.clone();
        for finding in &mut again {
            finding.flow.connections += second;
            finding.flow.last_seen.0 += second;
        }
        found(&mut reports, 1, &again, second * SECOND);
        assert_eq!(flush(&mut reports, second * SECOND), []);
    }
}

#[test]
fn a_report_follows_its_findings_and_goes_with_the_last() {
    let mut reports = reports();
    found(&mut reports, 1, &[finding(FindingId::PlaintextMcp), finding(FindingId::MeshBypass)], 0);
    flush(&mut reports, 2 * SECOND);
    found(&mut reports, 1, &[finding(FindingId::PlaintextMcp)], 3 * SECOND);
    found(&mut reports, 2, &[finding(FindingId::WeakTls)], 4 * SECOND);
    assert_eq!(flush(&mut reports, 11 * SECOND), [], "a pod has its rate");
    let written = flush(&mut reports, 12 * SECOND);
    assert_eq!(policies(&written[0]), strings(&["plaintext-mcp", "weak-tls"]));
    reports.retain(|flow| flow == FlowId::of(2), |_| true, 20 * SECOND);
    assert_eq!(policies(&flush(&mut reports, 30 * SECOND)[0]), strings(&["weak-tls"]));
    found(&mut reports, 2, &[], 40 * SECOND);
    let gone = flush(&mut reports, 50 * SECOND);
    assert_eq!((gone.len(), &gone[0].body), (1, &None));
    assert_eq!(gone[0].name, written[0].name);
    assert!(reports.is_empty() && reports.pods.is_empty() && reports.flows.is_empty());
}

#[test]
fn two_flows_of_the_same_ends_are_one_result_as_bad_as_the_worse() {
    let mut reports = reports();
    let bad = finding(FindingId::PlaintextInStrict);
    let mild = Finding { severity: Severity::Low, ..bad.clone() };
    found_at(&mut reports, 1, &[mild], 0);
    found_at(&mut reports, 2, &[bad], 0);
    let written = flush(&mut reports, 2 * SECOND);
    let body: Value = serde_json::from_slice(written[0].body.as_ref().unwrap()).unwrap();
    assert_eq!(body["results"].as_array().unwrap().len(), 1);
    assert_eq!(body["results"][0]["severity"], "high");
}

#[test]
fn what_came_and_went_before_it_was_written_is_never_written() {
    let mut reports = reports();
    found(&mut reports, 1, &[finding(FindingId::PlaintextMcp)], 0);
    found(&mut reports, 1, &[], 1);
    assert_eq!(flush(&mut reports, 60 * SECOND), []);
    assert!(reports.pods.is_empty());
}

#[test]
fn a_pod_that_goes_takes_its_report_along_and_nothing_is_written() {
    let mut reports = reports();
    found(&mut reports, 1, &[finding(FindingId::PlaintextMcp)], 0);
    found(&mut reports, 2, &[about("other")], 0);
    assert_eq!(flush(&mut reports, 2 * SECOND).len(), 2);
    let other = Subject::of(&about("other"), "node1").unwrap().uid;
    found(&mut reports, 1, &[finding(FindingId::MeshBypass)], 3 * SECOND);
    reports.retain(|_| true, |uid| uid == other, 4 * SECOND);
    assert_eq!(flush(&mut reports, 60 * SECOND), []);
    assert_eq!((reports.len(), reports.flows.len()), (1, 1));
}

#[test]
fn a_report_from_before_goes_unless_its_findings_are_made_again() {
    let mut reports = reports();
    let stays = Subject::of(&finding(FindingId::PlaintextMcp), "node1").unwrap();
    reports.adopt(Name::new("mcp", format!("plainsight-{}", stays.uid)), 0);
    reports.adopt(Name::new("mcp", "plainsight-99999999-2222-4333-8444-555555555555"), 0);
    reports.adopt(Name::new("mcp", "somebody-elses"), 0);
    found(&mut reports, 1, &[finding(FindingId::PlaintextMcp)], 5 * SECOND);
    reports.retain(|_| true, |uid| uid == stays.uid, 6 * SECOND);
    let first = flush(&mut reports, 8 * SECOND);
    assert_eq!((first.len(), first[0].body.is_some()), (1, true));
    assert_eq!(flush(&mut reports, Reports::SETTLE - 1), []);
    let gone = flush(&mut reports, Reports::SETTLE);
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].body, None);
    assert_eq!(gone[0].uid, Uid::from("99999999-2222-4333-8444-555555555555"));
}

#[test]
fn what_could_not_be_written_is_tried_again_as_it_is_then() {
    let mut reports = reports();
    found(&mut reports, 1, &[finding(FindingId::PlaintextMcp)], 0);
    let write = reports.next(KIND, 2 * SECOND).unwrap();
    assert_eq!(reports.next(KIND, 2 * SECOND), None, "one at a time");
    found(&mut reports, 2, &[finding(FindingId::WeakTls)], 3 * SECOND);
    reports.rested(&write, Rested::Again(7 * SECOND), 4 * SECOND);
    assert_eq!(flush(&mut reports, 11 * SECOND - 1), []);
    let written = flush(&mut reports, 11 * SECOND);
    assert_eq!(policies(&written[0]), strings(&["plaintext-mcp", "weak-tls"]));
    // What cannot be written is left, until there is news.
    found(&mut reports, 2, &[], 30 * SECOND);
    let write = reports.next(KIND, 40 * SECOND).unwrap();
    reports.rested(&write, Rested::Dropped, 40 * SECOND);
    assert_eq!(flush(&mut reports, 600 * SECOND), []);
    found(&mut reports, 2, &[finding(FindingId::WeakTls)], 700 * SECOND);
    assert_eq!(flush(&mut reports, 710 * SECOND).len(), 1);
}

#[test]
fn another_kind_of_report_has_all_written_anew() {
    let mut reports = reports();
    found(&mut reports, 1, &[finding(FindingId::PlaintextMcp)], 0);
    flush(&mut reports, 2 * SECOND);
    reports.reset(3 * SECOND);
    let write = reports.next(Flavour::OpenReports, 3 * SECOND).unwrap();
    let body: Value = serde_json::from_slice(write.body.as_ref().unwrap()).unwrap();
    assert_eq!(body["apiVersion"], "openreports.io/v1alpha1");
}

#[test]
fn a_report_has_a_bound_and_keeps_the_worst() {
    let mut reports = reports();
    for flow in 0..120 {
        let severity = if flow == 119 { Severity::Critical } else { Severity::Low };
        found(&mut reports, flow, &[Finding { severity, ..finding(FindingId::PlaintextMcp) }], 0);
    }
    let write = flush(&mut reports, 2 * SECOND).remove(0);
    let body: Value = serde_json::from_slice(write.body.as_ref().unwrap()).unwrap();
    assert_eq!(body["results"].as_array().unwrap().len(), Reports::MAX_RESULTS);
    assert_eq!(body["results"][0]["severity"], "critical");
    assert_eq!(body["metadata"]["annotations"]["plainsight.dev/results-left-out"], "20");
    let room = (Reports::MAX_STANDING - 120) as u64;
    let left_out: usize =
        (0..room + 7).map(|flow| found(&mut reports, 1000 + flow, &[finding(FindingId::WeakTls)], 0)).sum();
    assert_eq!((left_out, reports.len()), (7, Reports::MAX_STANDING));
}

#[test]
fn the_node_has_its_rate() {
    let mut reports = reports();
    for flow in 0..100 {
        found(&mut reports, flow, &[about(&format!("pod-{flow}"))], 0);
    }
    let burst = OF_A_NODE.burst as usize;
    // The budget was full at the start.
    assert_eq!(flush(&mut reports, 2 * SECOND).len(), burst);
    assert_eq!(flush(&mut reports, 4 * SECOND).len(), 4);
    let all: usize = (5..60).map(|second| flush(&mut reports, second * SECOND).len()).sum();
    assert_eq!(all, 100 - burst - 4);
}
