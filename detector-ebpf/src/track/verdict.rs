//! Owns the drawing of a flow's verdict from what its sides have said.

use super::Store;
use crate::{
    counter::Counter,
    evidence::Evidence,
    flow::{Flow, Side},
    scan::Phase,
    verdict::{Protocol, Verdict},
};

/// Draws the verdict from what is known after a side has spoken.
#[inline(always)]
pub(super) fn judge(flow: &mut Flow, side: u8) {
    if flow.verdict == Verdict::Tls as u8 {
        // A plaintext answer to a hello is the server's refusal of TLS.
        return;
    }
    let [low, high] = &mut flow.sides;
    if low.is(Phase::Tls) && high.is(Phase::Hello) {
        // Whoever is answered has said all: a hello without extensions has no end of its own.
        high.lose();
    } else if high.is(Phase::Tls) && low.is(Phase::Hello) {
        low.lose();
    }
    let tls = low.is(Phase::Tls) || high.is(Phase::Tls);
    let greeting = if low.greeting > high.greeting { low.greeting } else { high.greeting };
    let declined = greeting == Protocol::Mysql as u8 && (low.is(Phase::Opaque) || high.is(Phase::Opaque));
    if (flow.protocol >= Protocol::Redis as u8 || declined) && greeting > flow.protocol {
        // What the server greets with says more than the client's first words; a client that says neither
        // TLS nor MySQL's request for it has declined.
        flow.protocol = greeting;
    }
    if flow.protocol != Protocol::None as u8 {
        flow.verdict = Verdict::Plaintext as u8;
        // A protocol that says nothing of who asks leaves the client to the ports.
        let found = Evidence(flow.evidence);
        if flow.client == Flow::UNKNOWN_SIDE && found.any(Evidence::HTTP_RESPONSE) {
            flow.client = 1 - side;
        } else if flow.client == Flow::UNKNOWN_SIDE && found.any(Evidence::HTTP_REQUEST) {
            flow.client = side;
        }
        if flow.client != Flow::UNKNOWN_SIDE && flow.client != side {
            // A TLS server says no to plaintext with an alert.
            flow.flags |= if tls { Flow::REFUSED } else { Flow::ANSWERED };
        }
    } else if tls {
        flow.verdict = Verdict::Tls as u8;
    } else if low.is(Phase::Opaque) && high.is(Phase::Opaque) {
        flow.verdict = Verdict::Opaque as u8;
    }
}

/// The other side ends the connection without having said anything to a plaintext message.
#[inline(always)]
pub(super) fn refuse(flow: &mut Flow, side: u8) {
    let spoke = Side::SPOKE | Side::FIN;
    let client = flow.client;
    let plaintext = flow.verdict == Verdict::Plaintext as u8;
    let (this, _other) = flow.sides_of(side);
    if plaintext && side != client && this.flags & spoke == 0 {
        flow.flags |= Flow::REFUSED;
    }
}

/// Settles a flow that ends: it is TLS if a hello was begun, opaque if a side began with nothing known. False if
/// nothing can be said, which is counted by why.
#[inline(always)]
pub(super) fn settle<S: Store>(store: &S, flow: &mut Flow) -> bool {
    let [low, high] = &flow.sides;
    if flow.verdict == Verdict::Undecided as u8 {
        // A protocol that could have turned to TLS, and did not.
        let greeting = if low.greeting > high.greeting { low.greeting } else { high.greeting };
        flow.verdict = if greeting != 0 && !low.is(Phase::Hello) && !high.is(Phase::Hello) {
            flow.protocol = greeting;
            Verdict::Plaintext as u8
        } else if low.is(Phase::Hello) || high.is(Phase::Hello) {
            Verdict::Tls as u8
        } else if low.is(Phase::Opaque) || high.is(Phase::Opaque) {
            Verdict::Opaque as u8
        } else {
            let spoke = (low.flags | high.flags) & Side::SPOKE != 0;
            store.count(if spoke { Counter::ClosedUndecided } else { Counter::ClosedSilent });
            return false;
        };
    }
    true
}
