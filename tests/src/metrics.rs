//! Owns the reading of a scrape: sums over series, as a query would take them.

/// What `/metrics` answered.
#[derive(Clone, Debug)]
pub struct Scrape(String);

impl Scrape {
    /// Of the text of `/metrics`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum of all series of a metric whose labels hold each of `labels`, such as `verdict="plaintext"`;
    /// 0 if there is none. All of ours that are summed are whole numbers.
    #[must_use]
    pub fn sum(&self, metric: &str, labels: &[&str]) -> u64 {
        let series = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(metric)?;
            let (found, value) = rest.rsplit_once(' ')?;
            let ours = found.is_empty() || found.starts_with('{');
            (ours && labels.iter().all(|label| found.contains(label))).then_some(value)
        });
        series.filter_map(|value| value.parse::<u64>().ok()).sum()
    }

    /// A counter of the kernel programs.
    #[must_use]
    pub fn kernel(&self, reason: &str) -> u64 {
        self.sum("plainsight_kernel_events_total", &[&format!("reason=\"{reason}\"")])
    }

    /// Connections that were given a verdict.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.sum("plainsight_connections_total", &[])
    }
}

#[cfg(test)]
mod tests {
    use super::Scrape;

    #[test]
    fn series_are_summed_by_their_labels_and_a_longer_name_is_another_metric() {
        let scrape = Scrape::new(
            "# HELP a_total x\na_total{l=\"x y\",m=\"1\"} 2\na_total{l=\"z\",m=\"1\"} 3\na_total_b 7\nb 5\n"
                .to_owned(),
        );
        assert_eq!(scrape.sum("a_total", &[]), 5);
        assert_eq!(scrape.sum("a_total", &["m=\"1\"", "l=\"z\""]), 3);
        assert_eq!((scrape.sum("b", &[]), scrape.sum("c", &[])), (5, 0));
    }
}
