//! Replays of captures that are made here, from bytes to report.

use detector_ebpf::{
    counter::Counter,
    verdict::{Protocol, Verdict},
};

use super::{
    Limits, Report, Undecided, replay,
    testing::{ACK, Blocks, MCP, SYN, connection, pcap, pcap_head, pcap_record, tcp},
};
use crate::{
    cluster::{Store, objects::Object},
    findings::{FindingId, Rules, Severity},
    flows::End,
    replay::progress::Progress,
    testing,
};

const CLIENT: &str = "10.244.0.2:40000";
const SERVER: &str = "10.244.0.3:8000";
const SECOND: &str = "10.244.0.4:8000";
const CLUSTER_IP: &str = "10.96.0.10:80";

const LIMITS: Limits = Limits { max_flows: 1000, max_edges: 1000, scan_window: 4096 };

fn report(store: &Store, file: &[u8]) -> Report {
    replay(file, store, LIMITS, Rules::default(), Progress::start(None))
}

/// Client, server, port, connections.
fn told(report: &Report) -> Vec<(String, String, u16, u64)> {
    let name = |end: &End| match end {
        End::Pod { pod, .. } => pod.name.name.to_string(),
        End::Service { service, .. } => format!("service {}", service.name.name),
        other => other.address().to_string(),
    };
    assert!(report.error.is_none(), "{report:?}");
    report
        .flows
        .iter()
        .map(|flow| (name(&flow.client), name(&flow.server), flow.port, flow.connections))
        .collect()
}

fn row(client: &str, server: &str, port: u16, connections: u64) -> (String, String, u16, u64) {
    (client.to_owned(), server.to_owned(), port, connections)
}

/// A client, a service, and two pods behind it.
fn cluster() -> Store {
    let mut store = Store::default();
    store.apply(Object::Pod(testing::pod("mcp", "client", &["10.244.0.2"])));
    for (name, address) in [("tools-1", "10.244.0.3"), ("tools-2", "10.244.0.4")] {
        let mut pod = testing::pod("mcp", name, &[address]);
        pod.template = testing::pod("mcp", "tools", &[]).template;
        store.apply(Object::Pod(pod));
    }
    store.apply(Object::Service(testing::service("tools", "10.96.0.10")));
    store
}

/// A frame as `-i any` has it: version 1, or 2 with the interface.
fn cooked(frame: &[u8], version: u32, received: bool, interface: u8) -> Vec<u8> {
    let (ethertype, ip) = frame[12..].split_at(2);
    let kind = if received { 0 } else { 4 };
    if version == 1 {
        [&[0, kind, 0, 1, 0, 6][..], &[0; 8], ethertype, ip].concat()
    } else {
        [ethertype, &[0; 2], &[0, 0, 0, interface], &[0, 1, kind, 6], &[0; 8], ip].concat()
    }
}

#[test]
fn a_connection_is_the_same_over_every_link_type() {
    let frames = connection(CLIENT, SERVER, &MCP);
    let all =
        |change: &dyn Fn(&[u8]) -> Vec<u8>| frames.iter().map(|frame| change(frame)).collect::<Vec<_>>();
    let files = [
        pcap(1, &frames),
        pcap(113, &all(&|frame| cooked(frame, 1, true, 0))),
        pcap(276, &all(&|frame| cooked(frame, 2, false, 9))),
        pcap(101, &all(&|frame| frame[14..].to_vec())),
        pcap(12, &all(&|frame| frame[14..].to_vec())),
        pcap(228, &all(&|frame| frame[14..].to_vec())),
    ];
    let [first, others @ ..] = files.map(|file| report(&Store::default(), &file));
    assert_eq!(told(&first), [row("10.244.0.2", "10.244.0.3", 8000, 1)]);
    let flow = &first.flows[0];
    assert_eq!((flow.verdict, flow.protocol, flow.answered), (Verdict::Plaintext, Protocol::Mcp, 1));
    assert_eq!(flow.methods.names().collect::<Vec<_>>(), ["tools/list"]);
    for other in others {
        assert_eq!(other.flows, first.flows);
    }
    let frames = connection("[fd00::2]:40000", "[fd00::3]:8000", &MCP);
    let raw: Vec<_> = frames.iter().map(|frame| frame[14..].to_vec()).collect();
    assert_eq!(told(&report(&Store::default(), &pcap(229, &raw))), [row("fd00::2", "fd00::3", 8000, 1)]);
}

