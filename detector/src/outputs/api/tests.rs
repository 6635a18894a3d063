//! Answers, as a reader gets them.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Api, NodeFacts, Page};
use crate::{
    cluster::{
        TrustDomain,
        kubernetes::{ResourceHealth, ResourceState},
        objects::Name,
    },
    coverage::{PodCoverage, Reason},
    findings::{Rules, evaluate},
    flows::{Flow, FlowId},
    outputs::lines::Lines,
    policy::PolicyView,
    testing::flow,
};

fn api() -> Api {
    Api::new(Lines::new(TrustDomain::new(None)), "node1")
}

fn read(answer: serde_json::Result<Vec<u8>>) -> Value {
    serde_json::from_slice(&answer.unwrap()).unwrap()
}

fn numbered(flows: &[Flow]) -> impl Iterator<Item = (FlowId, &Flow)> {
    (1..).map(FlowId::of).zip(flows)
}

#[test]
fn a_row_is_the_line_of_the_flow() {
    let flow = flow("client");
    let answer = read(api().flows(numbered(std::slice::from_ref(&flow)), 1, Page::new(10)));
    let line = Lines::new(TrustDomain::new(None)).flow(&flow).unwrap();
    assert_eq!(answer["flows"], json!([serde_json::from_slice::<Value>(&line).unwrap()]));
    assert_eq!(answer["flows"][0]["client"]["spiffe_id"], "spiffe://cluster.local/ns/mcp/sa/client");
    assert_eq!((&answer["node"], &answer["total"]), (&json!("node1"), &json!(1)));
    assert_eq!((&answer["truncated"], answer.get("next")), (&json!(false), None));
}

#[test]
fn what_does_not_fit_is_said_with_where_to_go_on() {
    let flows: Vec<Flow> = (0..5).map(|n| flow(&format!("client-{n}"))).collect();
    let first = read(api().flows(numbered(&flows), 5, Page::new(3)));
    assert_eq!(first["flows"].as_array().unwrap().len(), 3);
    assert_eq!((&first["truncated"], &first["next"]), (&json!(true), &json!(3)));
    let rest = read(api().flows(numbered(&flows).skip(3), 5, Page::new(3)));
    assert_eq!((rest["flows"].as_array().unwrap().len(), &rest["truncated"]), (2, &json!(false)));
}

#[test]
fn an_answer_is_bounded_in_rows_and_in_bytes() {
    let many: Vec<Flow> = (0..Page::ROWS + 1).map(|_| flow("client")).collect();
    let answer = api().flows(numbered(&many), many.len(), Page::new(usize::MAX)).unwrap();
    let rows = read(Ok(answer))["flows"].as_array().unwrap().len();
    assert_eq!(rows, Page::ROWS);
    let long = flow(&"a".repeat(64 * 1024));
    let large: Vec<Flow> = (0..Page::ROWS).map(|_| long.clone()).collect();
    let answer = api().flows(numbered(&large), large.len(), Page::new(usize::MAX)).unwrap();
    assert!(answer.len() < Page::BYTES + 1024 * 1024, "{}", answer.len());
    assert_eq!(read(Ok(answer))["truncated"], true);
}

#[test]
fn findings_of_one_flow_stay_together() {
    let found = |n: u64| {
        let findings = evaluate(&flow("client"), &PolicyView::default(), Rules { plaintext_other: true });
        (FlowId::of(n), [findings.clone(), findings].concat())
    };
    let each = found(1).1.len();
    assert!(each >= 2);
    let none = (FlowId::of(2), Vec::new());
    let answer = read(api().findings([found(1), none.clone(), found(3)], Page::new(each + 1)));
    assert_eq!(answer["findings"].as_array().unwrap().len(), each);
    assert_eq!((&answer["truncated"], &answer["next"]), (&json!(true), &json!(2)));
    // A limit below what one flow has must not stop the reader for ever.
    let answer = read(api().findings([found(1), none, found(3)], Page::new(1)));
    assert_eq!((answer["findings"].as_array().unwrap().len(), &answer["next"]), (each, &json!(2)));
    let finding = &answer["findings"][0];
    assert_eq!((&finding["id"], &finding["severity"]), (&json!("plaintext-mcp"), &json!("critical")));
    assert!(finding["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{finding}");
}

#[test]
fn coverage_names_every_pod_with_what_to_do() {
    let pod = |name: &str, interface: Option<&str>, reason| PodCoverage {
        pod: Name::new("mcp", name),
        interface: interface.map(str::to_owned),
        reason,
    };
    let pods = [pod("a", Some("veth7"), None), pod("b", None, Some(Reason::HostNetwork))];
    let watch = ResourceHealth {
        resource: "pods".to_owned(),
        state: ResourceState::Watching,
        stale: Duration::from_millis(2900),
        lists: 1,
        failures: Default::default(),
        unreadable: 0,
    };
    let answer = read(api().coverage(&pods, vec![watch]));
    assert_eq!(
        answer["pods"],
        json!([
            {"namespace": "mcp", "pod": "a", "interface": "veth7", "observed": true},
            {
                "namespace": "mcp", "pod": "b", "observed": false,
                "reason": "host-network", "advice": Reason::HostNetwork.advice(),
            },
        ])
    );
    let watches = json!([{"resource": "pods", "state": "watching", "stale_seconds": 2}]);
    assert_eq!((&answer["watches"], &answer["truncated"]), (&watches, &json!(false)));
}

#[test]
fn the_node_says_since_when_it_looks() {
    let facts = NodeFacts {
        started: UNIX_EPOCH + Duration::from_secs(1_795_500_000),
        observed_since: None,
        waiting_for: vec!["attachments"],
        pods: vec![PodCoverage { pod: Name::new("mcp", "a"), interface: None, reason: Some(Reason::Netkit) }],
    };
    let answer = read(api().node(facts.clone()));
    assert_eq!((&answer["ready"], &answer["waiting_for"]), (&json!(false), &json!(["attachments"])));
    assert_eq!(
        (&answer["started"], &answer["observed_since"]),
        (&json!("2026-11-24T06:00:00.000Z"), &json!(null))
    );
    assert_eq!(answer["pods"], json!({"observed": 0, "not_observed": 1}));
    assert_eq!(answer["trust_domain"], "cluster.local");
    let observed_since = Some(facts.started + Duration::from_millis(1500));
    let answer = read(api().node(NodeFacts { observed_since, waiting_for: vec![], ..facts }));
    assert_eq!(
        (&answer["ready"], &answer["observed_since"]),
        (&json!(true), &json!("2026-11-24T06:00:01.500Z"))
    );
}
