//! Owns the table of frames: every header that the walk follows or refuses, and the turns of a connection.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use detector_ebpf::evidence::Evidence;
use detector_tests::frames::{ACK, FIN, Frame, PSH, QINQ, RST, SYN, VLAN};

use super::Passed;

type Counters = BTreeMap<&'static str, u64>;
type Edges = BTreeMap<String, String>;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) frames: Vec<Passed>,
    pub(crate) sample_below: u32,
    /// What the host must have found; the kernel must have found the same.
    pub(crate) check: fn(&Counters, &Edges),
}

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 244, 1, 3), 40_000);
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 244, 1, 2), 8000);
const CLIENT6: (Ipv6Addr, u16) = (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3), 40_000);
const SERVER6: (Ipv6Addr, u16) = (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2), 8000);

const CALL: &str = "POST /mcp HTTP/1.1\r\nAuthorization: Bearer t\r\nMcp-Method: tools/list\r\nContent-Length: 58\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{}}";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
/// A whole hello: no session, one suite, no compression, and the server name `a.b`.
const HELLO: [u8; 64] = {
    let mut hello = [0xaa; 64];
    let start = [0x16, 3, 1, 0, 59, 1, 0, 0, 55, 3, 3];
    let rest = [0, 0, 2, 0x13, 1, 1, 0, 0, 12, 0, 0, 0, 8, 0, 6, 0, 0, 3, b'a', b'.', b'b'];
    let mut index = 0;
    while index < start.len() {
        hello[index] = start[index];
        index += 1;
    }
    index = 0;
    while index < rest.len() {
        hello[43 + index] = rest[index];
        index += 1;
    }
    hello
};

fn up(frame: Frame) -> Passed {
    (frame.build(), true)
}

fn down(frame: Frame) -> Passed {
    (frame.build(), false)
}

fn client() -> Frame {
    Frame::tcp4(CLIENT, SERVER)
}

fn server() -> Frame {
    Frame::tcp4(SERVER, CLIENT)
}

/// A handshake after which the client's first byte is 101 and the server's 501.
fn handshake() -> Vec<Passed> {
    vec![
        up(client().flags(SYN).seq(100)),
        down(server().flags(SYN | ACK).seq(500)),
        up(client().flags(ACK).seq(101)),
    ]
}

fn said(first: impl IntoIterator<Item = Passed>) -> Vec<Passed> {
    handshake().into_iter().chain(first).collect()
}

fn case(name: &'static str, frames: Vec<Passed>, check: fn(&Counters, &Edges)) -> Case {
    Case { name, frames, sample_below: 0, check }
}

fn one(edges: &Edges, key: &str, value: &str) {
    assert_eq!(edges.len(), 1, "{edges:?}");
    let (found_key, found_value) = edges.iter().next().unwrap();
    assert!(found_key.contains(key), "{found_key} has no {key}");
    assert!(found_value.contains(value), "{found_value} has no {value}");
}

fn mcp(_: &Counters, edges: &Edges) {
    one(edges, "verdict: 4, protocol: 4", "entered: 1, left: 0");
}

fn tls(_: &Counters, edges: &Edges) {
    one(edges, "verdict: 2, protocol: 0", "entered: 1");
}

fn nothing(_: &Counters, edges: &Edges) {
    assert_eq!(edges.len(), 0, "{edges:?}");
}

macro_rules! counted {
    ($name:literal, $count:literal) => {
        |counters, edges| {
            assert_eq!(counters.get($name), Some(&$count), "{counters:?}");
            nothing(counters, edges);
        }
    };
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = headers();
    cases.extend(turns());
    cases
}