#[test]
fn what_several_interfaces_showed_counts_once() {
    let blocks = Blocks { big_endian: false };
    let mut file = [blocks.section(), blocks.interface(1, 0, &[]), blocks.interface(113, 0, &[])].concat();
    let tls = [(true, &b"\x15\x03\x03\x00\x02\x02\x28"[..]), (false, b"\x17\x03\x03\x00\x02ab")];
    for (port, messages) in [(40_000, &MCP), (40_001, &tls)] {
        for frame in connection(&format!("10.244.0.2:{port}"), SERVER, messages) {
            file.extend(blocks.packet(0, 1, &frame, &[]));
            file.extend(blocks.packet(1, 1, &cooked(&frame, 1, false, 0), &[]));
        }
    }
    let report = report(&Store::default(), &file);
    assert_eq!(
        told(&report),
        [row("10.244.0.2", "10.244.0.3", 8000, 1), row("10.244.0.2", "10.244.0.3", 8000, 1)]
    );
    assert_eq!(
        report.flows.iter().map(|flow| flow.verdict).collect::<Vec<_>>(),
        [Verdict::Plaintext, Verdict::Tls]
    );
}

#[test]
fn a_connection_of_many_tls_records_is_one_from_its_start_and_from_its_middle() {
    const RECORD: (bool, &[u8]) = (false, b"\x17\x03\x03\x00\x03abc");
    let frames =
        connection(CLIENT, SERVER, &[(true, b"\x15\x03\x03\x00\x02\x02\x28"), RECORD, RECORD, RECORD]);
    for skipped in [0, 3] {
        let report = report(&Store::default(), &pcap(1, &frames[skipped..]));
        assert_eq!(told(&report), [row("10.244.0.2", "10.244.0.3", 8000, 1)], "{skipped} skipped");
        assert_eq!(report.flows[0].verdict, Verdict::Tls);
    }
}

#[test]
fn ports_that_are_used_again_are_another_connection() {
    let tls = [(true, &b"\x15\x03\x03\x00\x02\x02\x28"[..])];
    let frames = [connection(CLIENT, SERVER, &tls), connection(CLIENT, SERVER, &tls)].concat();
    assert_eq!(
        told(&report(&Store::default(), &pcap(1, &frames))),
        [row("10.244.0.2", "10.244.0.3", 8000, 2)]
    );
}

#[test]
fn a_connection_before_and_after_dnat_is_the_servers_and_counts_once() {
    for version in [1, 2] {
        let before = connection(CLIENT, CLUSTER_IP, &MCP);
        let after = connection(CLIENT, SECOND, &MCP);
        let mut packets = Vec::new();
        for (index, (before, after)) in before.iter().zip(&after).enumerate() {
            // The client's words: SYN, request, FIN.
            let by_client = [0, 2, 4].contains(&index);
            let before = cooked(before, version, by_client, 3);
            let after = cooked(after, version, !by_client, 4);
            packets.extend(if by_client { [before, after] } else { [after, before] });
        }
        let link = if version == 1 { 113 } else { 276 };
        let report = report(&cluster(), &pcap(link, &packets));
        assert_eq!(told(&report), [row("client", "tools-2", 8000, 1)], "version {version}");
    }
}

#[test]
fn a_connection_to_a_service_whose_pod_was_not_seen_is_the_services() {
    let report = report(&cluster(), &pcap(1, &connection(CLIENT, CLUSTER_IP, &MCP)));
    assert_eq!(told(&report), [row("client", "service tools", 80, 1)]);
}

#[test]
fn ends_are_classes_of_addresses_where_nobody_is_known() {
    for (client, server, external) in
        [("192.0.2.7:40000", SERVER, [true, false]), (CLIENT, "192.0.2.7:80", [false, true])]
    {
        // From the start, and met at the request.
        for skipped in [0, 2] {
            let report = report(&Store::default(), &pcap(1, &connection(client, server, &MCP)[skipped..]));
            let ends = [&report.flows[0].client, &report.flows[0].server];
            assert_eq!(ends.map(|end| matches!(end, End::External { .. })), external, "{client} {server}");
        }
    }
}

#[test]
fn what_was_captured_in_part_is_counted_and_read_as_far_as_it_goes() {
    let frames = connection(CLIENT, SERVER, &[MCP[0], MCP[1], MCP[0]]);
    let mut file = pcap_head(1);
    for (index, frame) in frames.iter().enumerate() {
        // The first request without its end: the method is there, and then a gap.
        let end = if index == 2 { frame.len() - 10 } else { frame.len() };
        file.extend(pcap_record((1, 0), &frame[..end], frame.len()));
    }
    let report = report(&Store::default(), &file);
    assert_eq!(told(&report), [row("10.244.0.2", "10.244.0.3", 8000, 1)]);
    assert_eq!(report.flows[0].protocol, Protocol::Mcp);
    assert_eq!(report.summary.tally.truncated, 1);
    assert_eq!(report.summary.not_read.losses, [(Counter::SequenceGap, 1)]);
}

