//! Owns the cap: a metric with names of the cluster can have only so many series, and loses those of
//! workloads that are gone.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, core::Collector};

use super::{catalogue::Family, labels::WorkloadName};

/// A set of labels of one metric.
pub(super) trait Labels: Clone + Eq + Hash {
    /// The metric.
    const FAMILY: Family;

    /// The labels' values, in the order of their names.
    fn values(&self) -> Vec<&str>;

    /// The labels that stand in when there are too many.
    fn overflow(&self) -> Self;

    /// The workloads that they name.
    fn workloads(&self) -> [Option<WorkloadName<'_>>; 2];
}

/// The series of one metric.
pub(super) trait Vector: Collector + Clone + Sized + 'static {
    /// One series.
    type Member;

    fn make(family: &Family) -> Result<Self, prometheus::Error>;
    fn member(&self, values: &[&str]) -> Self::Member;
    fn forget(&self, values: &[&str]) -> Result<(), prometheus::Error>;
}

impl Vector for IntCounterVec {
    type Member = IntCounter;

    fn make(family: &Family) -> Result<Self, prometheus::Error> {
        Self::new(family.opts(), family.labels)
    }

    fn member(&self, values: &[&str]) -> IntCounter {
        self.with_label_values(values)
    }

    fn forget(&self, values: &[&str]) -> Result<(), prometheus::Error> {
        self.remove_label_values(values)
    }
}

impl Vector for IntGaugeVec {
    type Member = IntGauge;

    fn make(family: &Family) -> Result<Self, prometheus::Error> {
        Self::new(family.opts(), family.labels)
    }

    fn member(&self, values: &[&str]) -> IntGauge {
        self.with_label_values(values)
    }

    fn forget(&self, values: &[&str]) -> Result<(), prometheus::Error> {
        self.remove_label_values(values)
    }
}

/// A metric of at most `cap` series, and those that stand in for the rest.
pub(super) struct Capped<L, V: Vector> {
    family: V,
    state: Mutex<State<L, V::Member>>,
    cap: usize,
    overflow: IntCounter,
}

struct State<L, M> {
    series: HashMap<L, Series<M>>,
    /// How many of them stand in for others.
    stand_ins: usize,
}

struct Series<M> {
    member: M,
    /// Sweeps since it was last used.
    quiet: u32,
    /// It stands in for others: it stays.
    stands_in: bool,
}

/// Sweeps that a series of a workload that is gone is left, so that its last increments are scraped and stay
/// within the windows of rates.
const GRACE: u32 = 15;

impl<L: Labels, V: Vector> Capped<L, V> {
    /// `overflow` counts what had no room.
    pub(super) fn new(
        cap: usize,
        overflow: IntCounter,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let family = V::make(&L::FAMILY)?;
        registry.register(Box::new(family.clone()))?;
        let state = State { series: HashMap::new(), stand_ins: 0 };
        Ok(Self { family, state: Mutex::new(state), cap, overflow })
    }

    /// Uses the series of these labels, or the one that stands in for it.
    pub(super) fn with(&self, labels: L, use_it: impl FnOnce(&V::Member)) {
        let State { series, stand_ins } = &mut *self.lock();
        let room = series.contains_key(&labels) || series.len() - *stand_ins < self.cap;
        let labels = if room {
            labels
        } else {
            self.overflow.inc();
            labels.overflow()
        };
        let found = series.entry(labels).or_insert_with_key(|labels| {
            *stand_ins += usize::from(!room);
            Series { member: self.family.member(&labels.values()), quiet: 0, stands_in: !room }
        });
        found.quiet = 0;
        use_it(&found.member);
    }

