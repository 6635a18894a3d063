//! Findings from flows.

use std::{sync::Arc, time::Duration};

use detector_ebpf::{
    evidence::Evidence,
    method::Methods,
    verdict::{Protocol, Verdict},
};

use super::{Board, Finding, FindingId, Ledger, Rules, Severity, evaluate, is_plaintext_traffic};
use crate::{
    cluster::{
        Labels, Selector, Store,
        objects::{ExpectedSources, Name, Object},
    },
    flows::{Clock, End, EndId, Flow, FlowId, Flows, Timestamp, TlsNames},
    policy::{Answer, Kind, MeshKind, ObjectKey, PodMesh, PolicyView, Ruling},
    testing,
};

fn end(name: &str) -> End {
    let pod = testing::pod("mcp", name, &["10.244.0.9"]).into();
    End::Pod { pod, address: testing::ip("10.244.0.9") }
}

/// Plaintext that nobody has answered yet, between two pods.
pub(super) fn flow(port: u16, protocol: Protocol, evidence: Evidence) -> Flow {
    Flow {
        server: end("tools"),
        port,
        protocol,
        evidence,
        methods: Methods::default(),
        connections: 1,
        with_credentials: 0,
        answered: 0,
        ..testing::flow("client")
    }
}

fn tls() -> Flow {
    Flow { verdict: Verdict::Tls, protocol: Protocol::None, ..flow(8000, Protocol::None, Evidence::NONE) }
}

fn declaration() -> Arc<ExpectedSources> {
    Arc::new(ExpectedSources {
        name: Name::new("mcp", "tools-callers"),
        selector: Selector { match_labels: Labels::from_iter([("app", "tools")]), ..Selector::default() },
        service_accounts: [Name::new("mcp", "gateway")].into(),
    })
}

fn no_policy() -> PolicyView {
    PolicyView::default()
}

fn unexpected() -> PolicyView {
    let sources = declaration();
    let object = ObjectKey { kind: Kind::ExpectedSources, name: sources.name.clone() };
    PolicyView {
        source: Ruling::new(Answer::Denied, object.field("spec.serviceAccounts")),
        sources: Some(sources),
        ..PolicyView::default()
    }
}

fn ids(flow: &Flow, policy: &PolicyView) -> Vec<(FindingId, Severity)> {
    evaluate(flow, policy, Rules::default()).iter().map(|finding| (finding.id, finding.severity)).collect()
}

#[test]
fn a_login_is_told_as_one() {
    let flow = flow(6379, Protocol::Redis, Evidence::PASSWORD.or(Evidence::ANSWERED));
    let [finding] = &evaluate(&flow, &no_policy(), Rules::default())[..] else { panic!("one finding") };
    let why = "on port 6379 by redis with a password in plaintext, so anyone on the path can take and use it";
    assert!(finding.why.contains(" logs in to ") && finding.why.contains(why), "{}", finding.why);
}

#[test]
fn mcp_and_credentials_raise_and_served_raises_over_refused() {
    use {FindingId::*, Protocol::*, Severity::*};
    let bearer = Evidence::AUTH_BEARER;
    let answered = Evidence::ANSWERED;
    let refused = Evidence::REFUSED;
    for (protocol, evidence, expected) in [
        (Mcp, answered, vec![(PlaintextMcp, High)]),
        (Mcp, refused, vec![(PlaintextMcp, Medium)]),
        (Mcp, Evidence::NONE, vec![(PlaintextMcp, Medium)]),
        (Mcp, bearer.or(answered), vec![(PlaintextMcp, Critical)]),
        (Mcp, bearer.or(refused), vec![(PlaintextMcp, High)]),
        (Http1, bearer.or(answered), vec![(PlaintextCredentials, Medium)]),
        (Http1, bearer.or(refused), vec![(PlaintextCredentials, Low)]),
        (Redis, Evidence::PASSWORD.or(answered), vec![(PlaintextCredentials, Medium)]),
        (Ldap, Evidence::PASSWORD.or(refused), vec![(PlaintextCredentials, Low)]),
        (Redis, answered, vec![]),
        (Http1, answered, vec![]),
        (JsonRpc, answered, vec![]),
    ] {
        let flow = flow(8000, protocol, evidence);
        assert_eq!(
            ids(&flow, &no_policy()),
            expected,
            "{protocol:?} {:?}",
            evidence.names().collect::<Vec<_>>()
        );
    }
}