#[test]
fn headers_alone_are_no_verdict() {
    let mut file = pcap_head(1);
    for frame in connection(CLIENT, SERVER, &MCP) {
        file.extend(pcap_record((1, 0), &frame[..54], frame.len()));
    }
    let report = report(&Store::default(), &file);
    assert_eq!(told(&report), []);
    assert_eq!(report.summary.connections.last(), Some(&(Verdict::Undecided, 1)));
    assert_eq!(report.summary.tally.truncated, 2);
}

#[test]
fn a_connection_without_a_verdict_is_told_with_why() {
    let mut frames = connection("10.244.0.2:40001", SERVER, &[]);
    frames.extend(connection("10.244.0.2:40002", SERVER, &[(true, b"PO")]));
    frames.extend(connection("10.244.0.2:40003", SERVER, &[(true, b"GE")]));
    // Open at the end.
    frames.push(tcp("10.244.0.2:40004", SERVER, 0, SYN, b""));
    frames.extend(connection("10.244.0.2:40005", SERVER, &MCP));
    let report = report(&Store::default(), &pcap(1, &frames));
    assert_eq!(report.summary.connections.last(), Some(&(Verdict::Undecided, 4)));
    assert_eq!(report.summary.undecided, Undecided { no_payload: 2, too_little: 2 });
    let text = text(&report);
    let summary = "connections: 5 (plaintext 1, undecided 4); open at the end: 1\n\
        undecided, and in no flow: 2 sent no payload, 2 sent too little to tell\n";
    assert!(text.contains(summary), "{text}");
}

#[test]
fn what_is_no_tcp_or_of_another_link_is_counted_by_reason() {
    let blocks = Blocks { big_endian: false };
    let mut udp = tcp(CLIENT, SERVER, 0, 0, b"");
    udp[23] = 17;
    let mut arp = udp.clone();
    arp[13] = 6;
    let file = [
        blocks.section(),
        blocks.interface(1, 0, &[]),
        blocks.interface(105, 0, &[]),
        blocks.packet(0, 1, &udp, &[]),
        blocks.packet(0, 1, &arp, &[]),
        blocks.packet(0, 1, &udp[..20], &[]),
        blocks.packet(1, 1, &udp, &[]),
    ];
    let mixed = report(&Store::default(), &file.concat());
    assert_eq!(told(&mixed), []);
    let expected = [(Counter::NotIp, 1), (Counter::NotTcp, 1), (Counter::Malformed, 1)];
    assert_eq!(mixed.summary.not_read.packets, expected);
    assert_eq!(mixed.summary.tally.unread, 1);
    let nothing = report(&Store::default(), &[&file[..3].concat()[..], &file[6]].concat());
    assert!(nothing.error.unwrap().to_string().starts_with("link type 105 is not read"));
    let empty = report(&Store::default(), &pcap_head(1));
    assert_eq!((empty.summary.tally.packets, empty.error.is_none()), (0, true));
}

#[test]
fn silent_connections_are_let_go_as_the_captures_time_goes_on() {
    let mut file = pcap_head(1);
    let mut record = |second: u32, frame: &[u8]| {
        file.extend(pcap_record((second, 0), frame, frame.len()));
    };
    // Twice what fits, and an hour later one that must find room.
    for port in 0..2000_u32 {
        record(1000, &tcp(&format!("10.244.0.2:{}", 20_000 + port), SERVER, 0, SYN, b""));
    }
    record(5000, &tcp(CLIENT, SERVER, 0, SYN, b""));
    for frame in connection(CLIENT, SECOND, &MCP) {
        record(5000, &frame);
    }
    let report = report(&Store::default(), &file);
    assert_eq!(told(&report), [row("10.244.0.2", "10.244.0.4", 8000, 1)]);
    assert_eq!(report.summary.not_read.losses, [(Counter::FlowMapFull, 1000)]);
    assert!(text(&report).contains("flow_map_full 1000\nconnections are missing here"));
    assert_eq!(report.summary.open, 1);
    // 1,000 that fell silent, and the one that was open at the end.
    assert_eq!(report.summary.connections.last(), Some(&(Verdict::Undecided, 1001)));
}

