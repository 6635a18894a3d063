//! Owns the findings: what of a flow is news for an operator, how bad it is, why, and what to do.
//!
//! [`evaluate`] is a pure function of a flow and of what policy says of it. [`Ledger`] remembers what was
//! told, so that a repetition is silent; a finding that got worse or has new evidence is news.

mod catalogue;
mod fix;
mod ledger;

use detector_ebpf::{
    evidence::Evidence,
    verdict::{Protocol, Verdict},
};

pub use self::{
    catalogue::{FindingId, Severity},
    ledger::Ledger,
};
use crate::{
    flows::{End, Flow},
    policy::{Expectation, PolicyView},
};

/// Something that an operator should know of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which entry of the catalogue.
    pub id: FindingId,
    /// How bad it is.
    pub severity: Severity,
    /// The flow, as it was when it was found.
    pub flow: Flow,
    /// Why it matters, in one sentence.
    pub why: String,
    /// A manifest to apply, with comments; comments alone where no manifest helps.
    pub fix: String,
    /// The object that decided it.
    pub decided_by: Option<String>,
}

/// What is cried about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether plaintext that is neither MCP nor carries credentials is a finding.
    pub plaintext_other: bool,
}

/// What is to be said of a flow.
#[must_use]
pub fn evaluate(flow: &Flow, policy: &PolicyView, rules: Rules) -> Vec<Finding> {
    let mut findings = Vec::new();
    if flow.verdict == Verdict::Plaintext && !is_probe(flow) {
        findings.extend(plaintext(flow, rules));
    }
    findings.extend(source(flow, policy));
    findings
}

/// A kubelet's probe. The `User-Agent` alone proves nothing, for anybody can send it: it must come from a
/// node as well.
fn is_probe(flow: &Flow) -> bool {
    matches!(flow.client, End::Node { .. })
        && flow.protocol != Protocol::Mcp
        && (flow.evidence.any(Evidence::KUBE_PROBE) || !flow.credentials())
}

fn plaintext(flow: &Flow, rules: Rules) -> Option<Finding> {
    let outcome = if flow.served() { "and the server answered" } else { "and no answer was seen" };
    let (client, server) = (catalogue::describe(&flow.client), catalogue::describe(&flow.server));
    let port = flow.port;
    let (id, severity, why) = match (flow.protocol, flow.credentials()) {
        (Protocol::Mcp, credentials) => {
            let severity = if credentials { Severity::Critical } else { Severity::High };
            let with = if credentials { " with credentials" } else { "" };
            let why = format!(
                "{client} speaks MCP{with} to {server} on port {port} in plaintext, so anyone on the path can read and change tool calls, {outcome}"
            );
            (FindingId::PlaintextMcp, severity, why)
        }
        (_, true) => {
            let why = format!(
                "{client} sends credentials to {server} on port {port} in plaintext, so anyone on the path can take and use them, {outcome}"
            );
            (FindingId::PlaintextCredentials, Severity::Medium, why)
        }
        (protocol, false) if rules.plaintext_other => {
            let protocol = protocol.name();
            let why =
                format!("{client} speaks {protocol} to {server} on port {port} in plaintext, {outcome}");
            (FindingId::PlaintextOther, Severity::Info, why)
        }
        _ => return None,
    };
    let severity = if flow.served() { severity } else { severity.lower() };
    Some(Finding { id, severity, flow: flow.clone(), why, fix: fix::encrypt(flow), decided_by: None })
}

/// A client that policy does not expect, or that nobody knows.
fn source(flow: &Flow, policy: &PolicyView) -> Option<Finding> {
    // A node is the kubelet or an agent on it: it has no service account that a declaration could name.
    if matches!(flow.client, End::Node { .. }) {
        return None;
    }
    if let End::Spoofed { .. } = flow.client {
        return Some(spoofed(flow));
    }
    let risky = flow.protocol == Protocol::Mcp || flow.credentials();
    let plaintext = flow.verdict == Verdict::Plaintext;
    let severity = match (plaintext, risky) {
        (true, true) => Severity::High,
        _ => Severity::Medium,
    };
    let severity = if plaintext && !flow.served() { severity.lower() } else { severity };
    let (client, server) = (catalogue::describe(&flow.client), catalogue::describe(&flow.server));
    let port = flow.port;
    let finding =
        |id, why, fix, decided_by| Some(Finding { id, severity, flow: flow.clone(), why, fix, decided_by });
    match (&flow.client, &policy.source) {
        (End::Unknown { .. }, Expectation::Unexpected { by }) if policy.identities => finding(
            FindingId::UnidentifiedSource,
            format!(
                "{client} calls {server} on port {port}, whose callers are declared, and no pod, service or node is known to have that address"
            ),
            fix::known_sources_only(flow),
            Some(decided_by(&by.name)),
        ),
        (End::Unknown { .. }, Expectation::NoPolicy) if policy.identities && plaintext && risky => finding(
            FindingId::UnidentifiedSource,
            format!(
                "{client} calls {server} on port {port}, and no pod, service or node is known to have that address"
            ),
            fix::known_sources_only(flow),
            None,
        ),
        (End::Unknown { .. }, _) => None,
        (_, Expectation::Unexpected { by }) => finding(
            FindingId::UnexpectedSource,
            format!(
                "{client} calls {server} on port {port}, and ExpectedSources {} does not name it",
                by.name
            ),
            fix::expect(flow, by),
            Some(decided_by(&by.name)),
        ),
        (_, Expectation::Expected { .. } | Expectation::NoPolicy) => None,
    }
}

/// A pod that sends with another's address: policy by address and every log would name the other.
fn spoofed(flow: &Flow) -> Finding {
    let (client, server) = (catalogue::describe(&flow.client), catalogue::describe(&flow.server));
    let severity = if flow.served() { Severity::Critical } else { Severity::High };
    Finding {
        id: FindingId::SpoofedSource,
        severity,
        flow: flow.clone(),
        why: format!(
            "{client}, calls {server} on port {}: whoever trusts the address trusts the wrong pod",
            flow.port
        ),
        fix: fix::stop_spoofing(flow),
        decided_by: None,
    }
}

fn decided_by(name: &crate::cluster::objects::Name) -> String {
    format!("ExpectedSources {name}, spec.serviceAccounts")
}

#[cfg(test)]
mod tests;
