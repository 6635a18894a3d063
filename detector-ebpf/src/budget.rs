//! Owns the budget: the time of one CPU that packets may take beyond the look at a settled one, at any load.
//!
//! A token bucket in nanoseconds that is filled by the clock and emptied by what was really spent. It is the
//! ceiling of the detector's cost. What it refuses is counted, and a packet that was not looked at never turns
//! into a verdict: its bytes are a gap in the stream.

/// What a packet wants time for. Claims differ in how full the bucket must be, so that what matters most is
/// refused last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Claim {
    /// To end a tracked flow, which gives its memory back.
    End = 0,
    /// To read a flow that still has something to say.
    #[default]
    Read = 1,
    /// To track a flow that is not tracked: none is begun that could not be read.
    Open = 2,
    /// To read a flow that keeps saying the same. Such flows have a share of their own, so that however much
    /// they say, they cost little, and take nothing from new ones.
    Repeat = 3,
}

/// The budget of one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Budget {
    /// Nanoseconds that may be spent; below zero after a packet that took more than was left.
    pub ns: i64,
    /// Those of them that [`Claim::Repeat`] may spend.
    pub repeat_ns: i64,
    /// Time of the last filling, in nanoseconds of the monotonic clock.
    pub filled_ns: u64,
    /// The coarse clock at the last filling.
    pub tick: u64,
    /// What the packet at hand was granted.
    pub claim: Claim,
}

impl Budget {
    /// A rate that is no limit: all of a core, in nanoseconds a millisecond.
    pub const UNLIMITED: u32 = 1_000_000;

    /// The bucket holds what comes in this time, so that a burst after silence is read whole, and what other guests
    /// of the host take during packets does not empty it.
    const BURST_NS: u64 = 1_000_000_000;
    const MILLISECOND_NS: u64 = 1_000_000;
    /// The part of the rate that flows get which keep saying the same.
    const REPEAT_SHARE: i64 = 8;
    /// What one packet is charged at most. More is time in which the CPU did something else: an interrupt, or
    /// another guest of its host.
    const PACKET_NS: u64 = 100_000;

    /// Whether a claim is granted at a rate in nanoseconds a millisecond.
    ///
    /// `tick` is a coarse clock, which is read for nothing; `now` is asked only where it has moved.
    #[inline(always)]
    pub fn grants(&mut self, claim: Claim, rate: u32, tick: u64, now: impl FnOnce() -> u64) -> bool {
        self.claim = claim;
        if rate >= Self::UNLIMITED || self.covers(claim, rate) {
            return true;
        }
        if tick == self.tick {
            return false;
        }
        self.tick = tick;
        self.fill(rate, now());
        self.covers(claim, rate)
    }

    /// Takes what the packet has cost that was granted something last.
    #[inline(always)]
    pub const fn spend(&mut self, ns: u64) {
        let ns = if ns > Self::PACKET_NS { Self::PACKET_NS } else { ns } as i64;
        self.ns = self.ns.wrapping_sub(ns);
        if matches!(self.claim, Claim::Repeat) {
            self.repeat_ns = self.repeat_ns.wrapping_sub(ns);
        }
    }

    #[inline(always)]
    const fn covers(&self, claim: Claim, rate: u32) -> bool {
        match claim {
            Claim::End => self.ns > -Self::burst(rate),
            Claim::Read => self.ns > 0,
            Claim::Open => self.ns > Self::burst(rate) >> 1,
            Claim::Repeat => self.repeat_ns > 0 && self.ns > 0,
        }
    }

    #[inline(always)]
    const fn fill(&mut self, rate: u32, now: u64) {
        let mut elapsed = now.saturating_sub(self.filled_ns);
        if elapsed > Self::BURST_NS {
            elapsed = Self::BURST_NS;
        }
        self.filled_ns = now;
        let gained = (elapsed * rate as u64 / Self::MILLISECOND_NS) as i64;
        let burst = Self::burst(rate);
        self.ns = least(self.ns.wrapping_add(gained), burst);
        // A power of two: the oldest kernels have no signed division.
        let shift = Self::REPEAT_SHARE.trailing_zeros();
        self.repeat_ns = least(self.repeat_ns.wrapping_add(gained >> shift), burst >> shift);
    }

    #[inline(always)]
    const fn burst(rate: u32) -> i64 {
        (rate as u64 * (Self::BURST_NS / Self::MILLISECOND_NS)) as i64
    }
}

