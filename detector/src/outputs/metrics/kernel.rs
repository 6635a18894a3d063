//! Owns the metrics that are read when somebody asks: the kernel's counters and how full its maps are.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use detector_ebpf::counter::Counter;
use prometheus::{
    IntCounter, IntCounterVec, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{read, signed};

/// What the kernel half says of itself. What could not be read is left out of the scrape, not zero.
#[derive(Clone, Debug, Default)]
pub struct KernelReading {
    /// Counters in the order of [`Counter::ALL`].
    pub counters: Option<[u64; Counter::COUNT as usize]>,
    /// How full the maps are, by map.
    pub maps: Vec<(&'static str, Fill)>,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Entries in it.
    pub entries: u64,
    /// Entries that it can hold.
    pub capacity: u64,
}

pub(super) struct KernelCollector<F> {
    read: F,
    descs: Vec<Desc>,
}

impl<F> KernelCollector<F> {
    pub(super) fn new(read: F) -> Result<Self, prometheus::Error> {
        let (events, entries, capacity) = families()?;
        let descs = [events.desc(), entries.desc(), capacity.desc()].concat().into_iter().cloned().collect();
        Ok(Self { read, descs })
    }
}

impl<F: Fn() -> KernelReading + Send + Sync> Collector for KernelCollector<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let KernelReading { counters, maps } = (self.read)();
        // The families were made once at the start already, so they can be made.
        let Ok((events, entries, capacity)) = families() else { return Vec::new() };
        for (counter, count) in Counter::ALL.iter().zip(counters.into_iter().flatten()) {
            events.with_label_values(&[counter.name()]).inc_by(count);
        }
        for (map, fill) in maps {
            entries.with_label_values(&[map]).set(signed(fill.entries));
            capacity.with_label_values(&[map]).set(signed(fill.capacity));
        }
        [events.collect(), entries.collect(), capacity.collect()]
            .into_iter()
            .flatten()
            .filter(|family| !family.get_metric().is_empty())
            .collect()
    }
}

fn families() -> Result<(IntCounterVec, IntGaugeVec, IntGaugeVec), prometheus::Error> {
    Ok((
        IntCounterVec::new(
            Opts::new(
                "plainsight_kernel_events_total",
                "Early exits, losses and steps of the kernel programs, by reason.",
            ),
            &["reason"],
        )?,
        IntGaugeVec::new(Opts::new("plainsight_map_entries", "Entries in a kernel map."), &["map"])?,
        IntGaugeVec::new(
            Opts::new("plainsight_map_capacity", "Entries that a kernel map can hold."),
            &["map"],
        )?,
    ))
}

impl<F> fmt::Debug for KernelCollector<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelCollector").finish_non_exhaustive()
    }
}

/// Lines that nobody read.
#[derive(Debug)]
pub(super) struct LinesLost {
    lost: Arc<AtomicU64>,
    descs: Vec<Desc>,
}

impl LinesLost {
    pub(super) fn new(lost: Arc<AtomicU64>) -> Result<Self, prometheus::Error> {
        let descs = Self::family()?.desc().into_iter().cloned().collect();
        Ok(Self { lost, descs })
    }

    fn family() -> Result<IntCounter, prometheus::Error> {
        IntCounter::new(
            "plainsight_lines_lost_total",
            "Findings and flows that were not written because nobody read standard output.",
        )
    }
}

impl Collector for LinesLost {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(family) = Self::family() else { return Vec::new() };
        family.inc_by(read(&self.lost));
        family.collect()
    }
}
