//! Owns the reading of the ring buffer, and of the programs' own log where the object was built with one.

use std::{fmt, io, sync::Arc};

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError, RingBuf},
};
use aya_log::EbpfLogger;
use detector_ebpf::event::Record;
use tokio::io::{Interest, unix::AsyncFd};

use super::takeover::{Base, sum};

/// The events that the kernel sends.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
    base: Arc<Base>,
    /// What debug builds of the programs log; release builds have no log.
    log: Option<AsyncFd<ProgramLog>>,
}

type ProgramLog = EbpfLogger<&'static dyn log::Log>;

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
    pub(super) fn open(map: Map, base: Arc<Base>, ebpf: &mut Ebpf) -> Result<Self, OpenError> {
        let ring = RingBuf::try_from(map)?;
        // SAFETY: the ring owns its file descriptor, never changes it, and closes it only when dropped.
        let ring =
            unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(io::Error::from)?;
        let log = match EbpfLogger::init(ebpf) {
            // SAFETY: as for the ring, which is what the log is read from.
            Ok(log) => unsafe { AsyncFd::register_with_interest(log, Interest::READABLE) }
                .map(Some)
                .map_err(io::Error::from)?,
            Err(_no_log_in_this_object) => None,
        };
        Ok(Self { ring, base, log })
    }

    /// Waits for events and takes all that are there. Loses none when it is cancelled.
    ///
    /// # Errors
    ///
    /// The file descriptor cannot be waited for.
    pub async fn next(&mut self, into: &mut Vec<Record>) -> io::Result<()> {
        let Self { ring, base, log } = self;
        let mut guard = tokio::select! {
            guard = ring.readable_mut() => guard?,
            written = written(log) => return written,
        };
        while let Some(record) = guard.get_inner_mut().next() {
            match Record::parse(&record) {
                Ok(Record::Event(mut event)) => {
                    event.value = sum(base, &event.key, &event.value);
                    into.push(Record::Event(event));
                }
                Ok(record) => into.push(record),
                Err(error) => tracing::warn!(?error, "a record of the ring buffer cannot be read"),
            }
        }
        guard.clear_ready();
        Ok(())
    }
}

/// Writes what the programs have logged, when they have; waits for ever where they never will.
async fn written(log: &mut Option<AsyncFd<ProgramLog>>) -> io::Result<()> {
    match log {
        Some(log) => {
            let mut guard = log.readable_mut().await?;
            guard.get_inner_mut().flush();
            guard.clear_ready();
            Ok(())
        }
        None => std::future::pending().await,
    }
}