/// Headers that the walk follows or refuses.
fn headers() -> Vec<Case> {
    let call = |frame: fn() -> Frame| {
        vec![up(frame().flags(SYN).seq(100)), up(frame().flags(PSH | ACK).seq(101).payload(CALL))]
    };
    let mut arp = vec![0xff; 12];
    arp.extend([8, 6]);
    arp.resize(60, 0);
    let mut other_version = client().build();
    other_version[14] = 0x65;
    let mut short_ihl = client().build();
    short_ihl[14] = 0x44;
    let mut cases = vec![
        case("IPv4", call(client), mcp),
        case("IPv6", call(|| Frame::tcp6(CLIENT6, SERVER6)), mcp),
        case("IPv4 options", call(|| client().ip_options(&[1; 40])), mcp),
        case("TCP options", call(|| client().tcp_options(&[1; 40])), mcp),
        case("VLAN", call(|| client().tag(VLAN, 7)), mcp),
        case("QinQ", call(|| client().tag(QINQ, 7).tag(VLAN, 8)), mcp),
        case(
            "three tags",
            vec![up(client().tag(QINQ, 1).tag(VLAN, 2).tag(VLAN, 3))],
            counted!("vlan_depth", 1),
        ),
        case(
            "extension headers",
            call(|| Frame::tcp6(CLIENT6, SERVER6).extension(0, &[0; 6]).extension(60, &[0; 14])),
            mcp,
        ),
        case("a first fragment", call(|| client().fragment(0, true)), mcp),
        case(
            "another fragment",
            vec![up(client().fragment(100, false).payload(CALL))],
            counted!("fragment", 1),
        ),
        case("UDP", vec![up(client().protocol(17))], counted!("not_tcp", 1)),
        case("ARP", vec![(arp, true)], counted!("not_ip", 1)),
        case("another version", vec![(other_version, true)], counted!("malformed", 1)),
        case("a header of 16 bytes", vec![(short_ihl, true)], counted!("malformed", 1)),
    ];
    let frame = up(client().tcp_options(&[1; 12]).payload("GET")).0;
    let cut = (14..54 + 12).map(|length| (frame[..length].to_vec(), true)).collect();
    cases.push(case("cut short at every byte of its headers", cut, nothing));
    let frame = up(Frame::tcp6(CLIENT6, SERVER6).extension(0, &[0; 6]).payload("GET")).0;
    let cut = (14..82).map(|length| (frame[..length].to_vec(), true)).collect();
    cases.push(case("IPv6 cut short at every byte of its headers", cut, nothing));
    let mut padded = said([]);
    let mut bare = client().seq(101).build();
    bare.resize(60, 0xaa);
    padded.push((bare, true));
    padded.push(up(client().seq(101).payload(CALL)));
    cases.push(case("padding is no payload", padded, mcp));
    cases
}

