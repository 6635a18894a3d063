use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

use super::{ApiServer, Fault, Match, Resource, Verb};

struct Answer {
    status: u16,
    headers: String,
    body: BufReader<TcpStream>,
}

impl Answer {
    fn get(server: &ApiServer, path: &str, accept: &str) -> Self {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\nAccept: {accept}\r\n\r\n").unwrap();
        let mut body = BufReader::new(stream);
        let mut headers = String::new();
        loop {
            let mut line = String::new();
            body.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            headers.push_str(&line);
        }
        let status = headers.split_whitespace().nth(1).unwrap().parse().unwrap();
        Self { status, headers, body }
    }

    fn text(mut self) -> String {
        let mut text = String::new();
        self.body.read_to_string(&mut text).unwrap();
        text
    }

    fn json(self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.body.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }
}

fn get(server: &ApiServer, path: &str) -> Answer {
    Answer::get(server, path, "application/json")
}

/// The body of a recorded answer.
fn recorded(name: &str) -> String {
    let path = format!("{}/recordings/{name}.http", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
    // The request's head, a blank line, the answer's head, a blank line, the body.
    text.splitn(3, "\n\n").nth(2).unwrap().to_owned()
}

/// A double with the pods of the recorded list.
fn with_recorded_pods() -> (ApiServer, Value) {
    let list: Value = serde_json::from_str(&recorded("pods-list")).unwrap();
    let server = ApiServer::start().unwrap();
    for pod in list["items"].as_array().unwrap() {
        let mut pod = pod.clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        server.apply(pod);
    }
    (server, list)
}

/// The shape of a value: its members and their types, without the values. Lists are as their first item.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(items) => items.iter().take(1).map(shape).collect(),
        Value::String(_) => json!("text"),
        other => other.clone(),
    }
}

#[test]
fn a_list_has_the_recorded_shape() {
    let (server, recorded) = with_recorded_pods();
    let list = get(&server, "/api/v1/pods").json();
    assert_eq!(shape(&list), shape(&recorded));
    assert_eq!(list["items"].as_array().unwrap().len(), 5);
}

#[test]
fn pages_continue_until_the_snapshot_is_forgotten() {
    let (server, _) = with_recorded_pods();
    let first = get(&server, "/api/v1/pods?limit=2").json();
    let recorded: Value = serde_json::from_str(&recorded("pods-list-page1")).unwrap();
    assert_eq!(shape(&first), shape(&recorded));
    assert_eq!(first["metadata"]["remainingItemCount"], json!(3));
    server.delete("pods", "default", "debug");
    let token = first["metadata"]["continue"].as_str().unwrap();
    let path = format!("/api/v1/pods?limit=2&continue={token}");
    let second = get(&server, &path).json();
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(second["items"].as_array().unwrap().len(), 2);
    server.compact();
    let gone = get(&server, &path);
    assert_eq!(gone.status, 410);
    assert_eq!(gone.json()["reason"], json!("Expired"));
    let cached = get(&server, "/api/v1/pods?limit=2&resourceVersion=0").json();
    assert_eq!(cached["items"].as_array().unwrap().len(), 4, "the cache answers whole");
}

#[test]
fn a_streaming_list_ends_with_the_annotated_bookmark() {
    let (server, _) = with_recorded_pods();
    let mut answer = get(
        &server,
        "/api/v1/pods?allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&timeoutSeconds=3&watch=true",
    );
    let recorded: Vec<Value> =
        recorded("pods-streaming-list").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for recorded in &recorded {
        let line = answer.line().unwrap();
        assert_eq!(line["type"], recorded["type"]);
        assert_eq!(line["object"]["kind"], recorded["object"]["kind"]);
        if recorded["type"] == "BOOKMARK" {
            assert_eq!(
                line["object"]["metadata"]["annotations"],
                recorded["object"]["metadata"]["annotations"]
            );
        }
    }
    server.delete("pods", "default", "debug");
    assert_eq!(answer.line().unwrap()["type"], json!("DELETED"));
    server.streaming_lists(false);
    let refused =
        get(&server, "/api/v1/pods?resourceVersionMatch=NotOlderThan&sendInitialEvents=true&watch=true");
    assert_eq!(refused.status, 422);
}

#[test]
fn a_watch_shows_changes_and_a_last_bookmark() {
    let (server, _) = with_recorded_pods();
    let version = get(&server, "/api/v1/pods").json()["metadata"]["resourceVersion"].clone();
    let path = format!(
        "/api/v1/pods?watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds=1",
        version.as_str().unwrap()
    );
    let mut answer = get(&server, &path);
    let mut pod = get(&server, "/api/v1/namespaces/default/pods/debug").json();
    pod["metadata"]["labels"] = json!({ "v": "2" });
    server.apply(pod);
    server.delete("pods", "default", "debug");
    let kinds: Vec<Value> = std::iter::from_fn(|| answer.line()).map(|line| line["type"].clone()).collect();
    assert_eq!(kinds, ["MODIFIED", "DELETED", "BOOKMARK"]);
    assert_eq!(server.count("pods", Verb::Watch).requests, 1);
    assert!(server.count("pods", Verb::Watch).bytes > 1000);
}

