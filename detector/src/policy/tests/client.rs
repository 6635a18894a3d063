//! What a client sends, by DestinationRule and auto mTLS.

use super::{World, ambient, linkerd, object, plain, sidecar};
use crate::{
    flows::Timestamp,
    policy::{
        PolicyView,
        Sends::{self, MeshMtls, Plaintext, Tls},
    },
    testing,
};

const OLD: &str = "2026-01-01T00:00:00Z";
const NEW: &str = "2026-02-01T00:00:00Z";

fn dr(name: &str, created: &str, spec: &str) -> String {
    object("DestinationRule", "networking.istio.io/v1", name, created, spec)
}

fn tls(host: &str, mode: &str) -> String {
    format!("{{host: \"{host}\", trafficPolicy: {{tls: {{mode: {mode}}}}}}}")
}

fn pa(name: &str, spec: &str) -> String {
    object("PeerAuthentication", "security.istio.io/v1", name, OLD, spec)
}

/// The client is `agents/client`, the service `mcp/tools`, port 80, before 8080 of the pod.
#[test]
fn destination_rules_are_looked_up_as_istio_does() {
    const FQDN: &str = "tools.mcp.svc.cluster.local";
    let with = |host: &str, mode: &str, more: &str| {
        format!("{{host: \"{host}\", trafficPolicy: {{tls: {{mode: {mode}}}}}, {more}}}")
    };
    let rows: &[(&str, Vec<String>, Sends, &str)] = &[
        ("checker: auto mTLS", vec![], MeshMtls, "auto mTLS"),
        (
            "C3: DISABLE is plaintext, even to a sidecar",
            vec![dr("mcp/r", OLD, &tls(FQDN, "DISABLE"))],
            Plaintext,
            "mcp/r, spec.trafficPolicy.tls.mode",
        ),
        ("C3: SIMPLE is TLS of its own", vec![dr("mcp/r", OLD, &tls(FQDN, "SIMPLE"))], Tls, "mcp/r"),
        ("C3: MUTUAL is TLS of its own", vec![dr("mcp/r", OLD, &tls(FQDN, "MUTUAL"))], Tls, "mcp/r"),
        ("C3: ISTIO_MUTUAL", vec![dr("mcp/r", OLD, &tls(FQDN, "ISTIO_MUTUAL"))], MeshMtls, "mcp/r"),
        (
            "push 1: the client's namespace comes first",
            vec![dr("agents/r", NEW, &tls("*.local", "DISABLE")), dr("mcp/r", OLD, &tls(FQDN, "SIMPLE"))],
            Plaintext,
            "agents/r",
        ),
        (
            "push 2: then the service's",
            vec![dr("mcp/r", NEW, &tls(FQDN, "SIMPLE")), dr("istio-system/r", OLD, &tls(FQDN, "DISABLE"))],
            Tls,
            "mcp/r",
        ),
        (
            "push 3: then the root one",
            vec![dr("istio-system/r", OLD, &tls("*.svc.cluster.local", "DISABLE"))],
            Plaintext,
            "istio-system/r",
        ),
        ("push: no other namespace", vec![dr("other/r", OLD, &tls(FQDN, "DISABLE"))], MeshMtls, "auto mTLS"),
        (
            "push: exact beats wildcard",
            vec![
                dr("mcp/w", OLD, &tls("*.mcp.svc.cluster.local", "DISABLE")),
                dr("mcp/e", NEW, &tls(FQDN, "SIMPLE")),
            ],
            Tls,
            "mcp/e",
        ),
        (
            "push: the longest wildcard wins",
            vec![
                dr("mcp/s", OLD, &tls("*.cluster.local", "DISABLE")),
                dr("mcp/l", NEW, &tls("*.mcp.svc.cluster.local", "SIMPLE")),
            ],
            Tls,
            "mcp/l",
        ),
        (
            "push: a short name is of the rule's namespace",
            vec![dr("mcp/r", OLD, &tls("tools", "DISABLE"))],
            Plaintext,
            "mcp/r",
        ),
        (
            "push: in another namespace it is another host",
            vec![dr("agents/r", OLD, &tls("tools", "DISABLE"))],
            MeshMtls,
            "auto mTLS",
        ),
        (
            "push: exportTo .",
            vec![dr("mcp/r", OLD, &with(FQDN, "DISABLE", "exportTo: [.]"))],
            MeshMtls,
            "auto mTLS",
        ),
        (
            "push: exportTo the client's namespace",
            vec![dr("mcp/r", OLD, &with(FQDN, "DISABLE", "exportTo: [agents]"))],
            Plaintext,
            "mcp/r",
        ),
        (
            "push: in the client's own, exportTo to others alone hides it",
            vec![dr("agents/r", OLD, &with(FQDN, "DISABLE", "exportTo: [x]"))],
            MeshMtls,
            "auto mTLS",
        ),
        (
            "push: in the client's own, exportTo . does not",
            vec![dr("agents/r", OLD, &with(FQDN, "DISABLE", "exportTo: [.]"))],
            Plaintext,
            "agents/r",
        ),
        (
            "push: the host is found before the clients, so a rule for others hides a wider host",
            vec![
                dr("agents/r", OLD, &with(FQDN, "SIMPLE", "workloadSelector: {matchLabels: {app: other}}")),
                dr("agents/w", OLD, &tls("*.local", "DISABLE")),
                dr("mcp/r", OLD, &tls(FQDN, "DISABLE")),
            ],
            MeshMtls,
            "auto mTLS",
        ),
        (
            "push: what is exported to others hides a wider host of its namespace, and not the root one",
            vec![
                dr("mcp/r", OLD, &with(FQDN, "SIMPLE", "exportTo: [x]")),
                dr("mcp/w", OLD, &tls("*.local", "SIMPLE")),
                dr("istio-system/r", OLD, &tls("*.local", "DISABLE")),
            ],
            Plaintext,
            "istio-system/r",
        ),
        (
            "push: a rule for some clients is its own namespace's",
            vec![dr(
                "mcp/r",
                OLD,
                &with(FQDN, "DISABLE", "exportTo: ['*'], workloadSelector: {matchLabels: {app: client}}"),
            )],
            MeshMtls,
            "auto mTLS",
        ),
        (
            "push: the oldest traffic policy of a host wins",
            vec![dr("mcp/b", NEW, &tls(FQDN, "DISABLE")), dr("mcp/a", OLD, &tls(FQDN, "SIMPLE"))],
            Tls,
            "mcp/a",
        ),
        (
            "push: one without a traffic policy does not count",
            vec![dr("mcp/b", NEW, &tls(FQDN, "DISABLE")), dr("mcp/a", OLD, &format!("{{host: {FQDN}}}"))],
            Plaintext,
            "mcp/b",
        ),
        (
            "push: workloadSelector limits to clients",
            vec![dr(
                "agents/r",
                OLD,
                &with(FQDN, "DISABLE", "workloadSelector: {matchLabels: {app: other}}"),
            )],
            MeshMtls,
            "auto mTLS",
        ),
        (
            "push: a rule for this client beats one for all",
            vec![
                dr("agents/a", OLD, &tls(FQDN, "SIMPLE")),
                dr("agents/b", NEW, &with(FQDN, "DISABLE", "workloadSelector: {matchLabels: {app: client}}")),
            ],
            Plaintext,
            "agents/b",
        ),
        (
            "C3: ports are the service's",
            vec![dr(
                "mcp/r",
                OLD,
                &format!(
                    "{{host: {FQDN}, trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}, portLevelSettings: [{{port: {{number: 80}}, tls: {{mode: DISABLE}}}}]}}}}"
                ),
            )],
            Plaintext,
            "portLevelSettings[80]",
        ),
        (
            "C3: not the pod's",
            vec![dr(
                "mcp/r",
                OLD,
                &format!(
                    "{{host: {FQDN}, trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}, portLevelSettings: [{{port: {{number: 8080}}, tls: {{mode: DISABLE}}}}]}}}}"
                ),
            )],
            MeshMtls,
            "mcp/r",
        ),
        (
            "checker: a rule without tls leaves auto mTLS",
            vec![dr("mcp/r", OLD, &format!("{{host: {FQDN}, trafficPolicy: {{connectionPool: {{}}}}}}"))],
            MeshMtls,
            "auto mTLS",
        ),
        (
            "checker: DISABLE of the workload",
            vec![pa("mcp/w", "{selector: {matchLabels: {app: tools}}, mtls: {mode: DISABLE}}")],
            Plaintext,
            "mcp/w",
        ),
        (
            "checker: DISABLE of the port",
            vec![pa(
                "mcp/w",
                "{selector: {matchLabels: {app: tools}}, portLevelMtls: {8080: {mode: DISABLE}}}",
            )],
            Plaintext,
            "portLevelMtls[8080]",
        ),
        (
            "cluster_tls: DISABLE of the namespace, whatever the workload says",
            vec![
                pa("mcp/n", "{mtls: {mode: DISABLE}}"),
                pa("mcp/w", "{selector: {matchLabels: {app: tools}}, mtls: {mode: STRICT}}"),
            ],
            Plaintext,
            "mcp/n",
        ),
        (
            "C1: v1alpha3 is read as v1",
            vec![object(
                "DestinationRule",
                "networking.istio.io/v1alpha3",
                "mcp/r",
                OLD,
                &tls(FQDN, "DISABLE"),
            )],
            Plaintext,
            "mcp/r",
        ),
    ];
    for (rule, objects, expected, by) in rows {
        let pods = sidecar("mcp", "tools", &[]) + &sidecar("agents", "client", &[]);
        let sent = World::new(&(objects.concat() + &pods)).sends("client", "tools");
        assert_eq!(sent.sends, *expected, "{rule}");
        assert!(sent.decided_by.to_string().contains(by), "{rule}: {}", sent.decided_by);
        assert_eq!(sent.doubt, None, "{rule}");
    }
}

