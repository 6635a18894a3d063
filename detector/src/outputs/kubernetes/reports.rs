//! Owns which reports are to be written: what stands for each pod, and how that differs from what was written.
//!
//! The state is what counts, not the way to it: however often it changes, and whatever was lost meanwhile, the
//! next write says what stands. Changes of a pod are gathered for [`Reports::GATHER`]; a pod is written every
//! [`Reports::EVERY`] at most.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use super::{
    Subject,
    bucket::{Bucket, Rate},
    report::{self, Flavour, Outcome},
};
use crate::{
    cluster::objects::{Name, Uid},
    findings::{Finding, FindingId},
    flows::FlowId,
};

const SECOND: u64 = 1_000_000_000;
const OF_A_NODE: Rate = Rate { burst: 20, every: SECOND / 2 };

/// A report to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportWrite {
    /// Whose.
    pub uid: Uid,
    /// Its namespace and name.
    pub name: Name,
    /// What it says; `None` takes it away.
    pub body: Option<Vec<u8>>,
}

/// How a write came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rested {
    /// It is done.
    Done,
    /// It is to be tried again after so many nanoseconds.
    Again(u64),
    /// It cannot be: its namespace is gone, or the API server will not have it. The next change is tried.
    Dropped,
}

#[derive(Debug)]
struct OfPod {
    subject: Subject,
    standing: BTreeMap<(FlowId, FindingId), Standing>,
    /// Not before then it is written, if it is to be.
    due: Option<u64>,
    wrote: Option<u64>,
    /// Whether the cluster has a report of it.
    exists: bool,
    /// Whether a write is under way.
    busy: bool,
    /// Whether the report was there before us: its pod may be gone.
    adopted: bool,
}

#[derive(Debug)]
struct Standing {
    digest: u64,
    outcome: Outcome,
}

/// The reports of the node's pods.
#[derive(Debug)]
pub struct Reports {
    node: String,
    pods: HashMap<Uid, OfPod>,
    /// Where the findings of a flow stand.
    flows: HashMap<FlowId, Vec<(Uid, FindingId)>>,
    standing: usize,
    of_node: Bucket,
}

impl Reports {
    /// How long changes of a pod are gathered, in nanoseconds.
    pub const GATHER: u64 = 2 * SECOND;

    /// How often a pod's report is written at most, in nanoseconds.
    pub const EVERY: u64 = 10 * SECOND;

    /// How long a report that was there at the start waits for its findings to be made again, in nanoseconds.
    pub const SETTLE: u64 = 30 * SECOND;

    /// Results of one report: the worst. The objects of an API server have 1.5 MiB at most.
    pub const MAX_RESULTS: usize = 100;

    /// Findings that stand in all reports together.
    pub const MAX_STANDING: usize = 2048;

    /// No reports yet, on this node.
    #[must_use]
    pub fn new(node: &str, now: u64) -> Self {
        Self {
            node: node.to_owned(),
            pods: HashMap::new(),
            flows: HashMap::new(),
            standing: 0,
            of_node: Bucket::full(OF_A_NODE, now),
        }
    }

    /// What the reports of this node are found by.
    #[must_use]
    pub fn selector(&self) -> String {
        report::selector(&self.node)
    }

    /// Takes in all that stands of a flow; gives how many found no room.
    pub fn found(&mut self, flow: FlowId, findings: &[(&Finding, Subject)], now: u64) -> usize {
        let stands: HashSet<(Uid, FindingId)> =
            findings.iter().map(|(finding, subject)| (subject.uid, finding.id)).collect();
        let before = self.flows.remove(&flow).unwrap_or_default();
        for (uid, id) in before.into_iter().filter(|stood| !stands.contains(stood)) {
            self.remove(uid, (flow, id), now);
        }
        let mut left_out = 0;
        let mut kept = Vec::new();
        for (finding, subject) in findings {
            if self.put(flow, finding, subject, now) {
                kept.push((subject.uid, finding.id));
            } else {
                left_out += 1;
            }
        }
        if !kept.is_empty() {
            self.flows.insert(flow, kept);
        }
        left_out
    }

    /// Forgets what stood of flows that are gone, and pods that are gone: their reports go with them.
    pub fn retain(&mut self, flow: impl Fn(FlowId) -> bool, pod: impl Fn(Uid) -> bool, now: u64) {
        let gone: Vec<FlowId> = self.flows.keys().copied().filter(|id| !flow(*id)).collect();
        for id in gone {
            self.found(id, &[], now);
        }
        let gone: Vec<Uid> =
            self.pods.iter().filter(|(uid, of)| !of.adopted && !pod(**uid)).map(|(uid, _)| *uid).collect();
        for uid in gone {
            if let Some(of) = self.pods.remove(&uid) {
                self.standing -= of.standing.len();
            }
            for places in self.flows.values_mut() {
                places.retain(|(place, _)| *place != uid);
            }
        }
        self.flows.retain(|_, places| !places.is_empty());
    }

