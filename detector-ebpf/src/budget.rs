//! Owns the scan budget: how many bytes one CPU may scan, at any load.
//!
//! A token bucket in bytes that is filled by the clock. It is the ceiling of the detector's cost: what it
//! refuses is counted, and a message that was not read never turns into a verdict.

/// The budget of one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Budget {
    /// Bytes that may be scanned; below zero after a scan that took more than was left.
    pub bytes: i64,
    /// Time of the last filling, in nanoseconds of the monotonic clock.
    pub filled_ns: u64,
}

/// The bucket holds what comes in this time, so that a burst after silence is read whole.
const BURST_NS: u64 = 100_000_000;
const SECOND_NS: u64 = 1_000_000_000;

impl Budget {
    /// Whether a scan may begin now.
    #[inline(always)]
    pub const fn allows(&mut self, now: u64, bytes_per_second: u32) -> bool {
        if self.bytes > 0 {
            return true;
        }
        let mut elapsed = now.saturating_sub(self.filled_ns);
        // What is gained in less than a millisecond is not worth two multiplications a packet.
        if elapsed < SECOND_NS / 1000 {
            return false;
        }
        if elapsed > BURST_NS {
            elapsed = BURST_NS;
        }
        self.bytes = self.bytes.wrapping_add((bytes_per_second as u64 * elapsed / SECOND_NS) as i64);
        self.filled_ns = now;
        self.bytes > 0
    }

    /// Takes what a scan has read.
    #[inline(always)]
    pub const fn spend(&mut self, bytes: u32) {
        self.bytes = self.bytes.wrapping_sub(bytes as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn an_empty_budget_is_filled_at_its_rate() {
        let mut budget = Budget::default();
        assert!(budget.allows(1_000_000_000, 1_000_000));
        assert_eq!(budget.bytes, 100_000);
        budget.spend(100_000);
        assert!(!budget.allows(1_000_000_001, 1_000_000));
        assert!(budget.allows(1_010_000_000, 1_000_000));
        assert_eq!(budget.bytes, 10_000);
    }

    #[test]
    fn what_was_taken_too_much_is_paid_back_first() {
        let mut budget = Budget::default();
        assert!(budget.allows(1_000_000_000, 1_000_000));
        budget.spend(150_000);
        assert!(!budget.allows(1_040_000_000, 1_000_000));
        assert!(budget.allows(1_100_000_000, 1_000_000));
    }

    #[test]
    fn over_a_second_no_more_is_scanned_than_the_rate() {
        let mut budget = Budget::default();
        let mut scanned = 0_u64;
        for tick in 1..=1_000_000_u64 {
            if budget.allows(tick * 1_000, 1_000_000) {
                budget.spend(64);
                scanned += 64;
            }
        }
        assert!((900_000..=1_100_000).contains(&scanned), "{scanned}");
    }
}
