//! Owns the table of flows, for people.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use detector_ebpf::verdict::Protocol;

use crate::{
    flows::{End, Flow},
    printable::printable,
};

const HEADS: [&str; COLUMNS] = ["CLIENT", "SERVER", "PORT", "VERDICT", "PROTOCOL", "CONNECTIONS", "EVIDENCE"];
const COLUMNS: usize = 7;
/// A column is made no wider than this for one long name.
const WIDEST: usize = 60;

/// Writes one row a flow.
pub(super) fn write(flows: &[Flow], out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<[String; COLUMNS]> = flows.iter().map(row).collect();
    let mut widths = HEADS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().clamp(*width, WIDEST.max(*width));
        }
    }
    for row in std::iter::once(&HEADS.map(str::to_owned)).chain(&rows) {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

fn row(flow: &Flow) -> [String; COLUMNS] {
    let mut evidence = flow.evidence.names().collect::<Vec<_>>().join(" ");
    let methods = flow.methods.names().collect::<Vec<_>>().join(" ");
    if !methods.is_empty() {
        evidence.push_str("; methods ");
        evidence.push_str(&methods);
    }
    for (what, names) in [("SNI", &flow.tls.server_names), ("ALPN", &flow.tls.protocols)] {
        if !names.is_empty() {
            let names: Vec<Cow<'_, str>> = names.iter().map(|name| printable(name)).collect();
            evidence.push_str(&format!(
                "{}{what} {}",
                if evidence.is_empty() { "" } else { "; " },
                names.join(" ")
            ));
        }
    }
    let protocol = if flow.protocol == Protocol::None { "-" } else { flow.protocol.name() };
    [
        end(&flow.client),
        end(&flow.server),
        flow.port.to_string(),
        flow.verdict.name().to_owned(),
        protocol.to_owned(),
        flow.connections.to_string(),
        if evidence.is_empty() { "-".to_owned() } else { evidence },
    ]
}

/// An end in a cell: its name and its address.
fn end(end: &End) -> String {
    let address = end.address();
    let text = match end {
        End::Pod { pod, .. } => format!("{} ({address})", pod.name),
        End::Service { service, .. } => format!("service {} ({address})", service.name),
        End::Node { name, .. } if name.is_empty() => format!("node ({address})"),
        End::Node { name, .. } => format!("node {name} ({address})"),
        End::Spoofed { sender, owner, .. } => {
            format!("{} with the address of {} ({address})", sender.name, owner.name)
        }
        End::External { .. } => format!("{address} (external)"),
        End::Unknown { .. } => address.to_string(),
    };
    printable(&text).into_owned()
}
