//! Who may call and how, by Linkerd.

use super::{World, linkerd, object};
use crate::policy::{
    Answer::{self, Allowed, Denied, NoPolicy, Unknown},
    Declared::{self, Permissive, Strict},
};

const OLD: &str = "2026-01-01T00:00:00Z";
const NEW: &str = "2026-02-01T00:00:00Z";

fn server(name: &str, created: &str, access: &str) -> String {
    let text = object(
        "Server",
        "policy.linkerd.io/v1beta3",
        name,
        created,
        &format!("{{podSelector: {{matchLabels: {{app: tools}}}}, port: http{access}}}"),
    );
    text.replacen("metadata:\n", "metadata:\n  labels: {of: tools}\n", 1)
}

fn sa(spec: &str) -> String {
    object("ServerAuthorization", "policy.linkerd.io/v1beta1", "mcp/sa", OLD, spec)
}

fn ap(target: &str, required: &str) -> String {
    let spec = format!("{{targetRef: {target}, requiredAuthenticationRefs: {required}}}");
    object("AuthorizationPolicy", "policy.linkerd.io/v1alpha1", "mcp/ap", OLD, &spec)
}

fn mesh_tls(spec: &str) -> String {
    object("MeshTLSAuthentication", "policy.linkerd.io/v1alpha1", "mcp/auth", OLD, spec)
}

fn network(spec: &str) -> String {
    object("NetworkAuthentication", "policy.linkerd.io/v1alpha1", "mcp/net", OLD, spec)
}

const SERVER: &str = "{group: policy.linkerd.io, kind: Server, name: s}";
const AUTH: &str = "[{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: auth}]";
const NET: &str = "[{group: policy.linkerd.io, kind: NetworkAuthentication, name: net}]";
const BOTH: &str = "[{kind: MeshTLSAuthentication, name: auth}, {kind: NetworkAuthentication, name: net}]";

