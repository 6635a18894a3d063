//! What one node's watch costs the API server, by simulation: one source, the API double, clusters of three
//! sizes, whole lists by streaming and by pages, and a minute of churn.
//!
//! Bytes are those of the bodies, without compression (the client asks for none) and without TLS. A pod of the
//! simulation has the recorded pods' shape, filled up to what live pods weigh with their status and managed
//! fields.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use detector::{
    cluster::{
        SharedStore, TrustDomain,
        kubernetes::{Access, KubernetesSource, Timing},
    },
    readiness::Readiness,
};
use detector_tests::{
    apiserver::{ApiServer, Verb},
    wait,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const NODES: [u32; 3] = [10, 1_000, 5_000];
const PODS_A_NODE: u32 = 30;
const REPLICAS: u32 = 5;

/// A live pod with a sidecar, its conditions and its managed fields.
const POD_BYTES: usize = 10_000;

/// Updates that a new pod gets after it was created: scheduled, containers, address, ready; and one more when
/// it is asked to end.
const UPDATES: u32 = 4;

const PATIENCE: Duration = Duration::from_secs(900);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    // Cargo adds `--bench`; whatever is a number is a cluster's size.
    let chosen: Vec<u32> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let sizes = if chosen.is_empty() { NODES.to_vec() } else { chosen };
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:>6} {:>8} {:>10} {:>9} {:>9} {:>12} {:>14} {:>16}",
        "nodes", "pods", "lists", "requests", "seconds", "MB at start", "MB a minute", "all nodes, MB/s"
    )?;
    for nodes in sizes {
        for streaming in [true, false] {
            let Cost { requests, seconds, start, churn } = simulate(nodes, streaming)?;
            writeln!(
                out,
                "{nodes:>6} {:>8} {:>10} {requests:>9} {seconds:>9.1} {:>12.1} {:>14.2} {:>16.1}",
                nodes * PODS_A_NODE,
                if streaming { "streaming" } else { "pages" },
                mega(start),
                mega(churn),
                mega(churn) * f64::from(nodes) / 60.0,
            )?;
        }
    }
    Ok(())
}

struct Cost {
    requests: u64,
    seconds: f64,
    start: u64,
    churn: u64,
}

fn simulate(nodes: u32, streaming: bool) -> Result<Cost> {
    let pods = nodes * PODS_A_NODE;
    let server = ApiServer::start()?;
    server.streaming_lists(streaming);
    for first in (0..pods).step_by(1_000) {
        server.apply_all((first..pods.min(first + 1_000)).map(|number| pod(number, 0)));
    }
    server.apply_all((0..nodes).map(node));
    server.apply_all((0..pods.div_ceil(REPLICAS)).flat_map(|workload| {
        [replica_set(workload), service(workload), slice(workload, 0), service_account(workload)]
    }));

    let folder = tempfile::tempdir().context("make a folder for the kubeconfig")?;
    let access = Access::Kubeconfig { path: Some(server.kubeconfig(folder.path())?), context: None };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let store = SharedStore::default();
    let source = KubernetesSource::new(access, store.clone(), TrustDomain::new(None), Timing::default());
    let readiness = Readiness::default();
    let cancel = CancellationToken::new();
    let begun = Instant::now();
    let task = runtime.spawn(source.run(cancel.clone(), readiness.block("identities")));
    wait::until("whole lists", PATIENCE, || Ok(readiness.pending().is_empty().then_some(())))?;
    let seconds = begun.elapsed().as_secs_f64();
    let (requests, start) = total(&server);

    // A minute at 1 % churn: so many pods are replaced, each with its updates and its service's slices.
    let replaced = pods.div_ceil(100);
    for number in 0..replaced {
        let old = pod(number, 0);
        server.delete("pods", &text(&old, "namespace"), &text(&old, "name"));
        for update in 1..=UPDATES {
            server.apply(pod(pods + number, update));
        }
        server.apply_all([slice(number / REPLICAS, 1), slice(number / REPLICAS, 2)]);
    }
    server.apply(pod(pods + replaced, 0));
    let last = address(pods + replaced).parse()?;
    wait::until("the last change", PATIENCE, || Ok(store.read().lookup(last).map(|_| ())))?;
    let (_, after) = total(&server);
    cancel.cancel();
    runtime.block_on(task).context("end the source")?;
    Ok(Cost { requests, seconds, start, churn: after - start })
}

