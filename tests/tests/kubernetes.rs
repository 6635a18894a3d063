//! Identities from the Kubernetes API, and what becomes of them when the API misbehaves.

#[path = "kubernetes/log.rs"]
mod log;
#[path = "kubernetes/rig.rs"]
mod rig;

use std::{
    thread,
    time::{Duration, Instant},
};

use detector::cluster::{
    Holder, WorkloadKind,
    kubernetes::{ResourceState, Timing},
};
use detector_tests::apiserver::{ApiServer, Fault, Match, Resource, Tls, Verb};
use serde_json::{Value, json};

use self::{
    log::logged,
    rig::{Rig, TIMING, pod, server, write},
};

#[test]
fn all_is_told_by_streaming_lists_where_the_server_has_them() {
    let rig = Rig::synced(server());
    assert_eq!(rig.holder("10.244.0.5").as_deref(), Some("pod mcp/tools"));
    assert_eq!(rig.holder("10.96.0.10").as_deref(), Some("service mcp/tools"));
    assert_eq!(rig.holder("192.0.2.10").as_deref(), Some("node node1"));
    let pods = |verb| rig.server.count("pods", verb).requests;
    assert_eq!((pods(Verb::List), pods(Verb::Watch)), (0, 1));
}

#[test]
fn pages_are_read_where_the_server_has_no_streaming_lists() {
    for old in [false, true] {
        let server = server();
        if old {
            // Before 1.27 the parameter is not known, and its watch would never say that all is told.
            server.minor_version(26);
        } else {
            server.streaming_lists(false);
        }
        server.apply_all((0..600).map(|n| pod(&format!("p{n}"), &format!("10.1.{}.{}", n / 250, n % 250))));
        let rig = Rig::synced(server);
        assert_eq!(rig.store.read().census().pods, 601);
        assert_eq!(rig.server.count("pods", Verb::List).requests, 3, "pages of 250");
        rig.server.apply(pod("late", "10.244.0.9"));
        rig.comes_to_be("10.244.0.9", Some("pod mcp/late"));
    }
}

#[test]
fn changes_are_followed_and_an_address_passes_on() {
    let rig = Rig::synced(server());
    rig.server.apply(pod("new", "10.244.0.6"));
    rig.comes_to_be("10.244.0.6", Some("pod mcp/new"));
    rig.server.delete("pods", "mcp", "new");
    rig.comes_to_be("10.244.0.6", None);
    rig.server.apply(pod("heir", "10.244.0.5"));
    rig.comes_to_be("10.244.0.5", Some("pod mcp/heir"));
    rig.server.delete("pods", "mcp", "tools");
    rig.server.apply(pod("last", "10.244.0.7"));
    rig.comes_to_be("10.244.0.7", Some("pod mcp/last"));
    assert_eq!(rig.holder("10.244.0.5").as_deref(), Some("pod mcp/heir"), "the late deletion is another's");
}

#[test]
fn workload_account_and_mesh_come_with_the_pod() {
    let server = server();
    let mut nightly = pod("nightly-29384-x7k2p", "10.244.0.20");
    nightly["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": "nightly-29384", "controller": true }]);
    nightly["metadata"]["annotations"] = json!({ "sidecar.istio.io/status": "{}" });
    nightly["spec"]["initContainers"] = json!([{ "name": "istio-proxy", "restartPolicy": "Always" }]);
    server.apply(nightly);
    let rig = Rig::synced(server);
    // The job is told after its pod.
    rig.server.apply(json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "nightly-29384",
            "namespace": "mcp",
            "ownerReferences": [
                { "apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "controller": true },
            ],
        },
    }));
    let found = || match rig.store.read().lookup("10.244.0.20".parse().unwrap()) {
        Some(Holder::Pod(pod)) => pod,
        other => panic!("{other:?}"),
    };
    rig.eventually("the cron job", || found().workload.kind == WorkloadKind::CronJob);
    let pod = found();
    assert_eq!((pod.workload.name.as_ref(), pod.service_account.as_ref()), ("nightly", "tools"));
    assert_eq!(pod.proxy.as_str(), "istio-native-sidecar");
}

