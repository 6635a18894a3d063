//! Adding an object that is about something else changes no decision.

use proptest::prelude::*;

use super::{World, linkerd, object, sidecar};
use crate::policy::{Dialled, PolicyView};
use crate::{cluster::objects::Name, flows::Timestamp, testing};

const OLD: &str = "2020-01-01T00:00:00Z";

/// What decides for `mcp/tools` and `mesh/tools`.
fn related() -> String {
    [
        object("PeerAuthentication", "security.istio.io/v1", "mcp/n", OLD, "{mtls: {mode: STRICT}}"),
        object(
            "PeerAuthentication",
            "security.istio.io/v1",
            "mcp/w",
            OLD,
            "{selector: {matchLabels: {app: tools}}, portLevelMtls: {8081: {mode: DISABLE}}}",
        ),
        object(
            "AuthorizationPolicy",
            "security.istio.io/v1",
            "mcp/a",
            OLD,
            "{rules: [{from: [{source: {principals: [\"*/sa/client\"]}}]}]}",
        ),
        object(
            "DestinationRule",
            "networking.istio.io/v1",
            "mcp/d",
            OLD,
            "{host: tools, trafficPolicy: {tls: {mode: DISABLE}}}",
        ),
        object(
            "Server",
            "policy.linkerd.io/v1beta3",
            "mesh/s",
            OLD,
            "{podSelector: {matchLabels: {app: other-tools}}, port: 8080}",
        ),
        object(
            "ServerAuthorization",
            "policy.linkerd.io/v1beta1",
            "mesh/s",
            OLD,
            "{server: {name: s}, client: {meshTLS: {serviceAccounts: [{name: caller}]}}}",
        ),
        object(
            "TrafficException",
            "plainsight.dev/v1alpha1",
            "mcp/e",
            OLD,
            "{selector: {matchLabels: {app: tools}}, owner: a, reason: b, expires: \"2030-01-01\"}",
        ),
    ]
    .concat()
}

/// Objects of all kinds, in other namespaces or for other pods, older and newer than the related ones.
fn unrelated() -> impl Strategy<Value = String> {
    let place = prop_oneof![Just("elsewhere"), Just("agents2"), Just("mcp"), Just("mesh")];
    let created = prop_oneof![Just("2019-01-01T00:00:00Z"), Just("2026-01-01T00:00:00Z")];
    let mode = prop_oneof![Just("STRICT"), Just("PERMISSIVE"), Just("DISABLE")];
    (0..8_u8, place, created, mode, 0..50_u8, any::<bool>()).prop_map(|(kind, place, created, mode, number, selecting)| {
        let away = place == "elsewhere" || place == "agents2";
        // In the namespaces that are looked at only a selector of other pods is unrelated.
        let selector = if away && !selecting { "{}".to_owned() } else { format!("{{matchLabels: {{app: x{number}}}}}") };
        let name = format!("{place}/u{number}");
        let object = |kind, version, spec: String| object(kind, version, &name, created, &spec);
        match kind {
            0 => object("PeerAuthentication", "security.istio.io/v1", format!("{{selector: {selector}, mtls: {{mode: {mode}}}}}")),
            1 => object("AuthorizationPolicy", "security.istio.io/v1", format!("{{selector: {selector}, action: DENY, rules: [{{}}]}}")),
            2 => object("AuthorizationPolicy", "security.istio.io/v1beta1", format!("{{selector: {selector}}}")),
            3 => object("DestinationRule", "networking.istio.io/v1", format!("{{host: x{number}.{place}.svc.cluster.local, trafficPolicy: {{tls: {{mode: SIMPLE}}}}}}")),
            4 => object("Server", "policy.linkerd.io/v1beta3", format!("{{podSelector: {selector}, port: 8080, accessPolicy: audit}}")),
            5 => object("ServerAuthorization", "policy.linkerd.io/v1beta1", format!("{{server: {{name: x{number}}}, client: {{unauthenticated: true}}}}")),
            6 => object("AuthorizationPolicy", "policy.linkerd.io/v1alpha1", format!("{{targetRef: {{kind: Server, name: x{number}}}, requiredAuthenticationRefs: []}}")),
            _ => object("TrafficException", "plainsight.dev/v1alpha1", format!("{{selector: {{matchLabels: {{app: x{number}}}}}, owner: a, reason: b, expires: \"2030-01-01\"}}")),
        }
    })
}

fn pods() -> String {
    [
        sidecar("mcp", "tools", &[]),
        sidecar("agents", "client", &[]),
        sidecar("agents", "stranger", &[]),
        linkerd("mesh", "other-tools", &[]),
        linkerd("mesh", "caller", &[]),
    ]
    .concat()
}

fn decisions(world: &World) -> Vec<PolicyView> {
    let mut all = Vec::new();
    for server in ["tools", "other-tools"] {
        for client in ["client", "stranger", "caller"] {
            for port in [8080, 8081] {
                let server = world.pod(server);
                let service = Name::clone(&server.name);
                all.push(PolicyView::of_edge(
                    &world.set,
                    (Some(world.pod(client)), testing::ip("10.0.0.9")),
                    (server, testing::ip("10.96.0.1")),
                    port,
                    Some(Dialled { service: &service, port: 80, guessed: false }),
                    Timestamp(1_800_000_000_000_000_000),
                ));
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_decision_changes(extra in proptest::collection::vec(unrelated(), 0..12)) {
        let before = decisions(&World::new(&(related() + &pods())));
        let after = decisions(&World::new(&(related() + &extra.concat() + &pods())));
        prop_assert_eq!(before, after);
    }
}
