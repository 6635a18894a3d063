//! Builders that unit tests of several modules share.

use std::{net::IpAddr, sync::Arc};

use detector_ebpf::{
    edge::{EdgeKey, EdgeValue},
    evidence::Evidence,
    method::Methods,
    verdict::{Protocol, Verdict},
};

use crate::{
    cluster::{
        Labels, Selector, Workload, WorkloadKind,
        objects::{Name, Pod, PodTemplate, Service, ServicePort, TargetPort},
    },
    findings::{Finding, FindingId, Severity},
    flows::{End, Flow, Timestamp, TlsNames, TlsSeen},
};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A pod whose label `app`, deployment and service account are called as it is.
pub(crate) fn pod(namespace: &str, name: &str, addresses: &[&str]) -> Pod {
    Pod {
        uid: format!("uid-{namespace}-{name}").into(),
        name: Name::new(namespace, name),
        node: Some("node1".into()),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        template: Arc::new(PodTemplate {
            workload: Workload { kind: WorkloadKind::Deployment, name: name.into() },
            service_account: name.into(),
            host_network: false,
            labels: Labels::from_iter([("app", name), ("pod-template-hash", "abc")]),
            annotations: Labels::default(),
            named_ports: Arc::new([]),
            proxy: Arc::default(),
        }),
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
            node_port: None,
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

/// MCP in plaintext with a bearer token, from the pod `client` to an address that nobody has.
pub(crate) fn flow(client: &str) -> Flow {
    let made = |name| pod("mcp", name, &["10.244.0.9"]).into();
    Flow {
        client: End::Pod { pod: made(client), address: ip("10.244.0.9") },
        server: End::Unknown { address: ip("10.244.0.3") },
        port: 8000,
        verdict: Verdict::Plaintext,
        protocol: Protocol::Mcp,
        evidence: Evidence::MCP_METHOD.or(Evidence::AUTH_BEARER),
        methods: Methods(1 << 3),
        tls: TlsNames::default(),
        offered: TlsSeen::default(),
        connections: 3,
        with_credentials: 2,
        answered: 1,
        refused: 0,
        first_seen: Timestamp(1_795_500_000_000_000_000),
        last_seen: Timestamp(1_795_500_001_234_567_890),
    }
}

/// Plaintext MCP from pod `mcp/client` to pod `mcp/tools` on port 8000.
pub(crate) fn mcp_flow() -> Flow {
    let end = |name: &str, address: &str| {
        let uid = if name == "tools" { "11111111-2222-4333-8444-555555555555" } else { name };
        let pod = Pod { uid: uid.into(), ..pod("mcp", name, &[address]) };
        End::Pod { pod: pod.into(), address: ip(address) }
    };
    Flow {
        client: end("client", "10.244.0.2"),
        server: end("tools", "10.244.0.3"),
        port: 8000,
        verdict: Verdict::Plaintext,
        protocol: Protocol::Mcp,
        evidence: Evidence::HTTP_REQUEST,
        methods: Methods::default(),
        tls: TlsNames::default(),
        offered: TlsSeen::default(),
        connections: 1,
        with_credentials: 0,
        answered: 1,
        refused: 0,
        first_seen: Timestamp(1_000_000_000),
        last_seen: Timestamp(2_000_000_000),
    }
}

/// A finding of a flow.
pub(crate) fn finding(flow: Flow) -> Finding {
    Finding {
        id: FindingId::PlaintextMcp,
        severity: Severity::High,
        flow,
        why: "why it matters".to_owned(),
        fix: "# Do this.\nkind: Thing\n".to_owned(),
        decided_by: None,
    }
}

/// Names that no output may let do what they are for.
pub(crate) const HOSTILE: [&str; 14] = [
    "\x1b[2J\x1b[31mred",
    "\x1b]0;title\x07",
    "a\nkind: Secret\nforged: true",
    "a\r\nHTTP/1.1 200 OK\r\n\r\n",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>\"'`",
    "\"}],\"forged\":[{\"",
    "a|b`c`|[d](javascript:e)",
    "\u{202e}evil\u{2066}\u{200b}",
    "\0nul",
    "\u{9b}31m\u{7f}\x08\x08",
    "../../../etc/passwd%00",
    "{label=\"forged\"} 1\n# HELP forged",
    LONGEST,
];

/// As long as a name may be, and a character more, so that no API server had it.
const LONGEST: &str = concat!(
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
);
