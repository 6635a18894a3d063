//! Who may call, by Istio.

use super::{World, ambient, object, plain, sidecar};
use crate::policy::Answer::{self, Allowed, Denied, NoPolicy, Unknown};

fn ap(name: &str, spec: &str) -> String {
    object("AuthorizationPolicy", "security.istio.io/v1", name, "2026-01-01T00:00:00Z", spec)
}

fn allow(source: &str) -> Vec<String> {
    vec![ap("mcp/allow", &format!("{{rules: [{{from: [{{source: {source}}}]}}]}}"))]
}

fn deny(source: &str) -> Vec<String> {
    vec![ap("mcp/deny", &format!("{{action: DENY, rules: [{{from: [{{source: {source}}}]}}]}}"))]
}

fn when(key: &str, values: &str) -> Vec<String> {
    vec![ap("mcp/when", &format!("{{rules: [{{when: [{{key: {key}, {values}}}]}}]}}"))]
}

fn to(operation: &str) -> Vec<String> {
    vec![ap("mcp/to", &format!("{{rules: [{{to: [{{operation: {operation}}}]}}]}}"))]
}

/// The caller is `agents/client` at 10.0.0.9, the server `mcp/tools` with the label app: tools, on 8080.
#[test]
fn layer_4_is_evaluated_as_istio_does() {
    let both = |a: Vec<String>, b: Vec<String>| [a, b].concat();
    let rows: &[(&str, Vec<String>, Answer)] = &[
        ("authz: no policy allows", vec![], NoPolicy),
        ("authz: a DENY that does not match, and no ALLOW", deny("{namespaces: [x]}"), NoPolicy),
        ("authz: an ALLOW without rules denies all", vec![ap("mcp/none", "{}")], Denied),
        ("authz: a DENY without rules denies nobody", vec![ap("mcp/none", "{action: DENY}")], NoPolicy),
        ("authz: an empty rule matches all", vec![ap("mcp/all", "{rules: [{}]}")], Allowed),
        (
            "authz: an empty rule of DENY denies all",
            vec![ap("mcp/all", "{action: DENY, rules: [{}]}")],
            Denied,
        ),
        ("authz: AUDIT decides nothing", vec![ap("mcp/audit", "{action: AUDIT, rules: [{}]}")], NoPolicy),
        (
            "authz: CUSTOM asks somebody else",
            vec![ap("mcp/custom", "{action: CUSTOM, provider: {name: x}, rules: [{}]}")],
            Unknown,
        ),
        (
            "authz: DENY beats ALLOW",
            both(allow("{namespaces: [agents]}"), deny("{principals: [\"*/sa/client\"]}")),
            Denied,
        ),
        (
            "authz: policies that allow add up",
            both(allow("{namespaces: [x]}"), vec![ap("mcp/b", "{rules: [{}]}")]),
            Allowed,
        ),
        ("authz: a principal, exact", allow("{principals: [cluster.local/ns/agents/sa/client]}"), Allowed),
        (
            "authz: a principal of another account",
            allow("{principals: [cluster.local/ns/agents/sa/clients]}"),
            Denied,
        ),
        ("authz: a principal, prefix", allow("{principals: [\"cluster.local/ns/agents/*\"]}"), Allowed),
        ("authz: a principal, suffix", allow("{principals: [\"*/sa/client\"]}"), Allowed),
        ("authz: a principal, any", allow("{principals: [\"*\"]}"), Allowed),
        (
            "authz: a principal is written without spiffe://",
            allow("{principals: [\"spiffe://cluster.local/ns/agents/sa/client\"]}"),
            Denied,
        ),
        ("authz: notPrincipals", allow("{notPrincipals: [cluster.local/ns/agents/sa/client]}"), Denied),
        ("authz: namespaces", allow("{namespaces: [agents]}"), Allowed),
        ("authz: namespaces, wildcards anywhere", allow("{namespaces: [\"a*nts\"]}"), Allowed),
        ("authz: notNamespaces", allow("{notNamespaces: [agents]}"), Denied),
        ("authz: serviceAccounts with a namespace", allow("{serviceAccounts: [agents/client]}"), Allowed),
        (
            "authz: serviceAccounts without one are the policy's own",
            allow("{serviceAccounts: [client]}"),
            Denied,
        ),
        ("authz: serviceAccounts have no wildcards", allow("{serviceAccounts: [\"agents/*\"]}"), Denied),
        ("authz: notServiceAccounts", allow("{notServiceAccounts: [agents/client]}"), Denied),
        ("authz: trustDomains", allow("{trustDomains: [cluster.local]}"), Allowed),
        ("authz: ipBlocks", allow("{ipBlocks: [10.0.0.0/24]}"), Allowed),
        ("authz: ipBlocks of others", allow("{ipBlocks: [10.1.0.0/24]}"), Denied),
        ("authz: notIpBlocks", allow("{notIpBlocks: [10.0.0.9]}"), Denied),
        (
            "authz: fields of a source must all hold",
            allow("{namespaces: [agents], ipBlocks: [10.1.0.0/24]}"),
            Denied,
        ),
        ("authz: values of a field are alternatives", allow("{namespaces: [x, agents]}"), Allowed),
        (
            "authz: sources are alternatives",
            vec![ap(
                "mcp/a",
                "{rules: [{from: [{source: {namespaces: [x]}}, {source: {namespaces: [agents]}}]}]}",
            )],
            Allowed,
        ),
        ("authz: ports are the container's", to("{ports: [\"8080\"]}"), Allowed),
        ("authz: other ports", to("{ports: [\"80\"]}"), Denied),
        ("authz: notPorts", to("{notPorts: [\"8080\"]}"), Denied),
        (
            "authz: from and to must both hold",
            vec![ap(
                "mcp/a",
                "{rules: [{from: [{source: {namespaces: [agents]}}], to: [{operation: {ports: [\"80\"]}}]}]}",
            )],
            Denied,
        ),
        ("authz: paths are not on layer 4", to("{paths: [\"/tools/*\"]}"), Unknown),
        (
            "authz: methods on a port that is not ours need no layer 7",
            to("{methods: [POST], ports: [\"80\"]}"),
            Denied,
        ),
        ("authz: requestPrincipals are not on layer 4", allow("{requestPrincipals: [\"*\"]}"), Unknown),
        ("authz: remoteIpBlocks are a header's", allow("{remoteIpBlocks: [10.0.0.0/8]}"), Unknown),
        (
            "authz: DENY by path may deny",
            both(
                vec![ap("mcp/b", "{rules: [{}]}")],
                vec![ap("mcp/d", "{action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}")],
            ),
            Unknown,
        ),
        (
            "authz: a denial by omission stands beside a DENY that is not known",
            both(
                allow("{namespaces: [x]}"),
                vec![ap("mcp/d", "{action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}")],
            ),
            Denied,
        ),
        ("authz: when source.namespace", when("source.namespace", "values: [agents]"), Allowed),
        ("authz: when source.principal", when("source.principal", "notValues: [\"*/sa/client\"]"), Denied),
        ("authz: when source.ip", when("source.ip", "values: [10.0.0.0/8]"), Allowed),
        ("authz: when destination.port", when("destination.port", "values: [\"8081\"]"), Denied),
        (
            "authz: when request.headers is not on layer 4",
            when("\"request.headers[x]\"", "values: [a]"),
            Unknown,
        ),
        (
            "authz: a selector of others",
            vec![ap("mcp/a", "{selector: {matchLabels: {app: other}}}")],
            NoPolicy,
        ),
        ("authz: another namespace's policy", vec![ap("other/a", "{}")], NoPolicy),
        ("authz: the root namespace is for all", vec![ap("istio-system/a", "{}")], Denied),
        (
            "authz: the root namespace's selector is for all too",
            vec![ap("istio-system/a", "{selector: {matchLabels: {app: tools}}}")],
            Denied,
        ),
        (
            "authz: targetRefs bind no pod",
            vec![ap("mcp/a", "{targetRefs: [{kind: Service, group: \"\", name: tools}]}")],
            NoPolicy,
        ),
        (
            "a field that we do not know is no yes",
            allow("{namespaces: [agents], moonPhase: [full]}"),
            Unknown,
        ),
        (
            "C1: v1beta1 is read as v1",
            vec![object(
                "AuthorizationPolicy",
                "security.istio.io/v1beta1",
                "mcp/a",
                "2026-01-01T00:00:00Z",
                "{}",
            )],
            Denied,
        ),
    ];
    for (rule, objects, expected) in rows {
        let pods = sidecar("mcp", "tools", &[]) + &sidecar("agents", "client", &[]);
        let world = World::new(&(objects.concat() + &pods));
        let ruling = world.admits("client", "tools", 8080);
        assert_eq!(ruling.answer, *expected, "{rule}: {ruling:?}");
        let named = ruling.decided_by.object().is_some();
        assert_eq!(named, *expected != NoPolicy, "{rule}: {}", ruling.decided_by);
        assert_eq!(ruling.because.is_some(), *expected == Unknown, "{rule}");
    }
}