#[test]
fn a_server_that_is_away_at_the_start_is_waited_for() {
    let server = server();
    server.power(false);
    let rig = Rig::watch(server);
    rig.eventually("failing", || rig.state("pods") == ResourceState::Failing);
    assert_eq!(rig.readiness.pending(), ["identities"]);
    assert!(!rig.store.read().is_blind(), "what is not known yet may be known soon");
    rig.server.power(true);
    rig.comes_to_be("10.244.0.5", Some("pod mcp/tools"));
    rig.eventually("ready", || rig.readiness.pending().is_empty());
}

#[test]
fn what_is_known_stays_while_the_server_is_away_and_the_age_is_told() {
    let rig = Rig::synced(server());
    rig.server.power(false);
    rig.eventually("failing", || rig.state("pods") == ResourceState::Failing);
    rig.eventually("a second old", || rig.of("pods").stale > Duration::from_secs(1));
    assert_eq!(rig.holder("10.244.0.5").as_deref(), Some("pod mcp/tools"));
    rig.server.apply(pod("meanwhile", "10.244.0.6"));
    rig.server.delete("pods", "mcp", "tools");
    rig.server.power(true);
    rig.comes_to_be("10.244.0.6", Some("pod mcp/meanwhile"));
    rig.comes_to_be("10.244.0.5", None);
    assert_eq!(rig.state("pods"), ResourceState::Watching);
    assert_eq!(rig.of("pods").lists, 1, "the watch is taken up where it was");
    rig.eventually("fresh again", || rig.of("pods").stale < Duration::from_secs(1));
}

#[test]
fn a_rotated_certificate_is_taken_up() {
    let server = ApiServer::start_tls(Tls::generate().unwrap()).unwrap();
    server.apply(pod("tools", "10.244.0.5"));
    let rig = Rig::synced(server);
    let fresh = Tls::generate().unwrap();
    rig.server.rotate_certificate(fresh.clone());
    rig.server.power(false);
    rig.server.power(true);
    rig.eventually("failing", || rig.state("pods") == ResourceState::Failing);
    write(&rig.folder().join("ca.crt"), fresh.authority());
    rig.server.apply(pod("new", "10.244.0.6"));
    rig.comes_to_be("10.244.0.6", Some("pod mcp/new"));
}

#[test]
fn a_rotated_token_is_taken_up() {
    let server = server();
    server.require_token("first");
    let rig = Rig::synced(server);
    rig.server.require_token("second");
    rig.server.hang_up();
    rig.eventually("refused", || rig.of("pods").failures.contains_key("unauthorized"));
    write(&rig.folder().join("token"), "second");
    rig.server.apply(pod("new", "10.244.0.6"));
    rig.comes_to_be("10.244.0.6", Some("pod mcp/new"));
}

#[test]
fn a_version_that_is_gone_costs_a_new_list_and_no_identity() {
    for as_status in [false, true] {
        let rig = Rig::synced(server());
        rig.server.apply(pod("stays", "10.244.0.6"));
        rig.comes_to_be("10.244.0.6", Some("pod mcp/stays"));
        if as_status {
            let gone = Fault::Status { code: 410, reason: "Expired", retry_after: None };
            rig.server.fault(Match::resource("pods").verb(Verb::Watch).times(1), gone);
        } else {
            rig.server.fault(Match::resource("pods").verb(Verb::Watch).times(1), Fault::ExpireWatch);
        }
        rig.server.hang_up();
        rig.eventually("a second list", || rig.of("pods").lists == 2);
        assert_eq!(rig.holder("10.244.0.5").as_deref(), Some("pod mcp/tools"));
        rig.server.apply(pod("new", "10.244.0.7"));
        rig.comes_to_be("10.244.0.7", Some("pod mcp/new"));
    }
}

#[test]
fn what_went_while_history_was_compacted_is_forgotten() {
    let rig = Rig::synced(server());
    rig.server.power(false);
    rig.eventually("failing", || rig.state("pods") == ResourceState::Failing);
    rig.server.delete("pods", "mcp", "tools");
    rig.server.apply(pod("new", "10.244.0.6"));
    rig.server.compact();
    rig.server.power(true);
    rig.comes_to_be("10.244.0.6", Some("pod mcp/new"));
    rig.comes_to_be("10.244.0.5", None);
}

