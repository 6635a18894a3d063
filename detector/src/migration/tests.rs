//! Answers, each with what it rests on.

use std::{collections::HashMap, time::Duration};

use super::{Answer, Assessment, Call, Client, Observation, Options, Report, Source, Traffic, assess, span};
use crate::{
    audit::Inventory,
    cluster::{
        self,
        objects::{Name, Object},
    },
    flows::Timestamp,
};

const DAY: Duration = Duration::from_secs(86_400);
const NOW: Timestamp = Timestamp(1_795_500_000_000_000_000);
const WEEK: Options = Options { now: NOW, quiet: Duration::from_secs(7 * 86_400) };

const PLATFORM: &str = include_str!("../../testdata/seed/platform.yaml");
const HEALTH: &str = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: mcp-production, name: health, creationTimestamp: \"2026-01-01T00:00:00Z\"}\nspec: {selector: {matchLabels: {app: tool-executor}}, portLevelMtls: {8081: {mode: DISABLE}}}\n";
const STRICT: &str = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: mcp-production, name: all}\nspec: {mtls: {mode: STRICT}}\n";

fn inventory(policy: &str) -> Inventory {
    let read = cluster::read_str("seed.yaml", &format!("{PLATFORM}\n{policy}"));
    assert!(read.errors.is_empty(), "{:?}", read.errors);
    Inventory::new(read.objects, read.templates, None)
}

fn ago(time: Duration) -> Timestamp {
    Timestamp(NOW.0 - u64::try_from(time.as_nanos()).unwrap())
}

/// A daemon that has observed all pods of the platform for so long.
fn daemon(time: Duration) -> Source {
    let pods = ["tool-executor", "gateway", "audit", "batch", "stranger"];
    let pods: HashMap<Name, Option<String>> =
        pods.into_iter().map(|pod| (Name::new("mcp-production", pod), None)).collect();
    Source { name: "node node1".to_owned(), since: Some(ago(time)), gap: None, pods: Some(pods) }
}

fn from(workload: &str, meshed: bool) -> Client {
    Client::Workload {
        namespace: "mcp-production".to_owned(),
        workload: workload.to_owned(),
        service_account: workload.to_owned(),
        meshed: Some(meshed),
    }
}

/// A call of the tool executor's MCP port, an hour ago.
fn call(client: Client, traffic: Traffic) -> Call {
    Call {
        client,
        server_namespace: "mcp-production".to_owned(),
        server_kind: Some("Pod".to_owned()),
        server_workload: "tool-executor".to_owned(),
        port: Some(8080),
        service: None,
        traffic,
        probe: false,
        met_in_the_middle: false,
        connections: Some(3),
        last_seen: Some(ago(Duration::from_secs(3600))),
    }
}

fn mcp() -> Traffic {
    Traffic::Plaintext("mcp".to_owned())
}

fn seen(sources: Vec<Source>, calls: Vec<Call>) -> Observation {
    Observation { sources, calls }
}

fn report(policy: &str, observation: &Observation) -> Report {
    assess(&inventory(policy), observation, WEEK, None)
}

fn tools(policy: &str, observation: &Observation) -> Assessment {
    let report = report(policy, observation);
    report.workloads.into_iter().find(|of| of.name == "tool-executor").unwrap()
}

fn answer(policy: &str, observation: &Observation) -> Answer {
    tools(policy, observation).answer
}

#[test]
fn a_clear_yes_needs_all_of_it() {
    let gateway = call(from("gateway", true), Traffic::MeshMtls);
    assert_eq!(answer("", &seen(vec![daemon(8 * DAY)], vec![gateway.clone()])), Answer::Ready);
    assert_eq!(answer("", &seen(vec![daemon(8 * DAY)], vec![])), Answer::Ready, "no traffic is quiet too");
    let short = tools("", &seen(vec![daemon(3 * DAY)], vec![gateway.clone()]));
    assert_eq!(short.answer, Answer::NotYet);
    assert_eq!(short.notes[0], "observed for only 3d of 7d");
    assert_eq!(answer("", &seen(vec![], vec![gateway])), Answer::NotObserved);
}

