//! Owns the waits between attempts: they double, have a ceiling, and are spread, so that five thousand nodes
//! do not come back in the same second.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// The next wait, and what it grows from.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    random: RandomState,
    drawn: u64,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min, random: RandomState::new(), drawn: 0 }
    }

    /// The next wait: between half and all of what it is due.
    pub(crate) fn next(&mut self) -> Duration {
        let due = self.next;
        self.next = (due * 2).min(self.max);
        self.spread(due)
    }

    /// A wait between half of `due` and `due`.
    pub(super) fn spread(&mut self, due: Duration) -> Duration {
        self.drawn += 1;
        let random = self.random.hash_one(self.drawn) % 1000;
        let share = u32::try_from(random).unwrap_or_default();
        due / 2 + due * share / 2000
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn waits_double_up_to_the_ceiling_and_start_again() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(5));
        let mut backoff = Backoff::new(min, max);
        for due in [1, 2, 4, 5, 5] {
            let due = Duration::from_secs(due);
            let wait = backoff.next();
            assert!(wait >= due / 2 && wait <= due, "{wait:?} for {due:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= min);
    }
}
