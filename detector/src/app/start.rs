//! Owns the start, up to the first task: what takes privileges is done on the one thread that there is, and what is
//! not needed any more is given up there, so that every later thread is without it.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::signal::unix::SignalKind;

use crate::{
    admin::TlsFiles,
    config::{AdminPort, Config, DEFAULT_PIN, Identities, Pin},
    datapath::{Datapath, DatapathConfig, Inheritance, Pins, PinsError, Takeover},
    outputs::metrics::Metrics,
    preflight,
    sandbox::{self, Needs},
};

/// How long the daemon before gets to end: its tasks have [`super::GRACE`], and its runtime a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a signal that ends the process has come since this was called.
///
/// The first process of a container does not get a signal that it has not asked for, so it is asked for before
/// anything that takes long.
pub(super) fn end_was_asked_for() -> Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let _registered = signal_hook::flag::register(kind.as_raw_value(), Arc::clone(&asked))
            .context("listen for signals")?;
    }
    Ok(asked)
}

/// Loads the programs, or goes on with what a daemon before has left.
pub(super) fn load(config: &Config) -> Result<Datapath> {
    let pins = pins(&config.pin)?;
    let config = DatapathConfig {
        max_flows: config.max_flows,
        max_edges: config.max_edges,
        sample_one_in: config.sample_one_in.get(),
        budget_ns_per_ms: config.budget_ns_per_ms,
        scan_window: config.scan_window,
        idle: config.flow_idle,
        statistics: config.kernel_statistics,
        hooks: config.hooks,
    };
    let loaded = match pins {
        Some(pins) => Datapath::take_over(&config, pins),
        None => Datapath::load(&config),
    };
    loaded.context("load the kernel programs")
}

/// The folder in which links and maps outlive the process, if they do.
fn pins(pin: &Pin) -> Result<Option<Pins>> {
    let (folder, wanted) = match pin {
        Pin::Nowhere => return Ok(None),
        Pin::Usual => (Path::new(DEFAULT_PIN), false),
        Pin::At(path) => (path.as_path(), true),
    };
    match Pins::open(folder, PATIENCE) {
        Ok(pins) => Ok(Some(pins)),
        Err(error @ PinsError::Busy { .. }) => Err(error.into()),
        Err(error) if wanted => Err(error).context("open the folder of --pin"),
        Err(error) => {
            let error = &error as &dyn Error;
            tracing::warn!(
                error,
                "links are not pinned: connections that are opened while no daemon runs go unseen"
            );
            Ok(None)
        }
    }
}

/// Gives up what is not needed any more; answers what that came to, in a line.
pub(super) fn close_off(config: &Config, datapath: &Datapath) -> String {
    if !config.sandbox {
        tracing::warn!("--no-sandbox: the process keeps all its privileges");
        return "none (--no-sandbox)".to_owned();
    }
    let sandbox = sandbox::enter(&needs(config, datapath.pins()));
    if sandbox.is_whole() {
        tracing::info!("sandbox: {sandbox}");
    } else {
        tracing::warn!("sandbox, not whole: {sandbox}");
    }
    sandbox.to_string()
}

/// What is still needed: every file that a task reads again is named here.
fn needs(config: &Config, pins: Option<&Path>) -> Needs {
    let (mut reads, connects, runs_programs) = match &config.identities {
        Identities::None => (Vec::new(), false, false),
        Identities::Manifests(paths) => (paths.clone(), false, false),
        Identities::Kubernetes(access) => {
            let (reads, runs_programs) = access.needs();
            (reads, true, runs_programs)
        }
    };
    let AdminPort { listen, tls, token } = &config.admin;
    if let Some(TlsFiles { certificate, key, client_ca }) = tls {
        reads.extend([certificate, key].into_iter().chain(client_ca).cloned());
    }
    reads.extend(token.iter().chain(&config.log_filter_file).cloned());
    Needs {
        reads,
        pins: pins.map(PathBuf::from),
        listen: listen.port(),
        connects,
        runs_programs,
        kernel: preflight::kernel(),
    }
}

/// Says what a daemon before had left.
pub(super) fn inherited(takeover: Takeover, metrics: &Metrics) {
    let Takeover { links, dead_links, maps } = takeover;
    match maps {
        Inheritance::None => {}
        Inheritance::Kept => {
            tracing::info!(links, dead_links, "going on with links and maps of the daemon before");
        }
        Inheritance::Replaced { forgotten_flows, forgotten_edges } => {
            tracing::warn!(
                links,
                dead_links,
                forgotten_flows,
                forgotten_edges,
                "the daemon before had maps of another layout; they are replaced"
            );
            metrics.forgotten(forgotten_flows, forgotten_edges);
        }
    }
}