#[test]
fn findings_need_no_identities_and_the_worst_comes_first() {
    let secret: [(bool, &[u8]); 2] = [(true, b"GET / HTTP/1.1\r\nCookie: a\r\n\r\n"), MCP[1]];
    let plain: [(bool, &[u8]); 2] = [(true, b"GET / HTTP/1.1\r\n\r\n"), MCP[1]];
    let frames = [
        connection("10.244.0.2:40001", SERVER, &plain),
        connection("10.244.0.5:40002", SERVER, &secret),
        connection("10.244.0.6:40003", SERVER, &MCP),
    ]
    .concat();
    let report = report(&Store::default(), &pcap(1, &frames));
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.severity, finding.id)).collect();
    assert_eq!(
        found,
        [(Severity::High, FindingId::PlaintextMcp), (Severity::Medium, FindingId::PlaintextCredentials)]
    );
    assert_eq!(report.worst(), Some(Severity::High));
}

fn text(report: &Report) -> String {
    let mut out = Vec::new();
    report.write_text(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_table_is_for_people() {
    let frames = connection(CLIENT, SERVER, &MCP);
    let mut file = pcap(1, &frames);
    file.extend([1, 2, 3]);
    let report = report(&cluster(), &file);
    assert_eq!(
        text(&report),
        "\
CLIENT                   SERVER                    PORT  VERDICT    PROTOCOL  CONNECTIONS  EVIDENCE
mcp/client (10.244.0.2)  mcp/tools-1 (10.244.0.3)  8000  plaintext  mcp       1            http-request http-response jsonrpc mcp-body-method answered; methods tools/list

1. high plaintext-mcp: pod mcp/client (service account client) speaks MCP to pod mcp/tools-1 (service account tools) on port 8000 in plaintext, so anyone on the path can read and change tool calls, and the server answered
     # Without a mesh: serve the port with TLS, and have its clients use https. With Istio:
     # Refuse plaintext to this workload. First put its clients in the mesh, or they are cut off.
     apiVersion: security.istio.io/v1
     kind: PeerAuthentication
     metadata:
       namespace: mcp
       name: tools-strict
     spec:
       selector:
         matchLabels:
           \"app\": \"tools\"
       mtls:
         mode: STRICT

packets: 6, 461 B, 2023-11-14T22:13:20.000Z to 2023-11-14T22:13:20.005Z
flows: 1; connections: 1 (plaintext 1)
findings: high 1
The capture was not read to its end: this is what came before the error.
"
    );
}

#[test]
fn a_name_cannot_command_the_terminal_or_forge_a_line() {
    let of = |name: &str| {
        let mut store = Store::default();
        store.apply(Object::Pod(testing::pod("mcp", name, &["10.244.0.2"])));
        report(&store, &pcap(1, &connection(CLIENT, SERVER, &MCP)))
    };
    let lines = text(&of("tame")).lines().count();
    for name in testing::HOSTILE {
        let report = of(name);
        let text = text(&report);
        assert!(!text.chars().any(|c| c != '\n' && crate::printable::is_hostile(c)), "{text:?}");
        assert_eq!(text.lines().count(), lines, "{text}");
        let mut json = Vec::new();
        report.write_json("cluster.local", &mut json).unwrap();
        let json = String::from_utf8(json).unwrap();
        assert!(!json.chars().any(|c| c != '\n' && crate::printable::is_hostile(c)), "{json:?}");
        let flow: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!(flow["client"]["pod"], name);
    }
}

#[test]
fn lines_are_those_of_run_and_a_summary() {
    let mut frames = connection(CLIENT, SERVER, &MCP);
    frames.push(tcp(SERVER, CLIENT, 0, ACK, b""));
    frames.push(vec![0; 14]);
    let mut file = pcap(1, &frames);
    file.push(0);
    let report = report(&cluster(), &file);
    let mut out = Vec::new();
    report.write_json("example.org", &mut out).unwrap();
    let lines: Vec<serde_json::Value> =
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [flow, finding, summary] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&flow["kind"], &flow["count"]), (&"flow".into(), &1.into()));
    assert_eq!(flow["client"]["spiffe_id"], "spiffe://example.org/ns/mcp/sa/client");
    assert_eq!((&finding["kind"], &finding["id"]), (&"finding".into(), &"plaintext-mcp".into()));
    assert_eq!(
        *summary,
        serde_json::json!({
            "kind": "summary",
            "complete": false,
            "error": "at byte 681: the capture ends within the record that begins here, after 1 bytes of it",
            "packets": 8,
            "bytes": 529,
            "truncated_packets": 0,
            "first_seen": "2023-11-14T22:13:20.000Z",
            "last_seen": "2023-11-14T22:13:20.007Z",
            "flows": 1,
            "connections": {"plaintext": 1, "mesh-mtls": 0, "tls": 0, "opaque": 0, "undecided": 0},
            "undecided": {"no_payload": 0, "too_little": 0},
            "open": 0,
            "findings": {"critical": 0, "high": 1, "medium": 0, "low": 0, "info": 0},
            "packets_not_read": {"not_ip": 1},
            "losses": {},
        })
    );
}
