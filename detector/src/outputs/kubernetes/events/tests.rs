//! When a finding is an Event, and when it is one more of a series.

use serde_json::Value;

use super::{EventWrite, Events, OF_A_NODE, OF_A_POD, SECOND, Suppressed};
use crate::{
    cluster::objects::{Name, Pod},
    findings::{Finding, Severity},
    flows::{End, FlowId},
    outputs::kubernetes::Subject,
    testing,
};

fn events() -> Events {
    Events::new("node1", 0)
}

/// A finding of flow number `flow`, which has a port of its own.
fn found(events: &mut Events, flow: u64, times: u64, finding: &Finding, now: u64) -> Result<(), Suppressed> {
    let mut finding = finding.clone();
    finding.flow.port = u16::try_from(8000 + flow).unwrap();
    found_at(events, flow, times, &finding, now)
}

fn found_at(
    events: &mut Events,
    flow: u64,
    times: u64,
    finding: &Finding,
    now: u64,
) -> Result<(), Suppressed> {
    let subject = Subject::of(finding, "node1").unwrap();
    events.found(FlowId::of(flow), times, finding, &subject, now)
}

fn finding() -> Finding {
    testing::finding(testing::mcp_flow())
}

/// A finding about another pod.
fn about(name: &str) -> Finding {
    let mut flow = testing::mcp_flow();
    let pod = Pod { name: Name::new("mcp", name), ..testing::pod("mcp", name, &["10.244.0.9"]) };
    flow.server = End::Pod { pod: pod.into(), address: testing::ip("10.244.0.9") };
    testing::finding(flow)
}

fn body(write: &EventWrite) -> Value {
    serde_json::from_slice(&write.body).unwrap()
}

/// Writes all that is due.
fn flush(events: &mut Events, now: u64) -> Vec<EventWrite> {
    let mut all = Vec::new();
    while let Some(write) = events.next(now) {
        events.written(&write, now);
        all.push(write);
    }
    all
}

#[test]
fn a_finding_is_one_event_and_its_repetitions_are_its_series() {
    let mut events = events();
    found(&mut events, 1, 1, &finding(), 0).unwrap();
    assert_eq!(events.next(Events::HOLD - 1), None, "it settles first");
    let written = flush(&mut events, Events::HOLD);
    assert_eq!(written.len(), 1);
    assert_eq!((written[0].count, body(&written[0])["reason"].as_str()), (None, Some("PlaintextMcp")));
    for second in 2..6 {
        found(&mut events, 1, 1, &finding(), second * SECOND).unwrap();
        assert_eq!(flush(&mut events, second * SECOND), [], "not before its time");
    }
    let series = flush(&mut events, 6 * SECOND);
    assert_eq!(series.len(), 1);
    assert_eq!((series[0].count, &series[0].name), (Some(5), &written[0].name));
    assert_eq!(body(&series[0])["series"]["count"], 5);
    assert_eq!(flush(&mut events, 7200 * SECOND), [], "nothing more has happened");
}

#[test]
fn a_series_is_told_less_and_less_often() {
    let mut events = events();
    let mut told = Vec::new();
    for second in 0..7200 {
        found(&mut events, 1, 10, &finding(), second * SECOND).unwrap();
        for write in flush(&mut events, second * SECOND) {
            told.push((second, write.count));
        }
    }
    let at: Vec<u64> = told.iter().map(|(second, _)| *second).collect();
    assert_eq!(at, [1, 6, 36, 216, 1296, 3096, 4896, 6696]);
    assert_eq!(told.last().unwrap().1, Some(66_970));
}

#[test]
fn a_finding_that_turns_out_worse_at_once_is_told_once() {
    let mut events = events();
    let mild = Finding { severity: Severity::Medium, ..finding() };
    found(&mut events, 1, 1, &mild, 0).unwrap();
    found(&mut events, 1, 0, &finding(), SECOND / 2).unwrap();
    let written = flush(&mut events, Events::HOLD);
    assert_eq!(written.len(), 1);
    assert!(body(&written[0])["note"].as_str().unwrap().starts_with("high: "));
    // And later it is another event: the type and the note of the first cannot change.
    let worst = Finding { severity: Severity::Critical, ..finding() };
    found(&mut events, 1, 1, &worst, 60 * SECOND).unwrap();
    let again = flush(&mut events, 62 * SECOND);
    assert_eq!(again.len(), 1);
    assert!(again[0].count.is_none() && again[0].name != written[0].name);
}

