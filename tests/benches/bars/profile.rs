//! Owns the rows that say where the cost is: packets that differ in one thing. Measured only when named.

use anyhow::Result;

use crate::{
    Effort,
    machine::Pinned,
    packets::{Steps, message_cost},
    payloads::{client_hellos, http_request, noise, request_head},
    report::{Row, Unit},
    subject::{Settings, Subject},
};

const FLOWS: u32 = 1024;

pub(crate) fn parts(effort: Effort) -> Result<Vec<Row>> {
    let _pinned = Pinned::new()?;
    let count = effort.pick(15, 101);
    let mut rows = Vec::new();
    first_payloads(&mut rows, count)?;
    packets_of_a_life(&mut rows, count)?;
    Ok(rows)
}

/// The first payload of a connection.
fn first_payloads(rows: &mut Vec<Row>, count: u32) -> Result<()> {
    let filler = |length: usize| {
        let head = "GET / HTTP/1.1\r\nX-Filler: ";
        format!("{head}{}", "x".repeat(length - head.len())).into_bytes()
    };
    let hello = client_hellos()?.short;
    let start = hello.get(..11).unwrap_or(&hello).to_vec();
    let payloads = [
        ("one unknown byte", vec![0x80]),
        ("64 unknown bytes", noise(64)),
        ("first 11 bytes of a ClientHello", start),
        ("a whole ClientHello", hello),
        ("head without tokens, 64 bytes, without its end", filler(64)),
        ("the same, 128 bytes", filler(128)),
        ("the same, 256 bytes", filler(256)),
        ("the same, 512 bytes", filler(512)),
        ("the same, 1,024 bytes", filler(1024)),
        ("the same, 2,048 bytes", filler(2048)),
        ("a small GET", http_request()),
        ("head with all evidence, 512 bytes", request_head(512)),
        ("head with all evidence, 2,048 bytes", request_head(2048)),
    ];
    for (index, (what, payload)) in payloads.iter().enumerate() {
        let mut subject = Subject::load(Settings::unlimited()?)?;
        let cost = message_cost(&mut subject, payload, FLOWS, count)?.detector;
        rows.push(
            Row::new(format!("first-{index}"), format!("first payload: {what}"), cost, Unit::Nanoseconds)
                .beside("a byte", cost.value / payload.len() as f64, Unit::Nanoseconds),
        );
    }
    Ok(())
}

/// Each packet of a connection by itself.
fn packets_of_a_life(rows: &mut Vec<Row>, count: u32) -> Result<()> {
    let request = http_request();
    let hello = client_hellos()?.short;
    let spent = Settings { budget_ns_per_ms: 0, ..Settings::unlimited()? };
    // The packets stand after the SYN, which has index 0.
    let life: [(&str, Settings, Vec<&[u8]>, usize); 8] = [
        ("SYN that opens a flow", Settings::unlimited()?, vec![&[]], 0),
        ("acknowledgement on a flow that is undecided", Settings::unlimited()?, vec![&[]], 1),
        ("reset of a flow that is undecided", Settings::unlimited()?, vec![&[]], 2),
        ("record after the one that decided TLS", Settings::unlimited()?, vec![&hello, &request], 2),
        ("second request on a watched flow", Settings::unlimited()?, vec![&request, &request], 2),
        ("acknowledgement on a watched flow", Settings::unlimited()?, vec![&request, &[]], 2),
        ("reset of a watched flow", Settings::unlimited()?, vec![&request], 2),
        ("request with the scan budget spent", spent, vec![&request], 1),
    ];
    for (index, (what, settings, said, step)) in life.into_iter().enumerate() {
        let mut subject = Subject::load(settings)?;
        let steps = Steps::new(&said)?.ask(step..=step);
        let cost = steps.cost(&mut subject, FLOWS, count)?.detector;
        rows.push(Row::new(format!("life-{index}"), what, cost, Unit::Nanoseconds));
    }
    Ok(())
}