/// The caller is `agents/client` at 10.0.0.9, the server `mcp/tools` on 8080, which is its port `http`.
#[test]
fn authorizations_are_a_union_and_nothing_denies() {
    let s = || server("mcp/s", OLD, "");
    let rows: &[(&str, Vec<String>, Answer, Declared)] = &[
        ("C6: the default is all-unauthenticated", vec![], NoPolicy, Permissive),
        ("C6: a Server's default access is deny", vec![s()], Denied, Strict),
        (
            "C6: accessPolicy admits",
            vec![server("mcp/s", OLD, ", accessPolicy: all-authenticated")],
            NoPolicy,
            Strict,
        ),
        (
            "C6: accessPolicy of all",
            vec![server("mcp/s", OLD, ", accessPolicy: all-unauthenticated")],
            NoPolicy,
            Permissive,
        ),
        (
            "C6: accessPolicy audit admits all",
            vec![server("mcp/s", OLD, ", accessPolicy: audit")],
            NoPolicy,
            Permissive,
        ),
        (
            "C6: cluster networks",
            vec![server("mcp/s", OLD, ", accessPolicy: cluster-authenticated")],
            NoPolicy,
            Strict,
        ),
        (
            "linkerd: the oldest Server of a port wins",
            vec![server("mcp/b", NEW, ", accessPolicy: audit"), s()],
            Denied,
            Strict,
        ),
        (
            "linkerd: of the same age the first by name",
            vec![server("mcp/z", OLD, ""), server("mcp/a", OLD, ", accessPolicy: audit")],
            NoPolicy,
            Permissive,
        ),
        ("C6: a Server of another namespace", vec![server("other/s", OLD, "")], NoPolicy, Permissive),
        (
            "C6: ServerAuthorization by name",
            vec![
                s(),
                sa(
                    "{server: {name: s}, client: {meshTLS: {serviceAccounts: [{name: client, namespace: agents}]}}}",
                ),
            ],
            Allowed,
            Strict,
        ),
        (
            "C6: ServerAuthorization by the Server's labels",
            vec![
                s(),
                sa(
                    "{server: {selector: {matchLabels: {of: tools}}}, client: {meshTLS: {identities: [\"*\"]}}}",
                ),
            ],
            Allowed,
            Strict,
        ),
        (
            "C6: not by the pod's labels",
            vec![
                s(),
                sa(
                    "{server: {selector: {matchLabels: {app: tools}}}, client: {meshTLS: {identities: [\"*\"]}}}",
                ),
            ],
            Denied,
            Strict,
        ),
        (
            "C6: an account without a namespace is of its own",
            vec![s(), sa("{server: {name: s}, client: {meshTLS: {serviceAccounts: [{name: client}]}}}")],
            Denied,
            Strict,
        ),
        (
            "C6: an identity, exact",
            vec![
                s(),
                sa(
                    "{server: {name: s}, client: {meshTLS: {identities: [client.agents.serviceaccount.identity.linkerd.cluster.local]}}}",
                ),
            ],
            Allowed,
            Strict,
        ),
        (
            "C6: an identity, suffix",
            vec![
                s(),
                sa(
                    "{server: {name: s}, client: {meshTLS: {identities: [\"*.agents.serviceaccount.identity.linkerd.cluster.local\"]}}}",
                ),
            ],
            Allowed,
            Strict,
        ),
        (
            "C6: an identity of another control plane",
            vec![
                s(),
                sa(
                    "{server: {name: s}, client: {meshTLS: {identities: [client.agents.serviceaccount.identity.other.cluster.local]}}}",
                ),
            ],
            Denied,
            Strict,
        ),
        (
            "C6: unauthenticated",
            vec![s(), sa("{server: {name: s}, client: {unauthenticated: true}}")],
            Allowed,
            Permissive,
        ),
        (
            "C6: unauthenticatedTLS",
            vec![s(), sa("{server: {name: s}, client: {meshTLS: {unauthenticatedTLS: true}}}")],
            Allowed,
            Strict,
        ),
        (
            "C6: networks narrow it",
            vec![
                s(),
                sa("{server: {name: s}, client: {networks: [{cidr: 10.1.0.0/16}], unauthenticated: true}}"),
            ],
            Denied,
            Permissive,
        ),
        (
            "C6: except leaves out",
            vec![
                s(),
                sa(
                    "{server: {name: s}, client: {networks: [{cidr: 10.0.0.0/8, except: [10.0.0.0/24]}], unauthenticated: true}}",
                ),
            ],
            Denied,
            Permissive,
        ),
        (
            "C1: v1alpha1 of ServerAuthorization",
            vec![
                s(),
                object(
                    "ServerAuthorization",
                    "policy.linkerd.io/v1alpha1",
                    "mcp/sa",
                    OLD,
                    "{server: {name: s}, client: {unauthenticated: true}}",
                ),
            ],
            Allowed,
            Permissive,
        ),
        (
            "C6: AuthorizationPolicy for a Server",
            vec![
                s(),
                ap(SERVER, AUTH),
                mesh_tls("{identityRefs: [{kind: ServiceAccount, name: client, namespace: agents}]}"),
            ],
            Allowed,
            Strict,
        ),
        (
            "C6: for a whole namespace of accounts",
            vec![s(), ap(SERVER, AUTH), mesh_tls("{identityRefs: [{kind: Namespace, name: agents}]}")],
            Allowed,
            Strict,
        ),
        (
            "C6: for others",
            vec![s(), ap(SERVER, AUTH), mesh_tls("{identityRefs: [{kind: ServiceAccount, name: other}]}")],
            Denied,
            Strict,
        ),
        (
            "C6: for the namespace, where the port has a Server",
            vec![s(), ap("{kind: Namespace, name: mcp}", AUTH), mesh_tls("{identities: [\"*\"]}")],
            Allowed,
            Strict,
        ),
        (
            "C6: for the namespace, where it has none",
            vec![ap("{kind: Namespace, name: mcp}", AUTH), mesh_tls("{identities: []}")],
            NoPolicy,
            Permissive,
        ),
        (
            "C6: for another Server",
            vec![s(), ap("{kind: Server, name: t}", AUTH), mesh_tls("{identities: [\"*\"]}")],
            Denied,
            Strict,
        ),
        ("C6: a reference to nothing: the policy is ignored", vec![s(), ap(SERVER, AUTH)], Denied, Strict),
        (
            "C6: references are all asked for",
            vec![
                s(),
                ap(SERVER, BOTH),
                mesh_tls("{identities: [\"*\"]}"),
                network("{networks: [{cidr: 10.1.0.0/16}]}"),
            ],
            Denied,
            Strict,
        ),
        (
            "C6: and all hold",
            vec![
                s(),
                ap(SERVER, BOTH),
                mesh_tls("{identities: [\"*\"]}"),
                network("{networks: [{cidr: 10.0.0.0/16}]}"),
            ],
            Allowed,
            Strict,
        ),
        (
            "C6: without an identity reference plaintext is admitted",
            vec![s(), ap(SERVER, NET), network("{networks: [{cidr: 10.0.0.0/8}]}")],
            Allowed,
            Permissive,
        ),
        ("C6: no references admit all", vec![s(), ap(SERVER, "[]")], Allowed, Permissive),
        (
            "linkerd: two identities are illegal, and count for nothing",
            vec![
                s(),
                ap(
                    SERVER,
                    "[{kind: ServiceAccount, name: client, namespace: agents}, {kind: MeshTLSAuthentication, name: auth}]",
                ),
                mesh_tls("{identities: [\"*\"]}"),
            ],
            Denied,
            Strict,
        ),
        (
            "linkerd: two networks are illegal, and count for nothing",
            vec![
                s(),
                ap(
                    SERVER,
                    "[{kind: NetworkAuthentication, name: net}, {kind: NetworkAuthentication, name: net}]",
                ),
                network("{networks: [{cidr: 0.0.0.0/0}]}"),
            ],
            Denied,
            Strict,
        ),
        (
            "C6: a ServiceAccount as reference",
            vec![s(), ap(SERVER, "[{kind: ServiceAccount, name: client, namespace: agents}]")],
            Allowed,
            Strict,
        ),
        (
            "C6: a route's authorization is not visible",
            vec![
                s(),
                ap("{group: policy.linkerd.io, kind: HTTPRoute, name: r}", AUTH),
                mesh_tls("{identities: [\"*\"]}"),
            ],
            Unknown,
            Strict,
        ),
        (
            "C6: a route's authorization for others denies all the same",
            vec![s(), ap("{kind: HTTPRoute, name: r}", AUTH), mesh_tls("{identities: [nobody]}")],
            Denied,
            Strict,
        ),
    ];
    for (rule, objects, expected, declared) in rows {
        let pods = linkerd("mcp", "tools", &[]) + &linkerd("agents", "client", &[]);
        let world = World::new(&(objects.concat() + &pods));
        let ruling = world.admits("client", "tools", 8080);
        assert_eq!(ruling.answer, *expected, "{rule}: {ruling:?}");
        let mode = world.mode("tools", 8080);
        assert_eq!((mode.declared, mode.gap), (*declared, None), "{rule}");
    }
}

