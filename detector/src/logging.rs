//! Owns the log on standard error: how it is written, and what of it, which can change while it runs.

use std::{
    fs, io,
    io::IsTerminal as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tracing_subscriber::{
    Layer as _, Registry,
    filter::{LevelFilter, ParseError, Targets},
    layer::SubscriberExt as _,
    reload,
    util::SubscriberInitExt as _,
};

use crate::{args::LogFormat, outputs::one_line::OneLine};

/// Changes what is logged.
#[derive(Clone, Debug)]
pub struct LogFilter {
    handle: Option<reload::Handle<Targets, Registry>>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// What the command line said.
    first: String,
    current: String,
    /// What the file said last, good or not.
    read: Option<String>,
}

/// Begins the log, with a filter that was checked before.
#[must_use]
pub fn start(filter: &str, format: LogFormat) -> LogFilter {
    // Parsed once already, so the default never speaks.
    let targets = targets(filter).unwrap_or_default();
    let (targets, handle) = reload::Layer::new(targets);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = match format {
        LogFormat::Text => layer.fmt_fields(OneLine).with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).init();
    LogFilter { handle: Some(handle), ..LogFilter::detached(filter) }
}

impl LogFilter {
    /// A filter that no log obeys.
    #[must_use]
    pub fn detached(filter: &str) -> Self {
        let state = State { first: filter.to_owned(), current: filter.to_owned(), read: None };
        Self { handle: None, state: Arc::new(Mutex::new(state)) }
    }

    /// The filter that holds.
    #[must_use]
    pub fn current(&self) -> String {
        self.state().current.clone()
    }

    /// Takes another filter; it holds at once.
    ///
    /// # Errors
    ///
    /// It cannot be parsed. The former one holds on.
    pub fn set(&self, filter: &str) -> Result<(), ParseError> {
        let targets = targets(filter)?;
        self.state().current = filter.to_owned();
        if let Some(handle) = &self.handle
            && let Err(error) = handle.reload(targets)
        {
            // Only where the log itself is gone.
            tracing::warn!(%error, "the log filter cannot be changed");
        }
        tracing::info!(filter, "log filter changed");
        Ok(())
    }

    /// Takes what the file says, where that has changed; without a file, or with an empty one, what the
    /// command line said.
    pub fn reload(&self, path: &Path) {
        let read = match fs::read_to_string(path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return tracing::warn!(%error, path = %path.display(), "the log filter cannot be read");
            }
        };
        let wanted = {
            let mut state = self.state();
            let news = state.read.as_deref().unwrap_or_default() != read;
            state.read = Some(read.clone());
            if !news {
                return;
            }
            if read.is_empty() { state.first.clone() } else { read }
        };
        if let Err(error) = self.set(&wanted) {
            tracing::error!(%error, filter = wanted, path = %path.display(), "no log filter: the former one holds");
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn targets(filter: &str) -> Result<Targets, ParseError> {
    let targets: Targets = filter.parse()?;
    // kube logs every failed request as an error; the watches say what it means, once.
    if targets.iter().any(|(target, _)| target.starts_with("kube")) {
        return Ok(targets);
    }
    Ok(targets.with_target("kube_client", LevelFilter::OFF))
}

#[cfg(test)]
mod tests {
    use super::LogFilter;

    #[test]
    fn the_file_holds_when_it_changes_and_the_command_line_when_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("filter");
        let filter = LogFilter::detached("info");
        filter.reload(&path);
        assert_eq!(filter.current(), "info");
        std::fs::write(&path, "debug,detector::flows=trace\n").unwrap();
        filter.reload(&path);
        assert_eq!(filter.current(), "debug,detector::flows=trace");
        // What was set since holds until the file says something else.
        filter.set("error").unwrap();
        filter.reload(&path);
        assert_eq!(filter.current(), "error");
        std::fs::write(&path, "detector=loud").unwrap();
        filter.reload(&path);
        assert_eq!(filter.current(), "error");
        std::fs::remove_file(&path).unwrap();
        filter.reload(&path);
        assert_eq!(filter.current(), "info");
        assert!(filter.set("detector=loud").is_err());
    }
}
