//! Owns what is said of a client that policy does not expect, or that nobody knows.

use detector_ebpf::verdict::Verdict;

use super::{Finding, FindingId, Severity, catalogue::describe, fix, is_probe, is_risky};
use crate::{
    flows::{End, Flow},
    policy::{Answer, Kind, PolicyView},
};

pub(super) fn of(flow: &Flow, policy: &PolicyView) -> Option<Finding> {
    // A node is the kubelet or an agent on it: it has no service account that a declaration could name.
    if matches!(flow.client, End::Node { .. }) || is_probe(flow) {
        return None;
    }
    if let End::Spoofed { .. } = flow.client {
        return Some(spoofed(flow));
    }
    let risky = is_risky(flow);
    let plaintext = flow.verdict == Verdict::Plaintext;
    let severity = match (plaintext, risky) {
        (true, true) => Severity::High,
        _ => Severity::Medium,
    };
    let severity = if plaintext && !flow.served() { severity.lower() } else { severity };
    // Linkerd's pods may listen on ports that they do not declare, of which nothing is known.
    let doubt = policy.tunnelled && flow.server.pod().is_some_and(fix::is_linkerd);
    let severity = if doubt { severity.lower() } else { severity };
    let (client, server) = (describe(&flow.client), describe(&flow.server));
    let port = match policy.tunnelled {
        true => format!("port {}, in which the mesh hides the real one", flow.port),
        false => format!("port {}", flow.port),
    };
    let at = if policy.tunnelled { " at any" } else { "" };
    let by = &policy.source.decided_by;
    let finding =
        |id, why, fix, decided_by| Some(Finding { id, severity, flow: flow.clone(), why, fix, decided_by });
    match (&flow.client, policy.source.answer) {
        (End::Unknown { .. }, Answer::Denied) if policy.identities => finding(
            FindingId::UnidentifiedSource,
            format!(
                "{client} calls {server} on {port}, whose callers are declared, and no pod, service or node is known to have that address"
            ),
            fix::known_sources_only(flow),
            Some(by.to_string()),
        ),
        (End::Unknown { .. }, Answer::NoPolicy) if policy.identities && plaintext && risky => finding(
            FindingId::UnidentifiedSource,
            format!(
                "{client} calls {server} on {port}, and no pod, service or node is known to have that address"
            ),
            fix::known_sources_only(flow),
            None,
        ),
        (End::Unknown { .. }, _) => None,
        (_, Answer::Denied) => {
            let object = by.object();
            let by_action = object.is_some_and(|object| object.kind == Kind::AuthorizationPolicy)
                && by.to_string().contains("spec.rules[");
            let why = match object {
                Some(object) if by_action => {
                    format!("{client} calls {server} on {port}, and {object} denies it")
                }
                Some(object) => {
                    format!("{client} calls {server} on {port}, and {object} does not name it{at}")
                }
                None => format!("{client} calls {server} on {port}, which admits nobody by default"),
            };
            finding(FindingId::UnexpectedSource, why, fix::expect(flow, policy), Some(by.to_string()))
        }
        (_, Answer::Allowed | Answer::NoPolicy | Answer::Unknown) => None,
    }
}

/// A pod that sends with another's address: policy by address and every log would name the other.
fn spoofed(flow: &Flow) -> Finding {
    let (client, server) = (describe(&flow.client), describe(&flow.server));
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
