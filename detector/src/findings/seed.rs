//! The scenario of an MCP platform, as flows and manifests: each event gives the findings that it should and
//! no other.

use detector_ebpf::{
    evidence::Evidence,
    tls::{Alpn, Version},
    verdict::{Protocol, Verdict},
};

use super::{Finding, FindingId, Rules, Severity, evaluate, tests::flow};
use crate::{
    cluster::{self, Store, objects::Object},
    flows::{End, Flow, Timestamp, TlsSeen},
    policy::PolicyView,
    testing,
};

const NOW: Timestamp = Timestamp(1_795_500_000_000_000_000);

const PLATFORM: &str = include_str!("../../testdata/seed/platform.yaml");
const ISTIO: &str = include_str!("../../testdata/seed/istio.yaml");
const LINKERD: &str = include_str!("../../testdata/seed/linkerd.yaml");

fn store(manifests: &[&str]) -> Store {
    let read = cluster::read_str("seed.yaml", &manifests.join("\n---\n"));
    assert!(read.errors.is_empty(), "{:?}", read.errors);
    let mut store = Store::default();
    store.reset(read.objects);
    store
}

fn end(store: &Store, address: &str) -> End {
    let address = testing::ip(address);
    match store.lookup(address) {
        Some(cluster::Holder::Pod(pod)) => End::Pod { pod, address },
        Some(cluster::Holder::Node(name)) => End::Node { name, address },
        _ => End::Unknown { address },
    }
}

/// Calls of the tool executor, through its service.
fn call(
    store: &Store,
    from: &str,
    verdict: Verdict,
    protocol: Protocol,
    evidence: Evidence,
    port: u16,
) -> Flow {
    let End::Pod { pod, .. } = end(store, TOOLS) else { panic!("no tool executor") };
    Flow {
        client: end(store, from),
        server: End::Pod { pod, address: testing::ip(SERVICE) },
        verdict,
        first_seen: NOW,
        last_seen: NOW,
        ..flow(port, protocol, evidence)
    }
}

fn mcp(store: &Store, from: &str, outcome: Evidence) -> Flow {
    call(store, from, Verdict::Plaintext, Protocol::Mcp, Evidence::MCP_METHOD.or(outcome), 8080)
}

fn mtls(store: &Store, from: &str) -> Flow {
    call(store, from, Verdict::MeshMtls, Protocol::None, Evidence::NONE, 8080)
}

fn judged(store: &Store, flow: &Flow) -> Vec<Finding> {
    let findings = evaluate(flow, &PolicyView::of(store, flow), Rules::default());
    for finding in &findings {
        assert!(finding.why.lines().count() == 1 && !finding.why.ends_with('.'), "{}", finding.why);
        let fix = cluster::read_str("fix.yaml", &finding.fix);
        assert!(fix.errors.is_empty(), "{}: {:?}\n{}", finding.id.as_str(), fix.errors, finding.fix);
        assert!(!finding.fix.is_empty());
    }
    findings
}

fn ids(store: &Store, flow: &Flow) -> Vec<(FindingId, Severity)> {
    judged(store, flow).iter().map(|finding| (finding.id, finding.severity)).collect()
}

fn decided(store: &Store, flow: &Flow, id: FindingId) -> String {
    let found = judged(store, flow).into_iter().find(|finding| finding.id == id);
    found.and_then(|finding| finding.decided_by).unwrap_or_default()
}

const TOOLS: &str = "10.244.1.10";
const SERVICE: &str = "10.96.0.10";
const GATEWAY: &str = "10.244.1.11";
const AUDIT: &str = "10.244.1.12";
const NO_SIDECAR: &str = "10.244.1.13";
const STRANGER: &str = "10.244.1.14";
const NODE: &str = "192.168.0.1";

use FindingId::*;
use Severity::*;

#[test]
fn what_is_declared_is_silent() {
    let store = store(&[PLATFORM, ISTIO]);
    for from in [GATEWAY, AUDIT] {
        assert_eq!(ids(&store, &mtls(&store, from)), []);
    }
}

#[test]
fn a_pod_without_a_sidecar_calls_in_the_clear() {
    let store = store(&[PLATFORM, ISTIO]);
    let served = mcp(&store, NO_SIDECAR, Evidence::ANSWERED);
    assert_eq!(
        ids(&store, &served),
        [(PlaintextMcp, High), (PlaintextInStrict, Critical), (UnexpectedSource, High)]
    );
    assert_eq!(
        decided(&store, &served, PlaintextInStrict),
        "PeerAuthentication mcp-production/mcp-mtls-strict, spec.mtls.mode"
    );
    let refused = mcp(&store, NO_SIDECAR, Evidence::REFUSED);
    assert_eq!(
        ids(&store, &refused),
        [(PlaintextMcp, Medium), (PlaintextInStrict, Medium), (UnexpectedSource, Medium)]
    );
}