#[test]
fn other_plaintext_is_told_only_when_asked_for() {
    let flow = flow(8000, Protocol::Http1, Evidence::HTTP_REQUEST);
    let findings = evaluate(&flow, &no_policy(), Rules { plaintext_other: true });
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].id, findings[0].severity), (FindingId::PlaintextOther, Severity::Info));
}

#[test]
fn a_probe_is_a_probe_only_when_a_node_sends_it() {
    let node = End::Node { name: "node1".into(), address: testing::ip("192.0.2.10") };
    let probe = flow(8000, Protocol::Http1, Evidence::KUBE_PROBE.or(Evidence::AUTH_BEARER));
    let from_node = Flow { client: node.clone(), ..probe.clone() };
    assert_eq!(ids(&from_node, &unexpected()), []);
    assert_eq!(ids(&probe, &no_policy()), [(FindingId::PlaintextCredentials, Severity::Low)]);
    let mcp = Flow { client: node, ..flow(8000, Protocol::Mcp, Evidence::KUBE_PROBE) };
    assert_eq!(ids(&mcp, &unexpected()), [(FindingId::PlaintextMcp, Severity::Medium)]);
}

#[test]
fn a_caller_that_is_not_declared_is_told_also_over_tls() {
    let findings = evaluate(&tls(), &unexpected(), Rules::default());
    assert_eq!(findings.len(), 1);
    let Finding { id, severity, decided_by, fix, .. } = &findings[0];
    assert_eq!((*id, *severity), (FindingId::UnexpectedSource, Severity::Medium));
    assert_eq!(decided_by.as_deref(), Some("ExpectedSources mcp/tools-callers, spec.serviceAccounts"));
    assert!(
        fix.contains("  - namespace: mcp\n    name: client\n  - namespace: mcp\n    name: gateway\n"),
        "{fix}"
    );
    assert_eq!(ids(&tls(), &no_policy()), []);
}

#[test]
fn a_stranger_is_told_where_callers_are_declared_and_where_it_speaks_mcp() {
    let client = End::Unknown { address: testing::ip("10.244.0.77") };
    let quiet = Flow { client: client.clone(), ..tls() };
    assert_eq!(ids(&quiet, &no_policy()), []);
    assert_eq!(ids(&quiet, &unexpected()), [(FindingId::UnidentifiedSource, Severity::Medium)]);
    let mcp = Flow { client, ..flow(8000, Protocol::Mcp, Evidence::ANSWERED) };
    assert_eq!(
        ids(&mcp, &no_policy()),
        [(FindingId::PlaintextMcp, Severity::High), (FindingId::UnidentifiedSource, Severity::High)]
    );
    let blind = PolicyView { identities: false, ..no_policy() };
    assert_eq!(ids(&mcp, &blind), [(FindingId::PlaintextMcp, Severity::High)]);
}

#[test]
fn every_fix_is_a_manifest_that_reads_back() {
    let stranger = End::Unknown { address: testing::ip("10.244.0.77") };
    let mut seen = Vec::new();
    for client in [end("client"), stranger] {
        let flow = Flow { client, ..flow(8000, Protocol::Mcp, Evidence::ANSWERED) };
        for finding in evaluate(&flow, &unexpected(), Rules::default()) {
            let manifest: serde_json::Value = serde_saphyr::from_str(&finding.fix).unwrap();
            assert_eq!(manifest["metadata"]["namespace"], "mcp", "{}", finding.fix);
            seen.push(manifest["kind"].as_str().unwrap().to_owned());
            if finding.id == FindingId::PlaintextMcp {
                assert_eq!(manifest["spec"]["selector"]["matchLabels"], serde_json::json!({"app": "tools"}));
                assert_eq!(manifest["spec"]["mtls"]["mode"], "STRICT");
            }
        }
    }
    assert_eq!(seen, ["PeerAuthentication", "ExpectedSources", "PeerAuthentication", "NetworkPolicy"]);
}

