//! Owns the Events of what was found: which are due, how often they repeat, and which are left out.
//!
//! A finding of a flow is one Event. It is held for [`Events::HOLD`], in which a connection that turns out to
//! be worse is told once and not twice; then its repetitions raise the count of its series, written less and
//! less often. A finding that changes its severity is another Event, for an Event's type and note cannot change.
//! Rates are those of client-go for one object, and a budget for the node.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{
    Subject,
    bucket::{Bucket, Rate},
    event,
};
use crate::{
    cluster::objects::Uid,
    findings::{Finding, FindingId, Severity},
    flows::{EndId, FlowId, Timestamp},
};

const SECOND: u64 = 1_000_000_000;

/// client-go's spam filter: 25 at once for an object, and then one in five minutes.
const OF_A_POD: Rate = Rate { burst: 25, every: 300 * SECOND };
/// Thousands of nodes share an API server.
const OF_A_NODE: Rate = Rate { burst: 100, every: SECOND };

/// Names the Event of a finding: by its ends, for a pooled connection that is HTTP and then MCP is two flows, and
/// what both give rise to is one finding.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct EventKey {
    client: EndId,
    server: EndId,
    port: u16,
    id: FindingId,
}

/// Why an Event is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppressed {
    /// Its pod has had too many.
    Pod,
    /// The node has had too many.
    Node,
    /// Too many wait, or are remembered, already: the API server is away or slow.
    Queue,
}

impl Suppressed {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Pod, Self::Node, Self::Queue];

    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod-rate",
            Self::Node => "node-rate",
            Self::Queue => "queue",
        }
    }
}

/// Something to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventWrite {
    /// Of which finding.
    pub key: EventKey,
    /// Where.
    pub namespace: Arc<str>,
    /// The Event's name.
    pub name: Arc<str>,
    /// The Event, or the change to it.
    pub body: Vec<u8>,
    /// The count that a change says; `None` for a new Event.
    pub count: Option<u64>,
    /// Since when it waits.
    pub since: u64,
}

#[derive(Debug)]
struct Entry {
    severity: Severity,
    /// The flow that is that bad.
    flow: FlowId,
    namespace: Arc<str>,
    name: Arc<str>,
    count: u64,
    last: Timestamp,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not written yet: the body, as of the newest word.
    Waits { body: Vec<u8>, since: u64 },
    /// On its way.
    Sent,
    /// Written, with the count that was told; the next is due then.
    Stands { told: u64, due: u64, interval: u64 },
}

/// All Events of the node's pods.
#[derive(Debug)]
pub struct Events {
    node: String,
    entries: HashMap<EventKey, Entry>,
    waiting: VecDeque<EventKey>,
    of_pods: HashMap<Uid, Bucket>,
    of_node: Bucket,
}

impl Events {
    /// How long a finding settles before it is an Event, in nanoseconds.
    pub const HOLD: u64 = SECOND;

    /// How long an Event waits for the API server before it is given up, in nanoseconds.
    pub const KEEP: u64 = 120 * SECOND;

    /// New Events that wait at once.
    pub const MAX_WAITING: usize = 256;

    /// Events whose repetitions are counted.
    pub const MAX_ENTRIES: usize = 4096;

    /// From an Event to the first word of its repetitions, in nanoseconds; it grows from there.
    const FIRST_INTERVAL: u64 = 5 * SECOND;
    const LONGEST_INTERVAL: u64 = 1800 * SECOND;

    /// No Events yet, on this node.
    #[must_use]
    pub fn new(node: &str, now: u64) -> Self {
        Self {
            node: node.to_owned(),
            entries: HashMap::new(),
            waiting: VecDeque::new(),
            of_pods: HashMap::new(),
            of_node: Bucket::full(OF_A_NODE, now),
        }
    }

