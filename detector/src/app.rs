//! Owns the tasks: builds them, ties them together, and ends them together.
//!
//! Every task runs until cancelled; the first to end, well or ill, ends the others. A signal is the one good
//! reason to end. Tasks and their channels:
//!
//! | task | takes from | gives to |
//! |---|---|---|
//! | `interfaces` | netlink | `attach`, by a bounded channel that it waits for |
//! | `attach` | `interfaces` | the datapath |
//! | `detect` | the datapath's events and edges | flows, findings, outputs |
//! | `announce` | findings, by shared memory | the API server |
//! | `manifests` or `kubernetes` | files or the API server | the identity store |
//! | `admin` | the admin port | — |
//! | `reload` | files | the admin port's TLS and token, the log filter |

pub mod announce;
mod attach;
mod detect;
mod reload;
mod start;

use std::{
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use nix::time::{ClockId, clock_gettime};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::{
    announce::{Announcer, Pace},
    attach::Attacher,
    detect::Detector,
};
use crate::{
    admin::{Admin, Sources, Tls, Token, flow_reader},
    cluster::{
        ManifestSource, SharedStore, TrustDomain,
        kubernetes::{Health, KubernetesSource, Timing},
    },
    config::{AdminPort, Config, Identities},
    coverage::Coverage,
    datapath::{Datapath, ProgramRuns},
    findings::Rules,
    interfaces::Watcher,
    logging::LogFilter,
    outputs::{
        lines::Lines,
        log::LineLog,
        metrics::{Fill, KernelReading, Metrics, Runs},
    },
    preflight::{self, Facts, Weight},
    readiness::{Heartbeat, Readiness},
};

/// How long tasks get to end, and the last lines to be read.
const GRACE: Duration = Duration::from_secs(5);

/// What the start leaves.
struct Loaded {
    datapath: Datapath,
    /// What was given up, in a line.
    sandbox: String,
}

/// Runs until a signal or a failure.
///
/// # Errors
///
/// Something that is needed is missing, or a task failed.
pub fn run(config: Config, log: LogFilter) -> Result<()> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?config, "starting");
    preflight()?;
    let asked = start::end_was_asked_for()?;
    let datapath = start::load(&config)?;
    let sandbox = start::close_off(&config, &datapath);
    // Two threads: one may sit in a slow system call while the other detects.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = runtime.block_on(supervise(config, log, Loaded { datapath, sandbox }, &asked));
    // A task that is stuck in a system call must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

fn preflight() -> Result<()> {
    let missing = preflight::check(&Facts::gather());
    let mut fatal = 0;
    for missing in &missing {
        match missing.weight {
            Weight::Fatal => {
                fatal += 1;
                tracing::error!("{missing}");
            }
            Weight::Note => tracing::warn!("{missing}"),
        }
    }
    match fatal {
        0 => Ok(()),
        1 => Err(anyhow!("cannot start: see the line above")),
        count => Err(anyhow!("cannot start: see the {count} lines above")),
    }
}

async fn supervise(config: Config, log: LogFilter, loaded: Loaded, asked: &AtomicBool) -> Result<()> {
    let mut signals = Signals::new()?;
    if asked.load(Ordering::Relaxed) {
        tracing::info!("ending before the start was complete");
        return Ok(());
    }
    let (mut tasks, cancel) = tokio::select! {
        // Half-built tasks are dropped when a signal comes early.
        built = build(config, log, loaded) => built?,
        name = signals.next() => {
            tracing::info!(signal = name, "ending before the start was complete");
            return Ok(());
        }
    };
    let first = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "ending; the same signal again ends at once");
            None
        }
        first = tasks.join_next() => first,
    };
    cancel.cancel();
    let mut result = first.map_or(Ok(()), |first| ended(first, true));
    let rest = async {
        while let Some(next) = tasks.join_next().await {
            let next = ended(next, false);
            if result.is_ok() {
                result = next;
            }
        }
    };
    tokio::select! {
        finished = tokio::time::timeout(GRACE, rest) => {
            if finished.is_err() {
                tracing::warn!(?GRACE, "tasks did not end in time");
            }
        }
        name = signals.next() => {
            tracing::warn!(signal = name, "ending at once");
            std::process::exit(1);
        }
    }
    tracing::info!("ended");
    result
}