#[test]
fn a_repetition_is_silent_and_a_change_is_news() {
    let store = {
        let mut store = Store::default();
        store.apply(Object::Pod(testing::pod("mcp", "tools", &["10.244.0.3"])));
        store
    };
    let mut flows = Flows::new(Clock::default());
    let edge = testing::edge("192.0.2.7", "10.244.0.3", 8000);
    flows.event(&store, &edge, &testing::value(1, 0, Evidence::HTTP_REQUEST), 1, 0);
    let id = flows.settle(&store, Flows::HOLD)[0].id;

    let mut ledger = Ledger::default();
    let mut news = |evidence| {
        let flow = flow(8000, Protocol::Mcp, evidence);
        let findings = evaluate(&flow, &no_policy(), Rules::default());
        ledger.news(id, &flow, findings).iter().map(|finding| finding.severity).collect::<Vec<_>>()
    };
    let method = Evidence::MCP_METHOD;
    assert_eq!(news(method), [Severity::Medium]);
    assert_eq!(news(method), []);
    assert_eq!(news(method.or(Evidence::REFUSED)), [], "the outcome alone");
    assert_eq!(news(method.or(Evidence::ANSWERED)), [Severity::High]);
    assert_eq!(news(method.or(Evidence::MCP_VERSION).or(Evidence::ANSWERED)), [Severity::High]);
    assert_eq!(
        ledger.active().into_iter().collect::<Vec<_>>(),
        [((FindingId::PlaintextMcp, Severity::High), 1)]
    );
    ledger.retain(|_| false);
    assert!(ledger.active().is_empty());
}

#[test]
fn a_finding_stands_while_its_traffic_goes_on_once_for_a_pair_and_a_port() {
    let mcp = Flow {
        last_seen: Timestamp(5_000_000_000_000),
        ..flow(8000, Protocol::Mcp, Evidence::AUTH_BEARER.or(Evidence::ANSWERED))
    };
    let poorer = Flow { evidence: Evidence::MCP_METHOD, ..mcp.clone() };
    let said = |flow: &Flow| evaluate(flow, &no_policy(), Rules::default());
    let mut board = Board::default();
    let standing = |board: &Board, seconds: u64| {
        let now = Timestamp(mcp.last_seen.0 + seconds * 1_000_000_000);
        let standing = board.standing(now, Duration::from_secs(600));
        standing.iter().map(|finding| (finding.id, finding.severity)).collect::<Vec<_>>()
    };
    let critical = [(FindingId::PlaintextMcp, Severity::Critical)];
    board.note(FlowId::of(1), &poorer, &said(&poorer));
    board.note(FlowId::of(2), &mcp, &said(&mcp));
    board.note(FlowId::of(3), &poorer, &said(&poorer));
    assert_eq!(standing(&board, 0), critical, "the worst of three flows of one pair and port");
    board.note(FlowId::of(4), &Flow { port: 9000, ..poorer.clone() }, &said(&poorer));
    assert_eq!(standing(&board, 0).len(), 2);
    board.note(FlowId::of(4), &poorer, &[]);
    assert_eq!(standing(&board, 600), critical);
    assert_eq!(standing(&board, 601), [], "its traffic has ended");
    board.retain(|id| id == FlowId::of(1));
    assert_eq!(standing(&board, 0), [(FindingId::PlaintextMcp, Severity::Medium)]);
}

