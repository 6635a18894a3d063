//! STRICT from every level, at every kind of pod: whether it binds, and whether the words say so.

use detector_ebpf::{evidence::Evidence, verdict::Protocol};

use super::{FindingId, Rules, evaluate, tests::flow};
use crate::{
    audit::{self, Inventory},
    cluster::{self, Holder, Store},
    flows::{End, Flow},
    policy::PolicyView,
    testing,
};

const SERVER: &str = "10.244.0.1";

/// The levels that can declare STRICT for port 8080 of `mcp/tools`, and how a decision names them.
const LEVELS: [(&str, &str, &str); 4] = [
    (
        "mesh",
        "metadata: {namespace: istio-system, name: m}\nspec: {mtls: {mode: STRICT}}",
        "PeerAuthentication istio-system/m, spec.mtls.mode",
    ),
    (
        "namespace",
        "metadata: {namespace: mcp, name: ns}\nspec: {mtls: {mode: STRICT}}",
        "PeerAuthentication mcp/ns, spec.mtls.mode",
    ),
    (
        "workload",
        "metadata: {namespace: mcp, name: w}\nspec: {selector: {matchLabels: {app: tools}}, mtls: {mode: STRICT}}",
        "PeerAuthentication mcp/w, spec.mtls.mode",
    ),
    (
        "port",
        "metadata: {namespace: mcp, name: p}\nspec: {selector: {matchLabels: {app: tools}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {8080: {mode: STRICT}}}",
        "PeerAuthentication mcp/p, spec.portLevelMtls[8080].mode",
    ),
];

/// What STRICT comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// A proxy enforces it.
    Enforced,
    /// It is for this pod, and this field keeps it from being enforced.
    Unenforced(&'static str),
    /// It is for the mesh, and this field keeps the pod outside.
    Unbound(&'static str),
    /// It is about something else.
    NoWord,
}

use Comes::{Enforced, NoWord, Unbound, Unenforced};

const NO_PROXY: &str = "Pod mcp/tools, spec.containers: no mesh proxy";
const HOST: &str = "Pod mcp/tools, spec.hostNetwork";
const EXCLUDED: &str = "Pod mcp/tools, metadata.annotations[traffic.sidecar.istio.io/excludeInboundPorts]";
const BYPASSED: &str = "Pod mcp/tools, metadata.annotations[ambient.istio.io/bypass-inbound-capture]";

/// Kinds of pods: labels, annotations, the container beside, more of the spec; and what STRICT of the mesh, and of
/// a nearer level, comes to.
const PODS: [(&str, &str, &str, &str, &str, Comes, Comes); 11] = [
    ("a sidecar", "security.istio.io/tlsMode: istio", SIDECAR, "istio-proxy", "", Enforced, Enforced),
    (
        "a sidecar with the port excluded",
        "security.istio.io/tlsMode: istio",
        "sidecar.istio.io/status: '{}', traffic.sidecar.istio.io/excludeInboundPorts: '8080'",
        "istio-proxy",
        "",
        Unenforced(EXCLUDED),
        Unenforced(EXCLUDED),
    ),
    (
        "a sidecar with another port excluded",
        "security.istio.io/tlsMode: istio",
        "sidecar.istio.io/status: '{}', traffic.sidecar.istio.io/excludeInboundPorts: '9090'",
        "istio-proxy",
        "",
        Enforced,
        Enforced,
    ),
    ("ambient", NONE, "ambient.istio.io/redirection: enabled", "other", "", Enforced, Enforced),
    (
        "ambient, passed by",
        NONE,
        "ambient.istio.io/redirection: enabled, ambient.istio.io/bypass-inbound-capture: 'true'",
        "other",
        "",
        Unenforced(BYPASSED),
        Unenforced(BYPASSED),
    ),
    ("ambient, pending", NONE, "ambient.istio.io/redirection: pending", "other", "", OUT, IN),
    ("no mesh", NONE, "a: b", "other", "", OUT, IN),
    ("told to be injected, and not", "sidecar.istio.io/inject: 'true'", "a: b", "other", "", OUT, IN),
    ("the node's network", NONE, "a: b", "other", "hostNetwork: true, ", Unbound(HOST), Unenforced(HOST)),
    // What Istio declares is nothing to Linkerd's proxy.
    ("Linkerd", "linkerd.io/control-plane-ns: linkerd", "a: b", "linkerd-proxy", "", NoWord, NoWord),
    ("Istio's gateway", "istio: ingress", GATEWAY, "", "", NoWord, NoWord),
];

const NONE: &str = "c: d";
const SIDECAR: &str = "sidecar.istio.io/status: '{}'";
const GATEWAY: &str = "sidecar.istio.io/status: '{}', inject.istio.io/templates: gateway";
const OUT: Comes = Unbound(NO_PROXY);
const IN: Comes = Unenforced(NO_PROXY);

fn manifests(policy: &str, labels: &str, annotations: &str, beside: &str, spec: &str) -> String {
    let containers = match beside {
        "" => "{name: istio-proxy, ports: [{name: http, containerPort: 8080}]}".to_owned(),
        beside => format!("{{name: main, ports: [{{name: http, containerPort: 8080}}]}}, {{name: {beside}}}"),
    };
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: mcp, name: tools, labels: {{app: tools, {labels}}}, annotations: {{{annotations}}}}}\nspec: {{{spec}containers: [{containers}]}}\nstatus: {{podIP: {SERVER}}}\n---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n{policy}\n"
    )
}

