//! The port, as a client meets it.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::{Admin, FlowsQuestion, Sources, flow_reader};
use crate::{
    cluster::{SharedStore, TrustDomain, objects::Object},
    coverage::Coverage,
    findings::Rules,
    flows::{Flow, FlowId, Timestamp},
    logging::LogFilter,
    outputs::{
        lines::Lines,
        metrics::{KernelReading, Metrics},
    },
    readiness::{Heartbeat, Readiness},
    testing,
};

fn sources(readiness: &Readiness) -> (Sources, mpsc::Receiver<FlowsQuestion>) {
    let (flows, questions) = flow_reader();
    let store = SharedStore::default();
    store.write().set_local_node("node1");
    store.write().apply(Object::Pod(testing::pod("mcp", "client", &["10.244.0.9"])));
    let sources = Sources {
        metrics: Arc::new(Metrics::new(KernelReading::default, Arc::default()).unwrap()),
        readiness: readiness.clone(),
        heartbeat: Heartbeat::default(),
        node: "node1".to_owned(),
        store,
        coverage: Coverage::default(),
        watches: Arc::new(OnceLock::new()),
        flows,
        rules: Rules::default(),
        finding_window: Duration::from_secs(600),
        lines: Lines::new(TrustDomain::new(None)),
        log: LogFilter::detached("info"),
    };
    (sources, questions)
}

/// Serves `sources` until the token is cancelled.
async fn serve(sources: Sources) -> (SocketAddr, CancellationToken) {
    let admin = Admin::bind(([127, 0, 0, 1], 0).into(), sources, None, None).await.unwrap();
    let address = admin.address().unwrap();
    let cancel = CancellationToken::new();
    tokio::spawn(admin.run(cancel.clone()));
    (address, cancel)
}

/// An admin port of a daemon with two flows.
async fn start(readiness: &Readiness) -> (SocketAddr, CancellationToken) {
    let (sources, mut questions) = sources(readiness);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    tokio::spawn(async move {
        while let Some(asked) = questions.recv().await {
            // In no order, as the flows are kept.
            let flow = |number, client, age: Duration| {
                let last_seen = Timestamp(u64::try_from(now - age.as_nanos()).unwrap());
                (FlowId::of(number), Arc::new(Flow { last_seen, ..testing::flow(client) }))
            };
            let (fresh, stale) = (Duration::from_secs(10), Duration::from_secs(700));
            let _gone = asked.send(vec![flow(8, "second", stale), flow(3, "first", fresh)]);
        }
    });
    serve(sources).await
}

