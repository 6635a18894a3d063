//! Owns the cap: a counter family that can have only so many series.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// A set of labels of one metric.
pub(super) trait Labels: Clone + Eq + Hash {
    /// The labels' names.
    const NAMES: &'static [&'static str];

    /// The labels' values, in the order of their names.
    fn values(&self) -> Vec<&str>;

    /// The labels that stand in when there are too many.
    fn overflow(&self) -> Self;
}

pub(super) struct Capped<L> {
    family: IntCounterVec,
    known: Mutex<HashMap<L, IntCounter>>,
    cap: usize,
}

impl<L: Labels> Capped<L> {
    pub(super) fn new(
        name: &str,
        help: &str,
        cap: usize,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let family = IntCounterVec::new(Opts::new(name, help), L::NAMES)?;
        registry.register(Box::new(family.clone()))?;
        Ok(Self { family, known: Mutex::default(), cap })
    }

    pub(super) fn add(&self, labels: L, count: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let labels =
            if known.contains_key(&labels) || known.len() < self.cap { labels } else { labels.overflow() };
        if let Some(counter) = known.get(&labels) {
            counter.inc_by(count);
            return;
        }
        let counter = self.family.with_label_values(&labels.values());
        counter.inc_by(count);
        known.insert(labels, counter);
    }
}

impl<L> fmt::Debug for Capped<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capped").field("cap", &self.cap).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder as _, Registry, TextEncoder};

    use super::{Capped, Labels};

    #[derive(Clone, Hash, PartialEq, Eq)]
    struct Name(String);

    impl Labels for Name {
        const NAMES: &'static [&'static str] = &["name"];

        fn values(&self) -> Vec<&str> {
            vec![&self.0]
        }

        fn overflow(&self) -> Self {
            Self("overflow".to_owned())
        }
    }

    #[test]
    fn past_the_cap_everything_is_counted_as_overflow() {
        let registry = Registry::new();
        let capped = Capped::new("c_total", "c", 2, &registry).unwrap();
        for name in ["a", "b", "c", "d", "a"] {
            capped.add(Name(name.to_owned()), 1);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            series,
            ["c_total{name=\"a\"} 2", "c_total{name=\"b\"} 1", "c_total{name=\"overflow\"} 2"]
        );
    }
}
