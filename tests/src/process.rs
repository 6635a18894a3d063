//! Owns a running program: its output, line by line, and its end.
//!
//! A program is the leader of its own process group, so that Ctrl-C in the terminal reaches the harness
//! alone and dropping the handle ends the program together with whatever it started.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::wait;

/// Lines of one output stream, still growing.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a stream to its end, and copies it to `log`.
    fn collect(
        &self,
        stream: impl Read + Send + 'static,
        log: Option<&File>,
        held: &Arc<AtomicBool>,
    ) -> Result<JoinHandle<()>> {
        let (lines, held) = (self.clone(), Arc::clone(held));
        let mut log = log.map(File::try_clone).transpose().context("share the log file")?;
        Ok(thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { return };
                let line = String::from_utf8_lossy(&line).into_owned();
                if let Some(log) = &mut log {
                    // In one write, so that lines of both streams do not mix. The log is a convenience.
                    let _full_disk = log.write_all(format!("{line}\n").as_bytes());
                }
                lines.lock().push(line);
                while held.load(Ordering::Relaxed) {
                    thread::sleep(wait::POLL);
                }
            }
        }))
    }
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
    readers: Vec<JoinHandle<()>>,
    /// Whether nobody reads the outputs for now.
    held: Arc<AtomicBool>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` and reads both of its outputs.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn spawn(name: impl Into<String>, command: Command) -> Result<Self> {
        Self::spawn_logged(name.into(), command, None)
    }

    /// [`Self::spawn`], with both outputs copied to `log` as they come.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub(crate) fn spawn_logged(name: String, mut command: Command, log: Option<&File>) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("start {name}: {command:?}"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut process = Self {
            name,
            child,
            stdout: Lines::default(),
            stderr: Lines::default(),
            readers: Vec::new(),
            held: Arc::default(),
            ended: None,
        };
        if let (Some(stdout), Some(stderr)) = (stdout, stderr) {
            process.readers.push(process.stdout.collect(stdout, log, &process.held)?);
            process.readers.push(process.stderr.collect(stderr, log, &process.held)?);
        }
        Ok(process)
    }

    /// The process id, which is the process group's as well.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The lines that the program wrote to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lock().clone()
    }

    /// The lines that the program wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().clone()
    }

    /// Stops to read both outputs, so that their pipes fill, or goes on with it.
    pub fn hold_output(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    /// Whether the program has ended, and how.
    ///
    /// # Errors
    ///
    /// The kernel does not know the process.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().with_context(|| format!("wait for {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// Waits for `probe` to give a value while the program runs.
    ///
    /// # Errors
    ///
    /// `limit` has passed, the program ended first, or `probe` failed.
    pub fn wait_while_running<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let found = wait::until(format!("{what} of {}", self.name), limit, || {
            if let Some(value) = probe(self)? {
                return Ok(Some(value));
            }
            match self.ended()? {
                Some(status) => bail!("{} ended with {status}", self.name),
                None => Ok(None),
            }
        });
        found.map_err(|error| self.explained(&error))
    }

    /// Waits for the program to end by itself.
    ///
    /// # Errors
    ///
    /// It did not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        wait::until(what, limit, || self.ended()).map_err(|error| self.explained(&error))?;
        self.complete(limit)
    }

    /// Asks the program to end and waits until it has, also when the user interrupted.
    ///
    /// # Errors
    ///
    /// It did not end within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let what = format!("end of {}", self.name);
        wait::regardless(&what, limit, || self.ended()).map_err(|error| self.explained(&error))?;
        self.complete(limit)
    }

    /// Waits until all output of a program that has ended is read.
    fn complete(&mut self, limit: Duration) -> Result<ExitStatus> {
        for reader in self.readers.drain(..) {
            wait::regardless("end of output", limit, || Ok(reader.is_finished().then_some(())))?;
        }
        self.ended()?.with_context(|| format!("{} has not ended", self.name))
    }

    /// Waits for the program to end with success and gives its standard output.
    ///
    /// # Errors
    ///
    /// It did not end within `limit`, or it failed.
    pub fn succeed(mut self, limit: Duration) -> Result<String> {
        let status = self.wait(limit)?;
        if !status.success() {
            return Err(self.explained(&anyhow!("{} ended with {status}", self.name)));
        }
        Ok(self.stdout().join("\n"))
    }

    /// Sends a signal to the program itself.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        nix::sys::signal::kill(self.pid(), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// An error together with the end of standard error.
    fn explained(&self, error: &Error) -> Error {
        let lines = self.stderr.lock();
        let last = lines.len().saturating_sub(30);
        let shown = lines.get(last..).unwrap_or_default().join("\n");
        let name = &self.name;
        if shown.is_empty() {
            anyhow!("{error:#}; {name} wrote nothing to standard error")
        } else {
            anyhow!("{error:#}; {name} wrote to standard error:\n{shown}")
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.hold_output(false);
        // Once the leader was waited for, its id may be another's; what it left behind ends with its
        // namespace.
        if self.ended.is_none() {
            let _ended_by_itself = killpg(self.pid(), Signal::SIGKILL);
            drop(self.child.wait());
        }
    }
}
