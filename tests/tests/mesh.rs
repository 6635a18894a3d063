//! The scenario of an MCP platform in a mesh, on the wire: each event gives the findings that it should and
//! no other.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::{fmt::Write as _, time::Duration};

use detector_tests::{
    clients,
    daemon::{self, Daemon},
    mesh::{Dial, HEALTH, Mesh, Plaintext, Platform, found},
    netns,
    node::PodSpec,
};

/// From traffic to word of it.
const WORD: Duration = Duration::from_secs(20);

const ISTIO: &str = include_str!("../../detector/testdata/seed/istio.yaml");
const LINKERD: &str = include_str!("../../detector/testdata/seed/linkerd.yaml");

fn as_it_is(spec: PodSpec) -> PodSpec {
    spec
}

fn istio(plaintext: Plaintext, policy: &str) -> Option<Platform> {
    netns::require_root().then(|| Platform::start(Mesh::Istio, plaintext, policy, as_it_is).unwrap())
}

fn detector(platform: &Platform) -> Daemon<'_> {
    platform.detector(&daemon::binary().unwrap()).unwrap()
}

/// Waits for these findings, ends the daemon, and has nothing else been said.
#[track_caller]
fn exactly(mut daemon: Daemon<'_>, expected: &[(&str, &str, &str)]) {
    let mut expected: Vec<_> = expected
        .iter()
        .map(|(id, severity, client)| ((*id).to_owned(), (*severity).to_owned(), (*client).to_owned()))
        .collect();
    expected.sort();
    for (id, severity, client) in &expected {
        let what = format!("{severity} {id} of {client}");
        daemon
            .wait_for(&what, WORD, |record| {
                record.text("id") == id && record.text("severity") == severity && {
                    let name = record.client.name();
                    name.rsplit('/').next() == Some(client)
                }
            })
            .unwrap();
    }
    // What is known and was held back is told at the end.
    let records = daemon.stop_with_records().unwrap();
    let mut told = found(&records);
    told.sort();
    let lines = records.iter().fold(String::new(), |mut text, record| {
        let _never = writeln!(text, "{}", record.line);
        text
    });
    assert_eq!(told, expected, "{lines}");
}

fn waits_for_mesh_flow(daemon: &mut Daemon<'_>, client: &str) {
    let name = format!("mcp-production/{client}");
    daemon
        .wait_for(&format!("mesh flow of {client}"), WORD, |record| {
            record.is_flow() && record.verdict() == "mesh-mtls" && record.client.name() == name
        })
        .unwrap();
}

#[test]
fn what_is_declared_is_silent() {
    let Some(platform) = istio(Plaintext::Refused, ISTIO) else { return };
    let mut daemon = detector(&platform);
    for (name, pod) in [("gateway", &platform.gateway), ("audit", &platform.audit)] {
        platform.call_meshed(pod, &Dial::istio()).unwrap();
        waits_for_mesh_flow(&mut daemon, name);
    }
    exactly(daemon, &[]);
}

#[test]
fn a_pod_without_a_sidecar_tries_in_the_clear() {
    let Some(platform) = istio(Plaintext::Refused, ISTIO) else { return };
    let daemon = detector(&platform);
    platform.call_clear(&platform.batch, true, Plaintext::Refused).unwrap();
    exactly(
        daemon,
        &[
            ("plaintext-mcp", "medium", "batch"),
            ("plaintext-in-strict", "medium", "batch"),
            ("unexpected-source", "medium", "batch"),
        ],
    );
}

#[test]
fn a_pod_without_a_sidecar_is_served_at_a_port_that_the_proxy_leaves_alone() {
    if !netns::require_root() {
        return;
    }
    let excluded = |spec: PodSpec| spec.annotation("traffic.sidecar.istio.io/excludeInboundPorts", "8080");
    let platform = Platform::start(Mesh::Istio, Plaintext::Served, ISTIO, excluded).unwrap();
    let daemon = detector(&platform);
    platform.call_clear(&platform.batch, true, Plaintext::Served).unwrap();
    exactly(
        daemon,
        &[
            ("plaintext-mcp", "high", "batch"),
            ("plaintext-in-strict", "critical", "batch"),
            ("unexpected-source", "high", "batch"),
        ],
    );
}

#[test]
fn a_pod_with_another_service_account_calls() {
    let Some(platform) = istio(Plaintext::Refused, ISTIO) else { return };
    let daemon = detector(&platform);
    platform.call_meshed(&platform.stranger, &Dial::istio()).unwrap();
    exactly(daemon, &[("unexpected-source", "medium", "stranger")]);
}

#[test]
fn the_mode_is_permissive() {
    let permissive = ISTIO.replace("mode: STRICT", "mode: PERMISSIVE");
    let Some(platform) = istio(Plaintext::Served, &permissive) else { return };
    let daemon = detector(&platform);
    platform.call_clear(&platform.batch, true, Plaintext::Served).unwrap();
    exactly(
        daemon,
        &[
            ("plaintext-mcp", "high", "batch"),
            ("plaintext-in-permissive", "medium", "batch"),
            ("unexpected-source", "high", "batch"),
        ],
    );
}

