//! Ctrl-C and SIGTERM: the running child is told, and the command returns through its own clean-up.
//!
//! A child runs in a process group of its own, so that its children are reached too. The first signal is passed
//! on; every wait then ends and the error travels up to `main`, so that destructors run. The second one kills.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicI32, Ordering},
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// The first signal that came; 0 before.
static RAISED: AtomicI32 = AtomicI32::new(0);

/// The process group of the running child; 0 when there is none.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// Takes over the signals that ask to end.
pub(crate) fn install() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("handle signals")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let first = RAISED.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok();
            pass_on(if first { signal } else { Signal::SIGKILL as i32 });
            if !first {
                std::process::exit(128 + signal);
            }
        }
    });
    Ok(())
}

/// The signal that asked to end, if one did.
pub(crate) fn raised() -> Option<i32> {
    Some(RAISED.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
}

/// An error once a signal asked to end.
pub(crate) fn check() -> Result<()> {
    if raised().is_some() {
        bail!("interrupted");
    }
    Ok(())
}

/// What a shell expects of a command that a signal ended.
pub(crate) fn exit_code() -> ExitCode {
    let code = raised().and_then(|signal| u8::try_from(128 + signal).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Marks a process group as the one to tell, until dropped.
pub(crate) struct Guarded(());

impl Guarded {
    pub(crate) fn new(group: u32) -> Self {
        CHILD.store(i32::try_from(group).unwrap_or(0), Ordering::SeqCst);
        // A signal that came between the child's start and the line above was passed on to nobody.
        if let Some(signal) = raised() {
            pass_on(signal);
        }
        Self(())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        CHILD.store(0, Ordering::SeqCst);
    }
}

fn pass_on(signal: i32) {
    let group = CHILD.load(Ordering::SeqCst);
    if let (true, Ok(signal)) = (group > 0, Signal::try_from(signal)) {
        let _already_gone = killpg(Pid::from_raw(group), signal);
    }
}
