//! Owns the questions whether the detector is ready and alive: every part that must be up first holds a guard,
//! and the loop that detects beats.
//!
//! Ready means that no guard is left. A guard that is dropped by an error counts as gone too: the error ends
//! the process, and readiness is no place to report it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// What readiness waits for.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    pending: BTreeSet<&'static str>,
    since: Option<SystemTime>,
}

/// Keeps the detector from being ready until it is dropped.
#[derive(Debug)]
#[must_use = "dropping the guard makes its part ready"]
pub struct BlockReady {
    name: &'static str,
    readiness: Readiness,
}

/// Says that the detecting loop goes round.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    start: Instant,
    /// Milliseconds from the start to the last beat.
    last: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { start: Instant::now(), last: Arc::default() }
    }
}

impl Heartbeat {
    /// After how long without a beat the loop counts as stuck. It beats every second.
    pub const STUCK: Duration = Duration::from_secs(30);

    /// Beats.
    pub fn beat(&self) {
        self.last.store(self.since_start(), Ordering::Relaxed);
    }

    /// How long ago the last beat was, or the start.
    #[must_use]
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.since_start().saturating_sub(self.last.load(Ordering::Relaxed)))
    }

    fn since_start(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Readiness {
    /// Has readiness wait for the part `name`.
    pub fn block(&self, name: &'static str) -> BlockReady {
        self.lock().pending.insert(name);
        BlockReady { name, readiness: self.clone() }
    }

    /// The parts that are not up yet, by name.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        self.lock().pending.iter().copied().collect()
    }

    /// When the last part was up for the first time: from then on every pod of the node is accounted for.
    #[must_use]
    pub fn since(&self) -> Option<SystemTime> {
        self.lock().since
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BlockReady {
    fn drop(&mut self) {
        let Self { name, readiness } = self;
        let mut state = readiness.lock();
        state.pending.remove(name);
        if state.pending.is_empty() {
            state.since.get_or_insert_with(SystemTime::now);
        }
        tracing::debug!(part = name, left = state.pending.len(), "ready");
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;

    #[test]
    fn ready_is_when_the_last_guard_is_gone() {
        let readiness = Readiness::default();
        let programs = readiness.block("programs");
        let interfaces = readiness.block("interfaces");
        assert_eq!(readiness.pending(), ["interfaces", "programs"]);
        drop(programs);
        assert_eq!((readiness.pending(), readiness.since()), (vec!["interfaces"], None));
        drop(interfaces);
        assert!(readiness.since().is_some());
        assert_eq!(readiness.pending(), Vec::<&str>::new());
    }
}