    /// Takes in a finding that was made `times` times since it was last taken in.
    ///
    /// # Errors
    ///
    /// It does not become an Event, this time.
    pub fn found(
        &mut self,
        flow: FlowId,
        times: u64,
        finding: &Finding,
        subject: &Subject,
        now: u64,
    ) -> Result<(), Suppressed> {
        let seen = &finding.flow;
        let (client, server) = (seen.client.id(), seen.server.id());
        let key = EventKey { client, server, port: seen.port, id: finding.id };
        if let Some(entry) = self.entries.get_mut(&key) {
            // A milder flow of the same ends adds nothing but its connections.
            let same = finding.severity == entry.severity
                || (entry.flow != flow && finding.severity < entry.severity);
            if same || matches!(entry.state, State::Waits { .. }) {
                entry.count = entry.count.saturating_add(times);
                entry.last = entry.last.max(seen.last_seen);
                if !same {
                    entry.severity = finding.severity;
                    entry.flow = flow;
                    if let State::Waits { body, .. } = &mut entry.state
                        && let Ok(newer) = event::create(finding, subject, &self.node, &entry.name)
                    {
                        *body = newer;
                    }
                }
                return Ok(());
            }
            self.entries.remove(&key);
        }
        if self.waiting.len() >= Self::MAX_WAITING || self.entries.len() >= Self::MAX_ENTRIES {
            return Err(Suppressed::Queue);
        }
        let bucket = self.of_pods.entry(subject.uid).or_insert_with(|| Bucket::full(OF_A_POD, now));
        if !bucket.take(OF_A_POD, now) {
            return Err(Suppressed::Pod);
        }
        if !self.of_node.take(OF_A_NODE, now) {
            return Err(Suppressed::Node);
        }
        let salt = (&key, finding.severity, seen.last_seen);
        let name: Arc<str> = event::name(subject, salt).into();
        let Ok(body) = event::create(finding, subject, &self.node, &name) else { return Ok(()) };
        let entry = Entry {
            severity: finding.severity,
            flow,
            namespace: Arc::clone(&subject.name.namespace),
            name,
            count: times.max(1),
            last: seen.last_seen,
            state: State::Waits { body, since: now },
        };
        self.waiting.push_back(key.clone());
        self.entries.insert(key, entry);
        Ok(())
    }

    /// Forgets the repetitions of flows that are gone. An Event that waits is written all the same.
    pub fn retain(&mut self, known: impl Fn(FlowId) -> bool, now: u64) {
        self.entries.retain(|_, entry| !matches!(entry.state, State::Stands { .. }) || known(entry.flow));
        self.of_pods.retain(|_, bucket| !bucket.is_full(OF_A_POD, now));
    }

    /// The next to write, if one is due: new Events first.
    pub fn next(&mut self, now: u64) -> Option<EventWrite> {
        while let Some(key) = self.waiting.front().cloned() {
            let Some(entry) = self.entries.get_mut(&key) else {
                self.waiting.pop_front();
                continue;
            };
            let State::Waits { body, since } = &mut entry.state else {
                self.waiting.pop_front();
                continue;
            };
            if now < since.saturating_add(Self::HOLD) {
                break;
            }
            let (body, since) = (std::mem::take(body), *since);
            self.waiting.pop_front();
            entry.state = State::Sent;
            let (namespace, name) = (Arc::clone(&entry.namespace), Arc::clone(&entry.name));
            return Some(EventWrite { key, namespace, name, body, count: None, since });
        }
        let due = |entry: &Entry| match entry.state {
            State::Stands { told, due, .. } => entry.count > told && due <= now,
            _ => false,
        };
        let key = self.entries.iter().find(|(_, entry)| due(entry)).map(|(key, _)| key.clone())?;
        // What is not said now is said later: nothing is lost by waiting.
        if !self.of_node.take(OF_A_NODE, now) {
            return None;
        }
        let entry = self.entries.get_mut(&key)?;
        let State::Stands { interval, due, .. } = &mut entry.state else { return None };
        *interval = interval.saturating_mul(6).min(Self::LONGEST_INTERVAL);
        *due = now.saturating_add(*interval);
        let (namespace, name) = (Arc::clone(&entry.namespace), Arc::clone(&entry.name));
        let count = Some(entry.count);
        let body = event::series(entry.count, entry.last).ok()?;
        Some(EventWrite { key, namespace, name, body, count, since: now })
    }

    /// Takes in that something was written.
    pub fn written(&mut self, write: &EventWrite, now: u64) {
        let Some(entry) = self.entry(write) else { return };
        match (&mut entry.state, write.count) {
            (State::Stands { told, .. }, Some(count)) => *told = count,
            (state @ State::Sent, None) => {
                let interval = Self::FIRST_INTERVAL;
                *state = State::Stands { told: 1, due: now.saturating_add(interval), interval };
            }
            _ => {}
        }
    }

    /// Takes in that something could not be written: the next time it is found, it is a new Event.
    pub fn failed(&mut self, write: &EventWrite) {
        if self.entry(write).is_some() {
            self.entries.remove(&write.key);
        }
    }

    /// The entry that a write is of, unless there is another by now.
    fn entry(&mut self, write: &EventWrite) -> Option<&mut Entry> {
        self.entries.get_mut(&write.key).filter(|entry| entry.name == write.name)
    }
}

#[cfg(test)]
mod tests;
