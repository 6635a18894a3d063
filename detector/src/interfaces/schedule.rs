//! Owns the question when the node's tables are read next: pure, times go in and come out.
//!
//! Changes that do not end must not put it off, and a change that comes just before a reading must have one after
//! it, for the CNI sets up routes when the interface is there.

use std::time::Duration;

use tokio::time::Instant;

/// When the tables are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    next: Instant,
    /// When the last change has settled.
    settled: Option<Instant>,
}

impl Schedule {
    /// From one reading to the next where nothing changes.
    const RESYNC: Duration = Duration::from_secs(30);

    /// What a CNI needs from an interface to its routes and neighbours.
    const SETTLE: Duration = Duration::from_secs(2);

    /// A first reading at once.
    pub(super) const fn new(now: Instant) -> Self {
        Self { next: now, settled: None }
    }

    /// When the tables are to be read.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// Something changed.
    pub(super) fn changed(&mut self, now: Instant) {
        let settled = now + Self::SETTLE;
        self.settled = Some(settled);
        self.next = self.next.min(settled);
    }

    /// A change was lost.
    pub(super) fn lost(&mut self, now: Instant) {
        self.changed(now);
        self.next = now;
    }

    /// The tables are being read.
    pub(super) fn read(&mut self, now: Instant) {
        self.settled = self.settled.filter(|settled| *settled > now);
        self.next = self.settled.unwrap_or(now + Self::RESYNC);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Instant, Schedule};

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn the_tables_are_read_at_once_then_every_half_minute() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        assert_eq!(schedule.next(), start);
        schedule.read(start);
        assert_eq!(schedule.next(), after(start, 30.0));
    }

    #[test]
    fn a_change_has_a_reading_after_it_and_one_more_where_others_followed() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.read(start);
        schedule.changed(after(start, 10.0));
        schedule.changed(after(start, 11.5));
        assert_eq!(schedule.next(), after(start, 12.0));
        schedule.read(after(start, 12.0));
        assert_eq!(schedule.next(), after(start, 13.5));
        schedule.read(after(start, 13.5));
        assert_eq!(schedule.next(), after(start, 43.5));
    }

    #[test]
    fn changes_without_end_do_not_put_it_off() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.read(start);
        let mut readings = 0;
        for tenth in 0..200 {
            let now = after(start, f64::from(tenth) / 10.0);
            if now >= schedule.next() {
                schedule.read(now);
                readings += 1;
            }
            schedule.changed(now);
        }
        assert!((8..=10).contains(&readings), "{readings}");
    }

    #[test]
    fn what_was_lost_is_read_at_once() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.read(start);
        schedule.lost(after(start, 5.0));
        assert_eq!(schedule.next(), after(start, 5.0));
        schedule.read(after(start, 5.0));
        assert_eq!(schedule.next(), after(start, 7.0), "what came after it is found too");
    }
}