#[test]
fn a_version_that_is_too_old_is_told_inside_the_watch() {
    let (server, _) = with_recorded_pods();
    server.compact();
    let mut answer = get(&server, "/api/v1/pods?watch=true&resourceVersion=100&timeoutSeconds=2");
    assert_eq!(answer.status, 200);
    let line = answer.line().unwrap();
    let recorded: Value = serde_json::from_str(&recorded("pods-watch-expired-410")).unwrap();
    assert_eq!(shape(&line), shape(&recorded));
    assert_eq!(line["object"]["message"], json!("too old resource version: 100 (405)"));
    assert!(answer.line().is_none());
}

#[test]
fn metadata_alone_is_given_on_request() {
    let server = ApiServer::start().unwrap();
    server.apply(json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": { "name": "tools-abc", "namespace": "mcp" },
        "spec": { "replicas": 2 },
    }));
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = Answer::get(&server, "/apis/apps/v1/replicasets", accept).json();
    let recorded: Value = serde_json::from_str(&recorded("replicasets-metadata")).unwrap();
    for key in ["kind", "apiVersion"] {
        assert_eq!(list[key], recorded[key]);
        assert_eq!(list["items"][0][key], recorded["items"][0][key]);
    }
    assert_eq!(list["items"][0].get("spec"), None);
}

#[test]
fn refusals_are_as_recorded() {
    let server = ApiServer::start().unwrap();
    server.fault(Match::resource("pods").verb(Verb::List).times(1), Fault::Forbidden);
    let refused = get(&server, "/api/v1/pods");
    assert_eq!(refused.status, 403);
    let recorded: Value = serde_json::from_str(&recorded("pods-list-forbidden-403")).unwrap();
    assert_eq!(refused.json(), recorded);
    assert_eq!(get(&server, "/api/v1/pods").status, 200, "once only");

    server.fault(
        Match::all().times(1),
        Fault::Status { code: 429, reason: "TooManyRequests", retry_after: Some(7) },
    );
    let busy = get(&server, "/api/v1/nodes");
    assert_eq!(busy.status, 429);
    assert!(busy.headers.to_lowercase().contains("retry-after: 7"), "{}", busy.headers);

    server.require_token("s3cret");
    assert_eq!(get(&server, "/api/v1/pods").status, 401);
}

#[test]
fn a_custom_resource_comes_and_goes() {
    let server = ApiServer::start().unwrap();
    let path = "/apis/plainsight.dev/v1alpha1/trafficexceptions";
    let absent = get(&server, path);
    assert_eq!((absent.status, absent.text()), (404, recorded("crd-absent-404")));
    server.install(Resource::new("plainsight.dev", "v1alpha1", "TrafficException", "trafficexceptions"));
    server.apply(json!({
        "apiVersion": "plainsight.dev/v1alpha1",
        "kind": "TrafficException",
        "metadata": { "name": "legacy", "namespace": "mcp" },
    }));
    assert_eq!(get(&server, path).json()["items"][0]["kind"], json!("TrafficException"));
    server.uninstall("trafficexceptions.plainsight.dev");
    assert_eq!(get(&server, path).status, 404);
}

#[test]
fn selectors_narrow_lists_and_watches() {
    let (server, _) = with_recorded_pods();
    let list = get(&server, "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode1").json();
    assert_eq!(list["items"].as_array().unwrap().len(), 5);
    let list = get(&server, "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode2").json();
    assert_eq!(list["items"], json!([]));
    let list = get(&server, "/api/v1/namespaces/mcp-production/pods").json();
    assert_eq!(list["items"].as_array().unwrap().len(), 4);
}

#[test]
fn going_away_and_coming_back_keeps_the_port() {
    let (server, _) = with_recorded_pods();
    let mut watch = get(&server, "/api/v1/pods?watch=true");
    assert!(watch.line().is_some());
    server.power(false);
    crate::wait::until("refused connection", Duration::from_secs(5), || {
        Ok(TcpStream::connect(server.address()).err())
    })
    .unwrap();
    assert_eq!((server.open_watches(), server.open_connections()), (0, 0));
    server.power(true);
    crate::wait::until(
        "connection",
        Duration::from_secs(5),
        || Ok(TcpStream::connect(server.address()).ok()),
    )
    .unwrap();
    assert_eq!(get(&server, "/api/v1/pods").status, 200);
}