#[test]
fn the_health_port_is_probed_and_used_by_another_pod() {
    let Some(platform) = istio(Plaintext::Refused, ISTIO) else { return };
    let mut daemon = detector(&platform);
    let url = format!("http://{}:{HEALTH}/healthz", platform.tools.ip());
    let probe = ["--user-agent", "kube-probe/1.36"];
    clients::curl_from_node(platform.node(), &url, &probe).unwrap().succeed(WORD).unwrap();
    clients::curl(&platform.gateway, &url, &[]).unwrap().succeed(WORD).unwrap();
    daemon
        .wait_for("flow of the probe", WORD, |record| record.is_flow() && record.client.pod.is_none())
        .unwrap();
    exactly(daemon, &[("plaintext-exempt", "info", "gateway")]);
}

#[test]
fn a_destination_rule_turns_tls_off() {
    let rule = ISTIO.replace("ISTIO_MUTUAL", "DISABLE");
    let Some(platform) = istio(Plaintext::Refused, &rule) else { return };
    let mut daemon = detector(&platform);
    // A sidecar picks the pod itself: the service's address is not on the wire.
    platform.call_clear(&platform.gateway, false, Plaintext::Refused).unwrap();
    let bypass = daemon.wait_for("mesh-bypass", WORD, |record| record.text("id") == "mesh-bypass").unwrap();
    assert_eq!(
        bypass.text("decided_by"),
        "DestinationRule mcp-production/mcp-gateway-mtls-outbound, spec.trafficPolicy.tls.mode"
    );
    exactly(
        daemon,
        &[
            ("plaintext-mcp", "medium", "gateway"),
            ("plaintext-in-strict", "medium", "gateway"),
            ("mesh-bypass", "medium", "gateway"),
        ],
    );
}

#[test]
fn linkerd_admits_the_gateway_alone() {
    if !netns::require_root() {
        return;
    }
    let platform = Platform::start(Mesh::Linkerd, Plaintext::Refused, LINKERD, as_it_is).unwrap();
    let mut daemon = detector(&platform);
    let dial = Dial::linkerd("tool-executor");
    platform.call_meshed(&platform.gateway, &dial).unwrap();
    waits_for_mesh_flow(&mut daemon, "gateway");
    platform.call_meshed(&platform.audit, &dial).unwrap();
    platform.call_clear(&platform.batch, true, Plaintext::Refused).unwrap();
    // In the tunnel the port is not visible, and not all ports of the pod have a server: nothing can be said.
    platform.call_meshed(&platform.stranger, &Dial::linkerd_tunnel("tool-executor")).unwrap();
    waits_for_mesh_flow(&mut daemon, "stranger");
    exactly(
        daemon,
        &[
            ("unexpected-source", "medium", "audit"),
            ("plaintext-mcp", "medium", "batch"),
            ("plaintext-in-strict", "medium", "batch"),
            ("unexpected-source", "medium", "batch"),
        ],
    );
}

#[test]
fn a_server_name_asks_for_another_service_account() {
    if !netns::require_root() {
        return;
    }
    let platform = Platform::start(Mesh::Linkerd, Plaintext::Refused, LINKERD, as_it_is).unwrap();
    let daemon = detector(&platform);
    platform.call_meshed(&platform.gateway, &Dial::linkerd("secrets-manager")).unwrap();
    exactly(daemon, &[("identity-mismatch", "medium", "gateway")]);
}

#[test]
fn a_change_of_policy_alone_is_judged_at_once() {
    let permissive = ISTIO.replace("mode: STRICT", "mode: PERMISSIVE");
    let Some(platform) = istio(Plaintext::Served, &permissive) else { return };
    let mut daemon = detector(&platform);
    platform.call_clear(&platform.batch, true, Plaintext::Served).unwrap();
    let standing = "plainsight_findings_active{id=\"plaintext-in-permissive\",severity=\"medium\"}";
    let count = |daemon: &Daemon<'_>, series: &str| {
        let metrics = daemon.metrics().unwrap();
        let line = metrics.lines().find(|line| line.starts_with(series)).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next().map(str::to_owned))
    };
    daemon
        .wait_for("plaintext-in-permissive", WORD, |record| record.text("id") == "plaintext-in-permissive")
        .unwrap();
    detector_tests::wait::until("a finding that stands", WORD, || {
        Ok((count(&daemon, standing).as_deref() == Some("1")).then_some(()))
    })
    .unwrap();
    platform.declare(ISTIO).unwrap();
    let strict =
        daemon.wait_for("plaintext-in-strict", WORD, |record| record.text("id") == "plaintext-in-strict");
    assert_eq!(strict.unwrap().text("severity"), "critical");
    detector_tests::wait::until("a finding that no longer stands", WORD, || {
        Ok((count(&daemon, standing).as_deref() == Some("0")).then_some(()))
    })
    .unwrap();
    daemon.stop().unwrap();
}
