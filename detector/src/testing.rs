//! Builders that unit tests of several modules share.

use std::net::IpAddr;

use detector_ebpf::{
    edge::{EdgeKey, EdgeValue},
    evidence::Evidence,
    verdict::{Protocol, Verdict},
};

use crate::cluster::{
    Labels, Selector, Workload, WorkloadKind,
    objects::{Name, Pod, Service, ServicePort, TargetPort},
};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A pod whose label `app`, deployment and service account are called as it is.
pub(crate) fn pod(namespace: &str, name: &str, addresses: &[&str]) -> Pod {
    Pod {
        uid: format!("uid-{namespace}-{name}").into(),
        name: Name::new(namespace, name),
        workload: Workload { kind: WorkloadKind::Deployment, name: name.into() },
        service_account: name.into(),
        node: Some("node1".into()),
        host_network: false,
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        labels: Labels::from_iter([("app", name), ("pod-template-hash", "abc")]),
        named_ports: Box::new([]),
        annotations: Labels::default(),
        proxy: std::sync::Arc::default(),
    }
}

/// A service in `mcp` on port 80, for the pods with the label `app` of its name, on their port 8000.
pub(crate) fn service(name: &str, address: &str) -> Service {
    Service {
        name: Name::new("mcp", name),
        addresses: [ip(address)].into(),
        ports: [ServicePort {
            name: "".into(),
            port: 80,
            target: TargetPort::Number(8000),
            app_protocol: None,
        }]
        .into(),
        selector: Some(Selector { match_labels: Labels::from_iter([("app", name)]), ..Selector::default() }),
    }
}

/// An edge of plaintext HTTP, seen on the server's interface.
pub(crate) fn edge(client: &str, server: &str, port: u16) -> EdgeKey {
    let bytes = |text: &str| match ip(text) {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    EdgeKey {
        client: bytes(client),
        server: bytes(server),
        ifindex: 7,
        server_port: port,
        verdict: Verdict::Plaintext as u8,
        protocol: Protocol::Http1 as u8,
        ..EdgeKey::default()
    }
}

pub(crate) fn value(entered: u64, left: u64, evidence: Evidence) -> EdgeValue {
    EdgeValue { entered, left, evidence: evidence.0, first_ns: 1, last_ns: 2, ..EdgeValue::default() }
}
