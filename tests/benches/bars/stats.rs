//! Owns the arithmetic: medians, and how sure they are.

/// A figure drawn from several rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figure {
    /// The median.
    pub(crate) value: f64,
    /// Standard error of the median, estimated from the quartiles.
    pub(crate) error: f64,
}

impl Figure {
    /// The median of the rounds' values.
    pub(crate) fn of(rounds: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = rounds.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let range = quantile(&sorted, 0.75) - quantile(&sorted, 0.25);
        // Of a normal distribution: the quartiles lie 1.349 deviations apart, and a median's error is 1.2533
        // times a mean's.
        let error = 1.2533 / 1.349 * range / (sorted.len().max(1) as f64).sqrt();
        Self { value: quantile(&sorted, 0.5), error }
    }

    /// A figure that was counted, not sampled.
    pub(crate) const fn exact(value: f64) -> Self {
        Self { value, error: 0.0 }
    }

    pub(crate) fn scaled(self, by: f64) -> Self {
        Self { value: self.value * by, error: self.error * by.abs() }
    }
}

/// A quantile of sorted values, between neighbours where it falls between them.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    match (sorted.get(low), sorted.get(high)) {
        (Some(low), Some(high)) => low + (high - low) * at.fract(),
        _ => f64::NAN,
    }
}