#[test]
fn every_served_version_of_a_server_is_read() {
    for version in ["v1alpha1", "v1beta1", "v1beta2", "v1beta3"] {
        let spec = "{podSelector: {matchLabels: {app: tools}}, port: 8080}";
        let text = object("Server", &format!("policy.linkerd.io/{version}"), "mcp/s", OLD, spec);
        let world = World::new(&(text + &linkerd("mcp", "tools", &[])));
        assert_eq!(world.mode("tools", 8080).declared, Strict, "{version}");
        assert_eq!(world.mode("tools", 8081).declared, Permissive, "{version}: another port");
    }
}

#[test]
fn defaults_come_from_the_pod_then_from_the_cluster() {
    let config = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: linkerd\n  name: linkerd-config\ndata:\n  values: |\n    identityTrustDomain: cluster.local\n    proxy:\n      defaultInboundPolicy: deny\n    proxyInit:\n      ignoreInboundPorts: \"4567\"\n";
    let own = [("config.linkerd.io/default-inbound-policy", "all-authenticated")];
    let forced = [("config.linkerd.io/proxy-require-identity-inbound-ports", "8080")];
    let skip = [("config.linkerd.io/skip-inbound-ports", "8080")];
    for (rule, config, pod, answer, declared, gap) in [
        ("C6: the cluster's", config, linkerd("mcp", "tools", &[]), Denied, Strict, false),
        ("C6: the pod's", config, linkerd("mcp", "tools", &own), NoPolicy, Strict, false),
        (
            "C6: proxy-require-identity-inbound-ports",
            "",
            linkerd("mcp", "tools", &forced),
            NoPolicy,
            Strict,
            false,
        ),
        (
            "linkerd: the annotation does not change audit",
            "",
            linkerd("mcp", "tools", &[forced[0], ("config.linkerd.io/default-inbound-policy", "audit")]),
            NoPolicy,
            Permissive,
            false,
        ),
        ("C6: skip-inbound-ports", "", linkerd("mcp", "tools", &skip), NoPolicy, Permissive, true),
    ] {
        let world = World::new(&(config.to_owned() + &pod + &linkerd("agents", "client", &[])));
        assert_eq!(world.admits("client", "tools", 8080).answer, answer, "{rule}");
        let mode = world.mode("tools", 8080);
        assert_eq!((mode.declared, mode.gap.is_some()), (declared, gap), "{rule}");
    }
    let world = World::new(&(config.to_owned() + &linkerd("mcp", "tools", &[])));
    assert!(world.mode("tools", 4567).gap.is_some(), "C6: proxyInit.ignoreInboundPorts");
}

#[test]
fn deny_admits_no_plaintext_and_networks_depend_on_the_client() {
    let networks =
        sa("{server: {name: s}, client: {networks: [{cidr: 10.1.0.0/16}], unauthenticated: true}}");
    let world = World::new(&(server("mcp/s", OLD, "") + &networks + &linkerd("mcp", "tools", &[])));
    let mode = |address| {
        world.set.mode(world.pod("tools"), 8080, Some(crate::testing::ip(address))).unwrap().declared
    };
    assert_eq!((mode("10.1.0.1"), mode("10.2.0.1")), (Permissive, Strict));
}
