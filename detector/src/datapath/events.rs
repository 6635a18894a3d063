//! Owns the reading of the ring buffer.

use std::{fmt, io};

use aya::maps::{Map, MapData, MapError, RingBuf};
use detector_ebpf::event::Event;
use tokio::io::{Interest, unix::AsyncFd};

/// The events that the kernel sends.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

/// The ring buffer could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("open the ring buffer")]
    Map(#[from] MapError),
    #[error("wait for the ring buffer")]
    Register(#[from] io::Error),
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn open(map: Map) -> Result<Self, OpenError> {
        let ring = RingBuf::try_from(map)?;
        // SAFETY: the ring owns its file descriptor, never changes it, and closes it only when dropped.
        let ring =
            unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(io::Error::from)?;
        Ok(Self { ring })
    }

    /// Waits for events and takes all that are there. Loses none when it is cancelled.
    ///
    /// # Errors
    ///
    /// The file descriptor cannot be waited for.
    pub async fn next(&mut self, into: &mut Vec<Event>) -> io::Result<()> {
        let mut guard = self.ring.readable_mut().await?;
        while let Some(record) = guard.get_inner_mut().next() {
            match Event::parse(&record) {
                Ok(event) => into.push(event),
                Err(error) => tracing::warn!(?error, "a record of the ring buffer is no event"),
            }
        }
        guard.clear_ready();
        Ok(())
    }
}
