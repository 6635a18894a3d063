//! Owns what is looked for in objects of policy that are not about one workload.

use super::{Inventory, Member, Posture, Subject};
use crate::{
    findings::{FindingId, Severity, posture as fix},
    flows::Timestamp,
    policy::{Decider, Dialled, ObjectKey, PolicyObject, Sends, istio::DestinationRule},
};

pub(super) fn check(inventory: &Inventory, now: Timestamp, found: &mut Vec<Posture>) {
    for object in inventory.policy().objects() {
        match object {
            PolicyObject::DestinationRule(rule) => downgrade(inventory, rule, found),
            PolicyObject::TrafficException(exception) if exception.has_expired(now) => {
                let by = exception.key().field("spec.expires");
                let why =
                    format!("it has ended, and counts for nothing; {} answered for it", exception.owner);
                let text = fix::ended(exception);
                found.push(posture(
                    FindingId::ExceptionExpired,
                    Severity::Low,
                    &exception.key(),
                    false,
                    why,
                    text,
                    &by,
                ));
            }
            _ => {}
        }
    }
    for (host, rules) in inventory.policy().rule_conflicts() {
        let Some((winner, losers)) = rules.split_first() else { continue };
        for loser in losers {
            let by = winner.key().field("spec.host");
            let why = format!(
                "{} is for {host} too and is older, so the traffic policy of this one counts for nothing",
                winner.meta.name
            );
            let text = fix::comment(&loser.key().field("spec.trafficPolicy"), "Put both into one rule");
            found.push(posture(
                FindingId::DestinationRuleConflict,
                Severity::Low,
                &loser.key(),
                false,
                why,
                text,
                &by,
            ));
        }
    }
}

fn posture(
    id: FindingId,
    severity: Severity,
    object: &ObjectKey,
    mcp: bool,
    why: String,
    fix: String,
    by: &Decider,
) -> Posture {
    Posture {
        id,
        severity,
        subject: Subject {
            namespace: object.name.namespace.to_string(),
            kind: object.kind.as_str().to_owned(),
            name: object.name.name.to_string(),
            port: None,
        },
        mcp,
        why,
        fix,
        decided_by: Some(by.to_string()),
    }
}

/// A rule that has clients send something else than mTLS to a server that takes it. Whom it counts for
/// depends on the client's namespace, so it is asked for as each client would.
fn downgrade(inventory: &Inventory, rule: &DestinationRule, found: &mut Vec<Posture>) {
    let clients: Vec<&Member> =
        inventory.members().iter().filter(|member| member.pod.proxy.mesh().is_some()).collect();
    let mut namespaces: Vec<&Member> = Vec::new();
    for client in clients {
        // One client of each namespace, and all where the rule picks among them.
        let known = namespaces.iter().any(|seen| seen.pod.name.namespace == client.pod.name.namespace);
        if !known || rule.workloads.is_some() {
            namespaces.push(client);
        }
    }
    for server in inventory.members().iter().filter(|member| member.pod.proxy.mesh().is_some()) {
        for service in inventory.services_of(&server.pod) {
            for port in &service.ports {
                let Some(target) = crate::policy::target_number(&port.target, &server.pod) else { continue };
                let dialled = Some(Dialled { service: &service.name, port: port.port, guessed: false });
                let address = service.addresses.first().copied().unwrap_or_else(|| [0, 0, 0, 0].into());
                let told = namespaces.iter().map(|client| {
                    inventory.policy().client_tls(&client.pod, &server.pod, target, address, dialled)
                });
                let bad = told.into_iter().find(|told| {
                    told.sends != Sends::MeshMtls && told.decided_by.object() == Some(&rule.key())
                });
                let Some(bad) = bad else { continue };
                let severity = if server.mcp { Severity::High } else { Severity::Medium };
                let what = if bad.sends == Sends::Plaintext { "plaintext" } else { "TLS of their own" };
                let why = format!(
                    "it has clients send {what} to {}, whose pods take the mesh's mTLS",
                    service.name
                );
                let text = fix::rule(rule);
                found.push(posture(
                    FindingId::DestinationRuleDowngrade,
                    severity,
                    &rule.key(),
                    server.mcp,
                    why,
                    text,
                    &bad.decided_by,
                ));
                return;
            }
        }
    }
}