#[test]
fn strict_binds_where_a_proxy_stands_and_the_words_say_where_not() {
    for (level, policy, by) in LEVELS {
        for (pod, labels, annotations, beside, spec, of_mesh, nearer) in PODS {
            let expected = if level == "mesh" { of_mesh } else { nearer };
            let row = format!("STRICT of the {level}, {pod}");
            let read = cluster::read_str("world.yaml", &manifests(policy, labels, annotations, beside, spec));
            assert!(read.errors.is_empty(), "{row}: {:?}", read.errors);
            let inventory = Inventory::new(read.objects.clone(), [], None);
            let mut store = Store::default();
            store.reset(read.objects);
            let Some(server) = store.pods().next().cloned() else { panic!("{row}: no pod") };
            assert!(
                matches!(expected, Unbound(HOST) | Unenforced(HOST))
                    || matches!(store.lookup(testing::ip(SERVER)), Some(Holder::Pod(_))),
                "{row}"
            );

            let flow = Flow {
                server: End::Pod { pod: server, address: testing::ip(SERVER) },
                ..flow(8080, Protocol::Mcp, Evidence::ANSWERED)
            };
            let findings = evaluate(&flow, &PolicyView::of(&store, &flow), Rules::default());
            let of = |id| findings.iter().find(|finding| finding.id == id);
            let why = |id| of(id).map(|finding| finding.why.as_str()).unwrap_or_default();
            let mcp = why(FindingId::PlaintextMcp);
            assert!(!mcp.is_empty(), "{row}: MCP in the clear is told whatever is declared");

            let strict = match expected {
                Enforced => Some(format!("where mTLS alone is declared by {by}")),
                Unenforced(gap) => {
                    Some(format!("where mTLS alone is declared by {by}, which nothing enforces: {gap}"))
                }
                Unbound(_) | NoWord => None,
            };
            match &strict {
                Some(words) => {
                    assert!(
                        why(FindingId::PlaintextInStrict).ends_with(words.as_str()),
                        "{row}: {findings:?}"
                    );
                }
                None => assert!(of(FindingId::PlaintextInStrict).is_none(), "{row}: {findings:?}"),
            }
            let unbound = match expected {
                Unbound(because) => Some(format!(
                    "; STRICT is declared for the whole mesh by {by}, and does not bind this pod, which is outside of it: {because}"
                )),
                _ => None,
            };
            match &unbound {
                Some(words) => assert!(mcp.ends_with(words.as_str()), "{row}: {mcp}"),
                None => assert!(!mcp.contains("declared"), "{row}: {mcp}"),
            }
            // A remedy that declares again what does not bind would mend nothing.
            let fix = of(FindingId::PlaintextMcp).map(|finding| finding.fix.as_str()).unwrap_or_default();
            let declares = fix.contains("kind: PeerAuthentication");
            assert!(!declares || matches!(expected, NoWord), "{row}: {fix}");

            let audited = audit::audit(&inventory, &audit::Options { now: flow.last_seen }).findings;
            let posture = audited.iter().find(|posture| posture.id == FindingId::NotMeshed);
            let posture = posture.map(|posture| posture.why.as_str()).unwrap_or_default();
            match expected {
                Unenforced(NO_PROXY | HOST) => assert!(
                    posture.ends_with(&format!(
                        "mTLS alone is declared for it by {by}, and nothing enforces it"
                    )),
                    "{row}: {posture:?}"
                ),
                // That a pod is outside is no news by itself, but where it was meant to be inside.
                Unbound(_) if pod.starts_with("told") => {
                    let words =
                        format!("; STRICT is declared for the whole mesh by {by}, and does not bind it");
                    assert!(posture.ends_with(&words), "{row}: {posture:?}");
                }
                _ => assert_eq!(posture, "", "{row}"),
            }
        }
    }
}
