//! Guards the whole daemon's memory: what the pods of the API server add to an idle one.
//!
//! 30,000 pods added 13.1 MiB when the limit was set, in a build without optimisation, which holds the same
//! objects; up to 15.3 on a busy machine, where more of a list waits in buffers. What the store alone may hold is
//! measured to the byte elsewhere. `PLAINSIGHT_PODS` measures another number, which is printed and not judged, and `PLAINSIGHT_BIN`
//! another build.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::{env, fs, time::Duration};

use detector_tests::{
    apiserver::ApiServer,
    daemon::{self, Daemon},
    netns,
    node::{NODE_NAME, Node},
    wait,
};
use serde_json::{Value, json};

const PODS: u32 = 30_000;
/// What they may add, in KiB.
const MOST: u64 = 20 * 1024;

const REPLICAS: u32 = 5;

/// The API double and the daemon may be built without optimisation, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(900);

/// A pod as large clusters have them: five of a workload, a name of forty characters, addresses of both
/// families, a sidecar.
fn pod(number: u32) -> Value {
    let workload = number / REPLICAS;
    let app = format!("checkout-service-{workload:05}");
    let hash = format!("{:09x}", u64::from(workload) * 7_919);
    let (high, low) = (number >> 16, number & 0xffff);
    let v4 = std::net::Ipv4Addr::from(0x0a00_0000 + number);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("{app}-{hash}-{number:05}"),
            "namespace": format!("team-{:03}-production", workload % 600),
            "uid": format!("845b32f9-3864-408b-9aff-{number:012x}"),
            "labels": {
                "app.kubernetes.io/name": app,
                "app.kubernetes.io/part-of": "shop",
                "pod-template-hash": hash,
                "security.istio.io/tlsMode": "istio",
            },
            "annotations": { "sidecar.istio.io/status": "{\"containers\":[\"istio-proxy\"]}" },
            "ownerReferences": [{ "kind": "ReplicaSet", "name": format!("{app}-{hash}"), "controller": true }],
        },
        "spec": {
            "serviceAccountName": app,
            "nodeName": if number < 30 { NODE_NAME.to_owned() } else { format!("ip-10-0-{}.eu-central-1.compute.internal", number / 30) },
            "containers": [
                { "name": "app", "ports": [{ "name": "http", "containerPort": 8080 }] },
                { "name": "istio-proxy" },
            ],
        },
        "status": { "phase": "Running", "podIPs": [{ "ip": v4 }, { "ip": format!("fd00::{high:x}:{low:x}") }] },
    })
}

/// A line of the daemon's `/proc/<pid>/status`, in KiB.
fn memory(daemon: &Daemon<'_>, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let found = status.lines().find_map(|candidate| candidate.strip_prefix(line)?.strip_prefix(':'));
    found.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap()
}

fn known(daemon: &Daemon<'_>) -> u32 {
    let metrics = daemon.metrics().unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("plainsight_identities{kind=\"pod\"} "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_large_clusters_pods_fit_beside_everything_else() {
    if !netns::require_root() {
        return;
    }
    let pods = env::var("PLAINSIGHT_PODS").map_or(PODS, |text| text.parse().unwrap());
    let node = Node::new().unwrap();
    let api = node.netns().run(ApiServer::start).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let arguments = Daemon::kubernetes_arguments(&api.kubeconfig(folder.path()).unwrap());
    let binary = daemon::binary().unwrap();
    let start = || Daemon::start_within(PATIENCE, &node, &binary, &arguments, None).unwrap();
    let daemon = start();
    let idle = memory(&daemon, "RssAnon");
    daemon.stop().unwrap();
    for first in (0..pods).step_by(1_000) {
        api.apply_all((first..pods.min(first + 1_000)).map(pod));
    }
    let daemon = start();
    wait::until("all pods known", PATIENCE, || Ok((known(&daemon) == pods).then_some(()))).unwrap();
    let of = |line| memory(&daemon, line);
    let (anonymous, resident) = (of("RssAnon"), of("VmRSS"));
    println!(
        "{pods} pods: {resident} KiB resident, {anonymous} of them anonymous ({idle} idle), {} at the peak",
        of("VmHWM")
    );
    let grown = anonymous.saturating_sub(idle);
    assert!(pods != PODS || grown < MOST, "{pods} pods add {grown} KiB, more than {MOST}");
    daemon.stop().unwrap();
}
