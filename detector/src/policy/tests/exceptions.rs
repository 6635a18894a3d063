//! Exceptions, and our own declaration of sources.

use super::{World, object, plain, sidecar};
use crate::{
    flows::Timestamp,
    policy::{
        Answer::{Allowed, Denied},
        identity,
    },
    testing,
};

fn exception(spec: &str) -> String {
    let spec = format!(
        "{{selector: {{matchLabels: {{app: tools}}}}, owner: team-a, reason: migration, expires: \"2026-12-01\", {spec}}}"
    );
    object("TrafficException", "plainsight.dev/v1alpha1", "mcp/e", "2026-01-01T00:00:00Z", &spec)
}

#[test]
fn an_exception_covers_what_it_names() {
    for (rule, spec, covers) in [
        ("all ports and peers", "ports: []", true),
        ("the port", "ports: [8080]", true),
        ("another port", "ports: [8081]", false),
        ("the account", "peers: [{namespace: agents, serviceAccount: client}]", true),
        ("another account", "peers: [{serviceAccount: other}]", false),
        ("one of several peers", "peers: [{serviceAccount: other}, {namespace: agents}]", true),
        ("the network", "peers: [{cidr: 10.0.0.0/8}]", true),
        ("another network", "peers: [{cidr: 10.1.0.0/16}]", false),
        ("fields of a peer must all hold", "peers: [{namespace: agents, cidr: 10.1.0.0/16}]", false),
    ] {
        let world = World::new(&(exception(spec) + &plain("mcp", "tools") + &plain("agents", "client")));
        let (server, client) = (world.pod("tools"), world.pod("client"));
        let found = world.set.exceptions(server, Some(8080), Some(identity(client)), testing::ip("10.0.0.9"));
        assert_eq!(!found.is_empty(), covers, "{rule}");
    }
}

#[test]
fn a_date_ends_with_its_day() {
    let world = World::new(&(exception("ports: []") + &plain("mcp", "tools")));
    let found = world.set.exceptions(world.pod("tools"), Some(8080), None, testing::ip("10.0.0.9"));
    let at = |text: &str| {
        let time: jiff::Timestamp = text.parse().unwrap();
        Timestamp(u64::try_from(time.as_nanosecond()).unwrap())
    };
    assert!(!found[0].has_expired(at("2026-12-01T23:59:58Z")));
    assert!(found[0].has_expired(at("2026-12-02T00:00:00Z")));
}

#[test]
fn declarations_of_ours_and_of_a_mesh_must_both_admit() {
    let ours = |account: &str| {
        format!(
            "---\napiVersion: plainsight.dev/v1alpha1\nkind: ExpectedSources\nmetadata: {{namespace: mcp, name: es-{account}}}\nspec: {{selector: {{matchLabels: {{app: tools}}}}, serviceAccounts: [agents/{account}]}}\n"
        )
    };
    let istio = |account: &str| {
        let spec = format!("{{rules: [{{from: [{{source: {{principals: [\"*/sa/{account}\"]}}}}]}}]}}");
        object("AuthorizationPolicy", "security.istio.io/v1", "mcp/ap", "2026-01-01T00:00:00Z", &spec)
    };
    for (objects, expected, by) in [
        (ours("client"), Allowed, "es-client"),
        (ours("other"), Denied, "es-other"),
        (ours("other") + &ours("client"), Allowed, "es-client"),
        (ours("client") + &istio("client"), Allowed, "es-client"),
        (ours("client") + &istio("other"), Denied, "AuthorizationPolicy mcp/ap"),
        (ours("other") + &istio("client"), Denied, "es-other"),
    ] {
        let pods = sidecar("mcp", "tools", &[]) + &sidecar("agents", "client", &[]);
        let ruling = World::new(&(objects + &pods)).admits("client", "tools", 8080);
        assert_eq!(ruling.answer, expected, "{by}");
        assert!(ruling.decided_by.to_string().contains(by), "{}", ruling.decided_by);
    }
}