type Ended = (&'static str, Result<()>);

/// What the end of a task means: a failure, if nobody asked for it.
fn ended(task: Result<Ended, tokio::task::JoinError>, unasked: bool) -> Result<()> {
    let (name, result) = task.context("a task panicked")?;
    result.with_context(|| format!("task {name}"))?;
    if unasked { Err(anyhow!("task {name} ended by itself")) } else { Ok(()) }
}

async fn build(
    config: Config,
    log: LogFilter,
    loaded: Loaded,
) -> Result<(JoinSet<Ended>, CancellationToken)> {
    let Config {
        interfaces,
        pin: _,
        sandbox: _,
        identities,
        node_name,
        trust_domain,
        log_flows,
        report_other_plaintext,
        admin,
        log: _,
        log_filter_file,
        log_format: _,
        budget_ns_per_ms: _,
        scan_window: _,
        sample_one_in: _,
        max_flows: _,
        max_edges: _,
        flow_idle: _,
        finding_window,
        kernel_statistics: _,
        hooks: _,
        announce,
    } = config;
    let Loaded { datapath, sandbox } = loaded;
    let readiness = Readiness::default();
    let interfaces_ready = readiness.block("interfaces");
    let attached_ready = readiness.block("attachments");
    let identities_ready = readiness.block("identities");
    let heartbeat = Heartbeat::default();
    let cancel = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let mut spawn = |name: &'static str, task: Task| {
        tasks.spawn(async move { (name, task.await) });
    };

    // The admin port is open before all else, so that it can say what is waited for.
    let datapath = Arc::new(datapath);
    let trust_domain = TrustDomain::new(trust_domain.as_deref());
    let lines = LineLog::start(trust_domain.clone(), std::io::stdout()).context("start the line writer")?;
    let reading = Arc::clone(&datapath);
    let metrics = Metrics::new(move || kernel_reading(&reading), lines.lost());
    let metrics = Arc::new(metrics.context("register metrics")?);
    start::inherited(datapath.takeover(), &metrics);
    let store = SharedStore::default();
    store.write().set_local_node(&node_name);
    let coverage = Coverage::default();
    let watches = Arc::new(OnceLock::<Health>::new());
    let rules = Rules { plaintext_other: report_other_plaintext };
    let (flows, questions) = flow_reader();
    let sources = Sources {
        metrics: Arc::clone(&metrics),
        readiness,
        heartbeat: heartbeat.clone(),
        node: node_name.clone(),
        store: store.clone(),
        coverage: coverage.clone(),
        watches: Arc::clone(&watches),
        flows,
        rules,
        finding_window,
        lines: Lines::new(trust_domain.clone()),
        log: log.clone(),
        sandbox,
    };
    let AdminPort { listen, tls, token } = admin;
    let tls = tls.map(Tls::open).transpose().context("open the admin port with TLS")?;
    let token = token.map(Token::open).transpose().context("--admin-token-file")?;
    let admin = Admin::bind(listen, sources, tls.clone(), token.clone()).await?;
    tracing::info!(address = %admin.address()?, tls = tls.is_some(), "admin port is open");
    spawn("reload", Box::pin(reload::run(tls, token, log, log_filter_file, cancel.clone())));
    let token = cancel.clone();
    spawn(
        "admin",
        Box::pin(async move {
            admin.run(token).await;
            Ok(())
        }),
    );

    let events = datapath.take_events().context("the kernel's events are taken already")?;

    let mut announcer = None;
    match identities {
        Identities::None => {
            tracing::warn!("no --identities and no --manifests: findings name addresses, not pods");
            drop(identities_ready);
        }
        Identities::Manifests(manifests) => {
            let gauge = Arc::clone(&metrics);
            let source = ManifestSource::new(manifests, store.clone(), move |manifests| {
                gauge.manifest_errors(manifests.errors.len());
                for error in &manifests.errors {
                    tracing::error!("{:#}", DisplayChain(error));
                }
                tracing::info!(
                    files = manifests.files,
                    objects = manifests.used,
                    ignored = manifests.ignored,
                    errors = manifests.errors.len(),
                    "manifests read"
                );
            });
            let cancel = cancel.clone();
            spawn("manifests", Box::pin(async move { Ok(source.run(cancel, identities_ready).await?) }));
        }
        Identities::Kubernetes(access) => {
            let source = KubernetesSource::new(access, store.clone(), trust_domain, Timing::default());
            metrics.watches(source.health()).context("register metrics")?;
            let _first = watches.set(source.health());
            if announce.any() {
                let writes = metrics.writes().context("register metrics")?;
                let ours = Announcer::new(&node_name, announce, writes, monotonic()?);
                announcer = Some(ours.clone());
                let (writer, cancel) = (source.writer(), cancel.clone());
                spawn(
                    "announce",
                    Box::pin(async move {
                        ours.run(writer, Pace::default(), cancel).await;
                        Ok(())
                    }),
                );
            }
            let cancel = cancel.clone();
            spawn(
                "kubernetes",
                Box::pin(async move {
                    source.run(cancel, identities_ready).await;
                    Ok(())
                }),
            );
        }
    }

    let (changes, incoming) = mpsc::channel(Watcher::QUEUE);
    let watcher = Watcher::new(interfaces, changes);
    let token = cancel.clone();
    spawn("interfaces", Box::pin(async move { Ok(watcher.run(token, interfaces_ready).await?) }));

    let attacher =
        Attacher::new(Arc::clone(&datapath), store.clone(), Arc::clone(&metrics), coverage.clone());
    spawn("attach", Box::pin(attacher.run(incoming, cancel.clone(), attached_ready)));

    let detector = Detector::new(
        datapath,
        store,
        coverage,
        rules,
        finding_window,
        log_flows,
        lines,
        metrics,
        heartbeat,
        announcer,
    )?;
    spawn("detect", Box::pin(detector.run(events, questions, cancel.clone())));

    Ok((tasks, cancel))
}