/// The turns that a connection can take.
fn turns() -> Vec<Case> {
    let (head, tail) = CALL.split_at(40);
    let after_head = 101 + 40;
    let end = 101 + CALL.len() as u32;
    let mut hello = said([]);
    hello.extend((0..64).map(|at| up(client().seq(101 + at).payload(&HELLO[at as usize..][..1]))));
    vec![
        case("a hello", said([up(client().seq(101).payload(HELLO))]), tls),
        case("a hello byte by byte", hello, tls),
        case(
            "a call and its answer",
            said([up(client().seq(101).payload(CALL)), down(server().seq(501).payload(ANSWER))]),
            |_, edges| {
                one(edges, "flags: 5", "answered: 1, refused: 0");
            },
        ),
        case(
            "in two segments",
            said([up(client().seq(101).payload(head)), up(client().seq(after_head).payload(tail))]),
            |counters, edges| {
                // The first segment is HTTP already; the second moves the connection to MCP.
                assert_eq!(edges.values().filter(|value| value.contains("left: 0")).count(), 1, "{edges:?}");
                assert_eq!(counters.get("opened"), Some(&1));
            },
        ),
        case(
            "a retransmission",
            said([
                up(client().seq(101).payload(head)),
                up(client().seq(101).payload(head)),
                up(client().seq(after_head).payload(tail)),
            ]),
            |counters, _| {
                assert_eq!(counters.get("retransmission"), Some(&1));
            },
        ),
        case(
            "an overlap",
            said([up(client().seq(101).payload(head)), up(client().seq(101).payload(CALL))]),
            |_, edges| {
                assert!(edges.keys().any(|key| key.contains("protocol: 4")), "{edges:?}");
            },
        ),
        case(
            "a keep-alive probe",
            said([up(client().seq(100).payload([0])), up(client().seq(101).payload(CALL))]),
            mcp,
        ),
        case(
            "a gap",
            said([
                up(client().seq(150).payload(tail)),
                up(client().seq(150 + tail.len() as u32).payload(CALL)),
            ]),
            |counters, edges| {
                assert_eq!(counters.get("sequence_gap"), Some(&1));
                mcp(counters, edges);
            },
        ),
        case(
            "refused by RST",
            said([up(client().seq(101).payload(CALL)), down(server().flags(RST).seq(501))]),
            |_, edges| {
                one(edges, "protocol: 4", "answered: 0, refused: 1");
            },
        ),
        case(
            "refused by FIN",
            said([up(client().seq(101).payload(CALL)), down(server().flags(FIN | ACK).seq(501))]),
            |_, edges| {
                one(edges, "protocol: 4", "answered: 0, refused: 1");
            },
        ),
        case(
            "refused by a TLS alert",
            said([
                up(client().seq(101).payload(CALL)),
                down(server().seq(501).payload([0x15, 3, 3, 0, 2, 2, 70])),
            ]),
            |_, edges| {
                one(edges, "protocol: 4", "answered: 0, refused: 1");
            },
        ),
        case(
            "closed without a word",
            said([up(client().flags(FIN | ACK).seq(101)), down(server().flags(FIN | ACK).seq(501))]),
            counted!("closed_silent", 1),
        ),
        case(
            "closed after too few bytes",
            said([up(client().seq(101).payload(*b"PO")), up(client().flags(RST).seq(103))]),
            counted!("closed_undecided", 1),
        ),
        case(
            "opaque on both sides",
            said([up(client().seq(101).payload([0xff; 20])), down(server().seq(501).payload([0xfe; 20]))]),
            |_, edges| {
                one(edges, "verdict: 1", "entered: 1");
            },
        ),
        case(
            "opaque on one side, then reset",
            said([up(client().seq(101).payload([0xff; 20])), up(client().flags(RST).seq(121))]),
            |_, edges| {
                one(edges, "verdict: 1", "entered: 1");
            },
        ),
        case("data with the SYN", vec![up(client().flags(SYN).seq(100).payload(CALL))], mcp),
        case(
            "only the answer to a SYN",
            vec![down(server().flags(SYN | ACK).seq(500)), down(server().seq(501).payload(HELLO))],
            tls,
        ),
        case(
            "simultaneous open",
            vec![
                up(client().flags(SYN).seq(100)),
                down(server().flags(SYN).seq(500)),
                up(client().seq(101).payload(CALL)),
            ],
            mcp,
        ),
        case(
            "a port that is used again",
            said([
                up(client().seq(101).payload(CALL)),
                up(client().flags(SYN).seq(9000)),
                up(client().seq(9001).payload(HELLO)),
            ]),
            |counters, edges| {
                assert_eq!(counters.get("opened"), Some(&2));
                assert_eq!(edges.len(), 2, "{edges:?}");
            },
        ),
        case(
            "a health check, then a call",
            said([
                up(client().seq(101).payload("GET /healthz HTTP/1.1\r\n\r\n")),
                down(server().seq(501).payload(ANSWER)),
                up(client().seq(127).payload(CALL)),
            ]),
            |_, edges| {
                assert_eq!(edges.len(), 2, "http1, then mcp with credentials: {edges:?}");
                assert!(edges.values().any(|value| value.contains("entered: 1, left: 1")), "{edges:?}");
            },
        ),
        Case {
            name: "met in mid-stream: a record",
            frames: [7777, 8888, 9999]
                .map(|at| {
                    let records = [&[0x17, 3, 3, 0, 27][..], &[9; 27], &[0x17, 3, 3, 0, 9], &[8; 9]];
                    up(client().seq(at).payload(records.concat()))
                })
                .to_vec(),
            sample_below: u32::MAX,
            check: |counters, edges| {
                // It may be one connection that is met three times.
                assert_eq!(counters.get("picked_up"), Some(&3));
                one(edges, "verdict: 2", "entered: 1,");
            },
        },
        Case {
            name: "met in mid-stream: no second record where one should be",
            frames: vec![up(client().seq(7777).payload([&[0x17, 3, 3, 0, 27][..], &[9; 80]].concat()))],
            sample_below: u32::MAX,
            check: nothing,
        },
        Case {
            name: "met in mid-stream: a request",
            frames: vec![
                up(client().seq(7777).payload(CALL)),
                up(client().seq(7777 + CALL.len() as u32).payload(CALL)),
            ],
            sample_below: u32::MAX,
            check: |counters, edges| {
                assert_eq!(counters.get("picked_up"), Some(&1));
                mcp(counters, edges);
            },
        },
        case("the same, over and over", said(again(40)), |counters, edges| {
            mcp(counters, edges);
            assert_eq!(counters.get("thinned"), None, "there is no budget to spare");
        }),
        case(
            "the same, over and over, and then a call",
            said(again(40).into_iter().chain([up(client().seq(101 + 40 * PING.len() as u32).payload(CALL))])),
            |_, edges| {
                let evidence =
                    edges.values().next().and_then(|value| value.split("evidence: ").nth(1)).unwrap();
                let evidence: u64 = evidence.split(',').next().unwrap().parse().unwrap();
                assert_ne!(evidence & Evidence::AUTH_BEARER.0, 0, "its head was not read");
            },
        ),
        case(
            "a call after its end",
            said([
                up(client().seq(101).payload(CALL)),
                up(client().flags(RST).seq(end)),
                up(client().seq(end).payload(CALL)),
            ]),
            mcp,
        ),
    ]
}

