//! The real daemon on a node of network namespaces, against the programs that MCP is spoken with.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test panics on what it does not expect")]

#[path = "attached/hooks.rs"]
mod hooks;

use std::{net::SocketAddr, time::Duration};

use detector_tests::{
    clients::{self, Certificate, Sdk, Target},
    daemon::{self, Daemon},
    netns,
    node::{Node, Pod, PodSpec},
    record::Record,
    scenario::{Flow, Scenario, TOKEN},
    wait,
};

/// From traffic to word of it.
const WORD: Duration = Duration::from_secs(10);

/// A node with a server and a client, each with a service account of its own name.
struct Pair {
    server: Pod,
    client: Pod,
    folder: tempfile::TempDir,
    node: Node,
}

impl Pair {
    fn new() -> Self {
        let mut node = Node::new().unwrap();
        let server = node.pod(PodSpec::new("tools", "server").service_account("server")).unwrap();
        let client = node.pod(PodSpec::new("agents", "client").service_account("client")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        node.manifests(folder.path(), "").unwrap();
        Self { server, client, folder, node }
    }

    fn daemon(&self) -> Daemon<'_> {
        Daemon::start(&self.node, &daemon::binary().unwrap(), self.folder.path(), None).unwrap()
    }

    /// Runs a server and a client of an SDK until the client has its answer.
    fn call(&self, server: Sdk, client: Sdk, target: &Target<'_>) {
        let address = target.address;
        let mut process = server.serve(&self.server, address, target.certificate).unwrap();
        clients::wait_for_server(&self.server, &mut process, address.port()).unwrap();
        client.call(&self.client, target).unwrap().finish().unwrap();
    }
}

fn flow(port: u16, verdict: &'static str) -> Flow {
    Flow { client: Some("agents/client"), server: "tools/server", port, verdict, evidence: &[], methods: &[] }
}

fn is_plaintext(record: &Record) -> bool {
    record.text("verdict") == "plaintext" || record.text("id").starts_with("plaintext")
}

/// How many of our programs sit on each hook of a pod's host interface.
fn attached(node: &Node, pod: &Pod) -> [usize; 2] {
    hooks::attached(node.netns(), &pod.plan().interface())
}

#[test]
fn the_demos_scenario_is_reported_whole_and_its_token_nowhere() {
    if !netns::require_root() {
        return;
    }
    let scenario = Scenario::start().unwrap();
    let mut daemon = scenario.detector(&daemon::binary().unwrap()).unwrap();
    scenario.traffic().unwrap();
    scenario.verify(&mut daemon).unwrap();
    let metrics = daemon.metrics().unwrap();
    assert!(metrics.lines().any(|line| line.starts_with("plainsight_")), "{metrics}");
    assert!(!metrics.contains(TOKEN), "{metrics}");
    let output = daemon.stop().unwrap();
    assert!(!output.contains(TOKEN), "{output}");
}

#[test]
fn plaintext_mcp_of_the_older_revisions_is_found_with_its_methods() {
    if !netns::require_root() {
        return;
    }
    let pair = Pair::new();
    let mut daemon = pair.daemon();
    let methods = &["initialize", "tools/list", "tools/call"];
    let cases: [(Sdk, Sdk, &'static [&'static str]); 4] = [
        (Sdk::Python1, Sdk::Python1, &["mcp-session-id", "authorization-bearer"]),
        (Sdk::Python1Sse, Sdk::Python1Sse, &["sse-endpoint-event", "authorization-bearer"]),
        (Sdk::Node, Sdk::Node, &["mcp-session-id", "mcp-protocol-version", "authorization-bearer"]),
        (Sdk::Python2, Sdk::Node, &["mcp-session-id", "authorization-bearer"]),
    ];
    for (port, (server, client, evidence)) in (8001..).zip(cases) {
        let target = Target::clear(pair.server.ip(), port).token(TOKEN);
        pair.call(server, client, &target);
        let wanted = Flow { evidence, methods, ..flow(port, "plaintext mcp") };
        let what = format!("flow of {client:?} to {server:?}");
        daemon.wait_for(&what, WORD, |record| wanted.is(record)).unwrap();
    }
    assert!(!daemon.stop().unwrap().contains(TOKEN));
}

#[test]
fn mcp_over_ipv6_is_found() {
    if !netns::require_root() {
        return;
    }
    let pair = Pair::new();
    let mut daemon = pair.daemon();
    pair.call(Sdk::Python2, Sdk::Python2, &Target::clear(pair.server.ipv6(), 8000).token(TOKEN));
    let wanted = Flow { methods: &["tools/list", "tools/call"], ..flow(8000, "plaintext mcp") };
    daemon.wait_for("flow over IPv6", WORD, |record| wanted.is(record)).unwrap();
    daemon
        .wait_for("finding over IPv6", WORD, |record| {
            record.text("id") == "plaintext-mcp"
                && record.text("severity") == "critical"
                && record.server.name() == "tools/server"
        })
        .unwrap();
    daemon.stop().unwrap();
}

