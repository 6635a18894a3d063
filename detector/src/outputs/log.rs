//! Owns the log on standard output: one line a finding and, if asked for, one a flow.
//!
//! Lines go through a bounded queue to a thread of their own, so that a reader that stalls costs lines,
//! counted, and never detection.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::lines::Lines;
use crate::{cluster::TrustDomain, findings::Finding, flows::Flow};

/// Writes findings and flows.
#[derive(Debug)]
pub struct LineLog {
    lines: Lines,
    queue: SyncSender<Vec<u8>>,
    lost: Arc<AtomicU64>,
    writer: thread::JoinHandle<io::Result<()>>,
}

impl LineLog {
    /// Lines that wait for the reader of standard output before any is lost.
    pub const QUEUE: usize = 4096;

    /// Starts the thread that writes to `out`. Identities are those of `trust_domain`.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start(trust_domain: TrustDomain, mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel::<Vec<u8>>(Self::QUEUE);
        let writer = thread::Builder::new().name("lines".to_owned()).spawn(move || {
            while let Ok(line) = lines.recv() {
                out.write_all(&line)?;
                // What waits already goes out in the same breath.
                while let Ok(line) = lines.try_recv() {
                    out.write_all(&line)?;
                }
                out.flush()?;
            }
            Ok(())
        })?;
        Ok(Self { lines: Lines::new(trust_domain), queue, lost: Arc::default(), writer })
    }

    /// Writes a finding.
    pub fn finding(&self, finding: &Finding) {
        self.write(self.lines.finding(finding));
    }

    /// Writes a flow.
    pub fn flow(&self, flow: &Flow) {
        self.write(self.lines.flow(flow));
    }

    /// Lines that were lost because nobody read them.
    #[must_use]
    pub fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }

    /// Lets the queue run out, for `grace` at most.
    pub fn finish(self, grace: Duration) {
        let Self { queue, writer, .. } = self;
        drop(queue);
        let until = Instant::now() + grace;
        while !writer.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn write(&self, line: serde_json::Result<Vec<u8>>) {
        let Ok(line) = line else { return self.lose() };
        match self.queue.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lose(),
        }
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