#[test]
fn what_stands_is_gone_through_more_seldom_the_more_there_is_and_each_second_at_least() {
    let mcp = flow(8000, Protocol::Mcp, Evidence::MCP_METHOD);
    let findings = evaluate(&mcp, &no_policy(), Rules::default());
    let rest = |flows: u64| {
        let mut board = Board::default();
        (0..flows).for_each(|id| board.note(FlowId::of(id), &mcp, &findings));
        board.rest()
    };
    assert_eq!(rest(0), Duration::ZERO);
    assert!(rest(100) <= Duration::from_millis(5), "the first findings are told at once");
    assert!(rest(10_000) > rest(100));
    assert!(rest(100_000) < Duration::from_secs(1));
}

#[test]
fn plaintext_traffic_is_what_a_mesh_would_refuse_and_neither_probes_nor_the_proxys_ports() {
    assert!(is_plaintext_traffic(&flow(8000, Protocol::Http1, Evidence::HTTP_REQUEST)));
    assert!(!is_plaintext_traffic(&tls()));
    let kubelet = End::Node { name: "node1".into(), address: testing::ip("192.0.2.10") };
    let probe = Flow { client: kubelet, ..flow(8000, Protocol::Http1, Evidence::KUBE_PROBE) };
    assert!(!is_plaintext_traffic(&probe));
    let mut server = testing::pod("mcp", "tools", &["10.244.0.9"]);
    let proxy = PodMesh::once_in(MeshKind::Istio, &server.labels, &Labels::default());
    Arc::make_mut(&mut server.template).proxy = proxy.into();
    let server = End::Pod { pod: server.into(), address: testing::ip("10.244.0.9") };
    let to = |port| Flow { server: server.clone(), port, ..flow(8000, Protocol::Http1, Evidence::NONE) };
    assert!(is_plaintext_traffic(&to(8080)));
    assert!(!is_plaintext_traffic(&to(15_020)));
}

#[test]
fn a_spoofed_source_names_both_pods_whatever_the_verdict() {
    let (owner, sender) = (testing::pod("mcp", "victim", &["10.244.0.7"]), testing::pod("lab", "liar", &[]));
    let address = testing::ip("10.244.0.7");
    let client = End::Spoofed { owner: owner.into(), sender: sender.into(), address };
    let findings = evaluate(&Flow { client, ..tls() }, &no_policy(), Rules::default());
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].id, findings[0].severity), (FindingId::SpoofedSource, Severity::High));
    assert!(
        findings[0].why.starts_with("pod lab/liar with 10.244.0.7, the address of pod mcp/victim, calls"),
        "{}",
        findings[0].why
    );
    assert!(findings[0].fix.contains("name: lab\n"), "{}", findings[0].fix);
}

#[test]
fn a_spoofed_source_is_told_of_on_scraped_ports_and_the_proxys_own_too() {
    let (owner, sender) = (testing::pod("mcp", "victim", &["10.244.0.7"]), testing::pod("lab", "liar", &[]));
    let client =
        End::Spoofed { owner: owner.into(), sender: sender.into(), address: testing::ip("10.244.0.7") };
    let mut server = testing::pod("mcp", "tools", &["10.244.0.9"]);
    let proxy = PodMesh::once_in(
        MeshKind::Istio,
        &server.labels,
        &Labels::from_iter([("prometheus.io/scrape", "true"), ("prometheus.io/port", "9090")]),
    );
    Arc::make_mut(&mut server.template).proxy = proxy.into();
    let server = End::Pod { pod: server.into(), address: testing::ip("10.244.0.9") };
    for port in [9090, 15_020] {
        let scrape = Flow { server: server.clone(), port, ..flow(8000, Protocol::Http1, Evidence::NONE) };
        assert_eq!(evaluate(&scrape, &no_policy(), Rules::default()), []);
        let forged = Flow { client: client.clone(), ..scrape };
        let findings = evaluate(&forged, &no_policy(), Rules::default());
        assert_eq!(findings.iter().map(|finding| finding.id).collect::<Vec<_>>(), [FindingId::SpoofedSource]);
    }
}