#[test]
fn a_peer_without_an_identity_matches_no_name() {
    for (rule, objects, expected) in [
        ("authz: plaintext peers have no principal", allow("{principals: [\"*\"]}"), Denied),
        ("authz: nor a namespace", allow("{namespaces: [\"*\"]}"), Denied),
        ("authz: DENY of notPrincipals * denies plaintext", deny("{notPrincipals: [\"*\"]}"), Denied),
        (
            "authz: an address is enough where no name is asked for",
            allow("{ipBlocks: [10.0.0.0/8]}"),
            Allowed,
        ),
    ] {
        let world = World::new(&(objects.concat() + &sidecar("mcp", "tools", &[])));
        assert_eq!(world.anonymous("tools", 8080).answer, expected, "{rule}");
    }
}

#[test]
fn ztunnel_sees_no_layer_7() {
    for (rule, objects, expected) in [
        ("ambient: ALLOW with layer 7 never matches", to("{paths: [/x]}"), Denied),
        (
            "authz checkError: in DENY the field drops out",
            vec![ap("mcp/d", "{action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}")],
            Denied,
        ),
    ] {
        let pods = ambient("mcp", "tools", &[]) + &ambient("agents", "client", &[]);
        let world = World::new(&(objects.concat() + &pods));
        assert_eq!(world.admits("client", "tools", 8080).answer, expected, "{rule}");
    }
}

