//! Owns the memory of what was told.

use std::collections::HashMap;

use detector_ebpf::evidence::Evidence;

use super::{Finding, FindingId, Severity};
use crate::flows::FlowId;

/// What was told of which flow.
#[derive(Debug, Default)]
pub struct Ledger {
    told: HashMap<(FlowId, FindingId), (Severity, Evidence)>,
}

impl Ledger {
    /// Outcomes change severities; alone they are no evidence that is worth a line.
    const SILENT: Evidence = Evidence(Evidence::ANSWERED.0 | Evidence::REFUSED.0);

    /// Those of a flow's findings that are news: new, of another severity, or with more evidence.
    pub fn news(&mut self, flow: FlowId, findings: Vec<Finding>) -> Vec<Finding> {
        findings
            .into_iter()
            .filter(|finding| {
                let evidence = Evidence(finding.flow.evidence.0 & !Self::SILENT.0);
                let now = (finding.severity, evidence);
                self.told.insert((flow, finding.id), now) != Some(now)
            })
            .collect()
    }

    /// Forgets flows that are gone.
    pub fn retain(&mut self, known: impl Fn(FlowId) -> bool) {
        self.told.retain(|(flow, _), _| known(*flow));
    }

    /// How many findings of each id and severity stand.
    #[must_use]
    pub fn active(&self) -> HashMap<(FindingId, Severity), u64> {
        let mut active = HashMap::new();
        for ((_, id), (severity, _)) in &self.told {
            *active.entry((*id, *severity)).or_insert(0) += 1;
        }
        active
    }
}