#[test]
fn a_server_name_of_linkerds_that_is_not_the_pods_is_told() {
    let named = |name: &str| Flow {
        verdict: Verdict::MeshMtls,
        tls: TlsNames { server_names: [name.to_owned()].into(), ..TlsNames::default() },
        ..tls()
    };
    for (name, told) in [
        ("tools.mcp.serviceaccount.identity.linkerd.cluster.local", false),
        ("outbound_.80_._.other.mcp.svc.cluster.local", false),
        ("other.mcp.serviceaccount.identity.linkerd.cluster.local", true),
        ("tools.lab.serviceaccount.identity.linkerd.cluster.local", true),
        ("with.dots.mcp.serviceaccount.identity.linkerd.cluster.local", true),
        (".serviceaccount.identity.linkerd.cluster.local", false),
    ] {
        let expected = if told { vec![(FindingId::IdentityMismatch, Severity::Medium)] } else { vec![] };
        assert_eq!(ids(&named(name), &no_policy()), expected, "{name}");
    }
    let wrong = "other.mcp.serviceaccount.identity.linkerd.cluster.local";
    let nobody = Flow { server: End::Unknown { address: testing::ip("10.0.0.1") }, ..named(wrong) };
    assert_eq!(ids(&nobody, &no_policy()), []);
}

#[test]
fn what_two_flows_of_an_edge_give_rise_to_is_one_finding_as_bad_as_the_worse() {
    use {FindingId::*, Severity::*};
    let mut ledger = Ledger::default();
    let (http, mcp) = (FlowId::of(1), FlowId::of(2));
    let served = Evidence::ANSWERED;
    let of = |protocol, evidence| {
        let flow = flow(8000, protocol, Evidence::HTTP_REQUEST.or(evidence));
        let findings = evaluate(&flow, &unexpected(), Rules::default());
        (flow, findings)
    };
    let mut news = |id, (flow, findings): (Flow, Vec<Finding>)| {
        let told = ledger.news(id, &flow, findings);
        let told: Vec<_> = told.iter().map(|finding| (finding.id, finding.severity)).collect();
        (told, ledger.active().get(&(UnexpectedSource, High)).copied())
    };
    assert_eq!(news(http, of(Protocol::Http1, served)), (vec![(UnexpectedSource, Medium)], None));
    let both = of(Protocol::Mcp, served);
    assert_eq!(news(mcp, both.clone()), (vec![(PlaintextMcp, High), (UnexpectedSource, High)], Some(1)));
    let more = of(Protocol::Http1, served.or(Evidence::HTTP_RESPONSE));
    assert_eq!(news(http, more.clone()), (vec![], Some(1)), "what is milder than what stands is silent");
    assert_eq!(news(mcp, both.clone()), (vec![], Some(1)));
    // Policy has changed, and the worse no longer stands; the milder does.
    assert_eq!(news(mcp, (both.0.clone(), vec![])), (vec![], None));
    assert_eq!(news(http, more), (vec![(UnexpectedSource, Medium)], None), "it is less bad, which is news");
    assert_eq!(news(mcp, both).0, [(PlaintextMcp, High), (UnexpectedSource, High)], "it is back");
}

#[test]
fn what_no_longer_stands_is_dropped_and_a_flow_that_has_gone_too() {
    let mut ledger = Ledger::default();
    let flow = flow(8000, Protocol::Mcp, Evidence::ANSWERED);
    let findings = evaluate(&flow, &unexpected(), Rules::default());
    assert_eq!(ledger.news(FlowId::of(1), &flow, findings.clone()).len(), 2);
    assert!(ledger.news(FlowId::of(2), &flow, findings).is_empty(), "the same edge");
    ledger.retain(|id| id != FlowId::of(1));
    assert_eq!(ledger.active().values().sum::<u64>(), 2);
    assert!(ledger.news(FlowId::of(2), &flow, Vec::new()).is_empty());
    assert!(ledger.active().is_empty());
    assert!(matches!(flow.client.id(), EndId::Pod(_)));
}
