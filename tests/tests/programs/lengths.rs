//! Owns frames with every length that a header can claim, be it true or not, and frames that are cut at every byte.

use std::net::{Ipv4Addr, Ipv6Addr};

use detector_tests::frames::{ACK, Frame, PSH, QINQ, SYN, VLAN};

use super::Passed;

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 244, 1, 3), 40_000);
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 244, 1, 2), 8000);
const CLIENT6: (Ipv6Addr, u16) = (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3), 40_000);
const SERVER6: (Ipv6Addr, u16) = (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2), 8000);

const CALL: &str = "POST /mcp HTTP/1.1\r\nMcp-Method: tools/list\r\nContent-Length: 58\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{}}";

const ETHERNET: usize = 14;

/// Frames of one kind.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) frames: Vec<Passed>,
    /// Whether the headers say what is true and are followed: then there is a verdict.
    pub(crate) verdict: bool,
}

/// A SYN and a request with the same headers, each as `change` leaves it.
fn connection(frame: &Frame, change: impl Fn(&mut Vec<u8>)) -> Vec<Passed> {
    let syn = frame.clone().flags(SYN).seq(100);
    let call = frame.clone().flags(PSH | ACK).seq(101).payload(CALL);
    [syn, call]
        .map(|frame| {
            let mut bytes = frame.build();
            change(&mut bytes);
            (bytes, true)
        })
        .into()
}

fn v4() -> Frame {
    Frame::tcp4(CLIENT, SERVER)
}

fn v6() -> Frame {
    Frame::tcp6(CLIENT6, SERVER6)
}

/// Options of this many bytes that are no padding: a walk that does not skip them reads nonsense.
fn options(bytes: usize) -> Vec<u8> {
    vec![0xff; bytes]
}

pub(crate) fn groups() -> Vec<Group> {
    let mut groups = Vec::new();
    for words in 0..=10 {
        for claimed in 0..=15_u8 {
            let frame = v4().ip_options(&options(words * 4));
            groups.push(Group {
                name: format!("IPv4 options of {words} words and a header length of {claimed}"),
                frames: connection(&frame, |bytes| bytes[ETHERNET] = 0x40 | claimed),
                verdict: usize::from(claimed) == words + 5,
            });
            for (family, frame, tcp) in [("IPv4", v4(), ETHERNET + 20), ("IPv6", v6(), ETHERNET + 40)] {
                let frame = frame.tcp_options(&options(words * 4));
                groups.push(Group {
                    name: format!("{family}: TCP options of {words} words and a data offset of {claimed}"),
                    frames: connection(&frame, |bytes| bytes[tcp + 12] = claimed << 4),
                    verdict: usize::from(claimed) == words + 5,
                });
            }
        }
    }
    groups.extend(totals());
    groups.extend(extensions());
    for depth in 0..=4 {
        for outer in [VLAN, QINQ, 0x9100] {
            for family in [v4(), v6()] {
                let frame =
                    (0..depth).fold(family, |frame, n| frame.tag(if n == 0 { outer } else { VLAN }, 7));
                groups.push(Group {
                    name: format!("{depth} tags, the outer {outer:x}"),
                    frames: connection(&frame, |_| {}),
                    verdict: depth <= 2,
                });
            }
        }
    }
    groups
}

/// Every length that the IP header can claim of what is there, and some beyond.
fn totals() -> Vec<Group> {
    let lengths = (0..=220_u16).chain([1500, 9000, 0x7fff, 0xffff]);
    let claims = |name: &'static str, frame: Frame, at: usize| {
        lengths.clone().map(move |length| Group {
            name: format!("{name} of {length}"),
            frames: connection(&frame, |bytes| bytes[at..at + 2].copy_from_slice(&length.to_be_bytes())),
            verdict: false,
        })
    };
    claims("an IPv4 total length", v4(), ETHERNET + 2)
        .chain(claims("an IPv6 payload length", v6(), ETHERNET + 4))
        .collect()
}

/// Every extension header with every length that one can claim, and chains of them.
fn extensions() -> Vec<Group> {
    let mut groups = Vec::new();
    for kind in 0..=255_u8 {
        groups.push(Group {
            name: format!("one extension header of type {kind}"),
            frames: connection(&v6().extension(kind, &options(6)), |_| {}),
            verdict: [0, 43, 60, 135].contains(&kind),
        });
    }
    for kind in [0, 43, 44, 51, 60, 135] {
        for claimed in 0..=255_u8 {
            groups.push(Group {
                name: format!("an extension header of type {kind} and length {claimed}"),
                frames: connection(&v6().extension(kind, &options(22)), |bytes| {
                    bytes[ETHERNET + 41] = claimed
                }),
                verdict: claimed == 2 && [0, 43, 60, 135].contains(&kind),
            });
        }
        for count in 0..=9 {
            let frame = (0..count).fold(v6(), |frame, n| frame.extension(kind, &options(6 + 8 * (n % 3))));
            groups.push(Group {
                name: format!("{count} extension headers of type {kind}"),
                frames: connection(&frame, |_| {}),
                verdict: count == 0,
            });
        }
    }
    groups
}

/// Frames with all kinds of headers, each cut at every byte. A cut frame is one that lost its end on the way to
/// the hook, so its lengths say more than is there.
pub(crate) fn cut() -> Vec<Group> {
    let full = |frame: Frame| frame.flags(PSH | ACK).seq(101).payload(CALL).build();
    let frames = [
        ("IPv4", full(v4())),
        ("IPv4 with two tags and all options", {
            full(v4().tag(QINQ, 1).tag(VLAN, 2).ip_options(&options(40)).tcp_options(&options(40)))
        }),
        ("IPv6", full(v6())),
        ("IPv6 with a tag, a chain and all options", {
            let chain =
                v6().extension(0, &options(6)).extension(43, &options(22)).extension(60, &options(14));
            full(chain.tag(VLAN, 2).tcp_options(&options(40)))
        }),
    ];
    frames
        .into_iter()
        .map(|(name, frame)| Group {
            name: format!("{name}, cut at every byte"),
            frames: (0..=frame.len()).map(|end| (frame[..end].to_vec(), true)).collect(),
            verdict: false,
        })
        .collect()
}
