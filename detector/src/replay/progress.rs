//! Owns the progress line: on standard error, when that is a terminal and the capture takes a while.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// A capture that is read within this time needs no line; one that is not gets a new one as often.
const EVERY: Duration = Duration::from_millis(250);
/// How many packets go by between two looks at the clock.
const PACKETS: u64 = 4096;

/// The progress of a replay.
#[derive(Debug)]
pub(super) struct Progress {
    size: Option<u64>,
    shown: bool,
    started: Instant,
    due: Instant,
    wanted: bool,
}

impl Progress {
    /// Begins; `size` is the capture's length, where it is known.
    pub(super) fn start(size: Option<u64>) -> Self {
        let now = Instant::now();
        Self { size, shown: false, started: now, due: now + EVERY, wanted: io::stderr().is_terminal() }
    }

    /// Whether the line is to be written anew.
    pub(super) fn is_due(&self, packets: u64) -> bool {
        self.wanted && packets.is_multiple_of(PACKETS) && Instant::now() >= self.due
    }

    /// Writes the line.
    pub(super) fn show(&mut self, read: u64, packets: u64) {
        self.shown = true;
        self.due = Instant::now() + EVERY;
        let line = line(read, self.size, packets, self.started.elapsed());
        // Nobody is helped by a failure to write this.
        let _closed = write!(io::stderr(), "\r\x1b[K{line}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _closed = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(read: u64, size: Option<u64>, packets: u64, elapsed: Duration) -> String {
    let rate = u128::from(read) * 1000 / elapsed.as_millis().max(1);
    let rate = size_of_bytes(u64::try_from(rate).unwrap_or(u64::MAX));
    let share = match size.filter(|size| *size > 0) {
        // A file that is still being written grows.
        Some(size) => {
            format!(" of {}, {}%", size_of_bytes(size), (u128::from(read) * 100 / u128::from(size)).min(100))
        }
        None => String::new(),
    };
    format!("{}{share}, {packets} packets, {rate}/s", size_of_bytes(read))
}

/// A number of bytes for people.
pub(super) fn size_of_bytes(bytes: u64) -> String {
    let mut unit = "B";
    let mut tenths = u128::from(bytes) * 10;
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{line, size_of_bytes};

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB"), (5 << 40, "5.0 TiB")]
        {
            assert_eq!(size_of_bytes(bytes), text);
        }
    }

    #[test]
    fn the_line_says_how_far_where_the_end_is_known() {
        let second = Duration::from_secs(1);
        assert_eq!(line(1024, Some(4096), 7, second), "1.0 KiB of 4.0 KiB, 25%, 7 packets, 1.0 KiB/s");
        assert_eq!(line(1024, None, 7, Duration::ZERO), "1.0 KiB, 7 packets, 1000.0 KiB/s");
        assert!(line(5000, Some(4096), 7, second).contains("100%"));
    }
}
