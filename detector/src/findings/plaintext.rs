//! Owns what is said of plaintext: by what it carries, by what is declared for the port, and by who sends it.

use detector_ebpf::{evidence::Evidence, verdict::Protocol};

use super::{Finding, FindingId, Rules, Severity, catalogue::describe, fix, is_risky};
use crate::{
    flows::{End, Flow},
    policy::{Declared, PolicyView, Sends},
};

fn outcome(flow: &Flow) -> &'static str {
    if flow.served() { "and the server answered" } else { "and no answer was seen" }
}

/// What it carries.
pub(super) fn of_content(flow: &Flow, policy: &PolicyView, rules: Rules) -> Option<Finding> {
    let outcome = outcome(flow);
    let (client, server) = (describe(&flow.client), describe(&flow.server));
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
        (protocol, true) if flow.evidence.any(Evidence::PASSWORD) => {
            let protocol = protocol.name();
            let why = format!(
                "{client} logs in to {server} on port {port} by {protocol} with a password in plaintext, so anyone on the path can take and use it, {outcome}"
            );
            (FindingId::PlaintextCredentials, Severity::Medium, why)
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
    // Whoever declared it for the mesh takes it to hold here too.
    let why = match &policy.unbound {
        Some(unbound) => format!("{why}; {unbound}"),
        None => why,
    };
    Some(Finding { id, severity, flow: flow.clone(), why, fix: fix::encrypt(flow, policy), decided_by: None })
}

/// What is declared for the port.
pub(super) fn of_mode(flow: &Flow, policy: &PolicyView, rules: Rules) -> Option<Finding> {
    let mode = policy.mode.as_ref()?;
    let (client, server) = (describe(&flow.client), describe(&flow.server));
    let (port, by) = (flow.port, &mode.decided_by);
    let (id, severity, why, fix) = match mode.declared {
        Declared::Strict => {
            let severity = match (flow.served(), is_risky(flow)) {
                (true, true) => Severity::Critical,
                (true, false) => Severity::High,
                // The proxy did its work; somebody tried, and will go on failing.
                (false, true) => Severity::Medium,
                (false, false) => Severity::Low,
            };
            let what = if flow.served() { "was served" } else { "tried, without an answer," };
            let gap = match &mode.gap {
                Some(gap) => format!(", which nothing enforces: {gap}"),
                None => String::new(),
            };
            let why = format!(
                "{client} {what} in plaintext at {server} on port {port}, where mTLS alone is declared by {by}{gap}"
            );
            (FindingId::PlaintextInStrict, severity, why, fix::strict(flow, policy))
        }
        Declared::Permissive if is_risky(flow) || rules.plaintext_other => {
            let severity = match (is_risky(flow), flow.served()) {
                (true, true) => Severity::Medium,
                (true, false) => Severity::Low,
                (false, _) => Severity::Info,
            };
            let why = format!(
                "{client} speaks plaintext to {server} on port {port}, which takes both plaintext and mTLS, so nothing stops it"
            );
            (FindingId::PlaintextInPermissive, severity, why, fix::encrypt(flow, policy))
        }
        // Plaintext that nothing forbids is counted.
        Declared::Permissive => return None,
        Declared::Disabled => {
            let why =
                format!("{client} speaks plaintext to {server} on port {port}, which is declared to take it");
            (FindingId::PlaintextExempt, Severity::Info, why, fix::exempt(flow, policy))
        }
    };
    Some(Finding { id, severity, flow: flow.clone(), why, fix, decided_by: Some(by.to_string()) })
}

/// Who sends it: a pod of the mesh should not.
pub(super) fn of_client(flow: &Flow, policy: &PolicyView) -> Option<Finding> {
    let (End::Pod { pod: client, .. }, Some(server)) = (&flow.client, flow.server.pod()) else { return None };
    let mesh = client.proxy.mesh()?;
    let disabled = policy.mode.as_ref().is_some_and(|mode| mode.declared == Declared::Disabled);
    let told = policy.client.as_ref();
    let by_rule = told.is_some_and(|told| told.decided_by.is(crate::policy::Kind::DestinationRule));
    // Where plaintext is declared, or no proxy stands before the port, the client does as it must.
    if disabled && !by_rule {
        return None;
    }
    let gap = policy.mode.as_ref().is_none_or(|mode| mode.gap.is_some());
    let joined = server.proxy.mesh().is_some_and(|other| other.joins(mesh)) && !gap;
    if !joined && !is_risky(flow) {
        return None;
    }
    let severity = if is_risky(flow) { Severity::High } else { Severity::Medium };
    let severity = if flow.served() { severity } else { severity.lower() };
    let because = match told {
        Some(told) if told.sends == Sends::Plaintext => format!(", because of {}", told.decided_by),
        Some(told) if told.sends == Sends::MeshMtls => format!(", though {}", told.decided_by),
        _ => String::new(),
    };
    Some(Finding {
        id: FindingId::MeshBypass,
        severity,
        flow: flow.clone(),
        why: format!(
            "{} is in the mesh and reaches {} on port {} in plaintext past it{because}",
            describe(&flow.client),
            describe(&flow.server),
            flow.port
        ),
        fix: fix::rejoin(flow, policy),
        decided_by: told
            .filter(|told| told.sends == Sends::Plaintext)
            .map(|told| told.decided_by.to_string()),
    })
}
