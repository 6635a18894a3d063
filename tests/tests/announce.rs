//! Events and reports in Kubernetes, and what becomes of them when the API misbehaves.

#[path = "kubernetes/log.rs"]
mod log;
#[path = "announce/rig.rs"]
mod rig;

use std::{thread, time::Duration};

use detector_tests::apiserver::{Fault, Match, Verb};
use serde_json::{Value, json};

use self::{
    log::logged,
    rig::{ELSEWHERE, EVENTS, OPEN_REPORTS, REPORTS, Rig, TOOLS, now, open_reports, policy_reports, server},
};

const WRITTEN: &str = "plainsight_kubernetes_writes_total{kind=\"event\"}";
const SERIES: &str = "plainsight_kubernetes_writes_total{kind=\"event-series\"}";

fn failures(rig: &Rig, kind: &str, reason: &str) -> u64 {
    rig.metric(&format!("plainsight_kubernetes_write_failures_total{{kind=\"{kind}\",reason=\"{reason}\"}}"))
}

#[test]
fn a_finding_is_one_event_and_repetitions_are_its_series() {
    let mut rig = Rig::new(server());
    rig.connection(TOOLS);
    rig.eventually("an event", || rig.objects(EVENTS).len() == 1);
    let event = rig.objects(EVENTS).remove(0);
    assert_eq!(event["regarding"]["uid"], "00000000-0000-4000-8000-000000000001");
    assert_eq!((&event["reason"], &event["type"]), (&json!("PlaintextMcp"), &json!("Warning")));
    assert_eq!(event.get("series"), None);
    for _ in 0..4 {
        rig.connection(TOOLS);
    }
    rig.eventually("a series", || rig.objects(EVENTS)[0]["series"]["count"] == 5);
    assert_eq!(rig.objects(EVENTS).len(), 1);
    rig.eventually("both counted", || (rig.metric(WRITTEN), rig.metric(SERIES)) == (1, 1));
}

#[test]
fn an_event_that_has_expired_is_written_anew_with_the_next_repetition() {
    let mut rig = Rig::new(server());
    rig.connection(TOOLS);
    rig.eventually("an event", || rig.objects(EVENTS).len() == 1);
    let first = rig.objects(EVENTS)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    rig.server.delete(EVENTS, "mcp", &first);
    rig.connection(TOOLS);
    rig.eventually("the series missed", || failures(&rig, "event", "absent") == 1);
    rig.connection(TOOLS);
    rig.eventually("another event", || rig.objects(EVENTS).len() == 1);
    assert_ne!(rig.objects(EVENTS)[0]["metadata"]["name"], first.as_str());
}

#[test]
fn what_another_node_writes_is_not_written_here() {
    let mut rig = Rig::new(server());
    rig.connection(ELSEWHERE);
    rig.connection(TOOLS);
    rig.eventually("an event and a report", || {
        rig.objects(EVENTS).len() == 1 && rig.objects(REPORTS).len() == 1
    });
    thread::sleep(Duration::from_secs(3));
    let about = |object: &Value, at: &str| object[at]["name"].as_str().unwrap().to_owned();
    assert_eq!(
        rig.objects(EVENTS).iter().map(|event| about(event, "regarding")).collect::<Vec<_>>(),
        ["tools"]
    );
    assert_eq!(
        rig.objects(REPORTS).iter().map(|report| about(report, "scope")).collect::<Vec<_>>(),
        ["tools"]
    );
}

#[test]
fn a_missing_right_is_named_once_and_taken_up_when_it_is_granted() {
    let mut rig = Rig::new(server());
    rig.server.fault(Match::resource(EVENTS), Fault::Forbidden);
    rig.server.fault(Match::resource(REPORTS).verb(Verb::Patch), Fault::Forbidden);
    for _ in 0..5 {
        rig.connection(TOOLS);
        thread::sleep(Duration::from_millis(1200));
    }
    rig.eventually("refused", || {
        failures(&rig, "event", "forbidden") > 1 && failures(&rig, "report", "forbidden") > 1
    });
    let events = r#"{apiGroups: ["events.k8s.io"], resources: ["events"], verbs: ["create", "patch"]}"#;
    let reports = r#"{apiGroups: ["wgpolicyk8s.io"], resources: ["policyreports"], verbs: ["list", "create", "patch", "delete"]}"#;
    assert_eq!((logged(events), logged(reports)), (1, 1));
    rig.server.heal();
    rig.eventually("a report", || rig.objects(REPORTS).len() == 1);
    rig.connection(TOOLS);
    thread::sleep(Duration::from_secs(1));
    rig.connection(TOOLS);
    rig.eventually("an event", || rig.objects(EVENTS).len() == 1);
}

#[test]
fn a_server_that_is_away_or_busy_is_waited_for() {
    let mut rig = Rig::new(server());
    rig.server.power(false);
    rig.connection(TOOLS);
    rig.eventually("failing", || failures(&rig, "event", "transport") > 0);
    rig.server.fault(
        Match::resource(EVENTS).times(1),
        Fault::Status { code: 429, reason: "TooManyRequests", retry_after: Some(1) },
    );
    rig.server.fault(Match::resource(EVENTS).times(2), Fault::HangUp);
    rig.server.fault(
        Match::resource(EVENTS).times(2),
        Fault::Status { code: 500, reason: "InternalError", retry_after: None },
    );
    rig.server.power(true);
    rig.eventually("an event and a report", || {
        rig.objects(EVENTS).len() == 1 && rig.objects(REPORTS).len() == 1
    });
    assert!(
        failures(&rig, "event", "busy") == 1 && failures(&rig, "event", "status") == 2,
        "{}",
        rig.metrics()
    );
}