#[inline(always)]
const fn least(one: i64, other: i64) -> i64 {
    if one < other { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Claim};

    /// One percent.
    const RATE: u32 = 10_000;
    const MS: u64 = 1_000_000;

    fn grants(budget: &mut Budget, claim: Claim, now: u64) -> bool {
        budget.grants(claim, RATE, now / MS, || now)
    }

    fn full() -> Budget {
        let mut budget = Budget::default();
        assert!(grants(&mut budget, Claim::Read, 1000 * MS));
        assert_eq!(budget.ns, 10_000_000);
        assert_eq!(budget.repeat_ns, 1_250_000);
        budget
    }

    #[test]
    fn an_empty_budget_is_filled_at_its_rate() {
        let mut budget = full();
        for _ in 0..100 {
            budget.spend(100_000);
        }
        assert!(!grants(&mut budget, Claim::Read, 1000 * MS));
        assert!(grants(&mut budget, Claim::Read, 1001 * MS));
        assert_eq!(budget.ns, 10_000);
    }

    #[test]
    fn what_was_taken_too_much_is_paid_back_first() {
        let mut budget = full();
        for _ in 0..102 {
            budget.spend(100_000);
        }
        assert!(!grants(&mut budget, Claim::Read, 1010 * MS));
        assert!(!grants(&mut budget, Claim::Read, 1020 * MS));
        assert!(grants(&mut budget, Claim::Read, 1021 * MS));
    }

    #[test]
    fn what_is_new_is_refused_before_what_is_tracked_and_the_end_of_a_flow_last() {
        let mut budget = full();
        budget.spend(100_000);
        let now = 1000 * MS;
        assert!(
            [Claim::End, Claim::Read, Claim::Open].map(|claim| grants(&mut budget, claim, now)) == [true; 3]
        );
        for _ in 0..49 {
            budget.spend(100_000);
        }
        let granted = [Claim::End, Claim::Read, Claim::Open].map(|claim| grants(&mut budget, claim, now));
        assert_eq!(granted, [true, true, false]);
        for _ in 0..50 {
            budget.spend(100_000);
        }
        let granted = [Claim::End, Claim::Read, Claim::Open].map(|claim| grants(&mut budget, claim, now));
        assert_eq!(granted, [true, false, false]);
        for _ in 0..100 {
            budget.spend(100_000);
        }
        assert!(!grants(&mut budget, Claim::End, now));
    }

    #[test]
    fn flows_that_keep_saying_the_same_take_nothing_from_new_ones() {
        let mut budget = full();
        let mut taken = 0;
        while grants(&mut budget, Claim::Repeat, 1000 * MS) {
            budget.spend(5_000);
            taken += 5_000;
        }
        assert_eq!(taken, 1_250_000);
        assert!(grants(&mut budget, Claim::Open, 1000 * MS));
    }

    #[test]
    fn an_interruption_is_not_charged_to_the_packet_that_it_fell_on() {
        let mut budget = full();
        budget.spend(1000 * MS);
        assert_eq!(budget.ns, 9_900_000);
    }

    #[test]
    fn over_ten_seconds_no_more_is_spent_than_the_rate() {
        for claim in [Claim::End, Claim::Read, Claim::Open, Claim::Repeat] {
            let mut budget = Budget::default();
            let mut spent = 0_u64;
            for at in (1000 * MS..11_000 * MS).step_by(500) {
                if grants(&mut budget, claim, at) {
                    budget.spend(500);
                    spent += 500;
                }
            }
            let rate = if claim == Claim::Repeat { u64::from(RATE) / 8 } else { u64::from(RATE) };
            // The bucket is full at the start, and the end of flows may take it below zero once.
            let most = rate * 10_000 + 2 * rate * 1000 + 1000;
            assert!((rate * 9_000..=most).contains(&spent), "{claim:?}: {spent}");
        }
    }

    #[test]
    fn a_whole_core_is_no_limit() {
        let mut budget = Budget { ns: i64::MIN, repeat_ns: i64::MIN, ..Budget::default() };
        for claim in [Claim::End, Claim::Read, Claim::Open, Claim::Repeat] {
            assert!(budget.grants(claim, Budget::UNLIMITED, 0, || unreachable!()));
        }
    }

    #[test]
    fn without_a_rate_nothing_is_granted() {
        let mut budget = Budget::default();
        for claim in [Claim::End, Claim::Read, Claim::Open, Claim::Repeat] {
            assert!(!budget.grants(claim, 0, 7, || 7 * MS), "{claim:?}");
        }
    }
}
