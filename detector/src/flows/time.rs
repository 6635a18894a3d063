//! Owns the two times: the kernel's, which never jumps, and the wall's, which people read.

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

/// Turns `CLOCK_MONOTONIC` into wall time by one offset, so that times keep their distances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Wall time less monotonic time, in nanoseconds.
    pub offset_ns: u64,
}

impl Clock {
    /// The wall time of a monotonic one.
    #[must_use]
    pub fn wall(self, monotonic_ns: u64) -> Timestamp {
        Timestamp(self.offset_ns.saturating_add(monotonic_ns))
    }
}
