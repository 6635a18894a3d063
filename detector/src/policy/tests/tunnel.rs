//! Callers that come in a mesh's tunnel, which hides the port that they mean.

use super::{World, ambient, linkerd, object, sidecar};
use crate::{
    flows::Timestamp,
    policy::{
        Answer::{self, Allowed, Denied, NoPolicy, Unknown},
        PolicyView, identity,
    },
    testing,
};

fn somewhere(world: &World, client: &str) -> Answer {
    let caller = Some(identity(world.pod(client)));
    world.set.admits_somewhere(world.pod("tools"), caller, testing::ip("10.0.0.9")).answer
}

#[test]
fn istio_s_rules_about_ports_may_hold_and_others_decide() {
    let rule = |rules: &str, action: &str| {
        object(
            "AuthorizationPolicy",
            "security.istio.io/v1",
            "mcp/p",
            "2026-01-01T00:00:00Z",
            &format!("{{action: {action}, rules: {rules}}}"),
        )
    };
    let client = "[{source: {principals: [cluster.local/ns/agents/sa/client]}}]";
    let to = "[{operation: {ports: [\"8080\"]}}]";
    for (what, policy, answer) in [
        ("nothing is declared", String::new(), NoPolicy),
        ("the caller is named", rule(&format!("[{{from: {client}}}]"), "ALLOW"), Allowed),
        ("at a port", rule(&format!("[{{from: {client}, to: {to}}}]"), "ALLOW"), Unknown),
        ("nobody at all", rule("[]", "ALLOW"), Denied),
        (
            "another is named at a port",
            rule(&format!("[{{from: [{{source: {{namespaces: [other]}}}}], to: {to}}}]"), "ALLOW"),
            Denied,
        ),
        ("a port is denied to all", rule(&format!("[{{to: {to}}}]"), "DENY"), Unknown),
        (
            "a condition on the port",
            rule("[{when: [{key: destination.port, values: [\"8080\"]}]}]", "ALLOW"),
            Unknown,
        ),
    ] {
        for pod in [ambient("mcp", "tools", &[]), sidecar("mcp", "tools", &[])] {
            let world = World::new(&(pod + &ambient("agents", "client", &[]) + &policy));
            assert_eq!(somewhere(&world, "client"), answer, "{what}");
        }
    }
}

#[test]
fn a_waypoint_heeds_no_selectors_and_passes_on_what_others_send() {
    let pod = |name: &str, labels: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: mcp, name: {name}, labels: {{app: {name}{labels}}}}}\nspec: {{serviceAccountName: {name}, containers: [{{name: istio-proxy}}]}}\n"
        )
    };
    let waypoint = ", gateway.networking.k8s.io/gateway-name: w, gateway.networking.k8s.io/gateway-class-name: istio-waypoint";
    let nobody = object("AuthorizationPolicy", "security.istio.io/v1", "mcp/p", "2026-01-01T00:00:00Z", "{}");
    let ours = "---\napiVersion: plainsight.dev/v1alpha1\nkind: ExpectedSources\nmetadata: {namespace: mcp, name: s}\nspec: {selector: {matchLabels: {app: plain}}, serviceAccounts: [mcp/gateway]}\n";
    let text = pod("tools", waypoint) + &pod("client", "") + &pod("plain", "") + &nobody + ours;
    let world = World::new(&text);
    assert_eq!(somewhere(&world, "client"), NoPolicy);
    assert_eq!(world.admits("client", "tools", 8080).answer, NoPolicy);
    let ruled = |client: &str, text: &str| {
        let world = World::new(text);
        let (client, server) = (world.pod(client), world.pod("plain"));
        let at = testing::ip("10.0.0.9");
        let view =
            PolicyView::of_edge(&world.set, (Some(client), at), (server, at), 8080, None, Timestamp(1));
        view.source.answer
    };
    let without = text.replace(&nobody, "");
    assert_eq!(ruled("client", &without), Denied);
    assert_eq!(
        ruled("tools", &without),
        Unknown,
        "the declaration is of who called, not of what passed it on"
    );
    assert_eq!(ruled("tools", &text), Denied, "to the mesh it is the caller");
}

#[test]
fn linkerd_s_servers_decide_where_all_ports_that_are_known_have_one() {
    let server = |name: &str, port: &str| {
        object(
            "Server",
            "policy.linkerd.io/v1beta3",
            name,
            "2026-01-01T00:00:00Z",
            &format!("{{podSelector: {{matchLabels: {{app: tools}}}}, port: {port}}}"),
        )
    };
    let admits = object(
        "ServerAuthorization",
        "policy.linkerd.io/v1beta1",
        "mcp/sa",
        "2026-01-01T00:00:00Z",
        "{server: {name: s}, client: {meshTLS: {serviceAccounts: [{namespace: agents, name: client}]}}}",
    );
    let world = |policy: &str| {
        World::new(
            &(linkerd("mcp", "tools", &[])
                + &linkerd("agents", "client", &[])
                + &linkerd("agents", "other", &[])
                + policy),
        )
    };
    assert_eq!(somewhere(&world(""), "client"), NoPolicy, "the default admits all");
    let one = world(&(server("mcp/s", "http") + &admits));
    assert_eq!((somewhere(&one, "client"), somewhere(&one, "other")), (Allowed, Denied));
    let two = world(&(server("mcp/s", "http") + &server("mcp/t", "9999") + &admits));
    assert_eq!((somewhere(&two, "client"), somewhere(&two, "other")), (Allowed, Denied));
}