#[test]
fn a_list_that_shows_nothing_new_changes_nothing() {
    let rig = Rig::synced(server());
    let before = rig.store.read().generation();
    rig.server.fault(Match::all().verb(Verb::Watch).times(8), Fault::ExpireWatch);
    rig.server.hang_up();
    rig.eventually("another list", || rig.of("pods").lists >= 2 && rig.of("services").lists >= 2);
    assert_eq!(rig.store.read().generation(), before);
}

#[test]
fn a_watch_that_is_closed_again_and_again_loses_nothing() {
    let server = server();
    server.fault(Match::all().verb(Verb::Watch), Fault::CloseWatch(Duration::from_millis(40)));
    let rig = Rig::synced(server);
    for n in 0..20 {
        rig.server.apply(pod("mover", &format!("10.244.1.{n}")));
        thread::sleep(Duration::from_millis(20));
    }
    rig.comes_to_be("10.244.1.19", Some("pod mcp/mover"));
    assert_eq!((rig.holder("10.244.1.18"), rig.of("pods").lists), (None, 1));
}

#[test]
fn a_watch_that_breaks_in_a_line_loses_nothing() {
    let server = server();
    server.fault(Match::resource("pods").times(5), Fault::CutWatch(Duration::from_millis(60)));
    let rig = Rig::synced(server);
    rig.eventually("five breaks", || rig.server.count("pods", Verb::Watch).requests > 5);
    rig.server.apply(pod("new", "10.244.0.6"));
    rig.comes_to_be("10.244.0.6", Some("pod mcp/new"));
    assert_eq!(rig.of("pods").lists, 1);
}

#[test]
fn a_slow_list_holds_nothing_else_up() {
    let server = server();
    server.fault(Match::resource("pods").times(1), Fault::Slow(Duration::from_millis(700)));
    let rig = Rig::watch(server);
    rig.comes_to_be("10.96.0.10", Some("service mcp/tools"));
    assert_eq!(rig.holder("10.244.0.5"), None);
    assert_eq!(rig.readiness.pending(), ["identities"]);
    rig.comes_to_be("10.244.0.5", Some("pod mcp/tools"));
}

#[test]
fn an_answer_that_never_comes_is_given_up() {
    let server = server();
    server.fault(Match::resource("pods").times(1), Fault::Slow(Duration::from_secs(3600)));
    let rig = Rig::watch(server);
    rig.eventually("silence", || rig.of("pods").failures.contains_key("silent"));
    rig.comes_to_be("10.244.0.5", Some("pod mcp/tools"));
}

#[test]
fn a_watch_that_falls_silent_is_opened_again() {
    let rig = Rig::synced(server());
    rig.eventually("a bookmark", || rig.of("pods").stale < Duration::from_millis(250));
    thread::sleep(Duration::from_millis(400));
    rig.server.bookmark_every(Duration::from_secs(3600));
    rig.eventually("silence", || rig.of("pods").failures.contains_key("silent"));
    rig.server.apply(pod("new", "10.244.0.6"));
    rig.comes_to_be("10.244.0.6", Some("pod mcp/new"));
}

#[test]
fn a_missing_right_is_named_once_and_the_rest_goes_on() {
    let server = server();
    server.fault(Match::resource("endpointslices.discovery.k8s.io"), Fault::Forbidden);
    let rig = Rig::synced(server);
    assert_eq!(rig.state("endpointslices.discovery.k8s.io"), ResourceState::Forbidden);
    assert_eq!(rig.holder("10.244.0.5").as_deref(), Some("pod mcp/tools"));
    rig.eventually("asked again", || {
        rig.server.count("endpointslices.discovery.k8s.io", Verb::Watch).requests > 2
    });
    let rule =
        r#"{apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"]}"#;
    assert_eq!(logged(rule), 1);
    rig.server.heal();
    rig.eventually("granted", || rig.state("endpointslices.discovery.k8s.io") == ResourceState::Watching);
}

#[test]
fn without_the_right_to_read_pods_an_unknown_address_says_nothing() {
    let server = ApiServer::start().unwrap();
    server.fault(Match::resource("pods"), Fault::Forbidden);
    let rig = Rig::watch(server);
    rig.eventually("blind", || rig.store.read().is_blind());
}