    /// Takes in that a report is there, from a process before this one: unless something stands for its pod soon,
    /// it goes.
    pub fn adopt(&mut self, name: Name, now: u64) {
        let Some(uid) = report::uid_of(&name.name).map(Uid::from) else { return };
        let due = Some(now.saturating_add(Self::SETTLE));
        // The pod's name does not matter for taking the report away, and a finding brings it.
        let of = self.pods.entry(uid).or_insert_with(|| OfPod {
            subject: Subject { uid, name },
            standing: BTreeMap::new(),
            due,
            wrote: None,
            exists: true,
            busy: false,
            adopted: true,
        });
        of.exists = true;
    }

    /// Takes in that the cluster has no reports any more, or another kind of them: all is to be written anew.
    pub fn reset(&mut self, now: u64) {
        for of in self.pods.values_mut() {
            of.exists = false;
            of.wrote = None;
            of.due = Some(now);
        }
    }

    /// The next report to write, if one is due.
    pub fn next(&mut self, flavour: Flavour, now: u64) -> Option<ReportWrite> {
        loop {
            let due = |of: &OfPod| of.due.filter(|at| !of.busy && *at <= now);
            let uid =
                self.pods.iter().filter_map(|(uid, of)| Some((due(of)?, *uid))).min_by_key(|(at, _)| *at);
            let (_, uid) = uid?;
            let of = self.pods.get_mut(&uid)?;
            if of.standing.is_empty() && !of.exists {
                self.pods.remove(&uid);
                continue;
            }
            if !self.of_node.take(OF_A_NODE, now) {
                return None;
            }
            let mut outcomes: Vec<&Outcome> =
                of.standing.values().map(|standing| &standing.outcome).collect();
            outcomes.sort_by_cached_key(|outcome| outcome.rank());
            let mut about = HashSet::new();
            outcomes.retain(|outcome| about.insert(outcome.about()));
            let left_out = outcomes.len().saturating_sub(Self::MAX_RESULTS);
            outcomes.truncate(Self::MAX_RESULTS);
            let body = match outcomes[..] {
                [] => None,
                _ => Some(report::compose(flavour, &of.subject, &self.node, &outcomes, left_out).ok()?),
            };
            of.busy = true;
            of.due = None;
            let namespace = std::sync::Arc::clone(&of.subject.name.namespace);
            return Some(ReportWrite { uid, name: Name::new(namespace, report::name(&of.subject)), body });
        }
    }

    /// Takes in how a write came out.
    pub fn rested(&mut self, write: &ReportWrite, how: Rested, now: u64) {
        let Some(of) = self.pods.get_mut(&write.uid) else { return };
        of.busy = false;
        let rest = match how {
            Rested::Done => {
                of.exists = write.body.is_some();
                of.wrote = Some(now);
                Self::EVERY
            }
            Rested::Dropped => {
                of.exists = false;
                Self::EVERY
            }
            Rested::Again(after) => {
                of.due = Some(now);
                after
            }
        };
        if let Some(due) = &mut of.due {
            *due = (*due).max(now.saturating_add(rest));
        } else if of.standing.is_empty() && !of.exists {
            self.pods.remove(&write.uid);
        }
    }

    /// How many findings stand in reports.
    #[must_use]
    pub fn len(&self) -> usize {
        self.standing
    }

    /// Whether nothing stands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.standing == 0
    }

    /// Puts a finding where it stands; whether there was room.
    fn put(&mut self, flow: FlowId, finding: &Finding, subject: &Subject, now: u64) -> bool {
        let digest = digest(finding);
        let key = (flow, finding.id);
        let known = self.pods.get(&subject.uid).and_then(|of| of.standing.get(&key));
        match known {
            Some(known) if known.digest == digest => return true,
            None if self.standing >= Self::MAX_STANDING => return false,
            None => self.standing += 1,
            Some(_) => {}
        }
        let of = self.pods.entry(subject.uid).or_insert_with(|| OfPod {
            subject: subject.clone(),
            standing: BTreeMap::new(),
            due: None,
            wrote: None,
            exists: false,
            busy: false,
            adopted: false,
        });
        of.subject = subject.clone();
        of.adopted = false;
        of.standing.insert(key, Standing { digest, outcome: Outcome::of(finding) });
        of.change(now);
        true
    }

    fn remove(&mut self, uid: Uid, key: (FlowId, FindingId), now: u64) {
        let Some(of) = self.pods.get_mut(&uid) else { return };
        if of.standing.remove(&key).is_some() {
            self.standing -= 1;
            of.change(now);
        }
    }
}

impl OfPod {
    fn change(&mut self, now: u64) {
        let gathered = now.saturating_add(Reports::GATHER);
        let rested = self.wrote.map_or(0, |at| at.saturating_add(Reports::EVERY));
        let due = gathered.max(rested);
        // Of a report that was there before, what stands now is the newer word.
        self.due = Some(self.due.map_or(due, |at| at.min(due)));
    }
}

/// What of a finding a report shows: counts and the time of the last connection are none of it.
fn digest(finding: &Finding) -> u64 {
    let Finding { id, severity, flow, why, fix, decided_by } = finding;
    let mut hasher = DefaultHasher::new();
    (id, severity, flow.evidence.0, why, fix, decided_by).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
