//! Owns the log of the tests of one process, which some of them look into.

use std::{
    io::{self, Write},
    sync::{Mutex, OnceLock, PoisonError},
};

static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let log = LOG.get_or_init(Mutex::default);
        log.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what is logged from here on, by any test of this process.
pub(crate) fn capture_log() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        tracing_subscriber::fmt()
            .with_env_filter("info,kube_client=off")
            .with_ansi(false)
            .with_writer(|| Log)
            .init();
    });
}

/// Lines of the log, of all tests so far, that have `text` in them.
pub(crate) fn logged(text: &str) -> usize {
    let log = LOG.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner).clone();
    String::from_utf8_lossy(&log).lines().filter(|line| line.contains(text)).count()
}