#[test]
fn a_busy_server_is_left_alone_as_long_as_it_asks() {
    let server = server();
    let busy = Fault::Status { code: 429, reason: "TooManyRequests", retry_after: Some(1) };
    server.fault(Match::resource("pods").times(1), busy);
    let begun = Instant::now();
    let rig = Rig::watch(server);
    rig.comes_to_be("10.244.0.5", Some("pod mcp/tools"));
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(rig.server.count("pods", Verb::Watch).requests, 2);
}

#[test]
fn a_failing_server_is_asked_less_and_less() {
    let server = server();
    let broken = Fault::Status { code: 500, reason: "InternalError", retry_after: None };
    server.fault(Match::resource("pods"), broken);
    let begun = Instant::now();
    let rig = Rig::watch(server);
    rig.eventually("ten requests", || rig.server.count("pods", Verb::Watch).requests >= 10);
    // 20, 40, 80, 160, 200, 200, … ms, each down to its half: nine pauses are no shorter.
    assert!(begun.elapsed() >= Duration::from_millis(10 + 20 + 40 + 80 + 5 * 100), "{:?}", begun.elapsed());
}

#[test]
fn garbage_is_waited_out() {
    let server = server();
    server.fault(Match::all().times(30), Fault::Garbage);
    server.fault(Match::all().times(5), Fault::HangUp);
    let rig = Rig::synced(server);
    assert_eq!(rig.holder("10.244.0.5").as_deref(), Some("pod mcp/tools"));
    let failures =
        |kind| -> u64 { rig.health.snapshot().iter().filter_map(|health| health.failures.get(kind)).sum() };
    assert!(failures("garbage") > 0);
    assert!(failures("transport") > 0);
}

#[test]
fn an_object_that_cannot_be_read_costs_itself() {
    let server = server();
    let mut broken = pod("broken", "10.244.0.8");
    broken["status"]["podIP"] = json!("not an address");
    server.apply(broken);
    let rig = Rig::synced(server);
    assert_eq!(rig.holder("10.244.0.5").as_deref(), Some("pod mcp/tools"));
    assert_eq!(rig.of("pods").unreadable, 1);
    rig.server.apply(pod("new", "10.244.0.6"));
    rig.comes_to_be("10.244.0.6", Some("pod mcp/new"));
}

fn expected_sources() -> Value {
    json!({
        "apiVersion": "plainsight.dev/v1alpha1",
        "kind": "ExpectedSources",
        "metadata": { "name": "tools", "namespace": "mcp" },
        "spec": { "selector": { "matchLabels": { "app": "tools" } }, "serviceAccounts": ["gateway"] },
    })
}

#[test]
fn a_crd_that_is_installed_later_is_picked_up_and_one_that_goes_is_forgotten() {
    let rig = Rig::synced(server());
    let resource = "expectedsources.plainsight.dev";
    assert_eq!(rig.state(resource), ResourceState::Absent);
    rig.server.install(Resource::new("plainsight.dev", "v1alpha1", "ExpectedSources", "expectedsources"));
    rig.server.apply(expected_sources());
    rig.eventually("declared", || rig.store.read().census().expected_sources == 1);
    assert_eq!(rig.state(resource), ResourceState::Watching);
    rig.server.uninstall(resource);
    rig.eventually("forgotten", || rig.store.read().census().expected_sources == 0);
    assert_eq!(rig.state(resource), ResourceState::Absent);
}

#[test]
fn a_group_that_is_not_there_is_asked_for_once_and_its_resources_are_not() {
    let server = server();
    let install = |versions: &[&str], kind, plural| {
        let mut resource = Resource::new("policy.linkerd.io", versions[0], kind, plural);
        resource.versions = versions.iter().map(|version| (*version).to_owned()).collect();
        server.install(resource);
    };
    install(&["v1beta3", "v1beta1", "v1alpha1"], "Server", "servers");
    // Nothing is asked for again as long as this test runs.
    let rig = Rig::watch_timed(server, Timing { refused_retry: Duration::from_secs(3600), ..TIMING });
    rig.eventually("ready", || rig.readiness.pending().is_empty());
    let asked = |resource: &str| -> u64 {
        [Verb::List, Verb::Watch].into_iter().map(|verb| rig.server.count(resource, verb).requests).sum()
    };
    for resource in ["peerauthentications.security.istio.io", "destinationrules.networking.istio.io"] {
        assert_eq!((rig.state(resource), asked(resource)), (ResourceState::Absent, 0), "{resource}");
    }
    assert_eq!(rig.state("servers.policy.linkerd.io"), ResourceState::Watching);
    assert_eq!(asked("servers.policy.linkerd.io"), 1);
    // Of a group that is there, what is not served is found by asking.
    assert_eq!(rig.state("meshtlsauthentications.policy.linkerd.io"), ResourceState::Absent);
    for group in ["security.istio.io", "networking.istio.io", "policy.linkerd.io", "plainsight.dev"] {
        assert_eq!(rig.server.asked_for_group(group), 1, "{group}");
    }
}

