//! Owns the metrics of what is written to Kubernetes.

use prometheus::{IntCounterVec, Registry};

use super::counters;
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
            written: counters(
                registry,
                "plainsight_kubernetes_writes_total",
                "Events, words of their repetitions, reports and removals of reports that the API server has taken.",
                &["kind"],
            )?,
            failures: counters(
                registry,
                "plainsight_kubernetes_write_failures_total",
                "Attempts to write that failed, by kind of failure.",
                &["kind", "reason"],
            )?,
            suppressed: counters(
                registry,
                "plainsight_kubernetes_writes_suppressed_total",
                "Findings that were left out of Events and reports, by rate or for want of room.",
                &["kind", "reason"],
            )?,
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
