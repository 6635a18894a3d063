//! Owns the pages: which path is answered with what, and from where it is known.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use hyper::{Method, Request, StatusCode, body::Incoming};
use tokio::sync::Semaphore;

use super::{
    access::{Guard, Peer},
    flows::FlowReader,
    page::page,
    reply::{Reply, not_allowed, text, typed},
};
use crate::{
    cluster::{SharedStore, kubernetes::Health},
    coverage::Coverage,
    findings::Rules,
    logging::LogFilter,
    outputs::{api::Api, lines::Lines, metrics::Metrics},
    readiness::{Heartbeat, Readiness},
};

/// What the pages are made from.
pub struct Sources {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether the detector is ready.
    pub readiness: Readiness,
    /// Whether it is alive.
    pub heartbeat: Heartbeat,
    /// The name of the node.
    pub node: String,
    /// Identities and policy.
    pub store: SharedStore,
    /// Which pods are observed.
    pub coverage: Coverage,
    /// How the watches do, once there are any.
    pub watches: Arc<OnceLock<Health>>,
    /// The flows.
    pub flows: FlowReader,
    /// What is a finding.
    pub rules: Rules,
    /// How long after the last of its traffic a finding stands.
    pub finding_window: Duration,
    /// How flows and findings are written.
    pub lines: Lines,
    /// What is logged.
    pub log: LogFilter,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Answers requests.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) sources: Sources,
    pub(super) guard: Guard,
    pub(super) api: Api,
    pub(super) started: SystemTime,
    /// Answers of the API that are being made or sent: each may be of some megabytes.
    pub(super) answers: Arc<Semaphore>,
}

impl Pages {
    /// Answers of the API at once, so that readers that never read hold memory of a few pages at most.
    const ANSWERS: usize = 4;

    pub(super) fn new(sources: Sources, guard: Guard) -> Self {
        let api = Api::new(sources.lines.clone(), &sources.node);
        let answers = Arc::new(Semaphore::new(Self::ANSWERS));
        Self { sources, guard, api, started: SystemTime::now(), answers }
    }

    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Reply {
        let path = request.uri().path();
        if path.starts_with("/api/") {
            return self.api(request, peer).await;
        }
        if !["/", "/metrics", "/healthz", "/readyz"].contains(&path) {
            return text(
                StatusCode::NOT_FOUND,
                "not found: try /metrics, /healthz, /readyz or /api/v1/node\n",
            );
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return not_allowed("GET, HEAD");
        }
        let headers = request.headers();
        match path {
            "/" => page(),
            "/metrics" => match self.guard.may_scrape(peer, headers) {
                Ok(()) => self.metrics(),
                Err(refused) => refused.reply(),
            },
            "/readyz" => {
                let query = request.uri().query().unwrap_or_default();
                let verbose = query.split('&').any(|key| key == "verbose");
                self.ready(verbose && self.guard.may_read(peer, headers).is_ok())
            }
            _ => self.alive(),
        }
    }

    fn metrics(&self) -> Reply {
        let Sources { metrics, store, coverage, .. } = &self.sources;
        // As of now: an answer of some seconds ago may not be true any more.
        metrics.coverage(&coverage.report(&store.read()));
        match metrics.render() {
            Ok(text) => typed(StatusCode::OK, Metrics::CONTENT_TYPE, text),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n")
            }
        }
    }

    fn alive(&self) -> Reply {
        let age = self.sources.heartbeat.age();
        if age < Heartbeat::STUCK {
            return text(StatusCode::OK, "ok\n");
        }
        text(StatusCode::SERVICE_UNAVAILABLE, format!("detection is stuck for {} s\n", age.as_secs()))
    }

    /// Probes get a word; those who may read get how the watches do, and every pod of the node.
    fn ready(&self, verbose: bool) -> Reply {
        let Sources { readiness, store, coverage, watches, .. } = &self.sources;
        let pending = readiness.pending();
        let (status, mut body) = if pending.is_empty() {
            (StatusCode::OK, "ready\n".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", pending.join(", ")))
        };
        if verbose {
            for watch in watches.get().into_iter().flat_map(Health::snapshot) {
                let (resource, state, age) = (watch.resource, watch.state.as_str(), watch.stale.as_secs());
                body.push_str(&format!("watch         {resource}: {state}, last word {age} s ago\n"));
            }
            for pod in coverage.report(&store.read()) {
                body.push_str(&format!("{pod}\n"));
            }
        }
        text(status, body)
    }
}