#[test]
fn the_mesh_s_own_policies_are_not_about_pods_outside_of_it() {
    let gateway = "---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: mcp, name: tools, labels: {gateway.networking.k8s.io/gateway-name: g}}\nspec: {containers: [{name: istio-proxy}]}\n";
    let targeted = ap("mcp/t", "{targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: g}]}");
    for (rule, objects, expected) in [
        (
            "C2 6: outside of the mesh nobody heeds the mesh's",
            ap("istio-system/a", "{}") + &plain("mcp", "tools"),
            NoPolicy,
        ),
        ("its own namespace's is said for it", ap("mcp/a", "{}") + &plain("mcp", "tools"), Denied),
        ("authz: a gateway is of the mesh", ap("istio-system/a", "{}") + gateway, Denied),
        (
            "authz: what targetRefs bind is not known",
            ap("istio-system/a", "{}") + &targeted + gateway,
            Unknown,
        ),
    ] {
        let world = World::new(&(objects + &sidecar("agents", "client", &[])));
        assert_eq!(world.admits("client", "tools", 8080).answer, expected, "{rule}");
    }
}

#[test]
fn aliases_are_the_mesh_s_own_trust_domain() {
    let config = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: istio-system\n  name: istio\ndata:\n  mesh: |\n    trustDomain: new.example\n    trustDomainAliases: [old.example]\n";
    for (rule, principal, expected) in [
        ("C4: the trust domain", "new.example/ns/agents/sa/client", Allowed),
        ("C4: an alias", "old.example/ns/agents/sa/client", Allowed),
        ("C4: an alias with a wildcard", "old.example/ns/agents/sa/*", Allowed),
        ("trustdomain bundle: without all its parts it stays as written", "old.example/ns/agents/*", Denied),
        ("and so it means the trust domain that it names", "new.example/ns/agents/*", Allowed),
        (
            "trustdomain bundle: cluster.local points to the mesh's own",
            "cluster.local/ns/agents/sa/client",
            Allowed,
        ),
        ("C4: a stranger", "other.example/ns/agents/sa/client", Denied),
    ] {
        let objects = allow(&format!("{{principals: [\"{principal}\"]}}")).concat();
        let pods = sidecar("mcp", "tools", &[]) + &sidecar("agents", "client", &[]);
        let world = World::new(&(config.to_owned() + &objects + &pods));
        assert_eq!(world.admits("client", "tools", 8080).answer, expected, "{rule}");
    }
    for (domain, expected) in [
        ("new.example", Allowed),
        ("old.example", Allowed),
        ("new.*", Allowed),
        ("old.*", Denied),
        ("cluster.local", Denied),
    ] {
        let objects = [
            allow(&format!("{{trustDomains: [\"{domain}\"]}}")),
            when("source.trustDomain", &format!("values: [\"{domain}\"]")),
        ];
        for objects in objects {
            let pods = sidecar("mcp", "tools", &[]) + &ambient("agents", "client", &[]);
            let world = World::new(&(config.to_owned() + &objects.concat() + &pods));
            let rule = "trustdomain bundle: ExpandTrustDomainAliases";
            assert_eq!(world.admits("client", "tools", 8080).answer, expected, "{rule}, {domain}");
        }
    }
}