#[test]
fn whatever_strict_would_refuse_is_listed_and_what_it_would_not_touch_is_not() {
    let node = || Client::Node { name: "node1".to_owned() };
    let at = |port, call| Call { port: Some(port), ..call };
    let old = Call { last_seen: Some(ago(8 * DAY)), ..call(from("batch", false), mcp()) };
    let probe = Call { probe: true, ..call(node(), Traffic::Plaintext("http1".to_owned())) };
    for (what, call, blocked) in [
        ("plaintext", call(from("batch", false), mcp()), true),
        ("TLS of its own", call(from("batch", false), Traffic::Tls), true),
        ("no TLS", call(from("batch", false), Traffic::Opaque), true),
        ("the mesh's", call(from("gateway", true), Traffic::MeshMtls), false),
        ("before the quiet time", old, false),
        ("a probe that is not rewritten", probe.clone(), true),
        ("the proxy's own port", at(15_020, probe), false),
        ("from outside", call(Client::Elsewhere { name: "192.0.2.7".to_owned() }, mcp()), true),
        (
            "another workload's",
            Call { server_workload: "gateway".to_owned(), ..call(from("batch", false), mcp()) },
            false,
        ),
        (
            "a namesake of another kind",
            Call { server_kind: Some("Job".to_owned()), ..call(from("batch", false), mcp()) },
            false,
        ),
    ] {
        let found = tools("", &seen(vec![daemon(8 * DAY)], vec![call]));
        assert_eq!(found.answer == Answer::Blocked, blocked, "{what}: {found:?}");
        assert_eq!(found.breaks.len(), usize::from(blocked), "{what}");
    }
}

#[test]
fn calls_of_one_client_are_one_line_with_the_latest() {
    let early = Call { last_seen: Some(ago(2 * DAY)), ..call(from("batch", false), mcp()) };
    let found = tools("", &seen(vec![daemon(8 * DAY)], vec![early, call(from("batch", false), mcp())]));
    assert_eq!(found.breaks.len(), 1);
    let broken = &found.breaks[0];
    assert_eq!(broken.client, "mcp-production/batch (service account batch)");
    assert_eq!((broken.connections, broken.port), (Some(6), Some(8080)));
    assert_eq!(broken.last_seen, Some(ago(Duration::from_secs(3600))));
}

#[test]
fn the_port_of_a_service_is_that_of_its_pods() {
    let by_service = Call {
        port: Some(80),
        service: Some("tool-executor".to_owned()),
        ..call(from("batch", false), mcp())
    };
    let found = tools("", &seen(vec![daemon(8 * DAY)], vec![by_service]));
    assert_eq!(found.breaks[0].port, Some(8080));
}

#[test]
fn gaps_in_what_was_seen_are_no_yes() {
    let mut unobserved = daemon(8 * DAY);
    unobserved
        .pods
        .as_mut()
        .unwrap()
        .insert(Name::new("mcp-production", "tool-executor"), Some("netkit".to_owned()));
    let mut elsewhere = daemon(8 * DAY);
    elsewhere.pods.as_mut().unwrap().remove(&Name::new("mcp-production", "tool-executor"));
    let forgets = Source { gap: Some("it forgets".to_owned()), ..daemon(8 * DAY) };
    let starting = Source { since: None, ..daemon(8 * DAY) };
    for (source, note) in [
        (unobserved, "pod mcp-production/tool-executor: netkit"),
        (elsewhere, "pod mcp-production/tool-executor is on node1, whose daemon was not asked"),
        (forgets, "node node1: it forgets"),
        (starting, "node node1 does not observe all of its pods yet"),
    ] {
        let found = tools("", &seen(vec![source], vec![]));
        assert_eq!(found.answer, Answer::NotObserved, "{note}");
        assert!(found.notes.iter().any(|known| known == note), "{:?}", found.notes);
    }
    // What is seen counts, gap or not.
    let plaintext = call(from("batch", false), mcp());
    assert_eq!(answer("", &seen(vec![], vec![plaintext])), Answer::Blocked);
}

#[test]
fn the_steps_are_permissive_then_ports_then_strict_and_each_replaces_the_object_that_counts() {
    let policy = format!(
        "{HEALTH}---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{namespace: mcp-production, name: whole}}\nspec: {{mtls: {{mode: DISABLE}}}}\n"
    );
    let read = |next: &str| {
        let read = cluster::read_str("next.yaml", next);
        assert!(read.errors.is_empty(), "{:?}\n{next}", read.errors);
        serde_saphyr::from_str::<serde_json::Value>(next).unwrap()
    };
    let blocked = seen(vec![daemon(8 * DAY)], vec![call(from("batch", false), mcp())]);
    let off = read(&tools(&policy, &blocked).next);
    assert_eq!(
        (&off["metadata"]["name"], &off["spec"]["mtls"]["mode"]),
        (&"health".into(), &"PERMISSIVE".into())
    );

    let ports = read(&tools(HEALTH, &blocked).next);
    assert_eq!(ports["metadata"]["name"], "health", "the oldest counts, so it is that which changes");
    assert_eq!(ports["spec"]["mtls"]["mode"], "STRICT");
    assert_eq!(ports["spec"]["portLevelMtls"]["8080"]["mode"], "PERMISSIVE");
    assert_eq!(ports["spec"]["portLevelMtls"]["8081"]["mode"], "DISABLE", "what is declared stays");

    let ready = tools("", &seen(vec![daemon(8 * DAY)], vec![]));
    let strict = read(&ready.next);
    assert_eq!(strict["spec"]["mtls"]["mode"], "STRICT");
    assert_eq!(strict["spec"]["selector"]["matchLabels"]["app"], "tool-executor");
    // Applied, the question is answered.
    assert_eq!(answer(&format!("---\n{}", ready.next), &seen(vec![daemon(8 * DAY)], vec![])), Answer::Done);
}

