//! Owns the memory of what was told: by edge and id, whichever of the edge's flows gave rise to it.
//!
//! One pair of ends has several flows to one port, as when a pooled connection is HTTP and then MCP. What
//! both give rise to is one finding, as bad as the worse of them.

use std::{collections::HashMap, mem};

use detector_ebpf::evidence::Evidence;

use super::{Finding, FindingId, Severity};
use crate::flows::{EndId, Flow, FlowId};

/// What was told of which edge, and what stands.
#[derive(Debug, Default)]
pub struct Ledger {
    edges: HashMap<Edge, Vec<Standing>>,
    /// The edge of each flow that something stands of.
    of: HashMap<FlowId, Edge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Edge {
    client: EndId,
    server: EndId,
    port: u16,
}

/// A finding that stands.
#[derive(Debug)]
struct Standing {
    id: FindingId,
    told: (Severity, Evidence),
    /// The flows that give rise to it.
    by: Vec<(FlowId, Severity, Evidence)>,
}

impl Standing {
    /// The worst severity, and the evidence of the flows that are that bad.
    fn now(&self) -> Option<(Severity, Evidence)> {
        let worst = self.by.iter().map(|(_, severity, _)| *severity).max()?;
        let those = self.by.iter().filter(|(_, severity, _)| *severity == worst);
        Some((worst, those.fold(Evidence::NONE, |all, (.., evidence)| all.or(*evidence))))
    }
}

impl Ledger {
    /// Outcomes change severities; alone they are no evidence that is worth a line.
    const SILENT: Evidence = Evidence(Evidence::ANSWERED.0 | Evidence::REFUSED.0);

    /// Takes in what is to be said of a flow now: all of it, so that what is missing no longer stands. What
    /// is news comes back: new on its edge, of another severity, or with more evidence.
    pub fn news(&mut self, id: FlowId, flow: &Flow, findings: Vec<Finding>) -> Vec<Finding> {
        let edge = Edge { client: flow.client.id(), server: flow.server.id(), port: flow.port };
        if self.of.get(&id).is_some_and(|known| *known != edge) {
            self.drop_flows(|known| known == id);
        }
        let standing = self.edges.entry(edge.clone()).or_default();
        for known in &mut *standing {
            known.by.retain(|(by, ..)| *by != id || findings.iter().any(|finding| finding.id == known.id));
        }
        standing.retain(|known| !known.by.is_empty());
        let news = findings.into_iter().filter(|finding| is_news(standing, id, finding)).collect();
        let stands = standing.iter().any(|known| known.by.iter().any(|(by, ..)| *by == id));
        if standing.is_empty() {
            self.edges.remove(&edge);
        }
        if stands {
            self.of.insert(id, edge);
        } else {
            self.of.remove(&id);
        }
        news
    }

    /// Forgets flows that are gone.
    pub fn retain(&mut self, known: impl Fn(FlowId) -> bool) {
        if self.of.keys().any(|id| !known(*id)) {
            self.drop_flows(|id| !known(id));
        }
    }

    fn drop_flows(&mut self, gone: impl Fn(FlowId) -> bool) {
        self.of.retain(|id, _| !gone(*id));
        self.edges.retain(|_, standing| {
            for known in &mut *standing {
                known.by.retain(|(by, ..)| !gone(*by));
            }
            standing.retain(|known| !known.by.is_empty());
            !standing.is_empty()
        });
    }

    /// How many findings of each id and severity stand.
    #[must_use]
    pub fn active(&self) -> HashMap<(FindingId, Severity), u64> {
        let mut active = HashMap::new();
        for standing in self.edges.values().flatten() {
            if let Some((severity, _)) = standing.now() {
                *active.entry((standing.id, severity)).or_insert(0) += 1;
            }
        }
        active
    }
}

/// Notes a finding of a flow among those of its edge; whether it is news.
fn is_news(standing: &mut Vec<Standing>, id: FlowId, finding: &Finding) -> bool {
    let evidence = Evidence(finding.flow.evidence.0 & !Ledger::SILENT.0);
    let by = (id, finding.severity, evidence);
    let Some(known) = standing.iter_mut().find(|known| known.id == finding.id) else {
        standing.push(Standing { id: finding.id, told: (finding.severity, evidence), by: vec![by] });
        return true;
    };
    match known.by.iter_mut().find(|(by, ..)| *by == id) {
        Some(before) => *before = by,
        None => known.by.push(by),
    }
    let Some((worst, all)) = known.now() else { return false };
    // A flow that is not as bad as what stands adds nothing to it.
    if finding.severity < worst {
        return false;
    }
    let (told, shown) = mem::replace(&mut known.told, (worst, all));
    if told != worst {
        return true;
    }
    known.told.1 = shown.or(all);
    all.0 & !shown.0 != 0
}