#[test]
fn a_pod_with_another_service_account_calls() {
    let store = store(&[PLATFORM, ISTIO]);
    assert_eq!(ids(&store, &mtls(&store, STRANGER)), [(UnexpectedSource, Medium)]);
    assert_eq!(
        decided(&store, &mtls(&store, STRANGER), UnexpectedSource),
        "AuthorizationPolicy mcp-production/tool-executor-callers, spec.rules"
    );
}

#[test]
fn a_tunnel_hides_the_port_and_not_the_caller() {
    let store = store(&[PLATFORM, ISTIO]);
    let tunnelled = |from| call(&store, from, Verdict::MeshMtls, Protocol::None, Evidence::NONE, 15_008);
    assert_eq!(ids(&store, &tunnelled(GATEWAY)), []);
    // Everybody may call the health port, and this may be a call to it.
    assert_eq!(ids(&store, &tunnelled(STRANGER)), []);
    let narrow = ISTIO.replace("  - to:\n    - operation:\n        ports: [\"8081\"]\n", "");
    assert_ne!(narrow, ISTIO);
    let store = self::store(&[PLATFORM, &narrow]);
    let tunnelled = |from| call(&store, from, Verdict::MeshMtls, Protocol::None, Evidence::NONE, 15_008);
    assert_eq!(ids(&store, &tunnelled(GATEWAY)), []);
    let findings = judged(&store, &tunnelled(STRANGER));
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].id, findings[0].severity), (UnexpectedSource, Medium));
    assert!(findings[0].why.ends_with("does not name it at any"), "{}", findings[0].why);
    assert!(!findings[0].fix.contains("15008"), "{}", findings[0].fix);
}

#[test]
fn a_sidecar_dials_the_pod_itself_and_the_rule_of_its_service_explains_it() {
    let store = store(&[PLATFORM, &ISTIO.replace("ISTIO_MUTUAL", "DISABLE")]);
    let by_service = mcp(&store, GATEWAY, Evidence::ANSWERED);
    let by_pod = Flow { server: end(&store, TOOLS), ..by_service.clone() };
    let rule = "DestinationRule mcp-production/mcp-gateway-mtls-outbound, spec.trafficPolicy.tls.mode";
    assert_eq!(decided(&store, &by_service, MeshBypass), rule);
    assert_eq!(decided(&store, &by_pod, MeshBypass), rule);
    // A rule that wants mTLS explains no plaintext: that the pod was dialled does.
    let store = self::store(&[PLATFORM, ISTIO]);
    assert!(decided(&store, &by_pod, MeshBypass).contains("the pod's address"));
}

#[test]
fn the_mode_is_permissive() {
    let permissive = ISTIO.replace("mode: STRICT", "mode: PERMISSIVE");
    let store = store(&[PLATFORM, &permissive]);
    let served = mcp(&store, NO_SIDECAR, Evidence::ANSWERED);
    assert_eq!(
        ids(&store, &served),
        [(PlaintextMcp, High), (PlaintextInPermissive, Medium), (UnexpectedSource, High)]
    );
    let http = call(&store, GATEWAY, Verdict::Plaintext, Protocol::Http1, Evidence::ANSWERED, 8080);
    assert_eq!(ids(&store, &http), [(MeshBypass, Medium)], "plaintext that nothing forbids is counted");
}

#[test]
fn the_health_port_is_probed() {
    let store = store(&[PLATFORM, ISTIO]);
    let probe = |from, evidence| call(&store, from, Verdict::Plaintext, Protocol::Http1, evidence, 8081);
    assert_eq!(ids(&store, &probe(NODE, Evidence::KUBE_PROBE.or(Evidence::ANSWERED))), []);
    // Another pod that uses the declared exemption is worth knowing.
    assert_eq!(ids(&store, &probe(GATEWAY, Evidence::ANSWERED)), [(PlaintextExempt, Info)]);
    assert_eq!(
        decided(&store, &probe(GATEWAY, Evidence::ANSWERED), PlaintextExempt),
        "PeerAuthentication mcp-production/tool-executor-health, spec.portLevelMtls[8081].mode"
    );
}

#[test]
fn the_proxy_s_own_ports_are_nobody_s_business() {
    let store = store(&[PLATFORM, ISTIO]);
    for port in [15020, 15021, 15090] {
        let scrape = call(&store, STRANGER, Verdict::Plaintext, Protocol::Http1, Evidence::ANSWERED, port);
        assert_eq!(ids(&store, &scrape), [], "{port}");
    }
}

