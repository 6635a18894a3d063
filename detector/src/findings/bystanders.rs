//! Traffic that a mesh takes in its stride, under policy that is as strict as can be: nothing is cried about.

use std::net::IpAddr;

use detector_ebpf::{
    evidence::Evidence,
    verdict::{Protocol, Verdict},
};

use super::{FindingId, Rules, Severity, evaluate, tests::flow};
use crate::{
    cluster::{self, Holder, Store},
    flows::{End, Flow},
    policy::PolicyView,
    testing,
};

const CLUSTER: &str = include_str!("../../testdata/bystanders.yaml");

fn store() -> Store {
    let read = cluster::read_str("bystanders.yaml", CLUSTER);
    assert!(read.errors.is_empty(), "{:?}", read.errors);
    let mut store = Store::default();
    store.reset(read.objects);
    store
}

/// A pod by its name, or an address.
fn end(store: &Store, text: &str) -> End {
    let named = store.pods().find(|pod| *pod.name.name == *text).and_then(|pod| pod.addresses.iter().next());
    let address: IpAddr = named.unwrap_or_else(|| testing::ip(text));
    match store.lookup(address) {
        Some(Holder::Pod(pod)) => End::Pod { pod, address },
        Some(Holder::Node(name)) => End::Node { name, address },
        _ => End::External { address },
    }
}

fn call(store: &Store, client: &str, server: &str, port: u16, protocol: Protocol) -> Flow {
    let evidence = Evidence::HTTP_REQUEST.or(Evidence::ANSWERED);
    let verdict = if protocol == Protocol::None { Verdict::MeshMtls } else { Verdict::Plaintext };
    Flow { client: end(store, client), server: end(store, server), verdict, ..flow(port, protocol, evidence) }
}

fn ids(store: &Store, flow: &Flow) -> Vec<(FindingId, Severity)> {
    let findings = evaluate(flow, &PolicyView::of(store, flow), Rules::default());
    findings.iter().map(|finding| (finding.id, finding.severity)).collect()
}

#[test]
fn what_a_mesh_takes_in_its_stride_is_no_finding() {
    let store = store();
    for (what, client, server, port, protocol) in [
        ("both are outside of the mesh", "prometheus", "coredns", 9153, Protocol::Http1),
        ("Istio's merged metrics", "prometheus", "tools", 15020, Protocol::Http1),
        ("Envoy's metrics", "prometheus", "tools", 15090, Protocol::Http1),
        ("the sidecar's health", "192.168.0.1", "tools", 15021, Protocol::Http1),
        ("a rewritten probe", "192.168.0.1", "tools", 15020, Protocol::Http1),
        ("a probe of an ambient pod", "192.168.0.1", "ambient", 8080, Protocol::Http1),
        ("a probe as ambient mode sends it", "169.254.7.127", "ambient", 8080, Protocol::Http1),
        ("a proxy of the node", "192.168.0.1", "tools", 8080, Protocol::None),
        ("a listener of an injected gateway", "203.0.113.9", "ingress", 8080, Protocol::Http1),
        ("a load balancer's health check", "203.0.113.9", "ingress", 15021, Protocol::Http1),
        ("a listener of a Gateway API gateway", "203.0.113.9", "entry", 80, Protocol::Http1),
        ("a gateway's metrics", "prometheus", "entry", 15020, Protocol::Http1),
        ("a waypoint's metrics", "prometheus", "waypoint", 15090, Protocol::Http1),
        ("HBONE to a waypoint", "ambient", "waypoint", 15008, Protocol::None),
        ("ztunnel's metrics", "prometheus", "ztunnel", 15020, Protocol::Http1),
        ("Linkerd's metrics", "prometheus", "linkerd", 4191, Protocol::Http1),
        ("Linkerd's tap", "prometheus", "linkerd", 4190, Protocol::H2c),
        ("Linkerd's tunnel", "meshed-prometheus", "linkerd", 4143, Protocol::None),
    ] {
        let flow = call(&store, client, server, port, protocol);
        assert_eq!(ids(&store, &flow), [], "{what}");
    }
}

#[test]
fn and_what_is_wrong_beside_it_is_one() {
    use FindingId::{PlaintextInStrict, PlaintextMcp, UnexpectedSource};
    use Severity::{High, Medium};
    let store = store();
    for (what, client, server, port, protocol, expected) in [
        (
            "a stranger at a port of the mesh",
            "prometheus",
            "tools",
            8080,
            Protocol::Http1,
            &[(PlaintextInStrict, High), (UnexpectedSource, Medium)][..],
        ),
        ("MCP at a gateway", "203.0.113.9", "entry", 80, Protocol::Mcp, &[(PlaintextMcp, High)]),
        ("MCP outside of the mesh", "prometheus", "coredns", 80, Protocol::Mcp, &[(PlaintextMcp, High)]),
        ("MCP at a port of a proxy", "prometheus", "entry", 15020, Protocol::Mcp, &[(PlaintextMcp, High)]),
    ] {
        let flow = call(&store, client, server, port, protocol);
        assert_eq!(ids(&store, &flow), expected, "{what}");
    }
    // The fix for a gateway is one of its Gateway.
    let flow = call(&store, "203.0.113.9", "entry", 80, Protocol::Mcp);
    let findings = evaluate(&flow, &PolicyView::of(&store, &flow), Rules::default());
    let fix = findings.first().map(|finding| finding.fix.as_str()).unwrap_or_default();
    assert!(fix.contains("spec.listeners[].tls") && !fix.contains("PeerAuthentication"), "{fix}");
}