#[test]
fn what_two_readings_have_is_told_with_its_doubt() {
    let port =
        "{host: tools, trafficPolicy: {tls: {mode: DISABLE}, portLevelSettings: [{port: {number: 80}}]}}";
    let subset = "{host: tools, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}, subsets: [{name: v1, labels: {app: tools}, trafficPolicy: {tls: {mode: DISABLE}}}]}";
    let other = "{host: tools, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}, subsets: [{name: v1, labels: {app: x}, trafficPolicy: {tls: {mode: DISABLE}}}]}";
    for (rule, spec, expected, doubt) in [
        ("C3: a port's settings without tls", port, Plaintext, true),
        ("checker: a subset that holds the server", subset, MeshMtls, true),
        ("checker: a subset of other pods", other, MeshMtls, false),
    ] {
        let pods = sidecar("mcp", "tools", &[]) + &sidecar("agents", "client", &[]);
        let sent = World::new(&(dr("mcp/r", OLD, spec) + &pods)).sends("client", "tools");
        assert_eq!((sent.sends, sent.doubt.is_some()), (expected, doubt), "{rule}");
    }
}

#[test]
fn both_ends_must_be_in_one_mesh() {
    let skip = [("config.linkerd.io/skip-outbound-ports", "80")];
    let skip_in = [("config.linkerd.io/skip-inbound-ports", "8080")];
    let subnet = [("config.linkerd.io/skip-subnets", "10.96.0.0/12")];
    let exclude = [("traffic.sidecar.istio.io/excludeOutboundPorts", "80")];
    let ranges = |name: &'static str, ranges: &'static str| sidecar("agents", "client", &[(name, ranges)]);
    let (out, of) = (
        "traffic.sidecar.istio.io/excludeOutboundIPRanges",
        "traffic.sidecar.istio.io/includeOutboundIPRanges",
    );
    let both = [(of, "192.168.0.0/16"), ("traffic.sidecar.istio.io/includeOutboundPorts", "80")];
    let tools = || sidecar("mcp", "tools", &[]);
    for (rule, client, server, expected) in [
        ("C8: a client without a proxy", plain("agents", "client"), sidecar("mcp", "tools", &[]), Plaintext),
        ("C3: a server without one", sidecar("agents", "client", &[]), plain("mcp", "tools"), Plaintext),
        (
            "C5: a port that the client's proxy leaves alone",
            sidecar("agents", "client", &exclude),
            sidecar("mcp", "tools", &[]),
            Plaintext,
        ),
        ("C5: excludeOutboundIPRanges", ranges(out, "192.168.0.0/16, 10.96.0.0/12"), tools(), Plaintext),
        ("C5: excludeOutboundIPRanges of others", ranges(out, "192.168.0.0/16"), tools(), MeshMtls),
        ("C5: includeOutboundIPRanges", ranges(of, "10.96.0.0/12"), tools(), MeshMtls),
        ("C5: includeOutboundIPRanges of others", ranges(of, "192.168.0.0/16"), tools(), Plaintext),
        ("C5: includeOutboundIPRanges of all", ranges(of, "*"), tools(), MeshMtls),
        ("C5: includeOutboundPorts", sidecar("agents", "client", &both), tools(), MeshMtls),
        (
            "capture: what is excluded by its address stays so, whatever its port",
            sidecar("agents", "client", &[(out, "10.96.0.0/12"), both[1]]),
            tools(),
            Plaintext,
        ),
        ("C2: ambient to ambient", ambient("agents", "client", &[]), ambient("mcp", "tools", &[]), MeshMtls),
        ("C6: Linkerd to Linkerd", linkerd("agents", "client", &[]), linkerd("mcp", "tools", &[]), MeshMtls),
        ("C6: Linkerd to Istio", linkerd("agents", "client", &[]), sidecar("mcp", "tools", &[]), Plaintext),
        (
            "C6: skip-outbound-ports",
            linkerd("agents", "client", &skip),
            linkerd("mcp", "tools", &[]),
            Plaintext,
        ),
        ("C6: skip-subnets", linkerd("agents", "client", &subnet), linkerd("mcp", "tools", &[]), Plaintext),
        (
            "C6: skip-inbound-ports",
            linkerd("agents", "client", &[]),
            linkerd("mcp", "tools", &skip_in),
            Plaintext,
        ),
    ] {
        assert_eq!(World::new(&(client + &server)).sends("client", "tools").sends, expected, "{rule}");
    }
}

