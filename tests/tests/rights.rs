//! What the daemon asks of the API server and writes to it: no right more than the role has, and none less.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test panics where something is not as it should be"
)]

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use detector_tests::{
    apiserver::{ApiServer, Resource, Verb},
    clients::{self, Sdk, Target},
    daemon::{self, Daemon},
    netns,
    node::{NODE_NAME, Node, Pod, PodSpec},
    wait,
};
use serde_json::{Value, json};

/// From traffic, or from a change, to word of it.
const WORD: Duration = Duration::from_secs(90);

const EVENTS: &str = "events.events.k8s.io";

/// A verb on a resource such as `events.events.k8s.io`.
type Right = (String, String);

/// The rights of a role, or of several in one file.
fn rights(path: &Path) -> BTreeSet<Right> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let words = |rule: &Value, member: &str| -> Vec<String> {
        let words = rule[member].as_array().into_iter().flatten();
        words.map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
        for rule in document["rules"].as_array().into_iter().flatten() {
            for group in words(rule, "apiGroups") {
                for resource in words(rule, "resources") {
                    let name = if group.is_empty() { resource } else { format!("{resource}.{group}") };
                    rights.extend(words(rule, "verbs").into_iter().map(|verb| (verb, name.clone())));
                }
            }
        }
    }
    rights
}

fn expected() -> BTreeSet<Right> {
    rights(&Path::new(env!("CARGO_MANIFEST_DIR")).join("rbac.yaml"))
}

fn used(server: &ApiServer) -> BTreeSet<Right> {
    server.counts().into_keys().map(|(resource, verb)| (verb.to_string(), resource)).collect()
}

fn object(pod: &Pod) -> Value {
    let spec = &pod.plan().spec;
    let addresses = [json!({ "ip": pod.ip() }), json!({ "ip": pod.ipv6() })];
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": spec.name, "namespace": spec.namespace },
        "spec": { "nodeName": NODE_NAME, "serviceAccountName": spec.name, "containers": [{ "name": "app" }] },
        "status": { "phase": "Running", "podIP": pod.ip(), "podIPs": addresses },
    })
}

/// A double with all that a role names, whichever kind of report.
fn install_all(api: &ApiServer, reports: Resource) {
    for (group, version, kind, plural) in [
        ("plainsight.dev", "v1alpha1", "ExpectedSources", "expectedsources"),
        ("plainsight.dev", "v1alpha1", "TrafficException", "trafficexceptions"),
        ("security.istio.io", "v1", "PeerAuthentication", "peerauthentications"),
        ("security.istio.io", "v1", "AuthorizationPolicy", "authorizationpolicies"),
        ("networking.istio.io", "v1", "DestinationRule", "destinationrules"),
        ("policy.linkerd.io", "v1beta3", "Server", "servers"),
        ("policy.linkerd.io", "v1beta1", "ServerAuthorization", "serverauthorizations"),
        ("policy.linkerd.io", "v1alpha1", "AuthorizationPolicy", "authorizationpolicies"),
        ("policy.linkerd.io", "v1alpha1", "MeshTLSAuthentication", "meshtlsauthentications"),
        ("policy.linkerd.io", "v1alpha1", "NetworkAuthentication", "networkauthentications"),
    ] {
        api.install(Resource::new(group, version, kind, plural));
    }
    api.install(reports);
}

