//! The real daemon on a node: who it says has spoken, and which pods it accounts for.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "identities/rig.rs"]
mod rig;
#[path = "identities/seen.rs"]
mod seen;
#[path = "identities/spoof.rs"]
mod spoof;
#[path = "identities/translation.rs"]
mod translation;

use detector::datapath::{Attached, Datapath, DatapathConfig, HookChoice};
use detector_tests::{
    apiserver::ApiServer,
    clients::{self, Sdk, Target},
    daemon::{self, Daemon},
    netns,
    node::{NODE_NAME, Node, Pod, PodSpec},
    scenario::Flow,
    wait,
};
use nix::net::if_::if_nametoindex;
use serde_json::json;

use self::rig::{WORD, object};

#[test]
fn the_daemon_names_pods_of_the_api_and_accounts_for_each() {
    if !netns::require_root() {
        return;
    }
    let mut node = Node::new().unwrap();
    let server = node.pod(PodSpec::new("tools", "server")).unwrap();
    let client = node.pod(PodSpec::new("agents", "client")).unwrap();
    // The node's own loopback, where the daemon looks.
    let api = node.netns().run(ApiServer::start).unwrap();
    api.apply_all([object(&server), object(&client)]);
    api.apply(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "agent", "namespace": "kube-system" },
        "spec": { "nodeName": NODE_NAME, "hostNetwork": true, "containers": [{ "name": "app" }] },
        "status": { "phase": "Running", "podIP": "192.0.2.77", "podIPs": [{ "ip": "192.0.2.77" }] },
    }));
    let mut missing = object(&server);
    missing["metadata"]["name"] = json!("nowhere");
    missing["status"] = json!({ "phase": "Running", "podIPs": [{ "ip": "10.244.77.77" }] });
    api.apply(missing);
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = api.kubeconfig(folder.path()).unwrap();
    let arguments = Daemon::kubernetes_arguments(&kubeconfig);
    let mut daemon = Daemon::start_with(&node, &daemon::binary().unwrap(), &arguments, None).unwrap();

    let target = Target::clear(server.ip(), 8000);
    let mut process = Sdk::Python2.serve(&server, target.address, None).unwrap();
    clients::wait_for_server(&server, &mut process, 8000).unwrap();
    Sdk::Python2.call(&client, &target).unwrap().finish().unwrap();
    let wanted = Flow {
        client: Some("agents/client"),
        server: "tools/server",
        port: 8000,
        verdict: "plaintext mcp",
        evidence: &[],
        methods: &["tools/call"],
    };
    daemon.wait_for("flow", WORD, |record| wanted.is(record)).unwrap();

    let interface = |pod: &Pod| pod.plan().interface();
    let expected = [
        format!("observed      agents/client on {}", interface(&client)),
        format!("observed      tools/server on {}", interface(&server)),
        "not observed  kube-system/agent on -: host-network".to_owned(),
        "not observed  tools/nowhere on -: no-interface".to_owned(),
        "watch         pods: watching".to_owned(),
    ];
    wait::until("coverage of every pod", WORD, || {
        let text = daemon.readiness()?;
        let has = |line: &String| text.lines().any(|candidate| candidate.starts_with(line.as_str()));
        Ok(expected.iter().all(has).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.readiness().unwrap()));

    // Another program takes the first place on an interface: ours take it back, and it is told.
    let name = interface(&client);
    let rival = Datapath::load(&DatapathConfig {
        max_flows: 64,
        max_edges: 64,
        sample_one_in: 0,
        budget_ns_per_ms: 1,
        scan_window: 256,
        idle: WORD,
        statistics: false,
        hooks: HookChoice::Best,
    })
    .unwrap();
    let attached = node.netns().run(|| Ok(rival.attach(if_nametoindex(name.as_str())?, &name)?)).unwrap();
    if attached == Attached::Tcx {
        wait::until("the place restored", WORD, || {
            Ok((!daemon.metrics()?.contains("plainsight_attachments_restored_total 0\n")).then_some(()))
        })
        .unwrap();
    }
    let metrics = daemon.metrics().unwrap();
    assert!(metrics.contains("plainsight_kubernetes_watch_state{resource=\"pods\",state=\"watching\"} 1\n"));
    daemon.stop().unwrap();
}
