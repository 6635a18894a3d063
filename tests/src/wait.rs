//! Owns waiting: every wait of the harness polls a condition up to a deadline, and all but those of an
//! orderly end are over when the user interrupts.

use std::{
    env,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Time between two looks at a condition: short against a program's start, long against a look.
pub(crate) const POLL: Duration = Duration::from_millis(10);

static INTERRUPTED: OnceLock<fn() -> bool> = OnceLock::new();

/// Names the question whether the user asked to stop, which every wait then asks. The first call counts.
pub fn end_when(interrupted: fn() -> bool) {
    INTERRUPTED.get_or_init(|| interrupted);
}

/// How many times longer than on a usual machine every wait may take: `PLAINSIGHT_PATIENCE`, for machines
/// whose processor is emulated.
#[must_use]
pub fn patience() -> u32 {
    static PATIENCE: OnceLock<u32> = OnceLock::new();
    let read = || env::var("PLAINSIGHT_PATIENCE").ok()?.parse().ok();
    *PATIENCE.get_or_init(|| read().unwrap_or(1))
}

fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|interrupted| interrupted())
}

/// Polls `probe` until it gives a value.
///
/// # Errors
///
/// `limit` has passed, the user interrupted, or `probe` failed.
pub fn until<T>(
    what: impl AsRef<str>,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let what = what.as_ref();
    regardless(what, limit, || {
        if interrupted() {
            bail!("interrupted");
        }
        probe()
    })
}

/// [`until`], also after the user interrupted: for what ends a program in good order.
///
/// # Errors
///
/// `limit` has passed, or `probe` failed.
pub(crate) fn regardless<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let limit = limit * patience();
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe().with_context(|| format!("wait for {what}"))? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("no {what} within {} s", limit.as_secs_f32());
        }
        thread::sleep(POLL);
    }
}