async fn ask_as(address: SocketAddr, request: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn ask(address: SocketAddr, request: &str) -> String {
    ask_as(address, request, "localhost").await
}

/// The body of an answer, if it is of the status and is JSON.
#[track_caller]
fn body(answer: &str, status: u16) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{answer}");
    assert!(head.contains("\r\nx-content-type-options: nosniff\r\n"), "{answer}");
    assert!(head.contains("\r\ncache-control: no-store\r\n"), "{answer}");
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn pages_answer_what_they_are_asked() {
    let readiness = Readiness::default();
    let programs = readiness.block("programs");
    let (address, _cancel) = start(&readiness).await;
    let metrics = ask(address, "GET /metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4\r\n"), "{metrics}");
    assert!(metrics.contains("\nplainsight_build_info{version="), "{metrics}");
    assert!(ask(address, "GET /healthz?x=y").await.ends_with("\r\n\r\nok\n"));
    let waiting = ask(address, "GET /readyz").await;
    assert!(waiting.starts_with("HTTP/1.1 503 "), "{waiting}");
    assert!(waiting.ends_with("waiting for: programs\n"), "{waiting}");
    drop(programs);
    assert!(ask(address, "GET /readyz").await.ends_with("ready\n"));
    let verbose = ask(address, "GET /readyz?verbose").await;
    assert!(verbose.contains("ready\nnot observed  mcp/client on -: no-interface, "), "{verbose}");
    let elsewhere = ask_as(address, "GET /readyz?verbose", "evil.example").await;
    assert!(elsewhere.ends_with("\r\n\r\nready\n"), "{elsewhere}");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_as_http_wants_it() {
    let (address, _cancel) = start(&Readiness::default()).await;
    assert!(ask(address, "GET /nothing").await.starts_with("HTTP/1.1 404 "));
    assert!(body(&ask(address, "GET /api/v2/flows").await, 404)["error"].as_str().is_some());
    for path in ["/metrics", "/api/v1/flows"] {
        let refused = ask(address, &format!("POST {path}")).await;
        assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
        assert!(refused.contains("allow: GET, HEAD\r\n"), "{refused}");
    }
    for path in ["/healthz", "/api/v1/findings"] {
        let head = ask(address, &format!("HEAD {path}")).await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    }
}

#[tokio::test]
async fn the_api_tells_flows_findings_coverage_and_the_node() {
    let (address, _cancel) = start(&Readiness::default()).await;
    let flows = body(&ask(address, "GET /api/v1/flows").await, 200);
    let clients: Vec<_> =
        flows["flows"].as_array().unwrap().iter().map(|flow| flow["client"]["pod"].clone()).collect();
    assert_eq!(clients, ["first", "second"]);
    assert_eq!((&flows["total"], &flows["truncated"]), (&json!(2), &json!(false)));
    let page = body(&ask(address, "GET /api/v1/flows?limit=1").await, 200);
    assert_eq!((&page["total"], &page["truncated"], &page["next"]), (&json!(2), &json!(true), &json!(3)));
    let rest = body(&ask(address, "GET /api/v1/flows?after=3").await, 200);
    assert_eq!((&rest["flows"][0], rest["flows"].as_array().unwrap().len()), (&flows["flows"][1], 1));
    assert!(body(&ask(address, "GET /api/v1/flows?limit=many").await, 400)["error"].as_str().is_some());

    let findings = body(&ask(address, "GET /api/v1/findings").await, 200);
    let first = &findings["findings"][0];
    assert_eq!((&first["id"], &first["client"]["pod"]), (&json!("plaintext-mcp"), &json!("first")));
    // What has had no traffic for a while stands no more.
    assert!(findings["findings"].as_array().unwrap().iter().all(|row| row["client"]["pod"] == "first"));

    let coverage = body(&ask(address, "GET /api/v1/coverage").await, 200);
    assert_eq!(
        (&coverage["pods"][0]["pod"], &coverage["pods"][0]["reason"]),
        (&json!("client"), &json!("no-interface"))
    );
    let readiness = body(&ask(address, "GET /api/v1/readiness").await, 200);
    let work = &readiness["workloads"][0];
    assert_eq!((&work["name"], &work["answer"]), (&json!("client"), &json!("no-proxy")), "{readiness}");
    assert_eq!(readiness["quiet_seconds"], json!(7 * 24 * 3600));
    let node = body(&ask(address, "GET /api/v1/node").await, 200);
    assert_eq!((&node["node"], &node["pods"]["not_observed"]), (&json!("node1"), &json!(1)));
}

#[tokio::test]
async fn the_api_is_not_for_a_page_that_gave_its_name_our_address() {
    let (address, _cancel) = start(&Readiness::default()).await;
    for path in ["/api/v1/flows", "/api/v1/nothing"] {
        let refused = body(&ask_as(address, &format!("GET {path}"), "evil.example:9464").await, 403);
        assert!(refused["error"].as_str().unwrap().contains("Host"), "{refused}");
    }
    assert!(ask_as(address, "GET /healthz", "evil.example").await.ends_with("ok\n"));
}

#[tokio::test]
async fn the_page_is_held_to_itself_and_its_nonce_is_never_the_same() {
    let (address, _cancel) = start(&Readiness::default()).await;
    let nonce = |answer: &str| {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\ncontent-type: text/html; charset=utf-8\r\n"), "{head}");
        assert!(head.contains("default-src 'none'; script-src 'nonce-"), "{head}");
        let nonce = body.split_once("<script nonce=\"").unwrap().1.split_once('"').unwrap().0;
        assert!(nonce.len() == 32 && head.contains(&format!("style-src 'nonce-{nonce}'")), "{head}");
        assert!(!body.contains("{nonce}") && !body.contains("{style}") && !body.contains("{script}"));
        nonce.to_owned()
    };
    let (first, second) = (ask(address, "GET /").await, ask_as(address, "GET /", "any.example").await);
    assert_ne!(nonce(&first), nonce(&second));
}

#[tokio::test]
async fn flows_that_nobody_knows_yet_are_asked_for_again() {
    let (sources, questions) = sources(&Readiness::default());
    let (address, _cancel) = serve(sources).await;
    let busy = ask(address, "GET /api/v1/flows").await;
    assert!(busy.contains("\r\nretry-after: 1\r\n"), "{busy}");
    assert!(body(&busy, 503)["error"].as_str().unwrap().contains("not begun"));
    drop(questions);
    body(&ask(address, "GET /api/v1/findings").await, 503);
    body(&ask(address, "GET /api/v1/coverage").await, 200);
}

#[tokio::test]
async fn readers_that_never_read_hold_a_few_answers_and_no_more() {
    let (sources, mut questions) = sources(&Readiness::default());
    tokio::spawn(async move {
        // More than the buffers of a socket take: the name stands in a row four times.
        let flow = Arc::new(testing::flow(&"a".repeat(3 * 512 * 1024)));
        while let Some(asked) = questions.recv().await {
            let _gone = asked.send(vec![(FlowId::of(1), Arc::clone(&flow))]);
        }
    });
    let (address, _cancel) = serve(sources).await;
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream.write_all(b"GET /api/v1/flows HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        stream.readable().await.unwrap();
        deaf.push(stream);
    }
    assert!(body(&ask(address, "GET /api/v1/node").await, 503)["error"].as_str().is_some());
    assert!(ask(address, "GET /healthz").await.ends_with("ok\n"));
    deaf.pop();
    body(&ask(address, "GET /api/v1/node").await, 200);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let (address, _cancel) = start(&Readiness::default()).await;
    let error = Admin::bind(address, sources(&Readiness::default()).0, None, None).await.unwrap_err();
    assert_eq!(error.to_string(), format!("listen on {address}"));
}
