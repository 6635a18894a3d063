//! Owns the metrics that are read when somebody asks: the kernel's counters and how full its maps are.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use detector_ebpf::counter::Counter;
use prometheus::{
    CounterVec, IntCounter, IntCounterVec, IntGaugeVec,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{catalogue, read, signed};

/// What the kernel half says of itself. What could not be read is left out of the scrape, not zero.
#[derive(Clone, Debug, Default)]
pub struct KernelReading {
    /// Counters in the order of [`Counter::ALL`].
    pub counters: Option<[u64; Counter::COUNT as usize]>,
    /// How full the maps are, by map.
    pub maps: Vec<(&'static str, Fill)>,
    /// What the kernel keeps of each program's runs; nothing while it keeps no statistics.
    pub programs: Vec<(&'static str, Runs)>,
}

/// A program's runs, on all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// How long they took.
    pub time: Duration,
    /// How many there were.
    pub count: u64,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Entries in it.
    pub entries: u64,
    /// Entries that it can hold.
    pub capacity: u64,
}

/// Asks the kernel half.
#[derive(Clone)]
pub(super) struct KernelReader(Arc<dyn Fn() -> KernelReading + Send + Sync>);

impl KernelReader {
    pub(super) fn new(read: impl Fn() -> KernelReading + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(super) fn read(&self) -> KernelReading {
        (self.0)()
    }
}

impl fmt::Debug for KernelReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelReader").finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct KernelCollector {
    read: KernelReader,
    descs: Vec<Desc>,
}

struct Families {
    events: IntCounterVec,
    entries: IntGaugeVec,
    capacity: IntGaugeVec,
    seconds: CounterVec,
    runs: IntCounterVec,
}

impl Families {
    fn new() -> Result<Self, prometheus::Error> {
        let catalogue::Family { labels: program, .. } = catalogue::PROGRAM_SECONDS;
        Ok(Self {
            events: catalogue::KERNEL_EVENTS.counters()?,
            entries: catalogue::MAP_ENTRIES.gauges()?,
            capacity: catalogue::MAP_CAPACITY.gauges()?,
            seconds: CounterVec::new(catalogue::PROGRAM_SECONDS.opts(), program)?,
            runs: catalogue::PROGRAM_RUNS.counters()?,
        })
    }

    fn each(&self) -> [&dyn Collector; 5] {
        [&self.events, &self.entries, &self.capacity, &self.seconds, &self.runs]
    }
}

impl KernelCollector {
    pub(super) fn new(read: KernelReader) -> Result<Self, prometheus::Error> {
        let descs = Families::new()?.each().iter().flat_map(|family| family.desc()).cloned().collect();
        Ok(Self { read, descs })
    }
}

impl Collector for KernelCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let KernelReading { counters, maps, programs } = self.read.read();
        // The families were made once at the start already, so they can be made.
        let Ok(families) = Families::new() else { return Vec::new() };
        for (counter, count) in Counter::ALL.iter().zip(counters.into_iter().flatten()) {
            families.events.with_label_values(&[counter.name()]).inc_by(count);
        }
        for (map, fill) in maps {
            families.entries.with_label_values(&[map]).set(signed(fill.entries));
            families.capacity.with_label_values(&[map]).set(signed(fill.capacity));
        }
        for (program, Runs { time, count }) in programs {
            families.seconds.with_label_values(&[program]).inc_by(time.as_secs_f64());
            families.runs.with_label_values(&[program]).inc_by(count);
        }
        filled(&families.each())
    }
}

/// What there is to say: a family without a series is none.
pub(super) fn filled(families: &[&dyn Collector]) -> Vec<MetricFamily> {
    let all = families.iter().flat_map(|family| family.collect());
    all.filter(|family| !family.get_metric().is_empty()).collect()
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
        catalogue::LINES_LOST.single_counter()
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
