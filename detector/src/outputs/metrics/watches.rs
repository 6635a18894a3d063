//! Owns the metrics of the watches on the Kubernetes API: how old what they told is, and what went wrong.

use std::fmt;

use prometheus::{
    GaugeVec, IntCounterVec, IntGaugeVec,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{catalogue, kernel::filled};
use crate::cluster::kubernetes::{Health, ResourceState};

pub(super) struct WatchCollector {
    health: Health,
    descs: Vec<Desc>,
}

struct Families {
    stale: GaugeVec,
    state: IntGaugeVec,
    lists: IntCounterVec,
    failures: IntCounterVec,
    unreadable: IntCounterVec,
}

impl fmt::Debug for WatchCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchCollector").finish_non_exhaustive()
    }
}

impl WatchCollector {
    pub(super) fn new(health: Health) -> Result<Self, prometheus::Error> {
        let families = Families::new()?;
        let descs = families.each().iter().flat_map(|family| family.desc()).cloned().collect();
        Ok(Self { health, descs })
    }
}

impl Families {
    fn new() -> Result<Self, prometheus::Error> {
        let stale = catalogue::STALE;
        Ok(Self {
            stale: GaugeVec::new(stale.opts(), stale.labels)?,
            state: catalogue::WATCH_STATE.gauges()?,
            lists: catalogue::LISTS.counters()?,
            failures: catalogue::WATCH_FAILURES.counters()?,
            unreadable: catalogue::UNREADABLE.counters()?,
        })
    }

    fn each(&self) -> [&dyn Collector; 5] {
        [&self.stale, &self.state, &self.lists, &self.failures, &self.unreadable]
    }
}

impl Collector for WatchCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The families were made once at the start already, so they can be made.
        let Ok(families) = Families::new() else { return Vec::new() };
        for watch in self.health.snapshot() {
            let resource = &[watch.resource.as_str()][..];
            families.stale.with_label_values(resource).set(watch.stale.as_secs_f64());
            for state in ResourceState::ALL {
                let is = i64::from(watch.state == *state);
                families.state.with_label_values(&[watch.resource.as_str(), state.as_str()]).set(is);
            }
            families.lists.with_label_values(resource).inc_by(watch.lists);
            families.unreadable.with_label_values(resource).inc_by(watch.unreadable);
            for (kind, count) in &watch.failures {
                families.failures.with_label_values(&[watch.resource.as_str(), kind]).inc_by(*count);
            }
        }
        filled(&families.each())
    }
}
