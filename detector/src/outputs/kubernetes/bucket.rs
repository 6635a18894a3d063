//! Owns the token bucket: so many at once, and then one every so often.

/// How many at once, and how often one more, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) burst: u32,
    pub(super) every: u64,
}

/// What is left of a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    left: u32,
    /// Up to when tokens have been added.
    filled: u64,
}

impl Bucket {
    pub(super) const fn full(rate: Rate, now: u64) -> Self {
        Self { left: rate.burst, filled: now }
    }

    /// Takes a token; whether there was one.
    pub(super) fn take(&mut self, rate: Rate, now: u64) -> bool {
        self.fill(rate, now);
        let has = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has
    }

    /// Whether it is as if it had never been used.
    pub(super) fn is_full(&mut self, rate: Rate, now: u64) -> bool {
        self.fill(rate, now);
        self.left >= rate.burst
    }

    fn fill(&mut self, rate: Rate, now: u64) {
        let every = rate.every.max(1);
        let due = now.saturating_sub(self.filled) / every;
        self.filled = self.filled.saturating_add(due.saturating_mul(every));
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(due).min(rate.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Rate};

    #[test]
    fn a_burst_passes_and_then_one_every_so_often() {
        let rate = Rate { burst: 3, every: 10 };
        let mut bucket = Bucket::full(rate, 100);
        assert_eq!((0..5).filter(|_| bucket.take(rate, 100)).count(), 3);
        assert!(!bucket.take(rate, 109));
        assert!(bucket.take(rate, 110));
        assert!(!bucket.take(rate, 119), "fractions are kept, not rounded up");
        assert!(bucket.take(rate, 120));
        assert!(!bucket.is_full(rate, 149));
        assert!(bucket.is_full(rate, 150));
        assert_eq!((0..9).filter(|_| bucket.take(rate, u64::MAX)).count(), 3, "never more than the burst");
    }
}