#[test]
fn the_trust_domain_is_discovered() {
    let server = server();
    server.apply(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "istio", "namespace": "istio-system" },
        "data": { "mesh": "rootNamespace: istio-system\ntrustDomain: corp.example\n" },
    }));
    let rig = Rig::synced(server);
    rig.eventually("corp.example", || rig.trust_domain.to_string() == "corp.example");
}

#[test]
fn the_meshes_configuration_is_read_and_what_becomes_of_it() {
    let config = |namespace: &str, name: &str, key: &str, text: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": namespace },
            "data": { key: text },
        })
    };
    let mesh = "rootNamespace: mesh-root\ntrustDomain: corp.example\ntrustDomainAliases: [old.example]\n";
    let values = "identityTrustDomain: linkerd.example\nproxy: {defaultInboundPolicy: all-authenticated}\n";
    let server = server();
    server.apply_all([
        config("istio-system", "istio", "mesh", mesh),
        config("linkerd", "linkerd-config", "values", values),
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "istio-system" } }),
    ]);
    let rig = Rig::synced(server);
    let root = || rig.store.read().policy().mesh_config().root_namespace.to_string();
    rig.eventually("Istio's root namespace", || root() == "mesh-root");
    assert!(rig.store.read().policy().mesh_config().is_own("old.example"));
    let linkerd = || rig.store.read().policy().linkerd_config().clone();
    rig.eventually("Linkerd's trust domain", || &*linkerd().trust_domain == "linkerd.example");
    assert_eq!(linkerd().default_policy.as_str(), "all-authenticated");

    // What cannot be read leaves what was known, and is said with its field.
    rig.server.apply(config("istio-system", "istio", "mesh", "enableAutoMtls: 17\n"));
    rig.eventually("a word of it", || logged("data.mesh.enableAutoMtls") > 0);
    assert_eq!(root(), "mesh-root");
    // So does a refusal.
    rig.server.fault(Match::resource("configmaps"), Fault::Forbidden);
    rig.server.apply(config("istio-system", "istio", "mesh", "rootNamespace: other\n"));
    rig.eventually("a word of the refusal", || logged("may not be read") > 0);
    assert_eq!(root(), "mesh-root");
    rig.server.heal();
    rig.eventually("the new root namespace", || root() == "other");

    rig.server.delete("configmaps", "istio-system", "istio");
    rig.eventually("Istio's default", || root() == "istio-system");
    // A revision has a configuration of its own.
    rig.server.apply_all([
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": "mcp", "labels": { "istio.io/rev": "canary" } },
        }),
        config("istio-system", "istio-canary", "mesh", "rootNamespace: canary-root\n"),
    ]);
    rig.eventually("the revision's root namespace", || root() == "canary-root");
}

#[test]
fn nothing_is_left_open() {
    let mut rig = Rig::synced(server());
    let watches = rig.server.open_watches();
    assert_eq!(watches, 8, "the built-in resources");
    for _ in 0..20 {
        rig.server.hang_up();
        thread::sleep(Duration::from_millis(60));
    }
    rig.server.apply(pod("new", "10.244.0.6"));
    rig.comes_to_be("10.244.0.6", Some("pod mcp/new"));
    rig.eventually("as many watches", || rig.server.open_watches() == watches);
    // One for each watch, and what the ten CRDs and the trust domain are asked with.
    rig.eventually("no connections of before", || rig.server.open_connections() <= watches + 13);
    rig.stop();
    rig.eventually("closed", || rig.server.open_connections() == 0);
}
