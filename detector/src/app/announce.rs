//! Owns the way from findings to Kubernetes: Events and reports, written beside detection and never in its way.
//!
//! Detection leaves findings behind a lock that is held for a few look-ups. A task for each kind writes, waits
//! where the API server is away or busy, and gives up what has grown old; what is lost is counted.

mod events;
mod pace;
mod reports;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

pub use self::pace::Pace;
use crate::{
    cluster::{kubernetes::Writer, objects::Uid},
    findings::Finding,
    flows::FlowId,
    outputs::{
        kubernetes::{Events, Reports, Subject},
        metrics::Writes,
    },
};

/// What is written to Kubernetes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// An Event for each finding.
    pub events: bool,
    /// A report for each pod of which something stands.
    pub reports: bool,
}

impl Kinds {
    /// Whether there is anything to write.
    #[must_use]
    pub const fn any(self) -> bool {
        self.events || self.reports
    }
}

/// Takes findings in and writes of them.
#[derive(Clone, Debug)]
pub struct Announcer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    node: String,
    events: Option<Mutex<Events>>,
    reports: Option<Mutex<Reports>>,
    writes: Writes,
}

impl Announcer {
    /// Writes of pods of `node`. Times are nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn new(node: &str, kinds: Kinds, writes: Writes, now: u64) -> Self {
        Self(Arc::new(Shared {
            node: node.to_owned(),
            events: kinds.events.then(|| Mutex::new(Events::new(node, now))),
            reports: kinds.reports.then(|| Mutex::new(Reports::new(node, now))),
            writes,
        }))
    }

    /// Takes in all that stands of a flow, which has had `connections` more since the last time.
    pub fn found(&self, flow: FlowId, connections: u64, findings: &[Finding], now: u64) {
        let Shared { node, events, reports, writes } = &*self.0;
        let ours: Vec<(&Finding, Subject)> =
            findings.iter().filter_map(|finding| Some((finding, Subject::of(finding, node)?))).collect();
        if let Some(events) = events {
            let mut events = lock(events);
            for (finding, subject) in &ours {
                if let Err(why) = events.found(flow, connections, finding, subject, now) {
                    writes.suppressed("event", why.as_str(), 1);
                }
            }
        }
        if let Some(reports) = reports {
            let left_out = lock(reports).found(flow, &ours, now);
            writes.suppressed("report", "full", left_out);
        }
    }

    /// Forgets flows and pods that are gone.
    pub fn retain(&self, flow: impl Fn(FlowId) -> bool, pod: impl Fn(Uid) -> bool, now: u64) {
        if let Some(events) = &self.0.events {
            lock(events).retain(&flow, now);
        }
        if let Some(reports) = &self.0.reports {
            lock(reports).retain(flow, pod, now);
        }
    }

    /// Writes until cancelled.
    pub async fn run(self, writer: Writer, pace: Pace, cancel: CancellationToken) {
        let write = async {
            tokio::join!(events::run(&self.0, &writer, pace), reports::run(&self.0, &writer, pace),)
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            ((), ()) = write => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