    /// Names each workload of a series that has been quiet for long: those of which somebody must know
    /// whether they are still there.
    pub(super) fn doubted(&self, mut name: impl FnMut(WorkloadName<'_>)) {
        for (labels, series) in &mut self.lock().series {
            series.quiet = series.quiet.saturating_add(1);
            if series.quiet > GRACE && !series.stands_in {
                labels.workloads().into_iter().flatten().for_each(&mut name);
            }
        }
    }

    /// Removes the quiet series of workloads that are gone. One that comes back begins at zero, which a rate
    /// takes for the restart of a counter.
    pub(super) fn sweep(&self, is_gone: impl Fn(WorkloadName<'_>) -> bool) {
        self.lock().series.retain(|labels, series| {
            let gone = series.quiet > GRACE
                && !series.stands_in
                && labels.workloads().into_iter().flatten().any(&is_gone);
            if gone {
                self.remove(labels);
            }
            !gone
        });
    }

    fn remove(&self, labels: &L) {
        if let Err(error) = self.family.forget(&labels.values()) {
            tracing::debug!(%error, "a series was gone already");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<L, V::Member>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Labels> Capped<L, IntGaugeVec> {
    /// Has these series and no others.
    pub(super) fn replace(&self, values: HashMap<L, i64>) {
        let State { series, .. } = &mut *self.lock();
        // Those that have a series keep it.
        let (known, new): (Vec<_>, Vec<_>) =
            values.into_iter().partition(|(labels, _)| series.contains_key(labels));
        let mut sums: HashMap<L, i64> = HashMap::new();
        for (labels, value) in known.into_iter().chain(new) {
            let labels = if sums.len() < self.cap {
                labels
            } else {
                self.overflow.inc();
                labels.overflow()
            };
            *sums.entry(labels).or_insert(0) += value;
        }
        series.retain(|labels, _| {
            let stays = sums.contains_key(labels);
            if !stays {
                self.remove(labels);
            }
            stays
        });
        for (labels, sum) in sums {
            let found = series.entry(labels).or_insert_with_key(|labels| Series {
                member: self.family.member(&labels.values()),
                quiet: 0,
                stands_in: false,
            });
            found.member.set(sum);
        }
    }
}

impl<L, V: Vector> fmt::Debug for Capped<L, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capped").field("cap", &self.cap).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prometheus::{Encoder as _, IntCounter, IntCounterVec, IntGaugeVec, Registry, TextEncoder};

    use super::{Capped, Family, GRACE, Labels, Vector, WorkloadName};
    use crate::outputs::metrics::catalogue;

    #[derive(Clone, Hash, PartialEq, Eq)]
    struct Named(&'static str);

    impl Labels for Named {
        const FAMILY: Family = catalogue::PODS;

        fn values(&self) -> Vec<&str> {
            vec![self.0]
        }

        fn overflow(&self) -> Self {
            Self("overflow")
        }

        fn workloads(&self) -> [Option<WorkloadName<'_>>; 2] {
            [Some(WorkloadName { namespace: "x", workload: self.0 }), None]
        }
    }

    struct Rig<V: Vector> {
        capped: Capped<Named, V>,
        registry: Registry,
        overflow: IntCounter,
    }

    impl<V: Vector> Rig<V> {
        fn new() -> Self {
            let registry = Registry::new();
            let overflow = IntCounter::new("o_total", "o").unwrap();
            let capped = Capped::new(2, overflow.clone(), &registry).unwrap();
            Self { capped, registry, overflow }
        }

        fn series(&self) -> Vec<String> {
            let mut text = Vec::new();
            TextEncoder::new().encode(&self.registry.gather(), &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            let values = text.lines().filter(|line| !line.starts_with('#'));
            values.map(|line| line.replace("plainsight_node_pods{coverage=", "{")).collect()
        }

        /// A round of what the sweep of all metrics does; answers what was doubted.
        fn sweep(&self, known: &[&str]) -> Vec<String> {
            let mut doubted = Vec::new();
            self.capped.doubted(|name| doubted.push(name.workload.to_owned()));
            self.capped.sweep(|name| !known.contains(&name.workload));
            doubted
        }
    }

    #[test]
    fn past_the_cap_everything_is_counted_as_overflow() {
        let rig = Rig::<IntCounterVec>::new();
        for name in ["a", "b", "c", "d", "a"] {
            rig.capped.with(Named(name), |counter| counter.inc_by(1));
        }
        assert_eq!(rig.series(), ["{\"a\"} 2", "{\"b\"} 1", "{\"overflow\"} 2"]);
        assert_eq!(rig.overflow.get(), 2);
    }

    #[test]
    fn a_series_goes_once_its_workload_is_gone_and_it_was_quiet_for_long() {
        let rig = Rig::<IntCounterVec>::new();
        for name in ["gone", "kept", "over"] {
            rig.capped.with(Named(name), |counter| counter.inc_by(7));
        }
        for _ in 0..GRACE {
            assert!(rig.sweep(&["kept"]).is_empty());
        }
        assert_eq!(rig.series().len(), 3, "what was just counted is still to be scraped");
        let mut doubted = rig.sweep(&["kept"]);
        doubted.sort();
        assert_eq!(doubted, ["gone", "kept"]);
        assert_eq!(rig.series(), ["{\"kept\"} 7", "{\"overflow\"} 7"], "what stands in never falls");
        rig.capped.with(Named("gone"), |counter| counter.inc_by(1));
        assert_eq!(
            rig.series(),
            ["{\"gone\"} 1", "{\"kept\"} 7", "{\"overflow\"} 7"],
            "there is room again, and the count begins at zero"
        );
    }

    #[test]
    fn a_series_that_is_used_is_never_doubted() {
        let rig = Rig::<IntCounterVec>::new();
        for _ in 0..3 * GRACE {
            rig.capped.with(Named("gone"), |counter| counter.inc_by(1));
            assert!(rig.sweep(&[]).is_empty());
        }
        assert_eq!(rig.series(), [format!("{{\"gone\"}} {}", 3 * GRACE)]);
    }

    #[test]
    fn gauges_that_are_replaced_have_no_series_of_before_and_lose_nothing_past_the_cap() {
        let rig = Rig::<IntGaugeVec>::new();
        rig.capped.replace(HashMap::from([(Named("a"), 1), (Named("b"), 2)]));
        assert_eq!(rig.series(), ["{\"a\"} 1", "{\"b\"} 2"]);
        rig.capped.replace(HashMap::from([
            (Named("b"), 3),
            (Named("a"), 1),
            (Named("c"), 4),
            (Named("d"), 5),
        ]));
        assert_eq!(rig.series(), ["{\"a\"} 1", "{\"b\"} 3", "{\"overflow\"} 9"]);
        rig.capped.replace(HashMap::from([(Named("d"), 5)]));
        assert_eq!(rig.series(), ["{\"d\"} 5"]);
        rig.capped.replace(HashMap::new());
        assert!(rig.series().is_empty());
    }
}
