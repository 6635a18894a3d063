use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

use super::super::{ApiServer, Fault, Match, Resource, Verb};

const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/mcp/events";
const REPORTS: &str = "/apis/wgpolicyk8s.io/v1alpha2/namespaces/mcp/policyreports";

fn send(server: &ApiServer, method: &str, path: &str, content: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Type: {content}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

fn post(server: &ApiServer, path: &str, body: &Value) -> (u16, Value) {
    send(server, "POST", path, "application/json", &body.to_string())
}

fn event() -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": "tools.1" },
        "eventTime": "2026-11-24T04:45:00.000000Z",
        "reportingController": "plainsight.dev",
        "reportingInstance": "node1",
        "action": "Observed",
        "reason": "PlaintextMcp",
        "type": "Warning",
        "note": "example",
        "regarding": { "apiVersion": "v1", "kind": "Pod", "namespace": "mcp", "name": "tools" },
    })
}

fn report() -> Value {
    json!({
        "apiVersion": "wgpolicyk8s.io/v1alpha2",
        "kind": "PolicyReport",
        "metadata": { "name": "plainsight-1", "labels": { "a": "b" } },
        "summary": { "fail": 1 },
        "results": [{ "policy": "plaintext-mcp", "result": "fail", "severity": "high" }],
    })
}

fn with_reports() -> ApiServer {
    let server = ApiServer::start().unwrap();
    server.install(Resource::new("wgpolicyk8s.io", "v1alpha2", "PolicyReport", "policyreports"));
    server
}