const PING: &str = "POST /mcp HTTP/1.1\r\nMcp-Session-Id: 1\r\nContent-Length: 40\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";

/// The same message, over and over.
fn again(count: u32) -> Vec<Passed> {
    (0..count).map(|index| up(client().seq(101 + index * PING.len() as u32).payload(PING))).collect()
}

/// Connections from different ports that each make a call.
pub(crate) fn connections(count: u16) -> Vec<Passed> {
    (0..count)
        .flat_map(|index| {
            let frame = || Frame::tcp4((CLIENT.0, 40_000 + index), SERVER);
            [up(frame().flags(SYN).seq(100)), up(frame().seq(101).payload(CALL))]
        })
        .collect()
}

/// A connection on which the client says so many times the same.
pub(crate) fn repetitions(count: u32) -> Vec<Passed> {
    said(again(count))
}

/// A call of another kind after so many repetitions.
pub(crate) fn news_after(count: u32) -> Passed {
    up(client().seq(101 + count * PING.len() as u32).payload(CALL))
}

/// An IPv4 frame cut into segments of at most `size` bytes of payload.
pub(crate) fn segmented(frame: &[u8], size: usize) -> Vec<Vec<u8>> {
    let network = 14;
    let transport = network + usize::from(frame[network] & 0x0f) * 4;
    let payload = transport + usize::from(frame[transport + 12] >> 4) * 4;
    if frame.len() - payload <= size {
        return vec![frame.to_vec()];
    }
    let sequence = u32::from_be_bytes(frame[transport + 4..transport + 8].try_into().unwrap());
    let segments = frame[payload..].chunks(size).enumerate().map(|(index, chunk)| {
        let mut segment = frame[..payload].to_vec();
        let sequence = sequence.wrapping_add((index * size) as u32);
        segment[transport + 4..transport + 8].copy_from_slice(&sequence.to_be_bytes());
        let length = (payload - network + chunk.len()) as u16;
        segment[network + 2..network + 4].copy_from_slice(&length.to_be_bytes());
        segment.extend_from_slice(chunk);
        segment
    });
    segments.collect()
}

/// A stream that holds the canary wherever a payload can hold it.
pub(crate) fn with_canary(canary: &[u8]) -> Vec<Passed> {
    let canary = std::str::from_utf8(canary).unwrap();
    let body = format!(
        "{{\"{canary}\":\"{canary}\",\"jsonrpc\":\"2.0\",\"method\":\"tools/call\",\"id\":\"{canary}\"}}"
    );
    let call = format!(
        "POST /{canary} HTTP/1.1\r\nHost: {canary}\r\nAuthorization: Bearer {canary}\r\nX-{canary}: {canary}\r\nContent-Length: {}\r\n\r\n{body}{canary}",
        body.len(),
    );
    let mut frames = said([up(client().seq(101).payload(&call))]);
    let raw = || Frame::tcp4((CLIENT.0, 40_001), SERVER);
    frames.push(up(raw().flags(SYN).seq(100)));
    frames.push(up(raw().seq(101).payload(canary)));
    frames
}