#[test]
fn the_seed_s_health_port_is_the_last_step() {
    let policy = format!("{STRICT}{HEALTH}");
    let quiet = tools(&policy, &seen(vec![daemon(8 * DAY)], vec![]));
    assert_eq!(quiet.answer, Answer::Ready, "the port is still open, and nobody uses it");
    let next = cluster::read_str("next.yaml", &quiet.next);
    assert!(next.errors.is_empty());
    assert!(quiet.next.contains("name: health\n"), "{}", quiet.next);
    let user =
        Call { port: Some(8081), ..call(from("gateway", true), Traffic::Plaintext("http1".to_owned())) };
    assert_eq!(answer(&policy, &seen(vec![daemon(8 * DAY)], vec![user])), Answer::Blocked);
    // What STRICT refuses already cannot break.
    let refused = call(from("batch", false), mcp());
    assert_eq!(answer(&policy, &seen(vec![daemon(8 * DAY)], vec![refused])), Answer::Ready);
    assert_eq!(answer(STRICT, &seen(vec![daemon(DAY)], vec![])), Answer::Done);
}

#[test]
fn a_workload_without_a_proxy_is_no_question_of_modes() {
    let report = report("", &seen(vec![daemon(8 * DAY)], vec![]));
    let batch = report.workloads.iter().find(|of| of.name == "batch").unwrap();
    assert_eq!(batch.answer, Answer::NoProxy);
    let namespace = &report.namespaces[0];
    assert_eq!((namespace.answer, namespace.workloads, &namespace.next), (Answer::NoProxy, (5, 4), &None));
    assert!(!report.is_yes());
    assert_eq!(report.workloads[0].name, "tool-executor", "MCP first");
}

#[test]
fn strict_of_the_mesh_that_does_not_bind_is_noted_of_whom_it_was_meant_for() {
    let mesh = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: istio-system, name: all}\nspec: {mtls: {mode: STRICT}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: kube-system, name: dns}\nspec: {containers: [{name: main}]}\nstatus: {podIP: 10.244.1.99}\n";
    let report = report(mesh, &seen(vec![daemon(8 * DAY)], vec![]));
    let of = |name: &str| report.workloads.iter().find(|of| of.name == name).unwrap();
    let note = "STRICT is declared for the whole mesh by PeerAuthentication istio-system/all, spec.mtls.mode, and does not bind it";
    assert!(of("batch").notes.iter().any(|told| told == note), "{:?}", of("batch").notes);
    assert_eq!(of("gateway").answer, Answer::Done);
    // Nobody means to have it in the mesh, and nothing is injected where it is.
    let dns = of("dns");
    assert!(!dns.notes.iter().any(|told| told == note), "{:?}", dns.notes);
    assert!(dns.next.lines().all(|line| line.starts_with('#')), "{}", dns.next);
    assert!(dns.next.contains("Nothing is injected into kube-system"), "{}", dns.next);
}

#[test]
fn a_namespace_may_when_all_of_it_may() {
    let read = cluster::read_str("seed.yaml", PLATFORM);
    let objects = read
        .objects
        .into_iter()
        .filter(|object| !matches!(object, Object::Pod(pod) if &*pod.name.name == "batch"));
    let inventory = Inventory::new(objects, read.templates, None);
    let report = assess(&inventory, &seen(vec![daemon(8 * DAY)], vec![]), WEEK, Some("mcp-production"));
    assert!(report.is_yes());
    let next = report.namespaces[0].next.clone().unwrap();
    assert!(next.contains("name: default\n") && next.contains("mode: STRICT"), "{next}");
    assert!(assess(&inventory, &Observation::default(), WEEK, Some("other")).workloads.is_empty());
}

#[test]
fn a_deadline_that_is_past_is_said() {
    let policy = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: mcp-production, name: all, annotations: {plainsight.dev/permissive-until: \"2026-01-01\"}}\nspec: {mtls: {mode: PERMISSIVE}}\n";
    let found = tools(policy, &seen(vec![daemon(8 * DAY)], vec![]));
    assert!(
        found.notes.iter().any(|note| note.contains("PeerAuthentication mcp-production/all")),
        "{:?}",
        found.notes
    );
}

#[test]
fn a_span_is_told_in_the_unit_that_says_most() {
    for (seconds, text) in
        [(0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (604_800, "7d")]
    {
        assert_eq!(span(Duration::from_secs(seconds)), text);
    }
}