#[test]
fn the_recorded_event_is_refused_in_the_recorded_words() {
    let path = format!("{}/recordings/event-create-invalid.http", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
    let parts: Vec<&str> = text.splitn(4, "\n\n").collect();
    let recorded: Value = serde_json::from_str(parts[3]).unwrap();
    let server = ApiServer::start().unwrap();
    let path = "/apis/events.k8s.io/v1/namespaces/mcp-production/events";
    let (status, mut answer) = send(&server, "POST", path, "application/json", parts[1]);
    assert_eq!(status, 422);
    // The end of the name is drawn.
    let drawn = recorded["details"]["name"].as_str().unwrap();
    let ours = answer["details"]["name"].as_str().unwrap().to_owned();
    answer["details"]["name"] = json!(drawn);
    answer["message"] = json!(answer["message"].as_str().unwrap().replace(&ours, drawn));
    assert_eq!(answer, recorded);
    assert_eq!(server.objects("events.events.k8s.io"), [] as [Value; 0]);
}

#[test]
fn an_event_is_held_to_the_rules_of_the_real_server() {
    let server = ApiServer::start().unwrap();
    assert_eq!(post(&server, EVENTS, &event()).0, 201);
    assert_eq!(post(&server, EVENTS, &event()).0, 409);
    for (field, value) in [
        ("eventTime", json!(null)),
        ("eventTime", json!("2026-11-24T04:45:00Z")),
        ("reportingController", json!("")),
        ("reportingController", json!("no name/at all")),
        ("reportingInstance", json!("n".repeat(129))),
        ("action", json!(null)),
        ("reason", json!("r".repeat(129))),
        ("note", json!("ä".repeat(513))),
        ("type", json!("Error")),
        ("regarding", json!({ "kind": "Pod", "name": "tools" })),
        ("series", json!({ "count": 1, "lastObservedTime": "2026-11-24T04:45:00.000000Z" })),
        ("series", json!({ "count": 2 })),
        ("deprecatedCount", json!(1)),
        ("nota", json!("a slip of the pen")),
        ("metadata", json!({ "name": "Tools" })),
        ("metadata", json!({ "name": "t".repeat(254) })),
    ] {
        let mut wrong = event();
        wrong["metadata"]["name"] = json!("tools.2");
        wrong[field] = value.clone();
        assert_eq!(post(&server, EVENTS, &wrong).0, 422, "{field} {value}");
    }
    let mut elsewhere = event();
    elsewhere["metadata"] = json!({ "name": "tools.3", "namespace": "other" });
    assert_eq!(post(&server, EVENTS, &elsewhere).0, 400);
    assert_eq!(server.objects("events.events.k8s.io").len(), 1);
}

#[test]
fn of_an_event_the_series_alone_may_change() {
    let server = ApiServer::start().unwrap();
    post(&server, EVENTS, &event());
    let path = format!("{EVENTS}/tools.1");
    let patch = |body: Value| send(&server, "PATCH", &path, MERGE, &body.to_string()).0;
    assert_eq!(
        patch(json!({ "series": { "count": 2, "lastObservedTime": "2026-11-24T04:46:00.000000Z" } })),
        200
    );
    assert_eq!(patch(json!({ "note": "another" })), 422);
    assert_eq!(patch(json!({ "series": { "count": 1 } })), 422);
    let stored = &server.objects("events.events.k8s.io")[0];
    assert_eq!((&stored["series"]["count"], &stored["note"]), (&json!(2), &json!("example")));
    server.delete("events.events.k8s.io", "mcp", "tools.1");
    assert_eq!(patch(json!({})), 404, "expired");
}

#[test]
fn an_apply_makes_and_replaces_and_takes_the_right_to_create() {
    let server = with_reports();
    let path = format!("{REPORTS}/plainsight-1?fieldManager=plainsight&force=true");
    let apply = |path: &str, body: &Value| send(&server, "PATCH", path, APPLY, &body.to_string()).0;
    server
        .fault(Match::resource("policyreports.wgpolicyk8s.io").verb(Verb::Create).times(1), Fault::Forbidden);
    assert_eq!(apply(&path, &report()), 403);
    assert_eq!(apply(&path, &report()), 201);
    let mut other = report();
    other["results"] = json!([]);
    assert_eq!(apply(&path, &other), 200);
    assert_eq!(server.objects("policyreports.wgpolicyk8s.io")[0]["results"], json!([]));
    assert_eq!(apply(&format!("{REPORTS}/plainsight-1"), &report()), 400, "nobody's");
    assert_eq!(apply(&format!("{REPORTS}/other?fieldManager=x"), &report()), 400);
    for (field, value) in [
        ("severity", json!("dire")),
        ("result", json!("failed")),
        ("policy", json!(null)),
        ("properties", json!({ "port": 8000 })),
        ("timestamp", json!({ "seconds": 1 })),
        ("massage", json!("")),
    ] {
        let mut wrong = report();
        wrong["results"][0][field] = value;
        assert_eq!(apply(&path, &wrong), 422, "{field}");
    }
    let by = |verb| server.count("policyreports.wgpolicyk8s.io", verb).requests;
    assert_eq!((by(Verb::Create), by(Verb::Patch)), (2, 11));
    assert_eq!(send(&server, "PUT", &path, "application/json", "{}").0, 405);
    assert_eq!(send(&server, "PATCH", &path, "text/plain", "{}").0, 415);
}

#[test]
fn what_a_pod_owns_goes_with_it_and_labels_find_it() {
    let server = with_reports();
    server.apply(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "tools", "namespace": "mcp", "uid": "u-1" },
    }));
    for (name, owner) in [("plainsight-1", "u-1"), ("plainsight-2", "u-2")] {
        let mut owned = report();
        owned["metadata"]["name"] = json!(name);
        owned["metadata"]["ownerReferences"] =
            json!([{ "apiVersion": "v1", "kind": "Pod", "name": "x", "uid": owner }]);
        assert_eq!(post(&server, REPORTS, &owned).0, 201);
    }
    let list = |selector: &str| {
        let path = format!("/apis/wgpolicyk8s.io/v1alpha2/policyreports?labelSelector={selector}");
        let (_, list) = send(&server, "GET", &path, "", "");
        list["items"].as_array().unwrap().len()
    };
    assert_eq!((list("a%3Db"), list("a%3Dc")), (2, 0));
    server.delete("pods", "mcp", "tools");
    assert_eq!(list("a%3Db"), 1);
    assert_eq!(send(&server, "DELETE", &format!("{REPORTS}/plainsight-2"), "", "").0, 200);
    assert_eq!(send(&server, "DELETE", &format!("{REPORTS}/plainsight-2"), "", "").0, 404);
}