fn total(server: &ApiServer) -> (u64, u64) {
    server
        .counts()
        .into_iter()
        .filter(|((_, verb), _)| *verb != Verb::Get)
        .fold((0, 0), |(requests, bytes), (_, count)| (requests + count.requests, bytes + count.bytes))
}

#[expect(clippy::cast_precision_loss, reason = "megabytes in a table")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn text(object: &Value, key: &str) -> String {
    object.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn namespace(workload: u32) -> String {
    format!("team-{:03}", workload % 300)
}

fn address(number: u32) -> String {
    std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string()
}

fn pod(number: u32, update: u32) -> Value {
    let workload = number / REPLICAS;
    let app = format!("service-{workload:05}");
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("{app}-6466c575fd-{number:06}"),
            "namespace": namespace(workload),
            "labels": { "app": app, "pod-template-hash": "6466c575fd", "update": update.to_string() },
            "annotations": { "sidecar.istio.io/status": "{\"containers\":[\"istio-proxy\"]}" },
            "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-6466c575fd"), "controller": true },
            ],
        },
        "spec": {
            "nodeName": format!("node-{:04}", number % 5_000),
            "serviceAccountName": app,
            "containers": [
                { "name": "app", "ports": [{ "name": "http", "containerPort": 8080 }] },
                { "name": "istio-proxy" },
            ],
        },
        "status": { "phase": "Running", "podIPs": [{ "ip": address(number) }] },
    });
    let rest = POD_BYTES.saturating_sub(pod.to_string().len() + 150);
    if let Some(status) = pod.pointer_mut("/status").and_then(Value::as_object_mut) {
        status.insert("message".to_owned(), json!("x".repeat(rest)));
    }
    pod
}

fn node(number: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": format!("node-{number:04}"), "annotations": { "rest": "x".repeat(4_000) } },
        "status": { "addresses": [{ "type": "InternalIP", "address": format!("192.168.{}.{}", number / 250, number % 250) }] },
    })
}

fn replica_set(workload: u32) -> Value {
    let app = format!("service-{workload:05}");
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{app}-6466c575fd"),
            "namespace": namespace(workload),
            "labels": { "app": app, "pod-template-hash": "6466c575fd" },
            "annotations": { "rest": "x".repeat(2_000) },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": app, "controller": true }],
        },
    })
}

fn service(workload: u32) -> Value {
    let app = format!("service-{workload:05}");
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": app, "namespace": namespace(workload), "annotations": { "rest": "x".repeat(800) } },
        "spec": {
            "clusterIP": std::net::Ipv4Addr::from(0x6440_0000 + workload).to_string(),
            "ports": [{ "port": 80, "targetPort": 8080, "protocol": "TCP" }],
            "selector": { "app": app },
        },
    })
}

fn slice(workload: u32, update: u32) -> Value {
    let app = format!("service-{workload:05}");
    let endpoints: Vec<Value> = (workload * REPLICAS..(workload + 1) * REPLICAS)
        .map(|number| {
            json!({
                "addresses": [address(number)],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "nodeName": format!("node-{:04}", number % 5_000),
                "targetRef": { "kind": "Pod", "namespace": namespace(workload), "name": format!("{app}-6466c575fd-{number:06}") },
                "zone": "eu-central-1a",
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{app}-x7k2p"),
            "namespace": namespace(workload),
            "labels": { "kubernetes.io/service-name": app, "update": update.to_string() },
            "annotations": { "rest": "x".repeat(600) },
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
    })
}

fn service_account(workload: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": format!("service-{workload:05}"), "namespace": namespace(workload) },
    })
}