#[test]
fn tls_is_never_called_plaintext() {
    if !netns::require_root() {
        return;
    }
    let pair = Pair::new();
    let mut daemon = pair.daemon();
    let certificate = Certificate::new(&pair.server).unwrap();

    pair.call(Sdk::Python1, Sdk::Python1, &Target::clear(pair.server.ip(), 8441).tls(&certificate));

    let mut server = clients::serve_openssl(&pair.server, 8443, &certificate).unwrap();
    clients::wait_for_server(&pair.server, &mut server, 8443).unwrap();
    let address = SocketAddr::new(pair.server.ip(), 8443);
    for version in ["--tls-max=1.2", "--tlsv1.3"] {
        let options = version.split('=').chain(["--insecure"]).collect::<Vec<_>>();
        let curl = clients::curl(&pair.client, &format!("https://{address}/"), &options).unwrap();
        curl.succeed(WORD).unwrap();
    }
    let mut s_client = pair.client.command("openssl");
    s_client.args(["s_client", "-brief", "-connect", &address.to_string()]);
    // It ends with the end of its input. Whether it likes the certificate is not the question.
    pair.client.spawn(s_client).unwrap().wait(WORD).unwrap();

    for port in [8441, 8443] {
        let wanted = flow(port, "tls");
        daemon.wait_for("TLS flow", WORD, |record| wanted.is(record)).unwrap();
    }
    let plaintext: Vec<_> = daemon.records().into_iter().filter(is_plaintext).collect();
    assert!(plaintext.is_empty(), "{plaintext:#?}");
    daemon.stop().unwrap();
}

#[test]
fn an_interface_that_appears_later_is_covered_and_one_that_goes_does_no_harm() {
    if !netns::require_root() {
        return;
    }
    let mut pair = Pair::new();
    let late = pair.node.plan(PodSpec::new("tools", "late").service_account("late")).unwrap();
    let gone = pair.node.pod(PodSpec::new("tools", "gone")).unwrap();
    pair.node.manifests(pair.folder.path(), "").unwrap();
    let mut daemon = pair.daemon();

    drop(gone);
    let late = pair.node.start(&late).unwrap();
    wait::until("programs on the new interface", WORD, || {
        Ok((attached(&pair.node, &late) == [1, 1]).then_some(()))
    })
    .unwrap();

    let address = SocketAddr::new(late.ip(), 8080);
    let mut health = clients::serve_health(&late, address).unwrap();
    clients::wait_for_server(&late, &mut health, 8080).unwrap();
    let curl = clients::curl(&pair.client, &format!("http://{address}/"), &[]).unwrap();
    assert_eq!(curl.succeed(WORD).unwrap(), "ok");
    let wanted = Flow { server: "tools/late", ..flow(8080, "plaintext http1") };
    daemon.wait_for("flow to the late pod", WORD, |record| wanted.is(record)).unwrap();
    daemon.stop().unwrap();
}

#[test]
fn sigterm_ends_the_daemon_cleanly_and_takes_its_programs_off_the_interfaces() {
    if !netns::require_root() {
        return;
    }
    let pair = Pair::new();
    let daemon = pair.daemon();
    assert_eq!(attached(&pair.node, &pair.server), [1, 1]);
    println!("attached by {}", hooks::in_use(&daemon));
    daemon.stop().unwrap();
    assert_eq!(attached(&pair.node, &pair.server), [0, 0]);
    assert!(!hooks::has_clsact(pair.node.netns(), &pair.server.plan().interface()));
}

#[test]
fn a_broken_manifest_is_named_and_the_others_still_count() {
    if !netns::require_root() {
        return;
    }
    let pair = Pair::new();
    std::fs::write(pair.folder.path().join("broken.yaml"), "kind: Pod\n  metadata: [").unwrap();
    let mut daemon = pair.daemon();
    let address = SocketAddr::new(pair.server.ip(), 8080);
    let mut health = clients::serve_health(&pair.server, address).unwrap();
    clients::wait_for_server(&pair.server, &mut health, 8080).unwrap();
    clients::curl(&pair.client, &format!("http://{address}/"), &[]).unwrap().succeed(WORD).unwrap();
    let wanted = flow(8080, "plaintext http1");
    daemon.wait_for("flow with its pods", WORD, |record| wanted.is(record)).unwrap();
    let output = daemon.stop().unwrap();
    assert!(output.contains("broken.yaml"), "{output}");
}
