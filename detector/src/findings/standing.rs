//! Owns what stands: findings whose traffic goes on. What was remedied stands no longer, though its flow is
//! remembered and what was told of it is not told again.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use super::{Finding, FindingId, Severity};
use crate::flows::{End, EndId, Flow, FlowId, Timestamp};

/// What is said of each flow, and when its traffic was last seen.
#[derive(Debug, Default)]
pub struct Board {
    flows: HashMap<FlowId, Noted>,
}

#[derive(Debug)]
struct Noted {
    client: End,
    server: End,
    port: u16,
    last_seen: Timestamp,
    findings: Vec<(FindingId, Severity)>,
}

/// A finding that stands, of one pair of ends and one port.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Which entry of the catalogue.
    pub id: FindingId,
    /// How bad it is: as bad as the worst of the flows that give rise to it.
    pub severity: Severity,
    /// Who opened the connections.
    pub client: &'a End,
    /// Who accepted them.
    pub server: &'a End,
}

impl Board {
    /// Takes in what is said of a flow now: all of it.
    pub fn note(&mut self, id: FlowId, flow: &Flow, findings: &[Finding]) {
        if findings.is_empty() {
            self.flows.remove(&id);
            return;
        }
        let noted = Noted {
            client: flow.client.clone(),
            server: flow.server.clone(),
            port: flow.port,
            last_seen: flow.last_seen,
            findings: findings.iter().map(|finding| (finding.id, finding.severity)).collect(),
        };
        self.flows.insert(id, noted);
    }

    /// Forgets flows that are gone.
    pub fn retain(&mut self, known: impl Fn(FlowId) -> bool) {
        self.flows.retain(|id, _| known(*id));
    }

    /// The findings whose traffic was seen within `window` before `now`, each once for a pair of ends and a
    /// port: a pooled connection that is HTTP and then MCP is two flows.
    #[must_use]
    pub fn standing(&self, now: Timestamp, window: Duration) -> Vec<Standing<'_>> {
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        let since = now.0.saturating_sub(window);
        let mut standing: HashMap<(EndId, EndId, u16, FindingId), Standing<'_>> = HashMap::new();
        for noted in self.flows.values().filter(|noted| noted.last_seen.0 >= since) {
            let Noted { client, server, port, last_seen: _, findings } = noted;
            for (id, severity) in findings {
                let this = Standing { id: *id, severity: *severity, client, server };
                match standing.entry((client.id(), server.id(), *port, *id)) {
                    Entry::Vacant(first) => drop(first.insert(this)),
                    Entry::Occupied(mut known) if known.get().severity < *severity => {
                        let _milder = known.insert(this);
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
        standing.into_values().collect()
    }
}