#[test]
fn a_destination_rule_turns_tls_off() {
    let store = store(&[PLATFORM, &ISTIO.replace("ISTIO_MUTUAL", "DISABLE")]);
    let served = mcp(&store, GATEWAY, Evidence::ANSWERED);
    assert_eq!(
        ids(&store, &served),
        [(PlaintextMcp, High), (PlaintextInStrict, Critical), (MeshBypass, High)]
    );
    assert_eq!(
        decided(&store, &served, MeshBypass),
        "DestinationRule mcp-production/mcp-gateway-mtls-outbound, spec.trafficPolicy.tls.mode"
    );
}

#[test]
fn linkerd_admits_the_gateway_alone() {
    let store = store(&[&PLATFORM.replace("istio-proxy", "linkerd-proxy"), LINKERD]);
    assert_eq!(ids(&store, &mtls(&store, GATEWAY)), []);
    assert_eq!(ids(&store, &mtls(&store, AUDIT)), [(UnexpectedSource, Medium)]);
    assert_eq!(
        decided(&store, &mtls(&store, AUDIT), UnexpectedSource),
        "ServerAuthorization mcp-production/tool-executor-authz, spec.client"
    );
    let clear = mcp(&store, NO_SIDECAR, Evidence::REFUSED);
    assert_eq!(
        ids(&store, &clear),
        [(PlaintextMcp, Medium), (PlaintextInStrict, Medium), (UnexpectedSource, Medium)]
    );
}

#[test]
fn an_exception_lowers_and_an_ended_one_is_told() {
    let exception = |expires: &str| {
        format!(
            "apiVersion: plainsight.dev/v1alpha1\nkind: TrafficException\nmetadata: {{namespace: mcp-production, name: batch}}\nspec: {{selector: {{matchLabels: {{app: tool-executor}}}}, peers: [{{serviceAccount: batch}}], owner: team-a, reason: moves in May, expires: {expires:?}}}\n"
        )
    };
    let standing = store(&[PLATFORM, ISTIO, &exception("2027-01-01")]);
    let flow = mcp(&standing, NO_SIDECAR, Evidence::ANSWERED);
    let findings = judged(&standing, &flow);
    assert!(findings.iter().all(|finding| finding.severity == Info), "{findings:?}");
    assert!(findings[0].why.ends_with("; team-a answers for it until 2027-01-01T23:59:59Z: moves in May"));
    let ended = store(&[PLATFORM, ISTIO, &exception("2026-01-01")]);
    assert_eq!(
        ids(&ended, &flow),
        [
            (PlaintextMcp, High),
            (PlaintextInStrict, Critical),
            (UnexpectedSource, High),
            (ExceptionExpired, Low)
        ]
    );
    assert_eq!(
        ids(&ended, &mcp(&ended, GATEWAY, Evidence::ANSWERED)).last().unwrap().0,
        MeshBypass,
        "of another peer"
    );
}

#[test]
fn tls_of_its_own_proves_nobody() {
    let store = store(&[PLATFORM, ISTIO]);
    let tls = |from, seen| Flow {
        offered: seen,
        ..call(&store, from, Verdict::Tls, Protocol::None, Evidence::NONE, 8080)
    };
    let own = TlsSeen::of(Version::Tls13, Alpn::Other);
    assert_eq!(ids(&store, &tls(GATEWAY, own)), [(TlsNotMesh, Medium)]);
    assert_eq!(
        ids(&store, &tls(GATEWAY, TlsSeen::default())),
        [],
        "a hello that nobody saw may be the mesh's"
    );
    let weak = TlsSeen::of(Version::Weak, Alpn::None);
    assert_eq!(ids(&store, &tls(GATEWAY, weak)), [(TlsNotMesh, Medium), (WeakTls, Medium)]);
}

#[test]
fn the_fix_for_a_caller_admits_it_and_nobody_else() {
    for (mesh, manifests) in [
        ("istio", vec![PLATFORM.to_owned(), ISTIO.to_owned()]),
        ("linkerd", vec![PLATFORM.replace("istio-proxy", "linkerd-proxy"), LINKERD.to_owned()]),
    ] {
        let texts: Vec<&str> = manifests.iter().map(String::as_str).collect();
        let mut store = store(&texts);
        let flow = mtls(&store, STRANGER);
        let findings = judged(&store, &flow);
        assert_eq!(findings[0].id, UnexpectedSource, "{mesh}");
        for object in cluster::read_str("fix.yaml", &findings[0].fix).objects {
            assert!(matches!(object, Object::Policy(_)));
            store.apply(object);
        }
        assert_eq!(ids(&store, &flow), [], "{mesh}");
        assert!(!ids(&store, &mcp(&store, NO_SIDECAR, Evidence::ANSWERED)).is_empty());
    }
}