#[test]
fn the_daemon_uses_every_right_of_its_role_and_no_other_while_it_writes_of_what_it_finds() {
    if !netns::require_root() {
        return;
    }
    let mut all = BTreeSet::new();
    for (version, streaming, reports) in [
        (
            "wgpolicyk8s.io/v1alpha2",
            true,
            Resource::new("wgpolicyk8s.io", "v1alpha2", "PolicyReport", "policyreports"),
        ),
        ("openreports.io/v1alpha1", false, Resource::new("openreports.io", "v1alpha1", "Report", "reports")),
    ] {
        let mut node = Node::new().unwrap();
        let server = node.pod(PodSpec::new("tools", "server")).unwrap();
        let client = node.pod(PodSpec::new("agents", "client")).unwrap();
        let api = node.netns().run(ApiServer::start).unwrap();
        api.streaming_lists(streaming);
        install_all(&api, reports.clone());
        api.apply_all([object(&server), object(&client)]);
        let name = reports.full_name();
        api.apply(json!({
            "apiVersion": version,
            "kind": reports.kind,
            "metadata": {
                "name": "plainsight-00000000-0000-4000-8000-0000000000aa",
                "namespace": "tools",
                "labels": { "app.kubernetes.io/managed-by": "plainsight", "plainsight.dev/node": NODE_NAME },
            },
        }));
        let folder = tempfile::tempdir().unwrap();
        let mut arguments = Daemon::kubernetes_arguments(&api.kubeconfig(folder.path()).unwrap());
        arguments.extend(["--kubernetes-events", "on", "--policy-reports", "on"].map(Into::into));
        let daemon = Daemon::start_with(&node, &daemon::binary().unwrap(), &arguments, None).unwrap();

        let target = Target::clear(server.ip(), 8000).token("s3cret-t0ken");
        let mut process = Sdk::Python2.serve(&server, target.address, None).unwrap();
        clients::wait_for_server(&server, &mut process, 8000).unwrap();
        Sdk::Python2.call(&client, &target).unwrap().finish().unwrap();
        let eventually = |what: &str, condition: &dyn Fn() -> bool| {
            wait::until(what, WORD, || Ok(condition().then_some(()))).unwrap_or_else(|error| {
                panic!("{error:#}: {:#?}\n{:#?}\n{}", api.objects(EVENTS), api.counts(), daemon.output())
            });
        };
        let of = |id: &str| -> Vec<Value> {
            api.objects(EVENTS).into_iter().filter(|event| event["reason"] == id).collect()
        };
        eventually("an Event", &|| of("PlaintextMcp").len() == 1);
        let event = of("PlaintextMcp").remove(0);
        assert_eq!(event["regarding"]["name"], "server", "{event}");
        assert_eq!(event["related"]["name"], "client", "{event}");
        assert_eq!((&event["type"], &event["reportingInstance"]), (&json!("Warning"), &json!(NODE_NAME)));
        Sdk::Python2.call(&client, &target).unwrap().finish().unwrap();
        eventually("its series", &|| of("PlaintextMcp")[0]["series"]["count"].as_i64() > Some(1));
        assert_eq!(of("PlaintextMcp").len(), 1);

        eventually("the leftover gone, and a report of the server", &|| {
            let reports = api.objects(&name);
            reports.len() == 1 && reports[0]["scope"]["name"] == "server"
        });
        let results = api.objects(&name)[0]["results"].clone();
        assert_eq!(results[0]["policy"], "plaintext-mcp", "{results}");
        assert_eq!(results[0]["severity"], "critical", "{results}");
        api.delete("pods", "tools", "server");
        eventually("no report without its pod", &|| api.objects(&name).is_empty());

        let metrics = daemon.metrics().unwrap();
        assert!(metrics.contains("plainsight_kubernetes_writes_total{kind=\"event\"} "), "{metrics}");
        let output = daemon.stop().unwrap();
        let written = format!("{:?}", api.objects(EVENTS));
        assert!(!output.contains("s3cret-t0ken") && !written.contains("s3cret-t0ken"));
        all.extend(used(&api));
        if !streaming {
            assert!(api.count("pods", Verb::List).requests > 0);
        }
    }
    // The other kind of report is looked for too, for it may be the one that is there.
    assert_eq!(all, expected());
}

#[test]
fn the_role_that_is_deployed_is_the_one_that_is_used() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize");
    let roles =
        ["base/clusterrole.yaml", "components/istio/mesh-istio.yaml", "components/linkerd/mesh-linkerd.yaml"];
    let deployed: BTreeSet<Right> = roles.iter().flat_map(|file| rights(&deploy.join(file))).collect();
    assert_eq!(deployed, expected());
}

#[test]
fn detection_goes_on_while_the_api_refuses_every_write() {
    if !netns::require_root() {
        return;
    }
    use detector_tests::apiserver::{Fault, Match};
    let mut node = Node::new().unwrap();
    let server = node.pod(PodSpec::new("tools", "server")).unwrap();
    let client = node.pod(PodSpec::new("agents", "client")).unwrap();
    let api = node.netns().run(ApiServer::start).unwrap();
    api.apply_all([object(&server), object(&client)]);
    let reports = Resource::new("wgpolicyk8s.io", "v1alpha2", "PolicyReport", "policyreports");
    api.install(reports.clone());
    for verb in [Verb::Create, Verb::Patch] {
        api.fault(Match::all().verb(verb), Fault::Forbidden);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = Daemon::kubernetes_arguments(&api.kubeconfig(folder.path()).unwrap());
    arguments.extend(["--kubernetes-events", "on", "--policy-reports", "on"].map(Into::into));
    let mut daemon = Daemon::start_with(&node, &daemon::binary().unwrap(), &arguments, None).unwrap();
    for port in [8000, 8001] {
        let target = Target::clear(server.ip(), port);
        let mut process = Sdk::Python2.serve(&server, target.address, None).unwrap();
        clients::wait_for_server(&server, &mut process, port).unwrap();
        Sdk::Python2.call(&client, &target).unwrap().finish().unwrap();
        daemon
            .wait_for("finding", WORD, |record| {
                record.text("id") == "plaintext-mcp" && record.port == u64::from(port)
            })
            .unwrap();
        wait::until("refusals", WORD, || {
            let refused = |kind: &str| {
                let series = format!(
                    "plainsight_kubernetes_write_failures_total{{kind=\"{kind}\",reason=\"forbidden\"}} 0\n"
                );
                Ok::<_, anyhow::Error>(!daemon.metrics()?.contains(&series))
            };
            Ok((refused("event")? && refused("report")?).then_some(()))
        })
        .unwrap();
    }
    assert_eq!((api.objects(EVENTS), api.objects(&reports.full_name())), (vec![], vec![]));
    let output = daemon.stop().unwrap();
    for rule in ["events.k8s.io", "wgpolicyk8s.io"] {
        let named = output.lines().filter(|line| line.contains("may not be written") && line.contains(rule));
        assert_eq!(named.count(), 1, "{output}");
    }
}
