//! Who was seen, and when: addresses that pass on, pods that are told late or never, and what stands in a
//! line of an end that is a pod, and of one that is none.

use std::{collections::BTreeMap, net::SocketAddr};

use detector_tests::{
    apiserver::ApiServer,
    clients,
    daemon::{self, Daemon},
    netns,
    node::{NODE_NAME, Node, Pod, PodSpec},
    process::Process,
};
use serde_json::json;

use super::rig::{WORD, address, call, fetch, flow, flows, object, serve};

const PORT: u16 = 8000;

struct Rig {
    #[expect(dead_code, reason = "held, so that it serves as long as the rig")]
    serving: Process,
    server: Pod,
    client: Pod,
    api: ApiServer,
    folder: tempfile::TempDir,
    node: Node,
}

impl Rig {
    /// A server that the API server knows, and a client that it does not.
    fn new() -> Self {
        let mut node = Node::new().unwrap();
        let server = node.pod(PodSpec::new("tools", "server")).unwrap();
        let client = node.pod(PodSpec::new("agents", "client")).unwrap();
        // The node's own loopback, where the daemon looks.
        let api = node.netns().run(ApiServer::start).unwrap();
        api.apply(object(&server));
        let serving = serve(&server, PORT);
        Self { serving, server, client, api, folder: tempfile::tempdir().unwrap(), node }
    }

    fn daemon(&self) -> Daemon<'_> {
        let kubeconfig = self.api.kubeconfig(self.folder.path()).unwrap();
        let arguments = Daemon::kubernetes_arguments(&kubeconfig);
        Daemon::start_with(&self.node, &daemon::binary().unwrap(), &arguments, None).unwrap()
    }

    fn target(&self) -> SocketAddr {
        SocketAddr::new(self.server.ip(), PORT)
    }
}

#[test]
fn an_address_is_the_pods_that_had_it_when_it_was_seen() {
    if !netns::require_root() {
        return;
    }
    let rig = Rig::new();
    rig.api.apply(object(&rig.client));
    let mut daemon = rig.daemon();
    fetch(&rig.client, rig.target());
    daemon.wait_for("the first", WORD, |record| record.server.name() == "tools/server").unwrap();
    rig.api.delete("pods", "tools", "server");
    let mut heir = object(&rig.server);
    heir["metadata"]["name"] = json!("heir");
    rig.api.apply(heir);
    detector_tests::wait::until("the heir known", WORD, || {
        Ok(daemon.readiness()?.contains("tools/heir on ").then_some(()))
    })
    .unwrap();
    fetch(&rig.client, rig.target());
    let expected = BTreeMap::from([
        flow("agents/client", "tools/server", PORT.into(), 1),
        flow("agents/client", "tools/heir", PORT.into(), 1),
    ]);
    assert_eq!(flows(daemon), expected);
}

#[test]
fn a_pod_that_is_told_late_is_waited_for_and_one_that_never_is_stays_unidentified() {
    if !netns::require_root() {
        return;
    }
    let mut rig = Rig::new();
    let stranger = rig.node.pod(PodSpec::new("agents", "stranger")).unwrap();
    let mut daemon = rig.daemon();
    fetch(&rig.client, rig.target());
    rig.api.apply(object(&rig.client));
    fetch(&stranger, rig.target());
    let ip = stranger.ip().to_string();
    let found = daemon
        .wait_for("the stranger", WORD, |record| record.is_flow() && record.client.name() == ip)
        .unwrap();
    assert_eq!(found.line["client"]["kind"], "unknown", "{}", found.line);
    assert_eq!(found.line["client"]["range"], "private", "{}", found.line);
    let expected = BTreeMap::from([
        flow("agents/client", "tools/server", PORT.into(), 1),
        flow(&ip, "tools/server", PORT.into(), 1),
    ]);
    assert_eq!(flows(daemon), expected);
}

#[test]
fn a_line_says_of_each_end_all_that_its_objects_say() {
    if !netns::require_root() {
        return;
    }
    let rig = Rig::new();
    let mut client = object(&rig.client);
    client["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": "nightly-29384", "controller": true }]);
    client["metadata"]["annotations"] = json!({ "sidecar.istio.io/status": "{}" });
    client["spec"]["initContainers"] = json!([{ "name": "istio-proxy", "restartPolicy": "Always" }]);
    let mut server = object(&rig.server);
    server["metadata"]["annotations"] = json!({ "ambient.istio.io/redirection": "enabled" });
    server["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "controller": true }]);
    rig.api.apply_all([
        client,
        server,
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": "nightly-29384",
                "namespace": "agents",
                "ownerReferences": [
                    { "apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "controller": true },
                ],
            },
        }),
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "istio", "namespace": "istio-system" },
            "data": { "mesh": "trustDomain: corp.example\n" },
        }),
    ]);
    let mut daemon = rig.daemon();
    fetch(&rig.client, rig.target());
    let found =
        daemon.wait_for("the flow", WORD, |record| record.is_flow() && record.port == u64::from(PORT));
    let line = found.unwrap().line;
    let end = |pod: &Pod, workload: serde_json::Value, mesh: &str| {
        let spec = &pod.plan().spec;
        json!({
            "kind": "pod",
            "namespace": spec.namespace,
            "pod": spec.name,
            "workload": workload,
            "service_account": spec.name,
            "spiffe_id": format!("spiffe://corp.example/ns/{}/sa/{}", spec.namespace, spec.name),
            "mesh": mesh,
            "node": NODE_NAME,
            "address": pod.ip(),
        })
    };
    let workload = |kind: &str, name: &str| json!({ "kind": kind, "name": name });
    assert_eq!(line["client"], end(&rig.client, workload("CronJob", "nightly"), "istio-native-sidecar"));
    assert_eq!(line["server"], end(&rig.server, workload("StatefulSet", "db"), "istio-ambient"));
    daemon.stop().unwrap();
}

#[test]
fn an_end_that_is_no_pod_is_the_node_or_a_range_of_addresses() {
    if !netns::require_root() {
        return;
    }
    let rig = Rig::new();
    rig.api.apply(object(&rig.client));
    let mut daemon = rig.daemon();
    let probe = clients::curl_from_node(&rig.node, &format!("http://{}/healthz", rig.target()), &[]).unwrap();
    probe.succeed(WORD).unwrap();
    let found = daemon
        .wait_for("the node's probe", WORD, |record| record.is_flow() && record.client.pod.is_none())
        .unwrap();
    assert_eq!(found.line["client"]["kind"], "node", "{}", found.line);
    assert_eq!(found.line["client"]["node"], NODE_NAME, "{}", found.line);

    for (port, to, kind, range) in [
        (9001, "203.0.113.9", "external", "global"),
        (9002, "2001:db8::9", "external", "global"),
        (9003, "192.168.77.9", "unknown", "private"),
        (9004, "fd00:99::9", "unknown", "unique-local"),
        (9005, "100.64.7.7", "unknown", "shared"),
    ] {
        let to = address(to, port);
        let own = if to.is_ipv4() { rig.client.ip() } else { rig.client.ipv6() };
        rig.client.send_raw(to, &call(SocketAddr::new(own, 40_000), to)).unwrap();
        let found = daemon
            .wait_for("the call", WORD, |record| record.is_flow() && record.port == u64::from(port))
            .unwrap();
        assert_eq!(found.client.pod.as_deref(), Some("agents/client"), "{}", found.line);
        assert_eq!(found.line["server"]["kind"], kind, "{}", found.line);
        assert_eq!(found.line["server"]["range"], range, "{}", found.line);
    }
    daemon.stop().unwrap();
}