type Task = std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>>;

fn kernel_reading(datapath: &Datapath) -> KernelReading {
    let counters = datapath
        .counters()
        .inspect_err(|error| tracing::warn!(%error, "kernel counters cannot be read"))
        .ok();
    let fill = datapath.fill();
    let map = |entries: u32, capacity: u32| Fill { entries: entries.into(), capacity: capacity.into() };
    let programs = datapath
        .runs()
        .inspect_err(|error| tracing::warn!(%error, "the programs' runs cannot be read"))
        .unwrap_or_default();
    KernelReading {
        counters,
        programs: programs
            .into_iter()
            .map(|(name, ProgramRuns { time, count })| (name, Runs { time, count }))
            .collect(),
        maps: vec![("flows", map(fill.flows, fill.max_flows)), ("edges", map(fill.edges, fill.max_edges))],
    }
}

/// The kernel's time, in nanoseconds: that of `bpf_ktime_get_ns`.
fn monotonic() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).context("read the clock")?;
    let (seconds, ns) = (u64::try_from(time.tv_sec())?, u64::try_from(time.tv_nsec())?);
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(ns))
}

/// The kernel's time where nothing hangs on it: without a clock, waits end at once.
fn monotonic_or_zero() -> u64 {
    monotonic().unwrap_or(0)
}

/// An error with its causes on one line.
struct DisplayChain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for DisplayChain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ended;

    #[test]
    fn the_end_of_a_task_is_a_failure_unless_it_was_asked_for() {
        assert!(ended(Ok(("detect", Ok(()))), false).is_ok());
        let error = ended(Ok(("detect", Ok(()))), true).unwrap_err();
        assert_eq!(error.to_string(), "task detect ended by itself");
        let error = ended(Ok(("detect", Err(anyhow::anyhow!("no map")))), false).unwrap_err();
        assert_eq!(format!("{error:#}"), "task detect: no map");
    }
}