#[test]
fn an_event_that_was_written_though_the_answer_was_lost_is_not_written_twice() {
    let mut rig = Rig::new(server());
    rig.server.fault(Match::resource(EVENTS).times(1), Fault::LostAnswer);
    rig.connection(TOOLS);
    rig.eventually("written", || rig.metric(WRITTEN) == 1);
    assert_eq!(failures(&rig, "event", "transport"), 1);
    assert_eq!(rig.server.count(EVENTS, Verb::Create).requests, 2);
    assert_eq!(rig.objects(EVENTS).len(), 1);
}

#[test]
fn what_the_server_will_not_have_is_given_up_and_counted() {
    let mut rig = Rig::new(server());
    let wrong = Fault::Status { code: 422, reason: "Invalid", retry_after: None };
    rig.server.fault(Match::resource(EVENTS).times(1), wrong.clone());
    rig.server.fault(Match::resource(REPORTS).verb(Verb::Patch).times(1), wrong);
    rig.connection(TOOLS);
    rig.eventually("refused", || {
        failures(&rig, "event", "refused") == 1 && failures(&rig, "report", "refused") == 1
    });
    thread::sleep(Duration::from_millis(500));
    assert_eq!(rig.server.count(EVENTS, Verb::Create).requests, 1, "not again and again");
}

#[test]
fn a_report_says_what_stands_and_goes_when_nothing_does() {
    let mut rig = Rig::new(server());
    let flow = rig.connection(TOOLS);
    rig.eventually("a report", || rig.objects(REPORTS).len() == 1);
    let report = rig.objects(REPORTS).remove(0);
    assert_eq!(report["metadata"]["name"], "plainsight-00000000-0000-4000-8000-000000000001");
    assert_eq!(report["results"][0]["policy"], "plaintext-mcp");
    assert_eq!(report["summary"]["fail"], 1);
    let written = rig.server.count(REPORTS, Verb::Patch).requests;
    for _ in 0..20 {
        rig.connection(TOOLS);
        thread::sleep(Duration::from_millis(20));
    }
    rig.announcer.found(flow, 0, &[], now());
    rig.eventually("no report", || rig.objects(REPORTS).is_empty());
    assert_eq!(rig.server.count(REPORTS, Verb::Patch).requests, written, "repetitions write nothing");
    assert_eq!(rig.server.count(REPORTS, Verb::Delete).requests, 1);
}

#[test]
fn a_report_goes_with_its_pod_and_is_not_made_again() {
    let server = server();
    server.apply(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "tools", "namespace": "mcp", "uid": "00000000-0000-4000-8000-000000000001" },
    }));
    let mut rig = Rig::new(server);
    rig.connection(TOOLS);
    rig.eventually("a report", || rig.objects(REPORTS).len() == 1);
    rig.server.delete("pods", "mcp", "tools");
    assert_eq!(rig.objects(REPORTS), [] as [Value; 0], "its owner is gone");
    rig.announcer.retain(|_| true, |_| false, now());
    let written = rig.server.count(REPORTS, Verb::Patch).requests;
    thread::sleep(Duration::from_secs(1));
    assert_eq!(rig.server.count(REPORTS, Verb::Patch).requests, written);
    assert_eq!(rig.server.count(REPORTS, Verb::Delete).requests, 0);
}

fn leftover(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "wgpolicyk8s.io/v1alpha2",
        "kind": "PolicyReport",
        "metadata": {
            "name": name,
            "namespace": "mcp",
            "labels": { "app.kubernetes.io/managed-by": "plainsight", "plainsight.dev/node": node },
        },
    })
}

#[test]
fn what_is_left_from_before_goes_and_what_others_wrote_stays() {
    let server = server();
    let stale = "plainsight-00000000-0000-4000-8000-0000000000aa";
    let others = "plainsight-00000000-0000-4000-8000-0000000000bb";
    let again = "plainsight-00000000-0000-4000-8000-000000000001";
    server.apply_all([leftover(stale, "node1"), leftover(others, "node2"), leftover(again, "node1")]);
    let mut foreign = leftover("kyvernos", "node1");
    foreign["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("kyverno");
    server.apply(foreign);
    let mut rig = Rig::new(server);
    rig.connection(TOOLS);
    let names = || -> Vec<String> {
        let reports = rig.objects(REPORTS);
        reports.iter().map(|report| report["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    rig.eventually("the stale one gone", || names() == ["kyvernos", again, others]);
    assert_eq!(rig.objects(REPORTS)[1]["results"][0]["policy"], "plaintext-mcp", "what stands is told anew");
}

#[test]
fn a_kind_of_report_that_is_installed_later_is_picked_up_and_another_takes_its_place() {
    let server = detector_tests::apiserver::ApiServer::start().unwrap();
    let mut rig = Rig::new(server);
    rig.connection(TOOLS);
    rig.eventually("looked for again", || rig.server.count(OPEN_REPORTS, Verb::List).requests > 2);
    assert_eq!(failures(&rig, "report", "absent"), 0, "that there is none is no failure");
    rig.server.install(open_reports());
    rig.eventually("a report", || rig.objects(OPEN_REPORTS).len() == 1);
    assert_eq!(rig.objects(OPEN_REPORTS)[0]["source"], "plainsight");
    rig.server.uninstall(OPEN_REPORTS);
    rig.server.install(policy_reports());
    // The next change finds out.
    let flow = rig.connection(TOOLS);
    rig.announcer.found(flow, 0, &[], now());
    rig.connection(TOOLS);
    rig.eventually("a report of the other kind", || rig.objects(REPORTS).len() == 1);
}
