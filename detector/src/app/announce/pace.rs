//! Owns the waits of what writes: how often it looks, and how long it stays away after what.

use std::time::Duration;

use crate::cluster::kubernetes::{Backoff, WriteError};

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often is looked for something to write.
    pub look: Duration,
    /// The first wait after a failure; it doubles with each.
    pub backoff_min: Duration,
    /// The longest wait after a failure.
    pub backoff_max: Duration,
    /// The first wait after a refusal by RBAC, and for a CRD that is not installed; these double up to ten times.
    pub refused: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            look: Duration::from_millis(500),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            refused: Duration::from_secs(30),
        }
    }
}

impl Pace {
    pub(super) fn after_failures(self) -> Backoff {
        Backoff::new(self.backoff_min, self.backoff_max)
    }

    pub(super) fn after_refusals(self) -> Backoff {
        Backoff::new(self.refused, self.refused * 10)
    }
}

/// How long to wait after a failure that may pass.
pub(super) fn wait(error: &WriteError, backoff: &mut Backoff) -> Duration {
    let asked = match error {
        // Nobody sane asks for more.
        WriteError::Later { after: Some(after), .. } => (*after).min(Duration::from_secs(300)),
        _ => Duration::ZERO,
    };
    asked + backoff.next()
}

/// A duration in nanoseconds.
pub(super) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
