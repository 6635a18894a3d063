//! Owns the audit: what declared policy leaves open, workload by workload, without any traffic.
//!
//! Pure: an [`Inventory`] of what is declared in, findings out, in an order that is the same whenever the
//! declarations are: MCP workloads first, then the worst first, then by name.

mod explain;
mod inventory;
mod rules;
mod workloads;

pub use self::{
    explain::{CallerView, Explanation, PortView, explain},
    inventory::{Inventory, Member},
};

use std::collections::BTreeMap;

use crate::{
    findings::{FindingId, Severity},
    flows::Timestamp,
};

/// A posture finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posture {
    /// Which entry of the catalogue.
    pub id: FindingId,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// Whether that speaks MCP.
    pub mcp: bool,
    /// Why it matters, in one sentence.
    pub why: String,
    /// A manifest to apply, with comments; comments alone where no manifest helps.
    pub fix: String,
    /// The object and field that decided it.
    pub decided_by: Option<String>,
}

/// What a posture finding is about: a workload, or an object of policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The port, where it is about one.
    pub port: Option<u16>,
}

/// What an audit looks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The time at which deadlines and exceptions are judged.
    pub now: Timestamp,
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The findings, in a stable order.
    pub findings: Vec<Posture>,
    /// Workloads that were looked at.
    pub workloads: usize,
    /// Those of them that speak MCP.
    pub mcp: usize,
    /// Namespaces that they are in.
    pub namespaces: usize,
}

/// Looks at everything that is declared.
#[must_use]
pub fn audit(inventory: &Inventory, options: &Options) -> Report {
    let mut of_pods = Vec::new();
    for member in inventory.members() {
        workloads::check(inventory, member, options.now, &mut of_pods);
    }
    let mut findings = once(inventory, of_pods);
    rules::check(inventory, options.now, &mut findings);
    findings.sort_by(|a, b| {
        let order = |posture: &Posture| (!posture.mcp, std::cmp::Reverse(posture.severity));
        (order(a), &a.subject, a.id.as_str(), &a.decided_by).cmp(&(
            order(b),
            &b.subject,
            b.id.as_str(),
            &b.decided_by,
        ))
    });
    let workloads = inventory.workloads();
    Report {
        findings,
        workloads: workloads.len(),
        mcp: workloads.values().filter(|mcp| **mcp).count(),
        namespaces: workloads
            .keys()
            .map(|(namespace, ..)| namespace)
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
    }
}

/// What is found of a pod.
struct OfPod {
    posture: Posture,
    /// What decided it, as all pods of the workload have it: a pod's own field without the pod's name.
    decided_by: Option<String>,
    /// Whether that is a pod's own field.
    by_pod: bool,
}

/// What pods of one workload have in common, once, with how many of them it is so.
fn once(inventory: &Inventory, found: Vec<OfPod>) -> Vec<Posture> {
    let mut unique: BTreeMap<_, (OfPod, usize)> = BTreeMap::new();
    for of in found {
        let key = (of.posture.subject.clone(), of.posture.id, of.decided_by.clone());
        match unique.get_mut(&key) {
            Some((known, count)) => {
                *count += 1;
                if known.posture.severity < of.posture.severity {
                    *known = of;
                }
            }
            None => {
                unique.insert(key, (of, 1));
            }
        }
    }
    let mut pods: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for Member { pod, .. } in inventory.members() {
        let workload = (&*pod.name.namespace, pod.workload.kind.as_str(), &*pod.workload.name);
        *pods.entry(workload).or_insert(0) += 1;
    }
    let told = unique.into_values().map(|(OfPod { mut posture, by_pod, .. }, count)| {
        let Subject { namespace, kind, name, .. } = &posture.subject;
        let all = pods.get(&(namespace.as_str(), kind.as_str(), name.as_str())).copied().unwrap_or(count);
        if all > 1 && (by_pod || count < all) {
            posture.why.push_str(&format!(" ({count} of its {all} pods)"));
        }
        posture
    });
    told.collect()
}

impl Report {
    /// How many findings there are of a severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|posture| posture.severity == severity).count()
    }

    /// The worst severity.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|posture| posture.severity).max()
    }
}

#[cfg(test)]
mod tests;
