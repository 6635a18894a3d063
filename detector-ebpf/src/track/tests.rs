//! What the budget does to whole connections. All else is held by the table of frames and by the captures.

use std::vec::Vec;

use crate::{
    counter::Counter,
    host::{Host, Settings},
    verdict::{Protocol, Verdict},
};

const SYN: u8 = 0x02;
const PUSH: u8 = 0x18;
const FIN: u8 = 0x11;
const PING: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
const CALL: &[u8] = b"POST /mcp HTTP/1.1\r\nContent-Length: 46\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}";
const MS: u64 = 1_000_000;

/// A segment from the pod 10.0.0.2 to port 8000 of 10.0.0.1.
fn segment(port: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = std::vec![0; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((40 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
    frame.extend(port.to_be_bytes());
    frame.extend(8000_u16.to_be_bytes());
    frame.extend(sequence.to_be_bytes());
    frame.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

/// One microsecond of each millisecond, so a bucket of one millisecond: two thousand packets.
fn limited() -> Host {
    Host::new(1, Settings { budget: 1_000, packet_ns: 500, ..Settings::default() })
}

fn count(host: &Host, counter: Counter) -> u64 {
    host.counters()[counter as usize]
}

fn calls(host: &Host) -> u64 {
    let mcp = host.edges().into_iter().filter(|(key, _)| key.protocol == Protocol::Mcp as u8);
    mcp.map(|(_, value)| value.entered).sum()
}

#[test]
fn a_flood_of_connections_is_followed_as_far_as_the_budget_goes_and_the_rest_is_counted() {
    let host = limited();
    for index in 0..5000_u16 {
        host.packet(&segment(1024 + index, 100, SYN, &[]), 1000 * MS, true);
    }
    let (opened, refused) = (count(&host, Counter::Opened), count(&host, Counter::OpenRefused));
    assert_eq!(opened + refused, 5000);
    // Half of the burst: the other half is for what these will say.
    assert_eq!(opened, 1000);
    for index in 0..1000_u16 {
        host.packet(&segment(1024 + index, 101, PUSH, CALL), 1000 * MS, true);
    }
    assert_eq!(calls(&host), 1000, "whoever is followed is read");
    // Even with nothing left, flows are let go of.
    assert_eq!(host.flows(), 1000);
    for index in 0..1000_u16 {
        host.packet(&segment(1024 + index, 200, 0x14, &[]), 1000 * MS, true);
    }
    assert_eq!(host.flows(), 0);
    assert!(host.filter_is_exact());
}

#[test]
fn a_flow_that_keeps_saying_the_same_is_read_less_and_one_with_news_is_read() {
    let host = limited();
    host.packet(&segment(5000, 100, SYN, &[]), 1000 * MS, true);
    let mut sequence = 101;
    for _ in 0..1000 {
        host.packet(&segment(5000, sequence, PUSH, PING), 1000 * MS, true);
        sequence += PING.len() as u32;
    }
    // Sixteen at first, and then an eighth of the burst.
    let (thinned, spent) = (count(&host, Counter::Thinned), count(&host, Counter::BudgetSpent));
    assert!((700..800).contains(&thinned), "{thinned}");
    assert_eq!(spent, 0);
    // Another connection has all that it needs.
    host.packet(&segment(6000, 100, SYN, &[]), 1000 * MS, true);
    host.packet(&segment(6000, 101, PUSH, CALL), 1000 * MS, true);
    assert_eq!(calls(&host), 1);
    // When there is time again, the call on the first one is found behind what was passed over.
    host.packet(&segment(5000, sequence, PUSH, CALL), 1100 * MS, true);
    assert_eq!(calls(&host), 2);
    assert!(host.filter_is_exact());
    host.packet(&segment(5000, sequence + CALL.len() as u32, FIN, &[]), 1100 * MS, true);
    host.expire(u64::MAX, 0);
    assert!(host.filter_is_exact());
}

#[test]
fn a_connection_whose_hello_was_passed_over_is_tls_by_its_records() {
    let host = Host::new(1, Settings { sample_below: 0, ..Settings::default() });
    host.packet(&segment(5000, 100, SYN, &[]), MS, true);
    let record = [&[0x17, 3, 3, 0, 40][..], &[0xaa; 40]].concat();
    host.packet(&segment(5000, 600, PUSH, &record), MS, true);
    let edges = host.edges();
    assert!(
        edges.iter().any(|(key, value)| key.verdict == Verdict::Tls as u8 && value.entered == 1),
        "{edges:?}"
    );
    assert_eq!(host.flows(), 0, "nothing more is to be learned");
    assert!(host.filter_is_exact());
}
