//! Owns the metrics of what is written to Kubernetes.

use prometheus::{IntCounterVec, Registry};

use super::{catalogue, registered};
use crate::outputs::kubernetes::Suppressed;

/// Counts what is written to Kubernetes.
#[derive(Clone, Debug)]
pub struct Writes {
    written: IntCounterVec,
    failures: IntCounterVec,
    suppressed: IntCounterVec,
}

impl Writes {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let writes = Self {
            written: registered(registry, catalogue::WRITES.counters()?)?,
            failures: registered(registry, catalogue::WRITE_FAILURES.counters()?)?,
            suppressed: registered(registry, catalogue::WRITES_SUPPRESSED.counters()?)?,
        };
        for kind in ["event", "event-series", "report", "report-removal"] {
            writes.written.with_label_values(&[kind]).reset();
        }
        for why in Suppressed::ALL {
            writes.suppressed.with_label_values(&["event", why.as_str()]).reset();
        }
        writes.suppressed.with_label_values(&["report", "full"]).reset();
        for kind in ["event", "report"] {
            writes.failures.with_label_values(&[kind, "forbidden"]).reset();
        }
        Ok(writes)
    }

    /// Counts something that was written.
    pub(crate) fn written(&self, kind: &str) {
        self.written.with_label_values(&[kind]).inc();
    }

    /// Counts an attempt that failed.
    pub(crate) fn failed(&self, kind: &str, reason: &str) {
        self.failures.with_label_values(&[kind, reason]).inc();
    }

    /// Counts what was left out.
    pub(crate) fn suppressed(&self, kind: &str, reason: &str, times: usize) {
        if times > 0 {
            self.suppressed.with_label_values(&[kind, reason]).inc_by(times as u64);
        }
    }
}