#[test]
fn two_flows_of_the_same_ends_are_one_event_as_bad_as_the_worse() {
    let mut events = events();
    let mild = Finding { severity: Severity::Medium, ..finding() };
    found_at(&mut events, 1, 1, &mild, 0).unwrap();
    found_at(&mut events, 2, 2, &finding(), 0).unwrap();
    let written = flush(&mut events, Events::HOLD);
    assert_eq!(written.len(), 1);
    assert!(body(&written[0])["note"].as_str().unwrap().starts_with("high: "));
    found_at(&mut events, 1, 1, &mild, 2 * SECOND).unwrap();
    found_at(&mut events, 2, 1, &finding(), 2 * SECOND).unwrap();
    let series = flush(&mut events, 10 * SECOND);
    assert_eq!((series.len(), series[0].count), (1, Some(5)));
}

#[test]
fn a_pod_has_its_rate_and_others_are_not_touched_by_it() {
    let mut events = events();
    let burst = u64::from(OF_A_POD.burst);
    let results: Vec<_> = (0..burst + 5).map(|flow| found(&mut events, flow, 1, &finding(), 0)).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), OF_A_POD.burst as usize);
    assert_eq!(results.last(), Some(&Err(Suppressed::Pod)));
    found(&mut events, 1000, 1, &about("other"), 0).unwrap();
    // Repetitions of what stands are no new events.
    found(&mut events, 0, 1, &finding(), 0).unwrap();
    found(&mut events, 2000, 1, &finding(), OF_A_POD.every).unwrap();
}

#[test]
fn the_node_has_its_rate() {
    let mut events = events();
    let burst = u64::from(OF_A_NODE.burst);
    for flow in 0..burst {
        found(&mut events, flow, 1, &about(&format!("pod-{flow}")), 0).unwrap();
    }
    assert_eq!(found(&mut events, 999, 1, &about("one-more"), 0), Err(Suppressed::Node));
    found(&mut events, 999, 1, &about("one-more"), SECOND).unwrap();
}

#[test]
fn what_waits_is_bounded_and_what_could_not_be_written_may_be_tried_again() {
    let mut events = events();
    let mut now = 0;
    let mut flow = 0;
    let refused = loop {
        now += SECOND;
        flow += 1;
        match found(&mut events, flow, 1, &about(&format!("pod-{flow}")), now) {
            Ok(()) => assert!(flow < 10_000, "without a bound"),
            Err(why) => break why,
        }
    };
    assert_eq!((refused, flow), (Suppressed::Queue, Events::MAX_WAITING as u64 + 1));
    while let Some(write) = events.next(now + Events::HOLD) {
        events.failed(&write);
    }
    found(&mut events, 1, 1, &about("pod-1"), now + Events::HOLD).unwrap();
    assert_eq!(flush(&mut events, now + 2 * Events::HOLD).len(), 1);
}

#[test]
fn a_series_whose_event_has_expired_begins_anew() {
    let mut events = events();
    found(&mut events, 1, 1, &finding(), 0).unwrap();
    flush(&mut events, Events::HOLD);
    found(&mut events, 1, 1, &finding(), 10 * SECOND).unwrap();
    let series = events.next(10 * SECOND).unwrap();
    events.failed(&series);
    found(&mut events, 1, 1, &finding(), 11 * SECOND).unwrap();
    let again = flush(&mut events, 20 * SECOND);
    assert_eq!((again.len(), again[0].count), (1, None));
}

#[test]
fn flows_that_are_gone_are_forgotten_and_what_waits_is_still_told() {
    let mut events = events();
    found(&mut events, 1, 1, &finding(), 0).unwrap();
    flush(&mut events, Events::HOLD);
    found(&mut events, 2, 1, &finding(), 2 * SECOND).unwrap();
    events.retain(|_| false, 2 * SECOND);
    assert_eq!(events.entries.len(), 1);
    assert_eq!(flush(&mut events, 4 * SECOND).len(), 1);
    events.retain(|_| false, u64::MAX);
    assert!(events.entries.is_empty() && events.of_pods.is_empty());
}
