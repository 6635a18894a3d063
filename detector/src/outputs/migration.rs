//! Owns the answers to "may I go to STRICT?" as people and programs read them.

use std::fmt::Write as _;

use serde::Serialize;

use super::{audit::pretty, lines::time};
use crate::{
    migration::{Answer, Assessment, Break, NamespaceAnswer, Report, span},
    printable::{printable_lines, printed},
};

/// The report for a terminal.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    let subject = |of: &Assessment| printed(format_args!("{} {}/{}", of.kind, of.namespace, of.name));
    let width = report.workloads.iter().map(|of| subject(of).chars().count()).max().unwrap_or(0).max(8);
    if !report.workloads.is_empty() {
        let _infallible =
            writeln!(text, "ANSWER        MCP  DECLARED    OBSERVED  {:width$}  BREAKS", "WORKLOAD");
    }
    for of in &report.workloads {
        let _infallible = writeln!(
            text,
            "{:12}  {:3}  {:10}  {:8}  {:width$}  {}",
            of.answer.as_str(),
            if of.mcp { "mcp" } else { "" },
            of.declared.as_ref().map_or("-", |(declared, _)| declared.as_str()),
            of.observed.map_or_else(|| "-".to_owned(), span),
            subject(of),
            of.breaks.len(),
        );
    }
    for of in report.workloads.iter().filter(|of| !of.breaks.is_empty() || !of.notes.is_empty()) {
        let _infallible = writeln!(text, "\n{}: {}", subject(of), of.answer.as_str());
        for broken in &of.breaks {
            let Break { client, port, traffic, connections, last_seen, advice } = broken;
            let port =
                port.map_or_else(|| "a port that is not known".to_owned(), |port| format!("port {port}"));
            let count = connections.map_or_else(String::new, |count| format!(", {count} connections"));
            let last = last_seen.map_or_else(String::new, |at| format!(", last at {}", time(at)));
            let _infallible = writeln!(
                text,
                "  breaks: {} speaks {} to {port}{count}{last}\n          {}",
                printed(client),
                printed(traffic),
                printed(advice),
            );
        }
        for note in &of.notes {
            let _infallible = writeln!(text, "  note: {}", printed(note));
        }
    }
    // What blocks has its advice beside it; who has no proxy needs to be told how to get one, in a word or a manifest.
    let has_step =
        |of: &&Assessment| of.answer == Answer::NoProxy || of.next.lines().any(|line| !line.starts_with('#'));
    for of in report.workloads.iter().filter(has_step) {
        let _infallible = write!(text, "\n# Next for {}:\n{}", subject(of), printable_lines(&of.next));
    }
    for of in &report.namespaces {
        let NamespaceAnswer { name, answer, workloads: (all, yes), next } = of;
        let _infallible = writeln!(
            text,
            "\nnamespace {}: {}, {yes} of {all} workloads may",
            printed(name),
            answer.as_str()
        );
        if let Some(next) = next {
            text.push_str(&printable_lines(next));
        }
    }
    for note in &report.notes {
        let _infallible = writeln!(text, "note: {}", printed(note));
    }
    let _infallible = writeln!(
        text,
        "\n{}",
        if report.is_yes() { "yes: all may go to STRICT" } else { "no: not all may go to STRICT" }
    );
    text
}

#[derive(Serialize)]
struct JsonReport<'a> {
    ready: bool,
    quiet_seconds: u64,
    namespaces: Vec<JsonNamespace<'a>>,
    workloads: Vec<JsonWorkload<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct JsonNamespace<'a> {
    name: &'a str,
    answer: &'static str,
    workloads: usize,
    ready: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonWorkload<'a> {
    namespace: &'a str,
    kind: &'a str,
    name: &'a str,
    mcp: bool,
    answer: &'static str,
    declared: Option<&'static str>,
    decided_by: Option<&'a str>,
    observed_seconds: Option<u64>,
    breaks: Vec<JsonBreak<'a>>,
    notes: &'a [String],
    next: &'a str,
}

#[derive(Serialize)]
struct JsonBreak<'a> {
    client: &'a str,
    port: Option<u16>,
    traffic: &'a str,
    connections: Option<u64>,
    last_seen: Option<String>,
    advice: &'a str,
}

/// The report for programs.
#[must_use]
pub fn json(report: &Report, quiet: std::time::Duration) -> String {
    let Report { workloads, namespaces, notes } = report;
    let namespaces = namespaces.iter().map(|of| JsonNamespace {
        name: &of.name,
        answer: of.answer.as_str(),
        workloads: of.workloads.0,
        ready: of.workloads.1,
        next: of.next.as_deref(),
    });
    let workloads = workloads.iter().map(|of| {
        let Assessment { namespace, kind, name, mcp, answer, declared, observed, breaks, notes, next } = of;
        JsonWorkload {
            namespace,
            kind,
            name,
            mcp: *mcp,
            answer: answer.as_str(),
            declared: declared.as_ref().map(|(declared, _)| declared.as_str()),
            decided_by: declared.as_ref().map(|(_, by)| by.as_str()),
            observed_seconds: observed.map(|time| time.as_secs()),
            breaks: breaks.iter().map(broken).collect(),
            notes,
            next,
        }
    });
    pretty(&JsonReport {
        ready: report.is_yes(),
        quiet_seconds: quiet.as_secs(),
        namespaces: namespaces.collect(),
        workloads: workloads.collect(),
        notes,
    })
}

fn broken(of: &Break) -> JsonBreak<'_> {
    let Break { client, port, traffic, connections, last_seen, advice } = of;
    JsonBreak {
        client,
        port: *port,
        traffic,
        connections: *connections,
        last_seen: last_seen.map(time),
        advice,
    }
}
