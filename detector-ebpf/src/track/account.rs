//! Owns the counting of a flow in the edge of its class.

use super::{Desk, Store, wake};
use crate::{
    counter::Counter,
    edge::{EdgeKey, EdgeValue},
    evidence::Evidence,
    flow::Flow,
    packet::Words,
    tls::{Alpn, Version},
    verdict::Verdict,
};

/// Counts the flow in the edge of its class, and says so when the edge is new or has new evidence.
///
/// Not inlined, so that the verifier's paths through it are not those of its callers too.
#[inline(never)]
pub(super) fn account<S: Store>(store: &S, desk: &mut Desk, flow: &mut Flow) {
    if flow.client == Flow::UNKNOWN_SIDE {
        // Servers listen below the ports that systems give to clients (Linux gives 32,768 and up).
        flow.client = 1;
    }
    let flags = flags(flow);
    let counted = flow.flags & Flow::COUNTED != 0;
    let (_, server_port) = desk.key.endpoint(1 - flow.client);
    let (verdict, alpn, version) = class(flow, server_port);
    let moved = !counted
        || flow.counted_verdict != verdict
        || flow.counted_protocol != flow.protocol
        || flow.counted_flags != flags;
    let Desk { key, edge, value, hello, .. } = desk;
    let (client, client_port) = key.endpoint(flow.client);
    let (server, _) = key.endpoint(1 - flow.client);
    edge.client = bytes(client);
    edge.server = bytes(server);
    edge.ifindex = key.ifindex;
    edge.sni_hash = if flow.verdict == Verdict::Tls as u8 { flow.sni_hash } else { 0 };
    edge.server_port = server_port;
    edge.alpn = alpn;
    edge.tls_version = version;
    edge._pad = 0;
    if counted && moved {
        edge.verdict = flow.counted_verdict;
        edge.protocol = flow.counted_protocol;
        edge.flags = flow.counted_flags;
        let _gone = store.edge(edge, |value| value.left += 1);
    }
    edge.verdict = verdict;
    edge.protocol = flow.protocol;
    edge.flags = flags;
    *value = contribution(flow, moved);
    // A TLS connection that is met in mid-stream may have been met before, or counted at its start: it makes
    // an edge where there is none and adds nothing to one that is there.
    let again = flow.flags & Flow::PICKED_UP != 0 && flow.verdict == Verdict::Tls as u8;
    flow.flags |= Flow::COUNTED;
    flow.counted_verdict = verdict;
    flow.counted_protocol = flow.protocol;
    flow.counted_flags = flags;

    let mut news = add(store, edge, value, again);
    if news.is_none() {
        // Another CPU may insert the same edge at the same time: then the second look finds it.
        news = if store.insert_edge(edge, value) { Some(true) } else { add(store, edge, value, again) };
        if *hello && !store.emit_hello(edge) {
            store.count(Counter::RingFull);
        }
    }
    if moved || news == Some(true) {
        wake(store, key, flow);
    }
    match news {
        Some(true) => {
            if !store.emit(edge, value, client_port) {
                store.count(Counter::RingFull);
            }
        }
        Some(false) => {}
        None => store.count(Counter::EdgeMapFull),
    }
}

/// The verdict of the edge, and what tells one TLS client from another: ALPN class and version class.
#[inline(always)]
const fn class(flow: &Flow, server_port: u16) -> (u8, u8, u8) {
    if flow.verdict != Verdict::Tls as u8 {
        return (flow.verdict, 0, 0);
    }
    let hello = Evidence(flow.evidence);
    let alpn = Alpn::of(hello, server_port);
    let verdict = if alpn.is_mesh() { Verdict::MeshMtls } else { Verdict::Tls };
    (verdict as u8, alpn as u8, Version::offered(hello) as u8)
}

/// What the flow adds to its edge.
#[inline(always)]
fn contribution(flow: &mut Flow, moved: bool) -> EdgeValue {
    let answered = flow.flags & Flow::ANSWERED != 0;
    let refused = flow.flags & Flow::REFUSED != 0;
    let new_answer = answered && (moved || flow.flags & Flow::ANSWER_COUNTED == 0);
    let new_refusal = refused && (moved || flow.flags & Flow::REFUSAL_COUNTED == 0);
    let mut evidence = flow.evidence;
    if answered {
        flow.flags |= Flow::ANSWER_COUNTED;
        evidence |= Evidence::ANSWERED.0;
    }
    if refused {
        flow.flags |= Flow::REFUSAL_COUNTED;
        evidence |= Evidence::REFUSED.0;
    }
    EdgeValue {
        entered: u64::from(moved),
        left: 0,
        answered: u64::from(new_answer),
        refused: u64::from(new_refusal),
        evidence,
        methods: flow.methods,
        first_ns: flow.last_ns,
        last_ns: flow.last_ns,
    }
}

/// Adds to an edge that is there, and makes `value` its totals; true if it learned something.
#[inline(always)]
fn add<S: Store>(store: &S, edge: &EdgeKey, value: &mut EdgeValue, again: bool) -> Option<bool> {
    store.edge(edge, |total| {
        let grown = value.evidence & !total.evidence | value.methods & !total.methods;
        if !again {
            total.entered += value.entered;
        }
        total.answered += value.answered;
        total.refused += value.refused;
        total.evidence |= value.evidence;
        total.methods |= value.methods;
        total.last_ns = value.last_ns;
        *value = *total;
        grown != 0
    })
}

#[inline(always)]
const fn flags(flow: &Flow) -> u8 {
    let low_is_client = flow.client == 0;
    let low_is_pod = flow.flags & Flow::LOW_IS_POD != 0;
    let mut flags = if low_is_client == low_is_pod { EdgeKey::FROM_POD } else { 0 };
    if flow.flags & Flow::PICKED_UP != 0 {
        flags |= EdgeKey::PICKED_UP;
    }
    if Evidence(flow.evidence).any(Evidence::CREDENTIALS) {
        flags |= EdgeKey::CREDENTIALS;
    }
    flags
}

#[inline(always)]
fn bytes(words: &Words) -> [u8; 16] {
    let [a, b, c, d] = words.map(u32::to_ne_bytes);
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a, b);
    let ([c0, c1, c2, c3], [d0, d1, d2, d3]) = (c, d);
    [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3]
}
