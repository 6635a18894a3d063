//! Owns the audit's report as people and tools read it: a table, JSON, SARIF 2.1.0 and Markdown.

mod sarif;

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    audit::{Posture, Report, Subject},
    findings::Severity,
    outputs::json,
    printable::{printable_lines, printed},
};

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a terminal.
    Table,
    /// For programs.
    Json,
    /// For code scanning.
    Sarif,
    /// For a comment or a wiki.
    Markdown,
}

/// The report as text, the summary line included.
#[must_use]
pub fn write(report: &Report, errors: usize, format: Format) -> String {
    match format {
        Format::Table => table(report, errors),
        Format::Json => json(report, errors),
        Format::Sarif => sarif::write(report),
        Format::Markdown => markdown(report, errors),
    }
}

/// The report in one line.
#[must_use]
pub fn summary(report: &Report, errors: usize) -> String {
    let several = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut text = format!(
        "{} ({} MCP) in {}: ",
        several(report.workloads, "workload"),
        report.mcp,
        several(report.namespaces, "namespace")
    );
    let counts: Vec<String> = Severity::ALL
        .iter()
        .rev()
        .map(|severity| (report.count(*severity), severity.as_str()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    text.push_str(if counts.is_empty() { "nothing found" } else { "" });
    text.push_str(&counts.join(", "));
    if errors > 0 {
        let _infallible = write!(text, "; {} could not be read", several(errors, "object"));
    }
    text
}

fn table(report: &Report, errors: usize) -> String {
    let mut text = String::new();
    let width = |of: &dyn Fn(&Posture) -> usize, least: usize| {
        report.findings.iter().map(of).max().unwrap_or(0).max(least)
    };
    let subject = width(&|posture| plain(&posture.subject).len(), 7);
    let id = width(&|posture| posture.id.as_str().len(), 7);
    if !report.findings.is_empty() {
        let _infallible = writeln!(text, "SEVERITY  MCP  {:id$}  {:subject$}  WHY", "FINDING", "SUBJECT");
    }
    for posture in &report.findings {
        let _infallible = writeln!(
            text,
            "{:8}  {:3}  {:id$}  {:subject$}  {}{}",
            posture.severity.as_str(),
            if posture.mcp { "mcp" } else { "" },
            posture.id.as_str(),
            plain(&posture.subject),
            printed(&posture.why),
            posture.decided_by.as_ref().map_or_else(String::new, |by| format!(" [{}]", printed(by))),
        );
    }
    text.push_str(&summary(report, errors));
    text.push('\n');
    text
}

fn plain(subject: &Subject) -> String {
    let port = subject.port.map_or_else(String::new, |port| format!(":{port}"));
    printed(format_args!("{} {}/{}{port}", subject.kind, subject.namespace, subject.name))
}

#[derive(Serialize)]
struct JsonReport<'a> {
    summary: JsonSummary,
    findings: Vec<JsonPosture<'a>>,
}

#[derive(Serialize)]
struct JsonSummary {
    workloads: usize,
    mcp_workloads: usize,
    namespaces: usize,
    critical: usize,
    high: usize,
    medium: usize,
    low: usize,
    info: usize,
    errors: usize,
}

#[derive(Serialize)]
struct JsonPosture<'a> {
    id: &'static str,
    severity: &'static str,
    mcp: bool,
    namespace: &'a str,
    kind: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    why: &'a str,
    fix: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_by: Option<&'a str>,
}

fn json(report: &Report, errors: usize) -> String {
    let findings = report.findings.iter().map(|posture| {
        let Posture { id, severity, subject, mcp, why, fix, decided_by } = posture;
        JsonPosture {
            id: id.as_str(),
            severity: severity.as_str(),
            mcp: *mcp,
            namespace: &subject.namespace,
            kind: &subject.kind,
            name: &subject.name,
            port: subject.port,
            why,
            fix,
            decided_by: decided_by.as_deref(),
        }
    });
    pretty(&JsonReport {
        findings: findings.collect(),
        summary: JsonSummary {
            workloads: report.workloads,
            mcp_workloads: report.mcp,
            namespaces: report.namespaces,
            critical: report.count(Severity::Critical),
            high: report.count(Severity::High),
            medium: report.count(Severity::Medium),
            low: report.count(Severity::Low),
            info: report.count(Severity::Info),
            errors,
        },
    })
}

/// JSON of a value whose keys are all text.
pub(super) fn pretty(value: &impl Serialize) -> String {
    let mut text = json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

fn markdown(report: &Report, errors: usize) -> String {
    let cell = |text: &str| printed(text).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;");
    let mut text = format!("# Audit\n\n{}\n", summary(report, errors));
    if report.findings.is_empty() {
        return text;
    }
    text.push_str("\n| severity | MCP | finding | subject | why | decided by |\n|---|---|---|---|---|---|\n");
    for posture in &report.findings {
        let _infallible = writeln!(
            text,
            "| {} | {} | `{}` | {} | {} | {} |",
            posture.severity.as_str(),
            if posture.mcp { "yes" } else { "" },
            posture.id.as_str(),
            cell(&plain(&posture.subject)),
            cell(&posture.why),
            cell(posture.decided_by.as_deref().unwrap_or_default()),
        );
    }
    text.push_str("\n## Fixes\n");
    for posture in &report.findings {
        // A fence that is longer than any in the text cannot be closed by it.
        let fence = "`".repeat(posture.fix.split(|c| c != '`').map(str::len).max().unwrap_or(0).max(2) + 1);
        let _infallible = write!(
            text,
            "\n### `{}`: {}\n\n{fence}yaml\n{}{fence}\n",
            posture.id.as_str(),
            cell(&plain(&posture.subject)),
            printable_lines(&posture.fix)
        );
    }
    text
}

#[cfg(test)]
mod tests;