#[test]
fn what_a_client_leaves_out_is_the_address_that_it_dials() {
    let subnet = [("config.linkerd.io/skip-subnets", "10.96.0.0/12")];
    let world = World::new(&(linkerd("agents", "client", &subnet) + &linkerd("mcp", "tools", &[])));
    let sends = |from: &str, to: &str| {
        let client = (Some(world.pod("client")), testing::ip(from));
        let server = (world.pod("tools"), testing::ip(to));
        let view = PolicyView::of_edge(&world.set, client, server, 8080, None, Timestamp(1));
        view.client.unwrap().sends
    };
    assert_eq!(sends("10.0.0.9", "10.96.0.1"), Plaintext, "C6: skip-subnets");
    assert_eq!(sends("10.96.0.1", "10.0.0.9"), MeshMtls, "its own address is none of it");
}

#[test]
fn a_pod_s_own_address_is_passed_on_as_it_is() {
    let world = World::new(&(sidecar("agents", "client", &[]) + &sidecar("mcp", "tools", &[])));
    let sent = world.sends_to("client", "tools", None);
    assert_eq!(sent.sends, Plaintext, "C3: PassthroughCluster");
    assert!(sent.doubt.is_some());
}

#[test]
fn the_mesh_can_turn_auto_mtls_off() {
    let config = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: istio-system\n  name: istio\ndata:\n  mesh: |\n    enableAutoMtls: false\n";
    let pods = sidecar("agents", "client", &[]) + &sidecar("mcp", "tools", &[]);
    assert_eq!(World::new(&(config.to_owned() + &pods)).sends("client", "tools").sends, Plaintext);
}
